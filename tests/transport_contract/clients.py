"""One client for each transport, with the same face. They stand on plain sockets and are written from
docs/reference/protocol.md: nothing of the package is in them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from tests.support.http import Visitor
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader, StreamEndedError, reset_on_close
from tests.transport_contract.plain_websocket import (
    CLOSE,
    PONG,
    TEXT,
    FrameReader,
    frame_bytes,
    open_handshake,
)

OWN = ("stream-", "keep-alive")
LARGE_BUFFER = 1_000_000
SMALL_BUFFER = 4096
"""A receive buffer (bytes) that lets a server's ``send`` wait soon."""


class EndedError(Exception):
    """There will be nothing more on this connection. ``code`` is a WebSocket's."""

    def __init__(self, why: str, code: int | None = None, *, is_clean: bool = False) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code
        self.is_clean = is_clean
        """Whether the end is part of what was sent, and not just its breaking off."""


@dataclass(frozen=True)
class Heard:
    event: str
    topic: str
    data: Any


class Client(ABC):
    """``heard`` is everything so far, and ``cursor`` what it may come back with."""

    name: str
    keeps_open = True
    """Whether the server holds a connection while nothing happens."""

    def __init__(
        self, server: Server, *topics: str, cursor: str = "", buffer: int | None = None
    ) -> None:
        self.server = server
        self.topics = topics
        self.cursor = cursor
        self.heard: list[Heard] = []
        self._taken = 0
        self._open(buffer)

    @abstractmethod
    def _open(self, buffer: int | None) -> None:
        """Connect; returns when the topics are subscribed to."""

    @abstractmethod
    def receive(self, deadline: float) -> None:
        """Wait for more, and put it to ``heard``. Raises TimeoutError, EndedError."""

    @abstractmethod
    def leave(self) -> None:
        """Close (FIN)."""

    @abstractmethod
    def cut(self) -> None:
        """Vanish (RST)."""

    def hurry(self) -> None:  # noqa: B027 -- nothing, for most
        """Take a larger buffer from here on; what a small one takes is little at a time."""

    def show_life(self) -> None:  # noqa: B027 -- nothing, for most
        """What a client has to do while it does not read."""

    def begin_to_wait(self) -> None:  # noqa: B027 -- nothing, for most
        """Be where an event would be written to at once; polls wait here and nowhere else."""

    # -- hear --

    def wait_for(self, condition: Callable[[Heard], bool], timeout: float = 20) -> Heard:
        """The next frame like this; those before it count as read."""
        deadline = time.monotonic() + timeout
        while True:
            while self._taken < len(self.heard):
                self._taken += 1
                if condition(self.heard[self._taken - 1]):
                    return self.heard[self._taken - 1]
            try:
                self.receive(deadline)
            except TimeoutError:
                raise TimeoutError(f"{self.name}: not among {self.heard[-10:]}") from None

    def next(self, *events: str, timeout: float = 20) -> Heard:
        return self.wait_for(lambda heard: heard.event in events, timeout)

    def numbers(self, count: int, timeout: float = 30) -> list[int]:
        """Of the next so many events."""
        deadline = time.monotonic() + timeout
        return [
            self.next("counted", timeout=deadline - time.monotonic()).data["n"]
            for _ in range(count)
        ]

    def read_to_the_end(self, timeout: float = 20) -> EndedError:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.receive(deadline)
            except EndedError as ended:
                return ended

    def all_numbers(self) -> list[int]:
        return [heard.data["n"] for heard in self.heard if heard.event == "counted"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()


def enlarge(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LARGE_BUFFER)


class SSEClient(Client):
    name = "sse"

    def _open(self, buffer: int | None) -> None:
        query = urlencode([("topic", topic) for topic in self.topics])
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        self._reader = SSEReader(
            self.server.host,
            self.server.port,
            f"/live/events/?{query}",
            headers,
            timeout=30,
            receive_buffer=buffer,
        )
        assert self._reader.status == 200
        self.next("stream-open")

    def receive(self, deadline: float) -> None:
        try:
            frame = self._reader.next_frame(max(0.001, deadline - time.monotonic()))
        except StreamEndedError as ended:
            raise EndedError(str(ended), is_clean=ended.clean) from ended
        self.cursor = frame.id or self.cursor
        if frame.event is not None:
            data = json.loads(frame.data) if frame.data else None
            topic = frame.topic or (data.get("topic") if isinstance(data, dict) else None)
            self.heard.append(Heard(frame.event, topic or "", data))
        elif frame.retry is not None:
            self.heard.append(Heard("stream-end", "", None))

    def hurry(self) -> None:
        enlarge(self._reader.socket)

    def leave(self) -> None:
        self._reader.close()

    def cut(self) -> None:
        self._reader.cut()


class WebSocketClient(Client):
    name = "websocket"

    def _open(self, buffer: int | None) -> None:
        self._frames = FrameReader()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(30)
        self.socket.connect((self.server.host, self.server.port))
        host = f"{self.server.host}:{self.server.port}"
        rest = open_handshake(self.socket, host, "/live/ws/", "live.1")
        self._take(rest)
        self._say(action="subscribe", ref=1, topics=list(self.topics), cursor=self.cursor)
        reply = self.next("stream-reply")
        assert reply.data["topics"] == list(self.topics)
        deadline = time.monotonic() + 20
        while not self.cursor:  # follows the reply
            self.receive(deadline)

    def receive(self, deadline: float) -> None:
        if self._frames.close_code is not None:
            raise EndedError("closed", self._frames.close_code, is_clean=True)
        self.socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self.socket.recv(65_536)
        except ConnectionError as error:
            raise EndedError(f"the connection broke: {error}", 1006) from error
        if not data:
            raise EndedError("no close frame", 1006)
        self._take(data)

    def _take(self, data: bytes) -> None:
        for opcode, message in self._frames.feed(data):
            assert opcode == TEXT
            assert message.endswith(b"\n")
            for line in message.decode().removesuffix("\n").split("\n"):
                frame = json.loads(line)
                self.cursor = frame.get("id") or self.cursor
                topic = frame.get("topic") or ""
                self.heard.append(Heard(frame["event"], topic, frame.get("data")))
                if frame["event"] == "keep-alive":
                    self.show_life()
        for payload in self._frames.pings:
            self._send(PONG, payload)
        self._frames.pings.clear()

    def hurry(self) -> None:
        enlarge(self.socket)

    def show_life(self) -> None:
        self._say(action="pong")

    def _say(self, **action: Any) -> None:
        self._send(TEXT, json.dumps(action).encode())

    def _send(self, opcode: int, payload: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.socket.settimeout(30)
            self.socket.sendall(frame_bytes(opcode, payload))

    def leave(self) -> None:
        if self.socket.fileno() >= 0 and self._frames.close_code is None:
            self._send(CLOSE, (1000).to_bytes(2, "big"))
        self.socket.close()

    def cut(self) -> None:
        reset_on_close(self.socket)
        self.socket.close()


class LongPollClient(Client):
    name = "long-poll"
    wait = 20

    def _open(self, buffer: int | None) -> None:
        self._buffer = buffer
        self._tag = ""
        self._connection: http.client.HTTPConnection | None = None
        if not self.cursor:
            self._ask()
            self._read_answer(time.monotonic() + 30)

    def begin_to_wait(self) -> None:
        if self._connection is None:
            self._ask()

    def receive(self, deadline: float) -> None:
        self.begin_to_wait()
        self._read_answer(deadline)

    def _ask(self) -> None:
        query = [*(("topic", t) for t in self.topics), ("cursor", self.cursor), ("wait", self.wait)]
        connection = http.client.HTTPConnection(self.server.host, self.server.port)
        connection.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self._buffer is not None:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        connection.sock.settimeout(30)
        connection.sock.connect((self.server.host, self.server.port))
        headers = {"If-None-Match": self._tag} if self._tag else {}
        connection.request("GET", f"/live/poll/?{urlencode(query)}", headers=headers)
        self._connection = connection

    def _read_answer(self, deadline: float) -> None:
        assert self._connection is not None
        assert self._connection.sock is not None
        self._connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
        with contextlib.closing(self._connection):
            try:
                response = self._connection.getresponse()
                body = response.read()
            except (http.client.HTTPException, ConnectionError) as error:
                raise EndedError(f"no answer: {error}") from error
            finally:
                self._connection = None
        self._tag = response.headers["ETag"] or self._tag
        if response.status == 304:
            assert body == b""
            return
        assert response.status == 200, body
        assert len(body) == int(response.headers["Content-Length"])
        answer = json.loads(body)
        self.cursor = answer["cursor"]
        self.heard += [
            Heard(f["event"], f.get("topic", ""), f.get("data")) for f in answer["frames"]
        ]

    def hurry(self) -> None:
        self._buffer = None
        if self._connection is not None and self._connection.sock is not None:
            enlarge(self._connection.sock)

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def cut(self) -> None:
        if self._connection is not None and self._connection.sock is not None:
            reset_on_close(self._connection.sock)
        self.leave()


class ShortPollClient(LongPollClient):
    name = "short-poll"
    wait = 0
    keeps_open = False

    def begin_to_wait(self) -> None:
        """It never waits: the next poll brings what there is by then."""

    def receive(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError
        self._ask()
        self._read_answer(deadline)
        time.sleep(0.02)  # between two polls; a busy loop would only measure itself


CLIENTS: tuple[type[Client], ...] = (SSEClient, WebSocketClient, LongPollClient, ShortPollClient)


@dataclass(frozen=True)
class Site:
    """The server, and what a test makes it do."""

    server: Server

    def say(self, topic: str, first: int, count: int = 1, *, size: int = 0, keys: int = 0) -> None:
        asked = {"topic": topic, "first": first, "count": count, "size": size, "keys": keys}
        answer = Visitor(self.server.url, timeout=60).request(
            "POST", "/say/", json.dumps(asked).encode()
        )
        assert answer.status == 204, answer.text

    def end(self, topic: str) -> None:
        """An operator ends the connections of this topic."""
        assert Visitor(self.server.url).request("POST", "/end/", topic.encode()).status == 204

    def trim(self) -> None:
        """What the topics no longer keep is removed."""
        assert Visitor(self.server.url).request("POST", "/trim/").status == 204

    def hooks(self, topic: str) -> dict[str, int]:
        counts: dict[str, int] = Visitor(self.server.url).get(f"/hooks/?topic={topic}").json()
        return counts

    def wait_until_unsubscribed(self, topic: str, times: int, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while self.hooks(topic)["unsubscribed"] < times:
            assert time.monotonic() < deadline, self.hooks(topic)
            time.sleep(0.02)
        assert self.hooks(topic)["unsubscribed"] == times
