"""What open streams cost a web process: memory, threads, and the processor's time per delivery.

    python -m benchmarks.idle_streams --streams 1000 --events 200

Starts the tests' own site (default settings and middleware, SQLite) on one uvicorn process, opens the
streams on plain sockets, lets them idle, and then publishes events of 200 bytes from another process, 20
a second. docs/howto/deploy.md quotes its output.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.support.databases import server_database
from tests.support.reader_pool import ReaderPool
from tests.support.servers import Server

TOPIC = "open/idle"
PUBLISH = """
import time
from django_live import publish
for n in range({count}):
    publish("{topic}", "counted", {{"n": n, "text": "x" * 170}})
    time.sleep(0.05)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        server_database("sqlite", Path(folder)) as database,
    ):
        measure(database, options.streams, options.events)


def measure(database, streams: int, events: int) -> None:  # noqa: ANN001
    headers = {"Accept": "text/event-stream"}
    path = f"/live/events/?topic={TOPIC}"
    with Server("uvicorn", env=database.env) as server, ReaderPool() as pool:
        for _ in range(20):  # what a process has once, whatever comes
            pool.close(pool.open(server.host, server.port, path, headers))
        time.sleep(2)
        memory, threads = server.rss_kb(), server.threads()
        opened = [pool.open(server.host, server.port, path, headers) for _ in range(streams)]
        deadline = time.monotonic() + 60
        while not all(reader.open for reader in opened):
            assert time.monotonic() < deadline, pool.describe()
            time.sleep(0.1)
        time.sleep(2)
        print(f"{streams} streams: {(server.rss_kb() - memory) / streams:.1f} kB each,")
        print(f"threads {threads} before, {server.threads()} with them")
        idle = server.cpu_seconds()
        time.sleep(10)
        print(f"idle: {(server.cpu_seconds() - idle) / 10:.1%} of one processor")
        busy = server.cpu_seconds()
        database.python(PUBLISH.format(count=events, topic=TOPIC))
        while not all(len(reader.events) >= events for reader in opened):
            assert time.monotonic() < deadline + 120
            time.sleep(0.2)
        spent = server.cpu_seconds() - busy
        print(f"{spent / (streams * events) * 1e6:.1f} µs of processor time per delivery")


if __name__ == "__main__":
    main()
