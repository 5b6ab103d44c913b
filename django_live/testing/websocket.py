"""A WebSocket of the project's application, without a server."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from django.test import Client

from ..core.hooks import hook_threads, in_thread
from ..core.topics import Topic
from .application import cookies_of, ended, http_scope


class CallRefused(Exception):
    """The site refused what was asked for. ``code`` is one of the protocol's, or of the topic's own."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code = error.get("code", "")


@dataclass(frozen=True, slots=True)
class WebSocketFrame:
    """One frame. ``data`` is parsed JSON; of binary frames the whole message, as bytes."""

    event: str
    data: Any
    id: str = ""
    topic: str = ""


class LiveWebSocket:
    """An open WebSocket. ``async with open_websocket(…) as socket``."""

    def __init__(self) -> None:
        self.close_code: int | None = None
        """With which the site closed it."""
        self.cursor = ""
        """What a later connection may resume with."""
        self.to_site: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._frames: deque[WebSocketFrame] = deque()
        self._replies: dict[int, dict[str, Any]] = {}
        self._changed = asyncio.Event()
        self._refs = itertools.count(1)

    async def subscribe(self, *topics: Topic | str, cursor: str = "", timeout: float = 5.0) -> None:
        """Subscribe to topics; ``cursor`` says where to resume. Raises ``CallRefused`` for the first
        that is refused."""
        names = [str(topic) for topic in topics]
        answer = await self._ask(timeout, action="subscribe", topics=names, cursor=cursor)
        for error in answer["errors"]:
            raise CallRefused(error)

    async def unsubscribe(self, *topics: Topic | str, timeout: float = 5.0) -> None:
        await self._ask(timeout, action="unsubscribe", topics=[str(topic) for topic in topics])

    async def call(
        self, topic: Topic | str, type: str, data: Any = None, *, timeout: float = 5.0
    ) -> Any:
        """Send a message and wait for what ``on_message`` returned. Raises ``CallRefused``."""
        return await self._ask(timeout, action="send", topic=str(topic), type=type, data=data)

    async def event(self, type: str | None = None, timeout: float = 5.0) -> WebSocketFrame:
        """The next frame of this type, or the next one that the site published. Raises
        ``TimeoutError``, or ``EOFError`` when the connection was closed."""
        while True:
            frame = await self.frame(timeout)
            is_own = frame.event.startswith("stream-") or frame.event == "keep-alive"
            if frame.event == type or (type is None and not is_own):
                return frame

    async def frame(self, timeout: float = 5.0) -> WebSocketFrame:
        """The next frame that is no reply; errors as ``event()``."""
        await self._until(lambda: self._frames, timeout)
        return self._frames.popleft()

    async def closed(self, timeout: float = 5.0) -> int:
        """Wait until the site closes it; the code."""
        await self._until(lambda: self.close_code is not None, timeout)
        assert self.close_code is not None
        return self.close_code

    async def _ask(self, timeout: float, **action: Any) -> Any:
        ref = next(self._refs)
        text = json.dumps({**action, "ref": ref})
        self.to_site.put_nowait({"type": "websocket.receive", "text": text})
        await self._until(lambda: ref in self._replies, timeout)
        reply = self._replies.pop(ref)
        if "error" in reply:
            raise CallRefused(reply["error"])
        return reply["data"]

    async def _until(self, condition: Any, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                if self.close_code is not None:
                    raise EOFError(f"The site closed the connection with {self.close_code}.")
                self._changed.clear()
                await self._changed.wait()

    def take(self, message: dict[str, Any]) -> None:
        """What the application sent; called by ``open_websocket()``."""
        if message["type"] == "websocket.close":
            self.close_code = message.get("code", 1000)
            self.to_site.put_nowait({"type": "websocket.disconnect", "code": self.close_code})
        elif message.get("bytes") is not None:
            self._frames.append(WebSocketFrame("binary", message["bytes"]))
        for line in (message.get("text") or "").splitlines():
            frame = json.loads(line)
            self.cursor = frame.get("id") or self.cursor
            if frame["event"] == "stream-reply":
                self._replies[frame["ref"]] = frame
            elif frame["event"] == "keep-alive":
                pong = {"type": "websocket.receive", "text": '{"action":"pong"}'}
                self.to_site.put_nowait(pong)
            elif frame["event"] != "stream-cursor":
                self._frames.append(
                    WebSocketFrame(
                        frame["event"],
                        frame.get("data"),
                        frame.get("id", ""),
                        frame.get("topic", ""),
                    )
                )
        self._changed.set()


@asynccontextmanager
async def open_websocket(
    application: Any,
    *topics: Topic | str,
    user: Any = None,
    client: Client | None = None,
    cursor: str = "",
    path: str = "/live/ws/",
    headers: dict[str, str] | None = None,
) -> AsyncIterator[LiveWebSocket]:
    """Open a WebSocket of the project's ASGI application, as the ``user`` or with the cookies of a test
    ``client``, subscribed to these topics. It is closed at the end of the block. Needs a database that
    other threads see, as ``open_sse()``. Raises ``CallRefused``, and ``EOFError`` for a connection that
    is refused.
    """
    cookies = await in_thread(hook_threads(), lambda: cookies_of(client, user))
    sent = {"host": "testserver", "upgrade": "websocket", **(headers or {})}
    if cookies:
        sent["cookie"] = cookies
    scope = {
        **http_scope(path, [], sent),
        "type": "websocket",
        "scheme": "ws",
        "subprotocols": ["live.1"],
    }
    del scope["method"]
    socket = LiveWebSocket()
    socket.to_site.put_nowait({"type": "websocket.connect"})

    async def send(message: dict[str, Any]) -> None:
        socket.take(message)

    task = asyncio.ensure_future(application(scope, socket.to_site.get, send))
    try:
        await socket.event("stream-open")
        if topics:
            await socket.subscribe(*topics, cursor=cursor)
        yield socket
    finally:
        if socket.close_code is None:
            socket.to_site.put_nowait({"type": "websocket.disconnect", "code": 1005})
        await ended(task)
