"""The socket side of a WebSocket, written to by the hub.

Must keep true: one writer at a time, the close included; text and binary frames leave in the order in
which they were written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..core.connections import Connection
from ..core.runtime import runtime
from . import sockets
from .socket_frames import is_text, messages_of, text_message
from .sockets import Message, Send, SteppedSink

logger = logging.getLogger("django_live.websocket")


class SocketSink(SteppedSink):
    """A WebSocket; what waits for it is finished by a task of its own."""

    __slots__ = ("_finishing", "_reader")

    form = "socket"

    def __init__(self, send: Send, reader: asyncio.Task[Any]) -> None:
        super().__init__(send)
        self._reader = reader
        self._finishing: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        return self._ended

    def attach(self, connection: Connection) -> Callable[[], None]:
        """The connection is open. Returns what undoes it."""
        self._connection = connection
        if connection.blocked and not self._is_writing and not self._paused:
            connection.drained()  # it was, before there was somebody to tell
        return sockets.register_producer(self._send, self)

    def prepare(self, data: bytes) -> Message | list[Message]:
        return text_message(data) if is_text(data) else list(messages_of(data))

    def _put_each(self, messages: list[Message]) -> bool:
        for number, message in enumerate(messages, 1):
            if not self.put(message):
                rest = messages[number:]
                if self._unfinished is not None:
                    self._unfinished = self._with_the_rest(self._unfinished, rest)
                elif rest:  # the server took it, and wants no more for now
                    self._finish_later(self._with_the_rest(None, rest))
                return False
        return True

    async def _with_the_rest(self, first: Awaitable[None] | None, rest: list[Message]) -> None:
        if first is not None:
            await first
        for message in rest:
            await self._send(message)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._connection is not None:
            leaving = runtime().leaving
            leaving.add(self._reader)
            self._reader.add_done_callback(leaving.discard)
        # It waits for the client's next word. In its own turn it sees for itself that this is the end.
        if asyncio.current_task() is not self._reader:
            self._reader.cancel()

    @property
    def _is_writing(self) -> bool:
        return self._unfinished is not None or self._finishing is not None

    def _finish_later(self, rest: Awaitable[None]) -> None:
        self._unfinished = rest
        if self._finishing is not None:
            return
        if asyncio.isfuture(rest):
            # Of a server that writes in a thread of its own (granian) each write waits: with a task for
            # each a delivery cost 1.25 times what the bare application's does.
            rest.add_done_callback(self._is_finished)
        else:
            self._start_finishing()

    def _is_finished(self, writing: asyncio.Future[None]) -> None:
        if self._finishing is not None or self._unfinished is None:
            return  # a task has seen to it
        if self._unfinished is not writing:  # more came with it
            self._start_finishing()
            return
        self._unfinished = None
        try:
            writing.result()
        except (Exception, asyncio.CancelledError) as error:
            self._has_failed(error)
        else:
            self._is_free()

    def _start_finishing(self) -> asyncio.Task[None]:
        self._finishing = asyncio.get_running_loop().create_task(self._finish())
        return self._finishing

    async def _finish(self) -> None:
        """Let the socket take the writes that had to wait."""
        try:
            while self._unfinished is not None:
                rest, self._unfinished = self._unfinished, None
                await rest
        except Exception as error:
            self._finishing = None
            self._has_failed(error)
        else:
            self._finishing = None
            self._is_free()

    def _has_failed(self, error: BaseException) -> None:
        # Nearly always because the client left meanwhile: there is nobody to tell.
        logger.debug("A WebSocket could not be written to.", exc_info=error)
        if self._connection is not None:
            self._connection.hub.drop(self._connection)

    def _is_free(self) -> None:
        if self._connection is not None and not self._paused and not self._ended:
            self._connection.drained()

    def resumeProducing(self) -> None:
        self._paused = False
        if not self._is_writing:
            super().resumeProducing()

    async def finished(self) -> bool:
        """Wait a moment for what is still being written; whether the socket took it."""
        if self._is_writing:
            finishing = self._finishing or self._start_finishing()
            seconds = 0 if self._gone else sockets.LAST_WRITE
            if not await sockets.taken_at_last(finishing, seconds):
                finishing.cancel()
                if not self._gone:
                    sockets.abort(self._send)
                return False
        if not self._gone and not await self.is_taken():
            sockets.abort(self._send)
            return False
        return not self._gone
