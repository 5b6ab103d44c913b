"""A stream of the project's application, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from django.test import Client

from ..core.hooks import hook_threads, in_thread
from ..core.topics import Topic
from .application import cookies_of, ended, http_scope


@dataclass(frozen=True, slots=True)
class SSEFrame:
    """One frame of a stream. ``data`` is parsed JSON, None where the frame has none."""

    event: str
    data: Any
    id: str
    topic: str


class SSEStream:
    """An open stream. ``async with open_sse(…) as stream``."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.body = b""
        """What came so far and is not read yet; of a refused request its answer."""
        self.ended = False
        self._changed = asyncio.Event()

    async def ready(self, timeout: float = 5.0) -> None:
        """Wait until there is a frame to take; errors as ``frame()``."""
        async with asyncio.timeout(timeout):
            while b"\n\n" not in self.body:
                if self.ended:
                    raise EOFError("The stream has ended.")
                self._changed.clear()
                await self._changed.wait()

    async def frame(self, timeout: float = 5.0) -> SSEFrame:
        """The next frame, keep-alives included. Raises ``TimeoutError``, or ``EOFError`` at the end."""
        await self.ready(timeout)
        raw, _, self.body = self.body.partition(b"\n\n")
        fields: dict[str, str] = {}
        for line in raw.decode().split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        data = fields.get("data")
        return SSEFrame(
            event=fields.get("event", ""),
            data=json.loads(data) if data else None,
            id=fields.get("id", ""),
            topic=fields.get("topic", ""),
        )

    async def event(self, type: str | None = None, timeout: float = 5.0) -> SSEFrame:
        """The next frame of this type, or the next one that the site published."""
        while True:
            frame = await self.frame(timeout)
            if frame.event == type:
                return frame
            if (
                type is None
                and frame.event
                and not frame.event.startswith(("stream-", "keep-alive"))
            ):
                return frame

    def json(self) -> Any:
        """The answer of a request that was refused."""
        return json.loads(self.body)

    def take(self, data: bytes, more: bool) -> None:
        """What the application sent; called by ``open_sse()``."""
        self.body += data
        self.ended = self.ended or not more
        self._changed.set()


@asynccontextmanager
async def open_sse(
    application: Any,
    *topics: Topic | str,
    user: Any = None,
    client: Client | None = None,
    cursor: str | None = None,
    path: str = "/live/events/",
    headers: dict[str, str] | None = None,
) -> AsyncIterator[SSEStream]:
    """Open a stream of the project's ASGI application (``yourproject.asgi.application``), as the
    ``user`` or with the cookies of a test ``client``. It is closed, and its tasks with it, at the end
    of the block. Needs a database that other threads see: a ``TransactionTestCase``, or
    ``pytest.mark.django_db(transaction=True)``.
    """
    cookies = await in_thread(hook_threads(), lambda: cookies_of(client, user))
    sent = {"host": "testserver", "accept": "text/event-stream", **(headers or {})}
    if cookies:
        sent["cookie"] = cookies
    if cursor is not None:
        sent["last-event-id"] = cursor
    scope = http_scope(path, [("topic", str(topic)) for topic in topics], sent)
    closing = asyncio.Event()
    started: asyncio.Future[SSEStream] = asyncio.get_running_loop().create_future()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await closing.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            named = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            started.set_result(SSEStream(message["status"], named))
        else:
            (await started).take(message.get("body", b""), message.get("more_body", False))

    task = asyncio.ensure_future(application(scope, receive, send))
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await task  # raises what the application raised
            raise RuntimeError("The application ended and sent no response.")
        stream = await started
        if stream.status != 200:
            await task
        else:
            # The first frame is written when the topics are joined: what is published from now on
            # arrives. Before that, a newcomer would start after it.
            await stream.ready()
        yield stream
    finally:
        closing.set()
        await ended(task)
