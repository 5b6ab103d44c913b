"""Keep a response open after Django's request has ended.

Django pins a thread (and often a database connection) to every response that streams. So the view
decides who may see what, answers, and ends; then the wrapper around Django's application keeps the
response open and the hub writes to the socket.

Must keep true: nothing is held that the site's middleware did not let through unchanged; requests
that are not held pass as if the wrapper were not there; one writer per connection at a time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Self
from weakref import WeakKeyDictionary

from ..conf import live_settings
from ..core.connections import Connection
from ..core.positions import BEGAN_SCOPE
from ..core.runtime import running_runtime, runtime
from .frames import SSE
from .requests import Plan, Refused
from .sockets import Application, Message, Receive, Scope, Send, SendSink, body_message

Serve = Callable[["Plan", Message, "asyncio.Future[Message]", Send], Coroutine[Any, Any, None]]
"""Writes a held response: the plan, its start, what is done when the client is gone, where to."""

SCOPE_KEY = "django_live.slot"
HEADER = "X-Django-Live-Hold"


class Slot:
    """Where the view leaves its decision. A new one for every request, with a token that only this
    request's view can know: a header alone could come back out of a cache."""

    __slots__ = ("held", "is_handshake", "plan", "refused", "serve", "token")

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self.plan: Plan | None = None
        self.is_handshake = False
        """Whether a WebSocket is being opened, and not a response."""
        self.refused: Refused | None = None
        """Why the view refused the opening of a WebSocket."""
        self.serve: Serve = serve_stream
        self.held = False


