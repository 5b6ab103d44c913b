"""A client of the WebSocket that shares no code with the package: `websockets` from PyPI, and a reader
of frames that was written from docs/reference/protocol.md."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol


@dataclass(frozen=True)
class SocketFrame:
    """One frame. Of a binary one `data` is its payload, and `flags` is not None."""

    event: str
    topic: str = ""
    data: Any = None
    id: str = ""
    ref: Any = None
    error: Any = None
    flags: int | None = None
    sequence: int = 0
    timestamp: int = 0

    @property
    def is_event(self) -> bool:
        """Whether the site published it."""
        return not self.event.startswith(("stream-", "keep-alive"))


def read_binary(data: bytes) -> SocketFrame:
    """A binary frame, field by field."""

    def number(start: int, size: int) -> int:
        return int.from_bytes(data[start : start + size], "big")

    assert data[0] == 1, "another version"
    type_start = 25 + number(2, 2)
    start = type_start + data[4]
    end = start + number(21, 4)
    assert end <= len(data), "half a frame"
    return SocketFrame(
        event=data[type_start:start].decode("ascii"),
        topic=data[25:type_start].decode(),
        data=data[start:end],
        id=data[end:].decode("ascii"),
        flags=data[1],
        sequence=number(5, 8),
        timestamp=number(13, 8),
    )


def binary(
    topic: str,
    type: str,
    payload: bytes,
    *,
    flags: int = 0,
    sequence: int = 0,
    timestamp: int = 0,
) -> bytes:
    """A binary frame, as a client writes it."""
    name, kind = topic.encode(), type.encode()
    header = bytes([1, flags]) + len(name).to_bytes(2, "big") + bytes([len(kind)])
    numbers = sequence.to_bytes(8, "big") + timestamp.to_bytes(8, "big")
    return header + numbers + len(payload).to_bytes(4, "big") + name + kind + payload


class SocketClient:
    """An open WebSocket. Answers keep-alives while it reads, unless `mute`."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        origin: str | None = None,
        subprotocols: tuple[str, ...] = ("live.1",),
        mute: bool = False,
        path: str = "/live/ws/",
    ) -> None:
        self._stack = contextlib.ExitStack()
        connecting = connect(
            url.replace("http", "ws", 1) + path,
            additional_headers=dict(headers or {}),
            origin=origin,  # type: ignore[arg-type]
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            compression=None,
            proxy=None,
            ping_interval=None,
            max_size=None,
            open_timeout=30,
            close_timeout=5,
        )
        self.socket = self._stack.enter_context(connecting)
        self.mute = mute
        self.frames: list[SocketFrame] = []
        """Every frame so far."""
        self.cursor = ""
        self.refs = itertools.count(1)
        self._read = 0
        self._parts: dict[str, list[SocketFrame]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()

    def cut(self) -> None:
        """Leave without a word."""
        with contextlib.suppress(OSError):
            self.socket.socket.shutdown(socket.SHUT_RDWR)
        self._stack.close()

    # -- say --

    def say(self, **action: Any) -> None:
        self.socket.send(json.dumps(action))

    def call(self, action: str, **fields: Any) -> SocketFrame:
        """Do it, and wait for the reply."""
        ref = next(self.refs)
        self.say(action=action, ref=ref, **fields)
        return self.wait_for(lambda frame: frame.event == "stream-reply" and frame.ref == ref)

    def subscribe(self, *topics: str, cursor: str = "") -> SocketFrame:
        return self.call("subscribe", topics=list(topics), cursor=cursor)

    # -- hear --

    def wait_for(
        self, condition: Callable[[SocketFrame], bool], timeout: float = 20
    ) -> SocketFrame:
        """The next frame like this; those before it count as read. Raises TimeoutError, or
        ConnectionClosed."""
        deadline = time.monotonic() + timeout
        while True:
            while self._read < len(self.frames):
                frame = self.frames[self._read]
                self._read += 1
                if condition(frame):
                    return frame
            self._receive(deadline - time.monotonic())

    def next_event(self, timeout: float = 20) -> SocketFrame:
        return self.wait_for(lambda frame: frame.is_event, timeout)

    def events(self, count: int) -> list[SocketFrame]:
        return [self.next_event() for _ in range(count)]

    def heard_within(self, seconds: float) -> list[SocketFrame]:
        """What still comes, until the end or for so long."""
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                self._receive(deadline - time.monotonic())
        except (TimeoutError, ConnectionClosed):
            pass
        heard, self._read = self.frames[self._read :], len(self.frames)
        return heard

    def close_code(self, timeout: float = 20) -> int:
        """Read until the server closes; its code."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self._receive(deadline - time.monotonic())
        except ConnectionClosed:
            code = self.socket.close_code
            assert code is not None
            return code

    def _receive(self, timeout: float) -> None:
        if timeout <= 0:
            raise TimeoutError(f"not among {self.frames[-20:]}")
        message = self.socket.recv(timeout)
        if isinstance(message, bytes):
            frame = read_binary(message)
            parts = self._parts.setdefault(frame.topic, [])
            assert bool((frame.flags or 0) & 2) == bool(parts), (
                "parts that do not follow each other"
            )
            parts.append(frame)
            if not (frame.flags or 0) & 1:
                payload = b"".join(part.data for part in self._parts.pop(frame.topic))
                self._take(SocketFrame(**{**vars(frame), "data": payload}))
            return
        assert message.endswith("\n")
        for line in message[:-1].split("\n"):
            values = json.loads(line)
            if "id" in values:
                assert list(values)[-1] == "id"
            self._take(SocketFrame(**values))

    def _take(self, frame: SocketFrame) -> None:
        self.frames.append(frame)
        self.cursor = frame.id or self.cursor
        if frame.event == "keep-alive" and not self.mute:
            self.say(action="pong")
