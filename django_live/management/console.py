"""How the commands speak: tables and progress bars to a person at a terminal who has `rich` installed,
plain lines to everybody else, JSON to programs."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ..core.survey import Survey

MISSING = 3
"""Exit code: a process did not answer."""
WRONG = 2
"""Exit code: what was asked for makes no sense."""


def add_format(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=["text", "json"], default="text", help="text (default) or json"
    )


class Console:
    """Writes to a command's output."""

    def __init__(self, command: BaseCommand, format: str = "text") -> None:  # noqa: A002
        self.command = command
        stream = getattr(command.stdout, "_out", None)
        is_terminal = bool(getattr(stream, "isatty", lambda: False)())
        self.is_rich = is_terminal and format == "text" and find_spec("rich") is not None
        self._rich: Any = None
        if self.is_rich:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(file=stream, no_color=bool(command.style.ERROR("") == ""))

    def say(self, line: str = "") -> None:
        self.command.stdout.write(line)

    def json(self, told: Any) -> None:
        self.command.stdout.write(json.dumps(told, ensure_ascii=False, default=str))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Rows below a line of names; nothing without rows."""
        texts = [[printable(cell) for cell in row] for row in rows]
        if not texts:
            return
        if self._rich is not None:
            from rich.table import Table
            from rich.text import Text

            table = Table(box=None, header_style="bold", pad_edge=False)
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in texts:
                table.add_row(*(Text(cell) for cell in row))  # no markup of ours in others' names
            self._rich.print(table)
            return
        widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
        for row in (list(columns), *texts):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say("  ".join(cells).rstrip())

    @contextmanager
    def progress(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Gives a function that is told how much is done. At a terminal a bar, else nothing."""
        if self._rich is None:
            yield lambda done: None
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._rich, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda done: bar.update(task, completed=done)

    def clear(self) -> None:
        """Begin a new screen, where there is one."""
        if self._rich is not None:
            self._rich.clear()


def printable(value: Any) -> str:
    """A cell's text: what visitors choose (their browser's name) moves no cursor."""
    text = "–" if value is None or value == "" else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)


def ago(at: float, now: float) -> str:
    """How long something is ago, short."""
    seconds = max(now - at, 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def in_bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 10_000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.0f} GB"


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def name_missing(survey: Survey) -> None:
    """End with exit code 3 where a process did not answer: what was told is not everything."""
    if survey.missing:
        names = ", ".join(f"{p.host} (process {p.pid})" for p in survey.missing)
        raise CommandError(f"No answer from {names}: this is not everything.", returncode=MISSING)


def missing_as_json(survey: Survey) -> list[dict[str, Any]]:
    return [{"host": process.host, "pid": process.pid} for process in survey.missing]
