"""How the cost of a delivery grows: with connections, topics, size, processes.

    python benchmarks/fanout/growth.py                       # everything
    python benchmarks/fanout/growth.py --only "connections,topics" --add   # the others' results are kept

All of it with django_live's streams on uvicorn, default settings, logged-in users. In every row each event is
checked; the first row is the one that the others are compared with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from common import own_redis, report, with_rows_kept
from run import (
    SERVER_CPU,
    Load,
    Usage,
    allow_many_files,
    environment,
    free_port,
    running,
    site,
    wait_until_it_listens,
    wrong,
)
from subjects import Subject, all_subjects
from wire import stream_request


@dataclass(frozen=True)
class Case:
    name: str
    connections: int = 1000
    topics: int = 1
    """Of each connection, the same for all; with ``own`` each connection has one of its own."""
    own: bool = False
    size: int = 200
    processes: int = 1
    store: str = ""
    """Empty: the database."""
    rate: int = 20
    """Events a second; with ``own`` each goes to one connection."""

    @property
    def events(self) -> int:
        return max(10, 5 * self.rate) if not self.own else self.connections


CASES = (
    Case("base: 1,000 connections, 1 topic, 200 B"),
    Case("connections: 100", connections=100, rate=200),
    Case("connections: 10,000", connections=10_000, rate=2),
    Case("topics of each connection: 10", topics=10),
    Case("topics of each connection: 50", topics=50),
    Case("size: 100 B", size=100),
    Case("size: 2 kB", size=2_000),
    Case("size: 64 kB", size=64_000, rate=2),
    Case("processes over Redis: 1", store="redis"),
    Case("processes over Redis: 2", store="redis", processes=2),
    Case("processes over Redis: 4", store="redis", processes=4),
    Case(
        "10,000 topics with a connection each",
        connections=10_000,
        topics=10_000,
        own=True,
        store="memory",
        rate=1000,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a row's name; several with commas")
    parser.add_argument("--add", action="store_true", help="keep earlier results of other rows")
    options = parser.parse_args()
    allow_many_files()
    wanted = [part.strip() for part in options.only.split(",") if part.strip()]
    cases = [c for c in CASES if not wanted or any(part in c.name for part in ["base", *wanted])]
    found: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
    with own_redis() as redis_url, tempfile.TemporaryDirectory() as folder:
        database, sessions = site(Path(folder))
        subject = next(s for s in all_subjects(redis_url) if s.name == "live uvicorn SSE")
        for number in range(options.rounds):
            for case in cases:
                print(f"round {number + 1}: {case.name} …", file=sys.stderr, flush=True)
                found[case].append(measure(case, subject, database, sessions, redis_url))
    base = statistics.median(taken["us"] for taken in found[cases[0]])
    rows = [row(case, taken, base) for case, taken in found.items()]
    if options.add:
        # Each is compared with the base of its own run; the base that is kept is the last.
        rows = with_rows_kept("growth", rows, "what", [case.name for case in CASES])
    report("growth", rows)


def measure(
    case: Case, subject: Subject, database: Path, sessions: list[str], redis_url: str
) -> dict[str, Any]:
    port = free_port()
    command = ["taskset", "-c", SERVER_CPU, *subject.command(port, Path())]
    if case.processes > 1:
        command += ["--workers", str(case.processes)]
    env = {**environment(database), "BENCH_LIMIT": "20000"}
    if case.store:
        env["BENCH_STORE"] = case.store
    if case.store == "redis":
        env["BENCH_REDIS"] = redis_url
        env["BENCH_LAYER"] = "channels_redis.pubsub.RedisPubSubChannelLayer"
    with running(command, env) as server, Load() as load:
        wait_until_it_listens(port)
        load.ask({"open": opening(case, port, sessions)})
        time.sleep(1.0)
        before = Usage.of(server)
        each = case.events // case.topics if case.own else case.events
        load.order({"expect": each, "within": 30 + 3 * case.events / case.rate})
        query = f"rate={case.rate}&count={case.events}&size={case.size}"
        wait = watch(port, f"{query}&topics={case.topics}")
        seen = load.answer()
        spent = Usage.of(server).cpu - before.cpu
        return {
            **seen,
            "us": spent / max(1, seen["deliveries"]) * 1e6,
            "wait_ms": wait * 1000,
            "failed": wrong(seen),
        }


def opening(case: Case, port: int, sessions: list[str]) -> dict[str, Any]:
    cookies = [f"Cookie: sessionid={key}\r\n" for key in sessions]
    if case.own:
        requests = [
            stream_request(f"/live/events/?topic=ticks/{n}", port, cookies[n % len(cookies)])
            for n in range(case.connections)
        ]
    else:
        path = "/live/events/?" + "&".join(f"topic=ticks/{n}" for n in range(case.topics))
        requests = [stream_request(path, port, cookie) for cookie in cookies]
    return {
        "port": port,
        "connections": case.connections,
        "requests": requests,
        "opened": "stream-open",
        "say": [],
    }


def watch(port: int, query: str) -> float:
    """Have the events made; returns how long the event loop kept a timer waiting at most."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", f"/watch?{query}")
    return float(json.load(connection.getresponse()))


def row(case: Case, rounds: list[dict[str, Any]], base: float) -> dict[str, Any]:
    us = statistics.median(taken["us"] for taken in rounds)
    failed = "; ".join(taken["failed"] for taken in rounds if taken["failed"])
    return {
        "what": case.name,
        "µs": round(us, 1),
        "of base": round(us / base, 2),
        "p99 ms": round(statistics.median(taken["p99_ms"] for taken in rounds), 1),
        "longest pause ms": round(statistics.median(taken["wait_ms"] for taken in rounds), 1),
        "result": f"FAILED ({failed})" if failed else "every event once, in order",
    }


if __name__ == "__main__":
    main()
