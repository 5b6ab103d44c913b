"""The load: a process that holds connections, and checks that each gets every event once and in order.

It shares no code with any subject. It reads sockets as they become readable, and looks for `"n": 7, "t":
12.5` in what comes, so it costs a few microseconds an event and is not the bottleneck (`spent` in what it
prints is its own processor time).

It is told what to do by lines of JSON on standard input, and answers each with one:

    {"open": {...}}      how to open the connections (see `Opening`)   → how long that took
    {"expect": 200, "within": 60}   wait until each has so many more events, for so many seconds at
                                    most; with "since_opening" those count that came while others
                                    were still being opened            → counts and latencies
"""

from __future__ import annotations

import array
import base64
import json
import os
import re
import selectors
import socket
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

EVENT = re.compile(rb'"n": ?(\d+), ?"t": ?([\d.e+]+)')
LONGEST_MARK = 64
"""Bytes that what EVENT looks for can have: so much is kept of a piece, for when it was cut there."""
AT_ONCE = 64
"""Connections that may be opening at the same time."""


@dataclass
class Opening:
    """How each connection is opened. Connection *i* takes request *i* modulo their number."""

    port: int
    connections: int
    requests: list[str]
    """HTTP requests, whole."""
    opened: str
    """What has to have come before a connection counts as open."""
    say: list[str]
    """Text frames to send after a WebSocket's handshake."""
    beat: str = ""
    """A text frame that each WebSocket sends every 15 seconds, where the server wants to hear from it."""
    time_limit: float = 120.0


class Connection:
    __slots__ = ("came", "carry", "is_open", "last", "number", "sock")

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.carry = b""
        self.is_open = False
        self.last = -1
        self.came = 0


class Reader:
    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.connections: list[Connection] = []
        self.latencies = array.array("d")
        self.doubled = 0
        self.missing = 0
        self.cut = 0
        self.beat = b""
        self.next_beat = 0.0

    def open(self, opening: Opening) -> dict[str, Any]:
        began = time.monotonic()
        deadline = began + opening.time_limit
        waiting: set[Connection] = set()
        mark = opening.opened.encode()
        self.beat = text_frame(opening.beat) if opening.beat else b""
        self.next_beat = began + 15
        for number in range(opening.connections):
            waiting.add(self._connect(number, opening))
            while len(waiting) >= AT_ONCE or (number == opening.connections - 1 and waiting):
                if time.monotonic() > deadline:
                    raise SystemExit(f"{len(waiting)} connections did not open")
                self._give_a_sign()
                for key, _ in self.selector.select(0.5):
                    self._open_further(key.data, mark, opening, waiting)
        return {"seconds": time.monotonic() - began, "connections": len(self.connections)}

    def _connect(self, number: int, opening: Opening) -> Connection:
        sock = socket.socket()
        # 28,000 ports to an address: many connections come from several.
        sock.bind((f"127.0.{number // 20_000}.1", 0))
        sock.connect(("127.0.0.1", opening.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(opening.requests[number % len(opening.requests)].encode())
        sock.setblocking(False)
        connection = Connection(number, sock)
        self.connections.append(connection)
        self.selector.register(sock, selectors.EVENT_READ, connection)
        return connection

    def _open_further(
        self, connection: Connection, mark: bytes, opening: Opening, waiting: set[Connection]
    ) -> None:
        data = self._receive(connection)
        if connection.is_open:
            self._read(connection, data)
            return
        connection.carry += data
        if not data:
            raise SystemExit(f"a connection was refused: {connection.carry[:500]!r}")
        if opening.say and b"\r\n\r\n" in connection.carry and b" 101 " in connection.carry[:20]:
            for text in opening.say if connection.came == 0 else []:
                connection.sock.sendall(text_frame(text))
            connection.came = 1
        if mark in connection.carry:
            connection.is_open = True
            connection.came = 0
            data, connection.carry = connection.carry, b""
            self._read(connection, data)
            waiting.discard(connection)

    def _give_a_sign(self) -> None:
        if self.beat and time.monotonic() > self.next_beat:
            self.next_beat += 15
            for connection in self.connections:
                if connection.is_open:
                    connection.sock.send(self.beat)

    def _receive(self, connection: Connection) -> bytes:
        try:
            return connection.sock.recv(262_144)
        except BlockingIOError:
            return b"\n"
        except ConnectionError:
            return b""

    def expect(
        self, count: int, within: float, patience: float = 15.0, *, since_opening: bool = False
    ) -> dict[str, Any]:
        """Until each has so many more, or `within` seconds, or nothing has come for `patience`."""
        if not since_opening:
            self.latencies = array.array("d")
            self.doubled = self.missing = 0
            for connection in self.connections:
                connection.came = 0
        began = time.monotonic()
        spent = time.process_time()
        left = sum(count - connection.came for connection in self.connections)
        heard = began
        while left > 0:
            ready = self.selector.select(1.0)
            now = time.monotonic()
            self._give_a_sign()
            if now - began > within or (not ready and now - heard > patience):
                break
            for key, _ in ready:
                left -= self._take(key.data)
                heard = now
        missing = sum(max(0, count - connection.came) for connection in self.connections)
        self.doubled += sum(max(0, connection.came - count) for connection in self.connections)
        return {
            "seconds": time.monotonic() - began,
            "spent": time.process_time() - spent,
            "deliveries": len(self.latencies),
            "missing": missing + self.missing,
            "doubled_or_reordered": self.doubled,
            "cut": self.cut,
            **in_milliseconds(self.latencies),
        }

    def _take(self, connection: Connection) -> int:
        data = self._receive(connection)
        if not data:
            self.selector.unregister(connection.sock)
            connection.sock.close()
            self.cut += 1
            return 0
        return self._read(connection, data)

    def _read(self, connection: Connection, data: bytes) -> int:
        """Look for events in what came; how many there were."""
        now = time.monotonic()
        text = connection.carry + data if connection.carry else data
        end = 0
        found = 0
        for match in EVENT.finditer(text):
            n = int(match[1])
            if connection.last >= 0 and n != connection.last + 1:
                if n <= connection.last:
                    self.doubled += 1
                else:
                    self.missing += n - connection.last - 1
            connection.last = max(n, connection.last)
            self.latencies.append(now - float(match[2]))
            found += 1
            end = match.end()
        connection.carry = text[max(end, len(text) - LONGEST_MARK) :]
        connection.came += found
        return found


def in_milliseconds(latencies: array.array[float]) -> dict[str, float]:
    if not latencies:
        return {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    ordered = sorted(latencies)
    return {
        "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "max_ms": ordered[-1] * 1000,
    }


def text_frame(text: str) -> bytes:
    """A masked WebSocket frame. https://www.rfc-editor.org/rfc/rfc6455#section-5.2"""
    payload = text.encode()
    assert len(payload) < 65_536
    length = (
        bytes([0x80 | len(payload)])
        if len(payload) < 126
        else b"\xfe" + len(payload).to_bytes(2, "big")
    )
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return b"\x81" + length + mask + masked


def websocket_request(path: str, port: int, headers: str = "") -> str:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Origin: http://127.0.0.1:{port}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"{headers}\r\n"
    )


def stream_request(path: str, port: int, headers: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n{headers}\r\n"


def main() -> None:
    reader = Reader()
    for line in sys.stdin:
        order = json.loads(line)
        if "open" in order:
            answer = reader.open(Opening(**order["open"]))
        else:
            answer = reader.expect(
                order["expect"],
                order["within"],
                since_opening=order.get("since_opening", False),
            )
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
