"""A process is killed, and everybody who was connected to it comes back at once: whether anybody misses or
doubles anything, how long it takes, and what visitors of ordinary pages feel of it.

    python -m benchmarks.reconnect --streams 5000

One uvicorn process (default settings but for the limit of connections, SQLite); each stream resumes with
its cursor. One socket in fifty stops reading, and as many never finish their request.
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.databases import ServerDatabase, server_database
from tests.support.exactly_once import judge
from tests.support.http import Visitor
from tests.support.other_process import OtherProcess
from tests.support.reader_pool import ReaderPool
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader, request_bytes

TOPIC = "open/crowd"
PATH = f"/live/events/?topic={TOPIC}"
BEFORE, AWAY, AFTER = 5, 20, 5
"""Events: while all listen, while nobody can, and when they are back."""
PUBLISH = """
from django_live import publish
for n in range({first}, {first} + {count}):
    publish("{topic}", "counted", {{"n": n, "text": "x" * 500}})
"""


class Visits:
    """Somebody who looks at an ordinary page, again and again."""

    def __init__(self, server: Server) -> None:
        self.took: list[float] = []
        self.failed = 0
        self._visitor = Visitor(server.url, timeout=60)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            began = time.monotonic()
            try:
                self.failed += self._visitor.get("/").status != 200
                self.took.append(time.monotonic() - began)
            except OSError:
                self.failed += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=5000)
    streams = parser.parse_args().streams
    with (
        tempfile.TemporaryDirectory() as folder,
        server_database("sqlite", Path(folder)) as database,
    ):
        measure(database, streams)


def measure(database: ServerDatabase, streams: int) -> None:
    env = {**database.env, "LIVE_TEST_DJANGO_LIVE": json.dumps({"MAX_CONNECTIONS": 2 * streams})}
    with Server("uvicorn", env=env) as server, ReaderPool() as pool, ExitStack() as stack:
        elsewhere = stack.enter_context(OtherProcess(env))

        def publish(first: int, count: int) -> None:
            elsewhere.run(PUBLISH.format(topic=TOPIC, first=first, count=count))

        began = time.monotonic()
        readers = [pool.open(server.host, server.port, PATH) for _ in range(streams)]

        def wait_for(frames: int) -> None:
            """Looked at now and then: to look at all of them at each event would be the whole load."""
            deadline = time.monotonic() + 300
            while any(len(reader.frames) < frames for reader in readers):
                assert time.monotonic() < deadline, pool.describe()
                time.sleep(0.2)

        wait_for(1)
        print(f"{streams} opened in {time.monotonic() - began:.1f} s")
        publish(0, BEFORE)
        wait_for(1 + BEFORE)
        server.kill()
        while any(reader.over is None for reader in readers):
            time.sleep(0.1)
        publish(BEFORE, AWAY)
        server.start()
        slow = [_slow(server, stack) for _ in range(streams // 50)]
        with Visits(server) as visits:
            began = time.monotonic()
            for reader in readers:
                pool.reopen(reader)
            wait_for(1 + BEFORE + 1 + AWAY)
            took = time.monotonic() - began
        publish(BEFORE + AWAY, AFTER)
        everything = BEFORE + AWAY + AFTER
        wait_for(2 + everything)
        for reader in slow:
            reader.events(AFTER, timeout=60)
        verdict = judge({TOPIC: range(everything)}, pool.received())
        worst = sorted(visits.took)
        print(
            f"all back, with what they missed, after {took:.1f} s ({streams / took:.0f} a second)"
        )
        print(verdict)
        print(f"reset: {sum(bool(reader.named('stream-reset')) for reader in readers)}")
        print(f"a page meanwhile: median {worst[len(worst) // 2] * 1000:.0f} ms, ", end="")
        print(f"longest {worst[-1] * 1000:.0f} ms, failed {visits.failed} of {len(worst)}")
        print(f"{server.threads()} threads, {server.rss_kb() // 1024} MB")


def _slow(server: Server, stack: ExitStack) -> SSEReader:
    """One that reads no further until the end; and one that never finishes what it asks for."""
    writing = stack.enter_context(socket.create_connection((server.host, server.port)))
    writing.sendall(request_bytes(server.host, server.port, PATH)[:-4])
    place = server.host, server.port, PATH
    return stack.enter_context(SSEReader(*place, receive_buffer=4096))


if __name__ == "__main__":
    main()
