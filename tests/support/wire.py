"""HTTP/1.1 responses and SSE frames, read byte by byte as they come.

Written from the specifications (RFC 9112; the HTML standard, "Server-sent events"), without a line
of django_live: a fault in the package's framing cannot hide behind the same fault here.
Both parsers must give the same result wherever the network happens to cut the bytes.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


class ProtocolViolationError(Exception):
    """The server sent bytes that are not HTTP/1.1."""


@dataclass(frozen=True)
class Frame:
    """One block of an event stream: the lines up to an empty line.

    A field the block did not have is None, so "no event line" and "an empty event line" differ.
    """

    fields: tuple[tuple[str, str], ...]
    comments: tuple[str, ...] = ()
    received_at: float = field(default_factory=time.monotonic, compare=False)

    def last(self, name: str) -> str | None:
        """The value of the last line with this field name."""
        for key, value in reversed(self.fields):
            if key == name:
                return value
        return None

    @property
    def event(self) -> str | None:
        """The frame's type, as a browser would dispatch it; None means `message`."""
        return self.last("event")

    @property
    def data(self) -> str | None:
        """The data lines, joined with LF."""
        lines = [value for key, value in self.fields if key == "data"]
        return "\n".join(lines) if lines else None

    @property
    def id(self) -> str | None:
        """The cursor this frame moves to. An id with NUL is ignored, as browsers do."""
        value = self.last("id")
        return None if value is not None and "\0" in value else value

    @property
    def topic(self) -> str | None:
        """django_live's own field."""
        return self.last("topic")

    @property
    def retry(self) -> int | None:
        """Milliseconds, if the line is made of digits only."""
        value = self.last("retry")
        return int(value) if value is not None and value.isascii() and value.isdigit() else None

    def json(self) -> Any:
        """The data, decoded. Raises ValueError when there is none or it is not JSON."""
        if self.data is None:
            raise ValueError(f"a frame without data: {self.fields}")
        return json.loads(self.data)


class FrameParser:
    """Bytes in, frames out. Lines may end with LF, CR or CRLF; a first BOM is ignored."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._after_cr = False
        self._first_line = True
        self._fields: list[tuple[str, str]] = []
        self._comments: list[str] = []

    @property
    def unfinished(self) -> bool:
        """Whether bytes of a frame came whose empty line has not: a browser drops these."""
        return bool(self._line or self._fields or self._comments)

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that this chunk completes."""
        frames = []
        for line in self._lines(chunk):
            if line:
                self._take(line)
            elif self._fields or self._comments:
                frames.append(Frame(tuple(self._fields), tuple(self._comments)))
                self._fields, self._comments = [], []
        return frames

    def _lines(self, chunk: bytes) -> Iterator[str]:
        if b"\r" in chunk or self._after_cr:
            # A CR ends a line at once; the LF that may follow it in the next chunk belongs to it.
            if self._after_cr and chunk.startswith(b"\n"):
                chunk = chunk[1:]
                self._after_cr = False
            if not chunk:
                return
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            line = bytes(self._line) + piece
            self._line.clear()
            yield self._text(line)
        self._line += rest

    def _text(self, line: bytes) -> str:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line.decode("utf-8", errors="replace")

    def _take(self, line: str) -> None:
        if line.startswith(":"):
            self._comments.append(line[1:])
            return
        name, colon, value = line.partition(":")
        self._fields.append((name, value.removeprefix(" ") if colon else ""))


class ResponseParser:
    """One HTTP/1.1 response: `status` and `headers` once the head is there, then the body's bytes.

    `feed()` returns the body bytes that became readable, with the transfer coding taken off.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.cookies: list[str] = []
        # The body's proper end was seen: the last chunk, or all of Content-Length.
        self.ended = False
        self._buffer = bytearray()
        self._chunked = False
        self._left: int | None = None
        self._in_trailers = False

    def feed(self, data: bytes) -> bytes:
        """Take what came from the socket. Raises ProtocolViolationError."""
        self._buffer += data
        if self.status is None and not self._read_head():
            return b""
        if self.ended:
            if self._buffer:
                raise ProtocolViolationError(f"bytes after the end: {bytes(self._buffer[:80])!r}")
            return b""
        return self._read_chunks() if self._chunked else self._read_plain()

    def connection_closed(self) -> None:
        """The server closed; without length and chunks that is the body's end."""
        if self.status is not None and not self._chunked and self._left is None:
            self.ended = True

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status_line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, rest = status_line.partition(" ")
        code, _, self.reason = rest.partition(" ")
        if version not in {"HTTP/1.1", "HTTP/1.0"} or len(code) != 3 or not code.isdigit():
            raise ProtocolViolationError(f"not a status line: {status_line!r}")
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip() or not name:
                raise ProtocolViolationError(f"not a header: {line!r}")
            key, value = name.lower(), value.strip()
            if key == "set-cookie":
                self.cookies.append(value)
            self.headers[key] = f"{self.headers[key]}, {value}" if key in self.headers else value
        if int(code) < 200:  # 100 Continue and the like: the real head follows
            self.headers.clear()
            return self._read_head()
        self.status = int(code)
        self._decide_the_body(self.status)
        return True

    def _decide_the_body(self, status: int) -> None:
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.headers.get("content-length")
        if self._chunked and length is not None:
            raise ProtocolViolationError("both Transfer-Encoding and Content-Length")
        if length is not None:
            self._left = int(length)
        if status in {204, 304} or self._left == 0:
            self.ended = True

    def _read_plain(self) -> bytes:
        if self._left is None:
            taken = bytes(self._buffer)
            self._buffer.clear()
            return taken
        taken = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(taken)
        if self._left == 0:
            self.ended = True
        if self.ended and self._buffer:
            raise ProtocolViolationError(f"bytes after the end: {bytes(self._buffer[:80])!r}")
        return taken

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while not self.ended:
            if self._in_trailers:
                line = self._line()
                if line is None:
                    break
                self.ended = line == b""
                continue
            if self._left is None:
                line = self._line()
                if line is None:
                    break
                self._left = self._chunk_size(line)
                if self._left == 0:
                    self._in_trailers, self._left = True, None
                continue
            if self._left:
                taken = self._buffer[: self._left]
                body += taken
                del self._buffer[: len(taken)]
                self._left -= len(taken)
                if self._left:
                    break
            if len(self._buffer) < 2:  # the CRLF that ends each chunk
                break
            if self._buffer[:2] != b"\r\n":
                raise ProtocolViolationError("a chunk is longer than its size says")
            del self._buffer[:2]
            self._left = None
        if self.ended and self._buffer:
            raise ProtocolViolationError(f"bytes after the end: {bytes(self._buffer[:80])!r}")
        return bytes(body)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > 65_536:
                raise ProtocolViolationError("a chunk's size line never ends")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    @staticmethod
    def _chunk_size(line: bytes) -> int:
        digits = line.partition(b";")[0].strip()
        if not digits or not all(byte in b"0123456789abcdefABCDEF" for byte in digits):
            raise ProtocolViolationError(f"not a chunk size: {line!r}")
        return int(digits, 16)
