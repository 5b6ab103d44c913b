"""The tables of docs/concepts/performance.md that are made of `benchmarks/results.json`.

A table stands there between `<!-- figures: name -->` and `<!-- end -->`. `summary.py` writes them, and
`tests/docs/test_figures.py` fails where page and results differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Results = dict[str, Any]
"""By the name of a benchmark: its `rows`, and the `machine` that they were measured on; and `versions`."""
Row = dict[str, Any]

BLOCK = re.compile(r"<!-- figures: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def with_tables(page: str, results: Results) -> str:
    """The page, with its tables made anew."""

    def made(block: re.Match[str]) -> str:
        table = TABLES[block[1]](results)
        return f"<!-- figures: {block[1]} -->\n{table}\n<!-- end -->"

    return BLOCK.sub(made, page)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def rows_of(results: Results, name: str) -> list[Row]:
    rows: list[Row] = results.get(name, {}).get("rows", [])
    return rows


# -- the goals -------------------------------------------------------------------------------------


PART = "live's part"


class Goals:
    """Lines of the table of goals."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = []

    def add(
        self, what: str, goal: str, measured: float | None, limit: float, *, least: bool = False
    ) -> None:
        """One figure, and the most (with ``least`` the least) that it should be."""
        if measured is None:
            self.lines.append([what, goal, "not measured", ""])
            return
        reached = measured >= limit if least else measured <= limit
        self.lines.append([what, goal, f"{measured:g}", "yes" if reached else "**no**"])

    def beside(self, what: str, goal: str, other: Row, limit: float) -> None:
        """django_live's part of what another subject takes. One that lost events is no yardstick."""
        if "FAILED" in other.get("result", ""):
            self.lines.append([what, goal, f"{other[PART]:g}, but its row FAILED", ""])
        else:
            self.add(what, goal, other.get(PART), limit)


def goals(results: Results) -> str:
    """What was to be reached, and what was."""
    fanout = {row["subject"]: row for row in rows_of(results, "fanout")}
    growth = {row["what"]: row for row in rows_of(results, "growth")}
    found = Goals()

    def of(rows: dict[str, Row], name: str, column: str) -> float | None:
        return rows.get(name, {}).get(column)

    kinds = ("SSE", "WebSocket")
    for server, limit in (("uvicorn", 0.85), ("granian", 1.0), ("hypercorn", 1.0), ("daphne", 1.0)):
        for kind in kinds:
            ratio = of(fanout, f"live {server} {kind}", "µs of bare")
            found.add(
                f"processor time of a delivery beside the bare application: {server}, {kind}",
                f"≤ {limit:g}",
                ratio,
                limit,
            )
    stream, socket = (
        "django-eventstream uvicorn SSE",
        "Channels consumer, redis layer, uvicorn WebSocket",
    )
    found.beside(
        "the same beside django-eventstream", "≤ 1/7 = 0.143", fanout.get(stream, {}), 0.143
    )
    found.beside(
        "the same beside Channels' consumer on Redis",
        "≤ 1/12 = 0.083",
        fanout.get(socket, {}),
        0.083,
    )
    for kind in kinds:
        ratio = of(fanout, f"live uvicorn {kind}", "p99 ms of bare")
        found.add(
            f"99th percentile of latency beside the bare application: {kind}", "≤ 1", ratio, 1.0
        )
    memory = {row["subject"]: row for row in rows_of(results, "memory")}
    for kind, most in (("SSE", 16), ("WebSocket", 28)):
        more = of(memory, f"live uvicorn {kind}", "kB of one more")
        found.add(f"kB of memory for one more idle connection: {kind}", f"≤ {most}", more, most)
    threads = [row["threads more"] for name, row in memory.items() if name.startswith("live")]
    found.add("threads that 1,000 more connections add", "0", max(threads) if threads else None, 0)
    many, ten = growth.get("connections: 10,000"), growth.get("topics of each connection: 10")
    found.add(
        "a delivery at 10,000 connections beside 1,000", "≤ 1.15", many and many["of base"], 1.15
    )
    found.add(
        "a delivery at 10 topics of a connection beside 1", "≤ 1.3", ten and ten["of base"], 1.3
    )
    opened = {row["what"]: row["of a page's"] for row in rows_of(results, "connects")}
    for what in ("stream", "WebSocket"):
        found.add(
            f"openings a second beside a plain page: {what}",
            "≥ 0.7",
            opened.get(what),
            0.7,
            least=True,
        )
    storm = next(iter(rows_of(results, "storm")), {})
    found.add("reads of the store when 2,000 clients resume", "≤ 1", storm.get("store reads"), 1)
    found.add(
        "until all have caught up, beside opening them and writing the bytes",
        "≤ 2",
        storm.get("of both"),
        2.0,
    )
    pause = many and many["longest pause ms"]
    found.add("ms that a dispatch to 10,000 holds the loop up at most", "≤ 15", pause, 15)
    return table(["", "goal", "measured", "reached"], found.lines)


# -- what was measured -----------------------------------------------------------------------------


def fanout(results: Results) -> str:
    columns = [
        "events/s",
        "µs",
        "worst µs",
        "burst µs",
        "p50 ms",
        "p99 ms",
        "max ms",
        "kB",
        "threads",
        "connects/s",
        "load",
    ]
    rows = rows_of(results, "fanout")
    return table(
        ["", *columns, "events"],
        [
            [row["subject"], *(row.get(column, "") for column in columns), checked(row)]
            for row in rows
        ],
    )


def growth(results: Results) -> str:
    columns = ["µs", "of base", "p99 ms", "longest pause ms"]
    rows = rows_of(results, "growth")
    return table(
        ["", *columns, "events"],
        [[row["what"], *(row[column] for column in columns), checked(row)] for row in rows],
    )


def checked(row: Row) -> str:
    return "all, in order" if row["result"].startswith("every") else row["result"]


def plain(name: str) -> Callable[[Results], str]:
    """All columns of a benchmark, the results' own names."""

    def made(results: Results) -> str:
        rows = rows_of(results, name)
        columns = [column for column in rows[0] if column != "result"] if rows else ["not measured"]
        return table(columns, [[row[column] for column in columns] for row in rows])

    return made


def machines(results: Results) -> str:
    """What the fan-out was measured on."""
    names = [
        name
        for name in ("fanout", "growth", "storm", "memory", "churn", "connects", "dispatch")
        if name in results
    ]
    rows = [
        [
            name,
            *(
                str(results[name]["machine"][key])
                for key in ("processors", "python", "django", "system")
            ),
        ]
        for name in names
    ]
    loads = [f"{results[name]['machine']['load']:.1f}" for name in names]
    lines = [[*row, load] for row, load in zip(rows, loads, strict=True)]
    return table(["", "processors", "Python", "Django", "system", "load at the end"], lines)


def versions(results: Results) -> str:
    """Of what took part."""
    found = {name: version for name, version in results["versions"].items() if version}
    return ", ".join(f"{name} {version}" for name, version in found.items())


TABLES: dict[str, Callable[[Results], str]] = {
    "goals": goals,
    "fanout": fanout,
    "growth": growth,
    "storm": plain("storm"),
    "memory": plain("memory"),
    "churn": plain("churn"),
    "connects": plain("connects"),
    "dispatch": plain("dispatch"),
    "machines": machines,
    "versions": versions,
}
