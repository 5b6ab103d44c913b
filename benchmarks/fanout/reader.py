"""The load: a process that holds connections, and checks that each gets every event once and in order.

It shares no code with any subject. It reads sockets as they become readable, and looks for `"n": 7, "t":
12.5, "pad"` in what comes, so it costs a few microseconds an event and is not the bottleneck (`spent` in what it
prints is its own processor time). A `"k": 3` between the time and the padding is the number of a topic: each
topic has its own order, and an event is checked against the one before it in the same topic.

It answers pings, and what a server wants to have answered: who is silent is cut off within a minute. It does
so between two orders as well.

It is told what to do by lines of JSON on standard input, and answers each with one:

    {"open": {...}}      how to open the connections (see `Opening`)   → how long that took
    {"expect": 200, "within": 60}   wait until each has so many more events, for so many seconds at
                                    most; with "since_opening" those count that came before      → counts and latencies
"""

from __future__ import annotations

import array
import json
import os
import re
import selectors
import socket
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from wire import PONG, frame, pings_in

EVENT = re.compile(rb'"n": ?(\d+), ?"t": ?([\d.e+]+)(?:, ?"k": ?(\d+))?, ?"pad"')
"""It begins with something that is always there: only then does the search skip what is not it, and five
times as fast. It ends behind the last number, so that a number is never read that was cut."""
LONGEST_MARK = 80
"""Bytes that what EVENT looks for can have, and a ping: so much is kept of a piece, for when it was cut
there."""
AT_ONCE = 64
"""Connections that may be opening at the same time."""
KEEP_ALIVE = b"keep-alive"
STANDARD_INPUT = 0


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
    answer: str = ""
    """The text frame with which a WebSocket answers a keep-alive, where the server wants one."""
    socket: bool = False
    """WebSockets, whose pings are answered."""

    @property
    def time_limit(self) -> float:
        """Seconds. On a busy machine 10,000 streams of logged-in users take two minutes and more."""
        return max(120.0, self.connections / 20)


