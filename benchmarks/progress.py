"""What an update costs a job that is not told to anybody, beside a loop that counts by itself.

`python benchmarks/progress.py --updates 200000`
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from common import arguments, in_children, report, seconds


def bare(_progress: Any, updates: int) -> None:
    """What a job does that tells nobody."""
    done = 0
    while done < updates:
        done += 1


def advance(progress: Any, updates: int) -> None:
    for _ in range(updates):
        progress.advance()


def track(progress: Any, updates: int) -> None:
    for _ in progress.track(range(updates)):
        pass


def say(progress: Any, updates: int) -> None:
    for n in range(updates):
        progress.update(n, "a message", rows=n)


def step(progress: Any, updates: int) -> None:
    with progress.step("Part", total=updates) as part, part.step("Part", total=updates) as inner:
        advance(inner, updates)


UPDATES: dict[str, Callable[[Any, int], None]] = {
    "none: a bare loop": bare,
    "advance()": advance,
    "advance() in a step of a step": step,
    "track()": track,
    "update() with message and field": say,
}


def measure(database: str, updates: int) -> list[dict[str, Any]]:
    """In a child: each kind of update, while the scribe writes beside it."""
    import django

    django.setup()
    from django_live.features.progress import Progress

    rows: list[dict[str, Any]] = []
    for name, work in UPDATES.items():
        with Progress(name, total=updates, owner=1) as progress:
            took = seconds(lambda work=work, one=progress: work(one, updates)) / updates  # type: ignore[misc]
        row = {"database": database, "update": name, "µs": round(took * 1e6, 3)}
        rows.append(row | {"of the bare loop": round(row["µs"] / (rows or [row])[0]["µs"], 1)})
    return rows


def main() -> None:
    options = arguments(__doc__ or "", updates=200_000)
    if options.in_child:
        print(json.dumps(measure(options.in_child, options.updates)))
        return
    report("progress", in_children(__file__, options.databases, {}))


if __name__ == "__main__":
    main()