class Hold:
    """Between a server and Django's application (or anything that calls it), for HTTP."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.gate = Gate()

    async def answer(
        self, scope: Scope, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None] | None:
        """Let Django answer. What writes a response that is to be held comes back, to be awaited; so
        nothing else of the request stays in memory."""
        live = running_runtime()
        if live is not None:
            live.requests += 1
        try:
            return await self._decide(scope, receive, send)
        finally:
            if live is not None:
                live.requests -= 1

    async def _decide(
        self, scope: Scope, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None] | None:
        slot = Slot()
        admission = self.gate.admission() if _asks_for_stream(scope) else None
        body = _Body(receive, admission)
        inner = {**scope, SCOPE_KEY: slot, BEGAN_SCOPE: time.time()}
        held = None
        try:
            on_passed = admission.release if admission is not None else _nothing
            response = Response(slot, scope["method"], send, on_passed)
            try:
                await self.application(inner, body, response)
            finally:
                on_passed()
            if response.start is not None and slot.plan is not None:
                held = slot.serve(slot.plan, response.start, body.disconnected(), send)
            return held
        finally:
            if held is None:
                body.forget()


async def serve_stream(
    plan: Plan | None, start: Message | None, gone: asyncio.Future[Message], send: Send
) -> None:
    """Write a stream until it ends or the client is gone."""
    assert plan is not None
    place = plan.place
    try:
        assert start is not None
        await send(start)
        start = None
        if runtime().draining:
            # Another status would stop an EventSource for good.
            await send(body_message(SSE.goodbye(live_settings().RETRY), more=False))
            return
        sink = SendSink(send)
        gone.add_done_callback(sink.on_gone)
        connection = await open_stream(sink, plan)
        plan = None
        await sink.run(connection)
    finally:
        gone.cancel()
        if place is not None:
            place.release()


def _asks_for_stream(scope: Scope) -> bool:
    query = scope.get("query_string", b"")
    if b"wait=" in query and b"topic=" in query:  # a long poll
        return True
    return any(n == b"accept" and b"text/event-stream" in v for n, v in scope["headers"])


async def open_stream(sink: Any, plan: Plan) -> Connection:
    """Open what a view decided on, by the hub of this event loop."""
    live = runtime()
    connection = await live.open(
        sink,
        plan.dialect,
        plan.viewer,
        plan.requests,
        decided=plan.decided,
        kept_places=plan.kept_places,
        peer=plan.peer,
    )
    if plan.refusals and not connection.closed:
        frames = (
            plan.dialect.error(r.topic, r.code, r.as_json()["message"]) for r in plan.refusals
        )
        connection.notify(b"".join(frames))
    if plan.on_open is not None:
        plan.on_open(connection)
    return connection


class Gate:
    """Each request that Django handles holds a thread, and often a database connection: when 800
    streams open at once, let 32 do so at a time (39 threads instead of 800, and sooner done)."""

    def __init__(self) -> None:
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._places = WeakKeyDictionary()

    def admission(self) -> Admission:
        """What one request waits for a place with."""
        loop = asyncio.get_running_loop()
        if loop not in self._places:
            self._places[loop] = asyncio.Semaphore(live_settings().ADMISSION)
        return Admission(self._places[loop])


class Admission:
    """A place at the gate, as soon as there is one. Given back when Django has decided: what streams by
    itself from then on (a response that cannot be held) must not keep the others out."""

    __slots__ = ("_gate", "_inside")

    def __init__(self, gate: asyncio.Semaphore) -> None:
        self._gate = gate
        self._inside = False

    async def enter(self) -> None:
        await self._gate.acquire()
        self._inside = True

    async def __aenter__(self) -> Self:
        await self.enter()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        if self._inside:
            self._inside = False
            self._gate.release()


def _nothing() -> None:
    """There is no place to give back."""


class Response:
    """Django's ``send``: passes on what is not held, and keeps the start of what is."""

    __slots__ = ("_method", "_on_passed", "_send", "_slot", "start")

    def __init__(self, slot: Slot, method: str, send: Send, on_passed: Callable[[], None]) -> None:
        self._slot = slot
        self._method = method
        self._send = send
        self._on_passed = on_passed
        self.start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._is_to_be_held(message):
                self._slot.held = True
                self.start = {**message, "headers": _headers_of_held(message["headers"])}
                return
            self._on_passed()
        if self.start is None:
            await self._send(message)

    def _is_to_be_held(self, message: Message) -> bool:
        if self._slot.plan is None or self._method == "HEAD" or message["status"] != 200:
            return False
        headers = {bytes(name).lower(): bytes(value) for name, value in message["headers"]}
        token = headers.get(HEADER.lower().encode(), b"")
        encoding = headers.get(b"content-encoding", b"identity")
        return secrets.compare_digest(token, self._slot.token.encode()) and encoding == b"identity"


def _headers_of_held(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    ours = (HEADER.lower().encode(), b"content-length", b"content-encoding")
    return [(name, value) for name, value in headers if bytes(name).lower() not in ours]


class _Body:
    """Django's ``receive``. Once the body is read, the wait for the disconnect is a task of its own
    that Django's end does not cancel: servers take a cancelled ``receive`` for a client that left.

    The gate is passed when the request has come to its end, and Django begins to work: a client that never
    ends it must not take anybody's place."""

    __slots__ = ("_admission", "_complete", "_receive", "_waiting")

    def __init__(self, receive: Receive, admission: Admission | None) -> None:
        self._receive = receive
        self._admission = admission
        self._complete = False
        self._waiting: asyncio.Future[Message] | None = None

    async def __call__(self) -> Message:
        if self._complete:
            return await asyncio.shield(self.disconnected())
        message = await self._receive()
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        if self._complete and self._admission is not None:
            admission, self._admission = self._admission, None
            await admission.enter()
        return message

    def disconnected(self) -> asyncio.Future[Message]:
        """Done when the client is gone."""
        if self._waiting is None:
            waiting = _until_disconnect(self._receive)
            # A name of its own would be one more text for each connection.
            self._waiting = asyncio.create_task(waiting, name="until disconnect")
        return self._waiting

    def forget(self) -> None:
        """The request is over; nobody waits for the client to leave."""
        if self._waiting is not None:
            self._waiting.cancel()


async def _until_disconnect(receive: Receive) -> Message:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return message
