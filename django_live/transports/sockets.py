"""The socket side of a connection: a server's ``send``, written to by the hub.

Must keep true: one writer at a time; what a connection has not taken is known also on servers whose
``send`` never waits; a ``send`` that is not a server's own is awaited by a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from functools import partial
from typing import Any

from ..core.connections import Connection, Sink
from ..core.runtime import running_runtime

logger = logging.getLogger("django_live.sockets")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

STEPPABLE = frozenset({"uvicorn", "daphne", "hypercorn", "granian", "gunicorn", "asgiref"})
"""Root packages of servers whose own ``send`` may be stepped in place: it needs no current task."""

LAST_WRITE = 5.0
"""Seconds that a client has to take what was written before its stream was ended."""


def body_message(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


class SteppedSink(Sink, ABC):
    """Writes to a server's ``send``, in place where that is possible.

    A server's ``send`` nearly always finishes without waiting. Stepping it once, right where the event
    is dispatched, saves a task switch per delivery (15–30 % of the whole cost); what would wait is
    finished by a task, and until then nobody else writes.
    """

    __slots__ = (
        "_connection",
        "_ended",
        "_gone",
        "_paused",
        "_send",
        "_steps",
        "_unfinished",
    )

    def __init__(self, send: Send) -> None:
        self._send = send
        self._steps = is_steppable(send)
        self._connection: Connection | None = None
        self._unfinished: Awaitable[None] | None = None
        self._ended = False
        self._gone = False
        self._paused = False

    # -- by the hub --------------------------------------------------------------------------------

    def put(self, prepared: Any) -> bool:
        if self._ended:
            return True
        if prepared.__class__ is list:
            return self._put_each(prepared)
        sending = self._send(prepared)
        if self._steps:
            step = sending.__await__()
            # A loop is told of the end without an exception: 0.3 µs less than next() and StopIteration.
            for awaited in step:
                if awaited is not sending:  # granian's is a future that waits for itself
                    sending = _Rest(step, awaited)
                break
            else:
                return not self._paused
        self._finish_later(sending)
        return False

    def _put_each(self, messages: list[Message]) -> bool:
        """``put()`` for several messages, which only some transports prepare."""
        raise NotImplementedError

    @abstractmethod
    def end(self) -> None:
        """End the stream after what was written."""

    @abstractmethod
    def _finish_later(self, rest: Awaitable[None]) -> None:
        """See to it that a write which has to wait is finished."""

    def disconnect(self) -> None:
        """The client is gone."""
        self._ended = self._gone = True
        if self._connection is not None:
            self._connection.hub.drop(self._connection)

    # -- by a server whose send never waits (Twisted's names) --------------------------------------

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._connection is not None and self._unfinished is None:
            self._connection.drained()

    def stopProducing(self) -> None:
        self.disconnect()

    async def is_taken(self) -> bool:
        """Whether the client of an ended connection takes what such a server keeps for it, as
        ``taken_at_last()``."""
        live, loop = running_runtime(), asyncio.get_running_loop()
        until = loop.time() + LAST_WRITE
        while self._paused and not self._gone and loop.time() < until:
            if live is not None and live.hurried.is_set():
                break
            await asyncio.sleep(0.05)
        return not self._paused


class SendSink(SteppedSink):
    """The body of an HTTP response; what waits is finished by the response's own task."""

    __slots__ = ("_task", "_wake")

    form = "body"

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        self._task: asyncio.Task[Any] | None = None
        self._wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def prepare(self, data: bytes) -> Message:
        return {"type": "http.response.body", "body": data, "more_body": True}

    def end(self) -> None:
        self._ended = True
        self._wake_up()
        live = running_runtime()
        if self._task is not None and live is not None and live.draining:
            live.leaving.add(self._task)
            self._task.add_done_callback(live.leaving.discard)

    # -- by the response's own task ----------------------------------------------------------------

    async def run(self, connection: Connection) -> None:
        """Finish writes that had to wait, until the stream ends or the client is gone."""
        self._connection = connection
        self._task = asyncio.current_task()
        unregister = register_producer(self._send, self)
        try:
            while not self._ended or self._unfinished is not None:
                if self._unfinished is None:
                    await self._wake
                    self._rearm()
                elif await self._finish():
                    connection.drained()
                else:
                    # The client does not read: it cannot be told that this is the end.
                    await self._abort()
                    return
            if not self._gone and not await self.is_taken():
                await self._abort()
                return
            if not self._gone:
                unregister()
                await self._send(body_message(b"", more=False))
        except Exception:
            # What a server raises for a client that left meanwhile; there is nobody to tell.
            logger.debug("A stream could not be finished.", exc_info=True)
        finally:
            connection.hub.drop(connection)
            self._task = None

    async def _finish(self) -> bool:
        """Wait until the socket has taken the write that is under way. A stream that is ended waits
        no longer than a moment; False then."""
        assert self._unfinished is not None
        rest = asyncio.ensure_future(_awaiting(self._unfinished))
        self._unfinished = None
        self._rearm()
        try:
            if not self._ended:
                await asyncio.wait({rest, self._wake}, return_when=asyncio.FIRST_COMPLETED)
            if not rest.done() and not await taken_at_last(rest, 0 if self._gone else LAST_WRITE):
                return False
            await rest
        finally:
            rest.cancel()  # nothing, when it is done
        return True

    async def _abort(self) -> None:
        """Cut the client off, and wait until the server knows that it is gone."""
        if not self._gone and abort(self._send):
            self._wake = asyncio.get_running_loop().create_future()  # disconnect() is heard by it
            await asyncio.wait({self._wake}, timeout=1.0)

    def on_gone(self, _: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        super().disconnect()
        self._wake_up()

    def _rearm(self) -> None:
        if self._wake.done() and not self._ended:
            self._wake = asyncio.get_running_loop().create_future()

    def _finish_later(self, rest: Awaitable[None]) -> None:
        self._unfinished = rest
        self._wake_up()

    def _wake_up(self) -> None:
        if not self._wake.done():
            self._wake.set_result(None)


async def _awaiting(rest: Awaitable[None]) -> None:
    await rest


def register_producer(send: Send, sink: SteppedSink) -> Callable[[], None]:
    """Daphne's ``send`` never waits, so a reader that stops would fill the server's memory (200 MiB
    were seen). Its transport tells a registered producer when to pause. Returns what undoes it."""
    protocol: Any = send.args[0] if isinstance(send, partial) and send.args else None
    if not type(protocol).__module__.startswith("daphne."):
        return _nothing
    # After an upgrade the transport's producer is still the HTTP channel, which nobody asks any more.
    registry = protocol.transport if hasattr(protocol, "onMessage") else protocol
    if registry is not protocol:
        registry.unregisterProducer()
    elif protocol.channel is None:  # the client has left, which is told in a moment
        return _nothing
    registry.registerProducer(sink, True)
    undo: Callable[[], None] = registry.unregisterProducer
    return undo


def _nothing() -> None:
    """There is nothing to undo."""


async def taken_at_last(writing: asyncio.Future[None], seconds: float) -> bool:
    """Whether the client of an ended connection takes what is being written, within so many seconds, or
    a moment when the process was told a second time to stop. The write has at least begun then."""
    live, loop = running_runtime(), asyncio.get_running_loop()
    until = loop.time() + seconds
    while not writing.done():
        await asyncio.wait({writing}, timeout=max(0.0, min(0.1, until - loop.time())))
        if loop.time() >= until or (live is not None and live.hurried.is_set()):
            break
    return writing.done()


def abort(send: Send) -> bool:
    """Cut the connection of a server's ``send``, where there is a way: a server that closes it politely
    waits, when it is told to stop, for a client that takes nothing. Whether there is a way."""
    function: Any = send
    while isinstance(function, partial):
        function = function.args[0] if function.args else function.func
    owner = getattr(function, "__self__", function)
    if not is_steppable(send):
        return False
    transport = getattr(owner, "transport", None) or _transport_of_hypercorn(owner)
    for name in ("abort", "abortConnection"):  # asyncio's, Twisted's
        cut = getattr(transport, name, None)
        if callable(cut):
            cut()
            return True
    return False


def _transport_of_hypercorn(stream: Any) -> Any:
    """Its stream knows its protocol, and that its connection, as whom they send to. None where other
    streams share the connection (HTTP/2)."""
    protocol = getattr(getattr(stream, "send", None), "__self__", None)
    if len(getattr(protocol, "streams", ())) > 1:
        return None
    connection = getattr(getattr(protocol, "send", None), "__self__", None)
    return getattr(getattr(connection, "writer", None), "transport", None)


@contextlib.contextmanager
def said_at_the_end() -> Iterator[None]:
    """Whoever leaves waits for what this task writes, for a moment."""
    task, live = asyncio.current_task(), running_runtime()
    if task is None or live is None:
        yield
        return
    live.leaving.add(task)
    try:
        yield
    finally:
        live.leaving.discard(task)


class _Rest:
    """What is left of a ``send`` that was stepped once, for a task to await."""

    __slots__ = ("_awaited", "_step")

    def __init__(self, step: Any, awaited: Any) -> None:
        self._step = step
        self._awaited = awaited

    def __await__(self) -> Any:
        step, awaited = self._step, self._awaited
        while True:
            try:
                try:
                    yield awaited
                except BaseException as error:
                    throw = getattr(step, "throw", None)
                    if throw is None:  # granian's iterator cannot be thrown into
                        raise
                    awaited = throw(error)
                else:
                    awaited = next(step)
            except StopIteration:
                return


def is_steppable(send: Send) -> bool:
    """Whether this is a server's own ``send``. Another one (of a middleware with time-outs, say) may
    rely on the task that awaits it, so it is awaited by one."""
    function: Any = send
    while isinstance(function, partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or type(owner or function).__module__
    return str(module).partition(".")[0] in STEPPABLE
