"""How fast connections open, beside requests for a plain Django page by the same middleware.

    python benchmarks/fanout/connects.py

Each connection is new, comes with the session of a logged-in user, and counts as open when the first frame
(or the page) has come. Pages and openings take turns within a round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", default="uvicorn")
    options = parser.parse_args()
    allow_many_files()
    with tempfile.TemporaryDirectory() as folder:
        database, sessions = site(Path(folder))
        by_name = {subject.name: subject for subject in all_subjects("")}
        stream = by_name[f"live {options.server} SSE"]
        subjects = {
            "plain page": replace(stream, path="/plain/", opened="hello "),
            "stream": stream,
            "WebSocket": by_name[f"live {options.server} WebSocket"],
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
        for _ in range(options.rounds):
            for name, subject in subjects.items():
                taken[name].append(opening(subject, options.connections, database, sessions))
    rows = []
    for name, rounds in taken.items():
        rate = statistics.median(rate for rate, _ in rounds)
        cpu = statistics.median(cpu for _, cpu in rounds)
        of_page = rate / statistics.median(rate for rate, _ in taken["plain page"])
        rows.append(
            {
                "what": name,
                "a second": round(rate),
                "ms of processor": round(cpu * 1000, 2),
                "of a page's": round(of_page, 2),
            }
        )
    report("connects", rows)


def opening(
    subject: Subject, connections: int, database: Path, sessions: list[str]
) -> tuple[float, float]:
    """Openings a second, and seconds of the server's processor for each."""
    port = free_port()
    command = ["taskset", "-c", SERVER_CPU, *subject.command(port, Path())]
    with running(command, {**environment(database), **subject.env}) as server:
        wait_until_it_listens(port)
        with Load() as warm_up:
            warm_up.ask({"open": subject.opening(port, 50, sessions)})
        time.sleep(0.5)
        before = Usage.of(server)
        with Load() as load:
            opened = load.ask({"open": subject.opening(port, connections, sessions)})
            spent = Usage.of(server).cpu - before.cpu
    return connections / opened["seconds"], spent / connections


if __name__ == "__main__":
    main()
