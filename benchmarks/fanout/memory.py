"""Memory of one more idle connection, and whether it stays where it is while others come and go.

    python benchmarks/fanout/memory.py                       # bare and django_live, SSE and WebSocket
    python benchmarks/fanout/memory.py --churn 300           # for so many seconds, django_live's streams and sockets
    python benchmarks/fanout/memory.py --churn 3600 --every 3   # an hour, leaving the processors to others

What a server takes for its first thousand connections is heap that it keeps whatever happens then. So a
connection's memory is the difference between two counts, and not what a number of them takes divided by it.

With ``--churn`` half as many stay, and others are opened and cut by fifties, by turns in a process of streams and
in one of WebSockets. The slope is that of a line through the samples of the second half of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from common import report
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
)
from subjects import Subject, all_subjects

NAMES = ("bare uvicorn SSE", "live uvicorn SSE", "bare uvicorn WebSocket", "live uvicorn WebSocket")
MORE = 3
"""Steps after the first. A thread that comes or a cache that fills at the second is a megabyte now and then,
which made 14.3 to 16.4 kB of a stream."""
REST = 7.0
"""Seconds after which threads that opened them, and have nothing more to do, have ended."""
AT_ONCE = 50
"""Connections that are opened, and cut, together in the churn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000, help="of each step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--churn", type=int, default=0, help="seconds")
    parser.add_argument("--every", type=float, default=0, help="seconds from one turn to the next")
    options = parser.parse_args()
    allow_many_files()
    with tempfile.TemporaryDirectory() as folder:
        database, sessions = site(Path(folder))
        by_name = {subject.name: subject for subject in all_subjects("")}
        if options.churn:
            chosen = [by_name[name] for name in NAMES if name.startswith("live")]
            report("churn", churn(chosen, options, database, sessions))
            return
        taken: dict[str, list[tuple[float, int]]] = {name: [] for name in NAMES}
        for _ in range(options.rounds):
            for name in NAMES:
                found = one_more(by_name[name], options.connections, database, sessions)
                taken[name].append(found)
        report("memory", [row(name, rounds) for name, rounds in taken.items()])


def row(name: str, rounds: list[tuple[float, int]]) -> dict[str, Any]:
    memories = [memory for memory, _ in rounds]
    return {
        "subject": name,
        "kB of one more": round(statistics.median(memories), 1),
        "least": round(min(memories), 1),
        "most": round(max(memories), 1),
        "threads more": max(threads for _, threads in rounds),
    }


def one_more(
    subject: Subject, connections: int, database: Path, sessions: list[str]
) -> tuple[float, int]:
    """kB, and how many threads so many connections added."""
    port = free_port()
    command = ["taskset", "-c", SERVER_CPU, *subject.command(port, Path())]
    with running(command, environment(database)) as server, contextlib.ExitStack() as loads:
        wait_until_it_listens(port)

        def open_more(times: int) -> Usage:
            for _ in range(times):
                load = loads.enter_context(Load())
                load.ask({"open": subject.opening(port, connections, sessions)})
            time.sleep(REST)
            return Usage.of(server)

        before, after = open_more(1), open_more(MORE)
    memory = (after.memory - before.memory) / 1024 / connections / MORE
    return memory, after.threads - before.threads


def churn(
    subjects: list[Subject], options: argparse.Namespace, database: Path, sessions: list[str]
) -> list[dict[str, Any]]:
    """A row for each of the subjects, which share the time."""
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(Held(subject, options.connections // 2, database, sessions))
            for subject in subjects
        ]
        began = time.monotonic()
        while (now := time.monotonic() - began) < options.churn:
            for each in held:
                each.let_some_come_and_go(now)
            time.sleep(max(0.0, began + now + options.every - time.monotonic()))
            say_how_far(now / options.churn)
        return [each.row(options.churn) for each in held]


class Held:
    """A server of which some connections stay."""

    def __init__(
        self, subject: Subject, connections: int, database: Path, sessions: list[str]
    ) -> None:
        self.subject = subject
        self.connections = connections
        self.database = database
        self.sessions = sessions
        self.came = 0
        self.samples: list[tuple[float, float]] = []
        """Seconds, and kB of the server's memory."""

    def __enter__(self) -> Self:
        self.port = free_port()
        command = ["taskset", "-c", SERVER_CPU, *self.subject.command(self.port, Path())]
        with contextlib.ExitStack() as stack:
            self.server = stack.enter_context(running(command, environment(self.database)))
            wait_until_it_listens(self.port)
            staying = stack.enter_context(Load())
            staying.ask({"open": self.subject.opening(self.port, self.connections, self.sessions)})
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def let_some_come_and_go(self, now: float) -> None:
        with Load() as passing:
            passing.ask({"open": self.subject.opening(self.port, AT_ONCE, self.sessions)})
        self.came += AT_ONCE
        self.samples.append((now, Usage.of(self.server).memory / 1024))

    def row(self, seconds: int) -> dict[str, Any]:
        later = [sample for sample in self.samples if sample[0] > seconds / 2]
        slope, _ = statistics.linear_regression(*zip(*later, strict=True))
        return {
            "subject": self.subject.name,
            "seconds": seconds,
            "held": self.connections,
            "came and went": self.came,
            "MB after a tenth": round(self.samples[len(self.samples) // 10][1] / 1024, 1),
            "MB at half": round(later[0][1] / 1024, 1),
            "MB at the end": round(later[-1][1] / 1024, 1),
            "kB a minute": round(slope * 60, 1),
        }


def say_how_far(part: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{min(1.0, part):.0%}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
