"""What a browser would meet: a real stream from a given address, with events sent through it.

Knows HTTP from the standard library only, so that it sees what came and not what a client makes of it.
"""

from __future__ import annotations

import base64
import queue
import secrets
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import quote, urlencode, urljoin, urlsplit

PINGS = 3
PAUSE = 0.3
"""Seconds between two."""
LATE = 2.5
"""Seconds that an event may need where no channel layer reaches the other processes, with a margin."""


class Unreachable(Exception):
    """The address cannot be asked; its text says why."""


class Silent(Unreachable):
    """Somebody is there, and says nothing in time."""


@dataclass
class Stream:
    """What came of a stream."""

    status: int
    headers: dict[str, str]
    body: str = ""
    """Of an answer that is no stream."""
    first: float | None = None
    """Seconds until the first frame; None: it never came."""
    pings: list[float] = field(default_factory=list)
    """Seconds that each event took which came."""


def listen(base: str, topic: str, ping: Callable[[int], None], timeout: float) -> Stream:
    """Open ``events/`` below an address, call ``ping`` for some events, and see when they come. Raises
    ``Unreachable``."""
    url = urljoin(base, "events/") + "?" + urlencode({"topic": topic}, quote_via=quote)
    began = time.monotonic()
    with _answer(
        url, timeout, {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    ) as response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        stream = Stream(response.status, headers)
        if response.status != 200 or "text/event-stream" not in headers.get("content-type", ""):
            stream.body = response.read(500).decode(errors="replace")
            return stream
        lines = _Lines(response)
        if lines.until(b"event: stream-open", timeout) is None:
            return stream
        stream.first = time.monotonic() - began
        for number in range(PINGS):
            sent = time.monotonic()
            ping(number)
            came = lines.until(b"event: ping", max(timeout, LATE))
            if came is None:
                break
            stream.pings.append(came - sent)
            time.sleep(PAUSE)
    return stream


class _Lines:
    """The lines of a response, with the time at which each came."""

    def __init__(self, response: HTTPResponse) -> None:
        self._queue: queue.Queue[tuple[float, bytes] | None] = queue.Queue()
        self._response = response
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        rest = b""
        is_packed = self._response.headers.get("Content-Encoding", "") == "gzip"
        unpack = zlib.decompressobj(wbits=31).decompress if is_packed else bytes
        try:
            while came := self._response.read1(4096):
                *lines, rest = (rest + unpack(came)).split(b"\n")
                for line in lines:
                    self._queue.put((time.monotonic(), line.strip()))
        except (OSError, HTTPException, ValueError, AttributeError, zlib.error):  # closed under it
            pass
        self._queue.put(None)

    def until(self, wanted: bytes, seconds: float) -> float | None:
        """When this line came; None: not in time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = self._queue.get(timeout=left)
            except queue.Empty:
                return None
            if found is None:
                return None
            if found[1] == wanted:
                return found[0]
        return None


class _answer:  # noqa: N801 - used as a function
    """``with _answer(url, …) as response``: a GET whose connection is cut at the end."""

    def __init__(self, url: str, timeout: float, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=timeout + LATE)
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._headers = headers

    def __enter__(self) -> HTTPResponse:
        try:
            self._connection.request("GET", self._path, headers=self._headers)
            self._socket = self._connection.sock
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        try:
            return self._connection.getresponse()
        except TimeoutError as error:
            self._connection.close()
            raise Silent("no answer in time") from error
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    def __exit__(self, *error: object) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # whoever reads it hears of the end
        self._connection.close()


def websocket_status(base: str, timeout: float) -> int:
    """The status that a WebSocket's handshake gets there: 101 is right. Raises ``Unreachable``."""
    parts = urlsplit(urljoin(base, "ws/"))
    is_secure = parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    origin = f"{parts.scheme}://{parts.netloc}"
    lines = [
        f"GET {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Origin: {origin}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: live.1",
        f"Sec-WebSocket-Key: {key}",
        "",
        "",
    ]
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=timeout) as plain:
            channel: socket.socket = plain
            if is_secure:
                context = ssl.create_default_context()
                channel = context.wrap_socket(plain, server_hostname=parts.hostname)
            channel.sendall("\r\n".join(lines).encode())
            first = b"".join(_first_line(channel))
    except OSError as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error
    words = first.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _first_line(channel: socket.socket) -> Iterator[bytes]:
    while (byte := channel.recv(1)) not in (b"", b"\n"):
        yield byte
