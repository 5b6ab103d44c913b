"""Memory of one more idle connection, and whether it stays where it is while others come and go.

    python benchmarks/fanout/memory.py                       # bare and django_live, SSE and WebSocket
    python benchmarks/fanout/memory.py --churn 300           # for so many seconds, django_live's streams and sockets

What a server takes for its first thousand connections is heap that it keeps whatever happens then. So a
connection's memory is the difference between two counts, and not what a number of them takes divided by it.

With ``--churn`` half as many stay, and others are opened and cut by tens. The slope is that of a line through
the samples of the second half of the time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

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
AT_ONCE = 50
"""Connections that are opened, and cut, together in the churn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000, help="of each of the two steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--churn", type=int, default=0, help="seconds")
    options = parser.parse_args()
    allow_many_files()
    with tempfile.TemporaryDirectory() as folder:
        database, sessions = site(Path(folder))
        by_name = {subject.name: subject for subject in all_subjects("")}
        if options.churn:
            rows = [
                churn(by_name[name], options.connections // 2, options.churn, database, sessions)
                for name in NAMES
                if name.startswith("live")
            ]
            report("churn", rows)
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
    with running(command, environment(database)) as server:
        wait_until_it_listens(port)
        with Load() as first, Load() as second:
            first.ask({"open": subject.opening(port, connections, sessions)})
            time.sleep(2.0)
            before = Usage.of(server)
            second.ask({"open": subject.opening(port, connections, sessions)})
            time.sleep(2.0)
            after = Usage.of(server)
    return (after.memory - before.memory) / 1024 / connections, after.threads - before.threads


def churn(
    subject: Subject, held: int, seconds: int, database: Path, sessions: list[str]
) -> dict[str, Any]:
    port = free_port()
    command = ["taskset", "-c", SERVER_CPU, *subject.command(port, Path())]
    with running(command, environment(database)) as server, Load() as staying:
        wait_until_it_listens(port)
        staying.ask({"open": subject.opening(port, held, sessions)})
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        came = 0
        while (now := time.monotonic() - began) < seconds:
            with Load() as passing:
                passing.ask({"open": subject.opening(port, AT_ONCE, sessions)})
            came += AT_ONCE
            samples.append((now, memory_of(server)))
        later = [sample for sample in samples if sample[0] > seconds / 2]
        slope, _ = statistics.linear_regression(*zip(*later, strict=True))
    return {
        "subject": subject.name,
        "seconds": seconds,
        "held": held,
        "came and went": came,
        "MB after a tenth": round(samples[len(samples) // 10][1] / 1024, 1),
        "MB at half": round(later[0][1] / 1024, 1),
        "MB at the end": round(later[-1][1] / 1024, 1),
        "kB a minute": round(slope * 60, 1),
    }


def memory_of(server: psutil.Process) -> float:
    """In kB."""
    return Usage.of(server).memory / 1024


if __name__ == "__main__":
    main()
