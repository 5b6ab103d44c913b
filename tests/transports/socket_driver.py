"""The server's and the browser's side of one WebSocket, in process: it sees every ASGI message."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, Self

from tests.support.socket_client import SocketFrame, read_binary


class Peer:
    """``async with Peer(application) as peer`` opens a WebSocket, and hangs up at the end. Its ``send``
    is no server's: it is awaited. See ``SteppedPeer``."""

    def __init__(
        self,
        application: Any,
        *,
        path: str = "/live/ws/",
        root_path: str = "",
        headers: dict[str, str] | None = None,
        subprotocols: Sequence[str] = ("live.1",),
        **scope: Any,
    ) -> None:
        self.application = application
        sent = {"host": "testserver", "upgrade": "websocket", **(headers or {})}
        self.scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "root_path": root_path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "server": ("testserver", 80),
            "client": ("127.0.0.1", 50000),
            "subprotocols": list(subprotocols),
            **scope,
        }
        self.messages: list[Any] = []
        self.frames: list[SocketFrame] = []
        self.cursor = ""
        self.writers = 0
        self.stuck = False
        self._refs = itertools.count(1)
        self._to_application: asyncio.Queue[Any] = asyncio.Queue()
        self._to_application.put_nowait({"type": "websocket.connect"})
        self._changed = asyncio.Event()
        self._free = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.task = asyncio.ensure_future(self.application(self.scope, self.receive, self.send))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.hang_up()
        self.let_go()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(self.task, 10)

    # -- the server's side --

    async def receive(self) -> Any:
        return await self._to_application.get()

    async def send(self, message: Any) -> None:
        await self._send(message)

    async def _send(self, message: Any) -> None:
        self.writers += 1
        assert self.writers == 1, "two writers at a time"
        try:
            while self.stuck:
                await self._free.wait()
            assert self.close_code is None, "a message after the close"
            self.messages.append(message)
            self._read(message)
            if message["type"] == "websocket.close":
                self._to_application.put_nowait({"type": "websocket.disconnect", "code": 1005})
        finally:
            self.writers -= 1
            self._changed.set()

    def _read(self, message: Any) -> None:
        assert message.get("text") != "", "an empty message"
        if "bytes" in message:
            self.frames.append(read_binary(message["bytes"]))
        for line in message.get("text", "").split("\n")[:-1]:
            self.frames.append(SocketFrame(**json.loads(line)))
        if self.frames:
            self.cursor = self.frames[-1].id or self.cursor

    # -- the browser's side --

    def hang_up(self) -> None:
        self._to_application.put_nowait({"type": "websocket.disconnect", "code": 1005})

    def let_go(self) -> None:
        self.stuck = False
        self._free.set()
        self._free = asyncio.Event()

    def say(self, **action: Any) -> None:
        self.say_text(json.dumps(action))

    def say_text(self, text: str) -> None:
        self._to_application.put_nowait({"type": "websocket.receive", "text": text})

    def say_bytes(self, data: bytes) -> None:
        self._to_application.put_nowait({"type": "websocket.receive", "bytes": data})

    async def call(self, action: str, **fields: Any) -> SocketFrame:
        ref = next(self._refs)
        self.say(action=action, ref=ref, **fields)
        return await self.reply(ref)

    async def reply(self, ref: Any) -> SocketFrame:
        found: list[SocketFrame] = []

        def is_there() -> bool:
            found[:] = [f for f in self.frames if f.event == "stream-reply" and f.ref == ref]
            return bool(found)

        await self.until(is_there)
        return found[0]

    async def subscribe(self, *topics: str, cursor: str = "") -> SocketFrame:
        return await self.call("subscribe", topics=list(topics), cursor=cursor)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that a message brings about."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                if self.task.done():
                    await self.task
                    assert condition(), "the connection is over"
                    return
                waiting = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    async def opened(self) -> Self:
        await self.until(lambda: self.events("stream-open"))
        return self

    async def closed(self) -> int | None:
        """Wait for the end; the code that the server closed with, None if it did not."""
        await asyncio.wait_for(asyncio.shield(self.task), 20)
        return self.close_code

    def events(self, type: str) -> list[SocketFrame]:
        return [frame for frame in self.frames if frame.event == type]

    def said(self) -> list[Any]:
        return [frame.data for frame in self.events("said")]

    @property
    def close_code(self) -> int | None:
        last = self.messages[-1] if self.messages else {}
        return last.get("code") if last.get("type") == "websocket.close" else None


class SteppedPeer(Peer):
    """Its ``send`` passes for uvicorn's own: it is stepped in place."""

    async def send(self, message: Any) -> None:
        await self._send(message)

    send.__module__ = "uvicorn.protocols.websockets"
