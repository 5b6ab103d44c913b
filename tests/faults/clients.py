"""Many clients on one thread, over every transport, as browsers behave: each remembers the cursor of
what it has handled, and comes back with it, to another server too.

Written from docs/reference/protocol.md, without a line of django_live.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_to
from websockets.exceptions import WebSocketException

from tests.support.sse_reader import is_application_event
from tests.support.wire import FrameParser, ResponseParser

CONNECT_TIMEOUT = 5.0
POLL_WAIT = 3.0
POLL_GRACE = 4.0
COMES_BACK = (0.05, 0.5)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a client was told of a topic: an event's value, or that it was reset."""

    topic: str
    value: str = ""
    reset: str = ""


class LostError(Exception):
    """The connection is over; the client comes back."""


@dataclass
class Client:
    """One client. Subclasses know a transport each."""

    name: str
    topics: Sequence[str]
    addresses: Sequence[tuple[str, int]]
    silence: float
    """Seconds without a word after which the connection counts as dead."""
    items: list[Item] = field(default_factory=list)
    cursor: str = ""
    connections: int = 0
    replayed: int = 0
    ready: bool = False
    codes: Counter[str] = field(default_factory=Counter)
    last_seen: dict[str, set[str]] = field(default_factory=dict)
    opened: float = 0.0
    kind: ClassVar[str] = ""

    def path(self, room: str, **query: Any) -> str:
        pairs = [*(("topic", topic) for topic in self.topics), *query.items()]
        return f"/live/{room}/?{urlencode(pairs)}"

    def handle(self, event: str, topic: str, data: Any) -> None:
        """One frame of any transport."""
        if event == "stream-reset":
            self.items.append(Item(data["topic"], reset=data["reason"]))
        elif event == "stream-error":
            self.codes[data["code"]] += 1
            raise LostError(data["code"])
        elif is_event(event):
            self.items.append(Item(topic, data["n"]))
            self.last_seen.setdefault(topic, set()).add(data["n"])
            if data["t"] < self.opened and self.connections > 1:
                self.replayed += 1

    async def run(self) -> None:
        """Connect, again and again."""
        places = itertools.cycle(self.addresses)
        for _ in range(random.randrange(len(self.addresses))):
            next(places)
        while True:
            with contextlib.suppress(OSError, LostError, TimeoutError, asyncio.IncompleteReadError):
                self.connections += 1
                self.opened = time.time()
                await self.connect(*next(places))
            await asyncio.sleep(random.uniform(*COMES_BACK))

    async def connect(self, host: str, port: int) -> None:
        """One connection, from its beginning to its end."""
        raise NotImplementedError


TOLD = frozenset({"stream-reset", "stream-error"})
"""Frames beside the events that a client has to act on."""


def is_event(event: str) -> bool:
    return not event.startswith("stream-") and event != "keep-alive"


