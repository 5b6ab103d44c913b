"""Everybody resumes at once: what 2,000 clients that missed 100 events each cost.

    python benchmarks/fanout/storm.py

The clients come with the cursor of somebody who had read up to there. Beside it, in the same round: the same number
of streams opened without a cursor, and the same 100 events written to each of them. The sum of those two times is
what the storm would take if resuming cost nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from common import report
from run import (
    SERVER_CPU,
    Load,
    allow_many_files,
    environment,
    free_port,
    request,
    running,
    site,
    wait_until_it_listens,
    wrong,
)
from subjects import Subject, all_subjects
from wire import stream_request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    allow_many_files()
    with tempfile.TemporaryDirectory() as folder:
        database, sessions = site(Path(folder))
        stream = next(s for s in all_subjects("") if s.name == "live uvicorn SSE")
        rounds = [
            measure(stream, options.clients, options.events, database, sessions)
            for _ in range(options.rounds)
        ]
    failed = "; ".join(taken["failed"] for taken in rounds if taken["failed"])
    row = {
        "clients": options.clients,
        "events each": options.events,
        **{
            name: round(statistics.median(taken[name] for taken in rounds), 2)
            for name in ("opened s", "written s", "storm s", "of both")
        },
        "store reads": max(taken["store reads"] for taken in rounds),
        "result": f"FAILED ({failed})" if failed else "every event once, in order",
    }
    report("storm", [row])


def measure(
    stream: Subject, clients: int, events: int, database: Path, sessions: list[str]
) -> dict[str, Any]:
    port = free_port()
    command = ["taskset", "-c", SERVER_CPU, *stream.command(port, Path())]
    with running(command, environment(database)):
        wait_until_it_listens(port)
        with Load() as load:
            opened = load.ask({"open": stream.opening(port, clients, sessions)})["seconds"]
            cursor = cursor_of_now(port, sessions[0])
            load.order({"expect": events, "within": 120})
            request(port, "GET", f"/publish?rate=0&count={events}&size=200")
            written = load.answer()
        reads = store_reads(port)
        coming_back = {
            **stream.opening(port, clients, []),
            "requests": [
                stream_request(
                    stream.path,
                    port,
                    f"Cookie: sessionid={key}\r\nLast-Event-ID: {cursor}\r\n",
                )
                for key in sessions
            ],
        }
        with Load() as load:
            began = time.monotonic()
            load.ask({"open": coming_back})
            seen = load.ask({"expect": events, "within": 120, "since_opening": True})
            storm = time.monotonic() - began
        return {
            "opened s": opened,
            "written s": written["seconds"],
            "storm s": storm,
            "of both": storm / (opened + written["seconds"]),
            "store reads": store_reads(port) - reads,
            "failed": wrong(written) or wrong(seen),
        }


def cursor_of_now(port: int, session: str) -> str:
    """The cursor that a new stream begins with."""
    ask = stream_request("/live/events/?topic=ticks/0", port, f"Cookie: sessionid={session}\r\n")
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(ask.encode())
        came = b""
        while not (found := re.search(rb"stream-open.*?\nid: ?(\S+)\n", came, re.DOTALL)):
            came += sock.recv(65536)
    return found[1].decode()


def store_reads(port: int) -> int:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/tally")
    told = json.load(connection.getresponse())
    return int(told["store"].get("read", {}).get("count", 0))


if __name__ == "__main__":
    main()