class Connection:
    __slots__ = ("came", "carry", "is_open", "last", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.carry = b""
        self.is_open = False
        self.last: dict[int, int] = {}
        """The number of the newest event of each topic."""
        self.came = 0
        """Events that were new when they came: neither twice nor behind a later one."""


class Reader:
    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.connections: list[Connection] = []
        self.latencies = array.array("d")
        self.doubled = 0
        self.cut = 0
        self.answer = b""
        self.are_sockets = False
        self.orders = b""

    # -- orders ------------------------------------------------------------------------------------

    def next_order(self) -> dict[str, Any] | None:
        """The next, meanwhile listening; None when there will be none."""
        self.selector.register(STANDARD_INPUT, selectors.EVENT_READ, None)
        try:
            while b"\n" not in self.orders:
                ready = [key.data for key, _ in self.selector.select()]
                # An order is given before what it asks for: it is read before what came.
                if None in ready:
                    if not (piece := os.read(STANDARD_INPUT, 1_000_000)):
                        return None
                    self.orders += piece
                    continue
                for connection in ready:
                    self._take(connection)
        finally:
            self.selector.unregister(STANDARD_INPUT)
        line, _, self.orders = self.orders.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order

    def open(self, opening: Opening) -> dict[str, Any]:
        began = time.monotonic()
        deadline = began + opening.time_limit
        waiting: set[Connection] = set()
        mark = opening.opened.encode()
        self.answer = frame(opening.answer.encode()) if opening.answer else b""
        self.are_sockets = opening.socket
        for number in range(opening.connections):
            waiting.add(self._connect(number, opening))
            while len(waiting) >= AT_ONCE or (number == opening.connections - 1 and waiting):
                if time.monotonic() > deadline:
                    raise SystemExit(f"{len(waiting)} connections did not open")
                for key, _ in self.selector.select(0.5):
                    if key.data.is_open:
                        self._take(key.data)
                    else:
                        self._open_further(key.data, mark, opening, waiting)
        return {"seconds": time.monotonic() - began, "connections": len(self.connections)}

    def expect(
        self, count: int, within: float, patience: float = 15.0, *, since_opening: bool = False
    ) -> dict[str, Any]:
        """Until each has so many more, or `within` seconds, or nothing has come for `patience`."""
        if not since_opening:
            self.latencies = array.array("d")
            self.doubled = 0
            for connection in self.connections:
                connection.came = 0
        began = time.monotonic()
        spent = time.process_time()
        left = sum(count - connection.came for connection in self.connections)
        heard = began
        while left > 0:
            ready = self.selector.select(1.0)
            now = time.monotonic()
            for key, _ in ready:
                if came := self._take(key.data):
                    left -= came
                    heard = now
            if now - began > within or now - heard > patience:
                break
        short = [count - c.came for c in self.connections if c.came < count]
        self.doubled += sum(max(0, connection.came - count) for connection in self.connections)
        return {
            # Waiting in vain is not part of what it took.
            "seconds": (heard if short else time.monotonic()) - began,
            "spent": time.process_time() - spent,
            "deliveries": len(self.latencies),
            "missing": sum(short),
            "short": len(short),
            "doubled_or_reordered": self.doubled,
            "cut": self.cut,
            **in_milliseconds(self.latencies),
        }

    # -- sockets -----------------------------------------------------------------------------------

    def _connect(self, number: int, opening: Opening) -> Connection:
        sock = socket.socket()
        # 28,000 ports to an address: many connections come from several.
        sock.bind((f"127.0.{number // 20_000}.1", 0))
        sock.connect(("127.0.0.1", opening.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(opening.requests[number % len(opening.requests)].encode())
        sock.setblocking(False)
        connection = Connection(sock)
        self.connections.append(connection)
        self.selector.register(sock, selectors.EVENT_READ, connection)
        return connection

    def _open_further(
        self, connection: Connection, mark: bytes, opening: Opening, waiting: set[Connection]
    ) -> None:
        data = self._receive(connection)
        connection.carry += data
        if not data:
            raise SystemExit(f"a connection was refused: {connection.carry[:500]!r}")
        if opening.say and b"\r\n\r\n" in connection.carry and b" 101 " in connection.carry[:20]:
            for text in opening.say if connection.came == 0 else []:
                connection.sock.sendall(frame(text.encode()))
            connection.came = 1
        if mark in connection.carry:
            connection.is_open = True
            connection.came = 0
            data, connection.carry = connection.carry, b""
            self._read(connection, data)
            waiting.discard(connection)

    def _receive(self, connection: Connection) -> bytes:
        try:
            return connection.sock.recv(262_144)
        except BlockingIOError:
            return b"\n"
        except ConnectionError:
            return b""

    def _take(self, connection: Connection) -> int:
        data = self._receive(connection)
        if data:
            return self._read(connection, data)
        self.selector.unregister(connection.sock)
        connection.sock.close()
        self.cut += 1
        if self.cut == 1:
            print(f"cut; its last words: {connection.carry!r}", file=sys.stderr, flush=True)
        return 0

    def _read(self, connection: Connection, data: bytes) -> int:
        """Look for events in what came; how many new ones there were."""
        now = time.monotonic()
        text = connection.carry + data if connection.carry else data
        end = self._answer(connection, text) if self.are_sockets else 0
        fresh = 0
        for match in EVENT.finditer(text):
            topic, n = int(match[3] or 0), int(match[1])
            last = connection.last.get(topic, -1)
            if n > last:
                # A hole is told of by how many came in the end.
                connection.last[topic] = n
                fresh += 1
            else:
                self.doubled += 1
            self.latencies.append(now - float(match[2]))
            end = max(end, match.end())
        connection.carry = text[max(end, len(text) - LONGEST_MARK) :]
        connection.came += fresh
        return fresh

    def _answer(self, connection: Connection, text: bytes) -> int:
        """Answer what wants an answer; where the last of it ends."""
        payloads, end = pings_in(text)
        answers = [frame(payload, PONG) for payload in payloads]
        if self.answer and (place := text.rfind(KEEP_ALIVE)) >= 0:
            end = max(end, place + len(KEEP_ALIVE))
            answers.append(self.answer)
        if answers:
            # One that was cut is found out by reading.
            with suppress(OSError):
                connection.sock.send(b"".join(answers))
        return end


def in_milliseconds(latencies: array.array[float]) -> dict[str, float]:
    if not latencies:
        return {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    ordered = sorted(latencies)
    return {
        "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "max_ms": ordered[-1] * 1000,
    }


def main() -> None:
    reader = Reader()
    while order := reader.next_order():
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
