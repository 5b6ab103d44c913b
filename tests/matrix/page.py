"""`python -m tests.matrix.page`: make docs/reference/compatibility.md of what the runs have found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.matrix.parts import PARTS

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"
RESULTS = REFERENCE / "compatibility.json"
PAGE = REFERENCE / "compatibility.md"
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}

HEAD = """# Compatibility

What the tests were run with. This page is made of the runs: `tox` runs them, `python -m tests.matrix.page` writes it.
A number is how many tests passed; "–": no run that passed is on record. Python 3.14 is in the list of environments, and was not on the
machine of these runs.

Python 3.11 goes with Django 5.2 only, because Django 6 needs 3.12.
"""


def page(results: dict[str, Any]) -> str:
    """The page, as Markdown."""
    lines = [HEAD]
    for title, names in (("Databases", _on_databases()), ("Everything else", _elsewhere())):
        runs = [run for run in _sorted(results) if any(name in run["parts"] for name in names)]
        if not runs:
            continue
        lines += [f"## {title}", "", _row(["", *(_heading(run) for run in runs)])]
        lines.append(_row(["---"] * (len(runs) + 1)))
        lines += [
            _row([_title(name), *(_cell(run["parts"].get(name)) for run in runs)])
            for name in names
            if any(name in run["parts"] for run in runs)
        ]
        lines.append("")
    return "\n".join([*lines, *_versions(results)]).rstrip() + "\n"


def _on_databases() -> list[str]:
    return [part.name for part in PARTS.values() if part.on_each_database]


def _elsewhere() -> list[str]:
    return [part.name for part in PARTS.values() if not part.on_each_database]


def _sorted(results: dict[str, Any]) -> list[dict[str, Any]]:
    order = list(DATABASES)
    return sorted(
        results.values(),
        key=lambda run: (
            _number(run["django"]),
            _number(run["python"]),
            order.index(run["database"]),
        ),
    )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _heading(run: dict[str, Any]) -> str:
    python = ".".join(run["python"].split(".")[:2])
    django = ".".join(run["django"].split(".")[:2])
    return f"Django {django}, Python {python}, {DATABASES[run['database']]}"


def _title(name: str) -> str:
    part = PARTS[name]
    return f"{part.title} (`{part.tests[0]}`)"


def _cell(counts: dict[str, Any] | None) -> str:
    if counts is None:
        return "–"
    told = [f"**{counts['failed']} failed**"] if counts["failed"] else []
    told += [str(counts["passed"])]
    told += [f"{counts['left out']} left out"] if counts["left out"] else []
    return ", ".join(told)


def _versions(results: dict[str, Any]) -> list[str]:
    lines = ["## With which releases", ""]
    for run in _sorted(results):
        if run["database"] == "sqlite":
            days = sorted({counts["on"] for counts in run["parts"].values()})
            packages = ", ".join(f"{name} {number}" for name, number in run["packages"].items())
            lines.append(
                f"- **Python {run['python']}, Django {run['django']}** ({', '.join(days)}): {packages}"
            )
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULTS.read_text())))
