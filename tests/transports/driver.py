"""The server's and the browser's side of one request, in process: it sees every ASGI message."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlencode

from django_live.core import bus
from django_live.core.events import Draft, encode_data
from django_live.core.log import get_log
from django_live.core.topics import Topic, as_topic
from tests.support.wire import Frame, FrameParser


async def tell(name: str | Topic, type: str, data: object) -> None:
    """Publish, as far as these tests are concerned: no transaction, no database."""
    topic = as_topic(name)
    appended = get_log().append(topic, [Draft(type, encode_data(data))])
    bus.send_local(bus.envelopes(topic.key, appended.epoch, appended.events))
    await asyncio.sleep(0)


class Browser:
    """``async with Browser(application, "open/a") as browser`` asks for a stream, and hangs up at the
    end. Its ``send`` is no server's: the wrapper awaits it. See ``SteppedBrowser``."""

    def __init__(
        self,
        application: Any,
        *topics: str,
        path: str = "/live/events/",
        method: str = "GET",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.application = application
        sent = {"host": "testserver", "accept": "text/event-stream", **(headers or {})}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "query_string": urlencode([("topic", topic) for topic in topics]).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "server": ("testserver", 80),
            "client": ("127.0.0.1", 50000),
        }
        self.messages: list[Any] = []
        self.frames: list[Frame] = []
        self.receives_cancelled = 0
        self.writers = 0
        self.stuck = False
        self.breaks = False
        self._parser = FrameParser()
        self._gone = asyncio.Event()
        self._changed = asyncio.Event()
        self._free = asyncio.Event()
        self._asked = False

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
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        try:
            await self._gone.wait()
        except asyncio.CancelledError:
            self.receives_cancelled += 1
            raise
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self._send(message)

    async def _send(self, message: Any) -> None:
        self.writers += 1
        assert self.writers == 1, "two writers at a time"
        try:
            if self.breaks:
                raise ConnectionResetError("the client is gone")
            while self.stuck:
                await self._free.wait()
            self.messages.append(message)
            if message["type"] == "http.response.body":
                self.frames += self._parser.feed(message.get("body", b""))
        finally:
            self.writers -= 1
            self._changed.set()

    # -- the browser's side --

    def hang_up(self) -> None:
        self._gone.set()

    def let_go(self) -> None:
        self.stuck = False
        self._free.set()
        self._free = asyncio.Event()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that a message brings about."""
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                if self.task.done():
                    await self.task
                    assert condition(), "the request is over"
                    return
                waiting = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    async def opened(self) -> Self:
        await self.until(lambda: self.events("stream-open"))
        return self

    async def ended(self) -> None:
        await asyncio.wait_for(asyncio.shield(self.task), 10)

    def events(self, type: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.event == type]

    def said(self) -> list[Any]:
        """The data of the events of type "said"."""
        return [json.loads(frame.data or "null") for frame in self.events("said")]

    def has_said(self, count: int) -> bool:
        return len(self.said()) == count

    def has_begun(self) -> bool:
        return bool(self.messages)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode().lower(): v.decode() for k, v in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages[1:])

    @property
    def is_complete(self) -> bool:
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)


class SteppedBrowser(Browser):
    """Its ``send`` passes for uvicorn's own: it is stepped in place."""

    async def send(self, message: Any) -> None:
        await self._send(message)

    send.__module__ = "uvicorn.protocols.http"
