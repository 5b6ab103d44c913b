"""What the benchmarks share: a database and a Redis of their own, times, tables, results as JSON.

They take their services from `tests/support/`, as the tests do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
sys.path.insert(0, str(ROOT))


def arguments(description: str, **numbers: int) -> argparse.Namespace:
    """`--database`, `--in-child` (of the harness itself), and these whole numbers."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--databases", default="sqlite,postgresql", help="separated by commas")
    parser.add_argument("--in-child", default="", help=argparse.SUPPRESS)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def in_children(script: str, databases: str, env: dict[str, str]) -> list[dict[str, Any]]:
    """Run the script once for each database, in a process of its own; the rows that they print."""
    from tests.support.databases import server_database
    from tests.support.requirements import is_available

    rows: list[dict[str, Any]] = []
    for engine in databases.split(","):
        if engine not in ("sqlite", "sqlite-journal") and not is_available(engine):
            print(f"left out: {engine} is not here")
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            server_database(engine, Path(folder), "tests.settings") as database,  # type: ignore[arg-type]
        ):
            found = subprocess.run(
                [sys.executable, script, *sys.argv[1:], "--in-child", engine],
                env={**os.environ, **database.env, **env, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        rows += json.loads(found.stdout.splitlines()[-1])
    return rows


@contextmanager
def own_redis() -> Iterator[str]:
    """The URL of a Redis that nobody else uses."""
    from tests.support.redis import RedisServer

    with RedisServer() as server:
        yield server.url


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def each(work: Callable[[int], Any], times: int, warm_up: int = 50) -> list[float]:
    """How long each of so many calls takes."""
    for n in range(warm_up):
        work(n)
    return [seconds(lambda n=n: work(n)) for n in range(times)]  # type: ignore[misc]


def in_milliseconds(times: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    cuts = statistics.quantiles(times, n=100)
    return {"median_ms": round(cuts[49] * 1000, 3), "p99_ms": round(cuts[98] * 1000, 3)}


def peak_memory() -> int:
    """The most that this process has had in memory, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def with_rows_kept(
    name: str, rows: list[dict[str, Any]], column: str, order: list[str]
) -> list[dict[str, Any]]:
    """These rows, and those of an earlier run that have another value in this column, in this order."""
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    found = {row[column]: row for row in [*kept, *rows]}
    return [found[value] for value in order if value in found]


def report(name: str, rows: list[dict[str, Any]]) -> None:
    """Print a table, and keep the rows with the machine in `results/<name>.json`."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
    RESULTS.mkdir(exist_ok=True)
    kept = {"machine": machine(), "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Where this was measured, and how busy it was."""
    import django

    return {
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "django": django.get_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