@contextlib.asynccontextmanager
async def _opened(host: str, port: int) -> Any:
    async with asyncio.timeout(CONNECT_TIMEOUT):
        reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _request(host: str, port: int, path: str, **headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class StreamClient(Client):
    """Server-Sent Events."""

    kind = "SSE"

    async def connect(self, host: str, port: int) -> None:
        headers = {"Last_Event_ID": self.cursor} if self.cursor else {}
        async with _opened(host, port) as (reader, writer):
            writer.write(_request(host, port, self.path("events"), **headers))
            response, frames = ResponseParser(), FrameParser()
            while not response.ended:
                async with asyncio.timeout(self.silence):
                    chunk = await reader.read(65_536)
                if not chunk:
                    raise LostError("closed")
                body = response.feed(chunk)
                if response.status not in (None, 200):
                    self.codes[str(response.status)] += 1
                    raise LostError(response.status)
                for frame in frames.feed(body):
                    self.ready = True
                    told = is_application_event(frame) or frame.event in TOLD
                    if told and frame.event is not None:
                        self.handle(frame.event, frame.topic or "", frame.json())
                    if frame.id is not None:
                        self.cursor = frame.id


class SocketClient(Client):
    """A WebSocket."""

    kind = "WebSocket"

    async def connect(self, host: str, port: int) -> None:
        url = f"ws://{host}:{port}/live/ws/"
        try:
            async with websocket_to(
                url, subprotocols=[Subprotocol("live.1")], open_timeout=CONNECT_TIMEOUT, **ABRUPT
            ) as socket:
                await self._talk(socket)
        except WebSocketException as error:
            raise LostError(error) from error

    async def _talk(self, socket: ClientConnection) -> None:
        order: dict[str, Any] = {"action": "subscribe", "ref": 1, "topics": list(self.topics)}
        if self.cursor:
            order["cursor"] = self.cursor
        await socket.send(json.dumps(order))
        while True:
            async with asyncio.timeout(self.silence):
                message = await socket.recv()
            for line in str(message).splitlines():
                await self._handle_frame(socket, json.loads(line))

    async def _handle_frame(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        match frame["event"]:
            case "keep-alive":
                await socket.send('{"action":"pong"}')
            case "stream-reply":
                if set(frame["data"]["topics"]) != set(self.topics):
                    codes = [error["code"] for error in frame["data"]["errors"]]
                    self.codes.update(codes)
                    raise LostError(codes)
            case "stream-end":
                raise LostError("the server says good-bye")
            case event if is_event(event) or event in TOLD:
                self.handle(event, frame.get("topic", ""), frame.get("data"))
        if frame.get("id"):
            self.cursor = frame["id"]
            self.ready = True


# Pings of the library's own would hide that the server's are missing.
ABRUPT: dict[str, Any] = {"ping_interval": None, "close_timeout": 0.1, "compression": None}


class PollClient(Client):
    """Polls that wait (`wait` > 0) or do not."""

    kind = "poll"
    wait: ClassVar[float] = 0.0
    pause: ClassVar[tuple[float, float]] = (0.4, 0.8)

    async def connect(self, host: str, port: int) -> None:
        while True:
            query: dict[str, Any] = {"wait": self.wait} if self.wait else {}
            if self.cursor:
                query["cursor"] = self.cursor
            # Not wait_for(), which before Python 3.12 may lose a cancel, and then this goes on.
            async with asyncio.timeout(self.wait + POLL_GRACE):
                answer = await self._poll(host, port, self.path("poll", **query))
            for frame in answer["frames"]:
                with contextlib.suppress(LostError):
                    self.handle(frame["event"], frame.get("topic", ""), frame["data"])
            self.cursor = answer["cursor"]
            self.ready = True
            if not answer["more"]:
                await asyncio.sleep(random.uniform(*self.pause))

    async def _poll(self, host: str, port: int, path: str) -> Any:
        async with _opened(host, port) as (reader, writer):
            writer.write(_request(host, port, path, Connection="close"))
            response, body = ResponseParser(), bytearray()
            while not response.ended:
                chunk = await reader.read(65_536)
                if not chunk:
                    response.connection_closed()
                    if not response.ended:
                        raise LostError("closed")
                body += response.feed(chunk)
            if response.status != 200:
                self.codes[str(response.status)] += 1
                raise LostError(response.status)
            return json.loads(body)


class LongPollClient(PollClient):
    kind = "long poll"
    wait = POLL_WAIT
    pause = (0.1, 0.3)


class Clients:
    """A context manager: their thread runs from entry to exit."""

    def __init__(self) -> None:
        self.all: list[Client] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)
        self._tasks: list[asyncio.Task[None]] = []
        self.failures: list[BaseException] = []

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def add(self, client: Client) -> None:
        """Begin to listen."""
        self.all.append(client)
        self._loop.call_soon_threadsafe(self._begin, client.run())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Whether the condition held in time. Raises what a client failed with."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.failures:
                raise self.failures[0]
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(120)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        while left := [task for task in self._tasks if not task.done()]:
            for task in left:  # again and again: a library may use wait_for(), which loses cancels
                task.cancel()
            await asyncio.wait(left, timeout=0.2)
