"""A reader of event streams on a plain socket, which can also misbehave: read slowly, stop, vanish.

One `SSEReader` is one connection, read in the test's own thread and only when the test asks: a test
that does not read *is* a reader that stopped. `reader_pool` holds many at once.
"""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from tests.support.wire import Frame, FrameParser, ResponseParser

__all__ = ["Frame", "SSEReader", "StreamEndedError", "request_bytes"]


class StreamEndedError(Exception):
    """The stream is over; `clean` says whether HTTP's own end of the body was seen."""

    def __init__(self, *, clean: bool, why: str) -> None:
        super().__init__(why)
        self.clean = clean


def request_bytes(
    host: str, port: int, path: str, headers: Mapping[str, str] | None = None
) -> bytes:
    """A GET for an event stream; `headers` add to the usual ones, or replace them."""
    all_headers = {"Host": f"{host}:{port}", "Accept": "text/event-stream", **(headers or {})}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def reset_on_close(connection: socket.socket) -> None:
    """Make the coming close() send RST instead of FIN, as a crashed or unplugged client would."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class SSEReader:
    """Opens the stream and returns once the answer's head is there.

    `path` may hold a query. `receive_buffer` is the socket's SO_RCVBUF in bytes, set before it
    connects. `bytes_per_second` makes it a slow reader. `timeout` (seconds) bounds connecting and
    the head; raises TimeoutError, OSError.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 10,
        receive_buffer: int | None = None,
        bytes_per_second: int | None = None,
    ) -> None:
        self.frames: list[Frame] = []
        self.bytes_received = 0
        self._taken = 0
        self._response = ResponseParser()
        self._parser = FrameParser()
        self._body = bytearray()
        self._over: StreamEndedError | None = None
        self._bytes_per_second = bytes_per_second
        self._slow_since = time.monotonic()
        self._slow_taken = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(timeout)
            self.socket.connect((host, port))
            self.socket.sendall(request_bytes(host, port, path, headers))
            self._read_the_head(time.monotonic() + timeout)
        except BaseException:
            self.socket.close()
            raise

    @property
    def status(self) -> int:
        """The HTTP status."""
        assert self._response.status is not None
        return self._response.status

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, names in lower case."""
        return self._response.headers

    @property
    def last_id(self) -> str | None:
        """The cursor to resume with: the last id among the frames that were read."""
        return next((frame.id for frame in reversed(self.frames) if frame.id is not None), None)

    @property
    def ended(self) -> bool:
        """Whether the end of the stream has been read."""
        return self._over is not None

    def next_frame(self, timeout: float = 5) -> Frame:
        """The next frame. Raises TimeoutError, or StreamEndedError once there can be none."""
        deadline = time.monotonic() + timeout
        while self._taken >= len(self.frames):
            if self._over is not None:
                raise self._over
            self._receive(deadline)
        self._taken += 1
        return self.frames[self._taken - 1]

    def next_event(self, timeout: float = 5) -> Frame:
        """The next frame that carries an application's event: none of the stream's own."""
        return self.wait_for(is_application_event, timeout)

    def wait_for(self, predicate: Callable[[Frame], bool], timeout: float = 5) -> Frame:
        """The next frame that fulfils the predicate; those before it are passed over.

        Raises TimeoutError, which says what came instead, or StreamEndedError.
        """
        deadline = time.monotonic() + timeout
        passed_over: list[Frame] = []
        while True:
            try:
                frame = self.next_frame(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                seen = [dict(frame.fields) for frame in passed_over[-10:]]
                raise TimeoutError(f"not within {timeout} s; what came instead: {seen}") from None
            if predicate(frame):
                return frame
            passed_over.append(frame)

    def events(self, count: int, timeout: float = 10) -> list[Frame]:
        """The next `count` application events."""
        deadline = time.monotonic() + timeout
        return [self.next_event(max(0.0, deadline - time.monotonic())) for _ in range(count)]

    def frames_during(self, seconds: float) -> list[Frame]:
        """All frames that come within this time: for proving that something does *not* come."""
        deadline = time.monotonic() + seconds
        frames = []
        with contextlib.suppress(TimeoutError, StreamEndedError):
            while True:
                frames.append(self.next_frame(max(0.0, deadline - time.monotonic())))
        return frames

    def hurry(self) -> None:
        """From here on, read as fast as it comes."""
        self._bytes_per_second = None

    def wait_until_ended(self, timeout: float = 5) -> StreamEndedError:
        """Read to the end and say how it came; its frames are kept. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while self._over is None:
            self._receive(deadline)
        return self._over

    def body(self, timeout: float = 5) -> bytes:
        """The whole body of an answer that is not a stream."""
        self.wait_until_ended(timeout)
        return bytes(self._body)

    def json(self, timeout: float = 5) -> Any:
        """The whole body as JSON."""
        return json.loads(self.body(timeout))

    def __iter__(self) -> Iterator[Frame]:
        """Every frame until the stream ends; a silence of 60 s raises TimeoutError."""
        while True:
            try:
                yield self.next_frame(60)
            except StreamEndedError:
                return

    def close(self) -> None:
        """Leave politely (FIN). Does nothing the second time."""
        self.socket.close()

    def cut(self) -> None:
        """Leave abruptly (RST)."""
        reset_on_close(self.socket)
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_the_head(self, deadline: float) -> None:
        while self._response.status is None:
            if self._over is not None:
                raise self._over
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        wanted = self._wait_for_allowance(deadline)
        # A timeout of 0 would mean "do not block" and raise something else.
        self.socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self.socket.recv(wanted)
        except ConnectionError as error:
            self._over = StreamEndedError(clean=False, why=f"the connection broke: {error}")
            return
        self._slow_taken += len(data)
        self.bytes_received += len(data)
        if not data:
            self._response.connection_closed()
            clean = self._response.ended
            why = "the stream ended" if clean else "the connection closed within the body"
            self._over = StreamEndedError(clean=clean, why=why)
            return
        body = self._response.feed(data)
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            self.frames.extend(self._parser.feed(body))
        else:
            self._body += body
        if self._response.ended:
            self._over = StreamEndedError(clean=True, why="the stream ended")

    def _wait_for_allowance(self, deadline: float) -> int:
        if self._bytes_per_second is None:
            return 65_536
        now = time.monotonic()
        allowed = int((now - self._slow_since) * self._bytes_per_second) - self._slow_taken
        if allowed >= 1:
            return min(allowed, 65_536)
        until_next = (1 - allowed) / self._bytes_per_second
        if now + until_next > deadline:
            time.sleep(max(0.0, deadline - now))
            raise TimeoutError("timed out while reading slowly")
        time.sleep(until_next)
        return 1


def is_application_event(frame: Frame) -> bool:
    """Whether a frame tells of something that was published: it has data and a name of its own."""
    if frame.data is None or frame.event is None:
        return False
    return frame.event != "keep-alive" and not frame.event.startswith("stream-")
