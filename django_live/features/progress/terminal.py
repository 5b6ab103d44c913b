"""The same progress in a terminal, drawn by ``rich`` where that is installed."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec
from typing import Any


class Drawing:
    """One bar. Drawn by the scribe as often as viewers are told, and once more at the end."""

    def __init__(self, title: str) -> None:
        from rich import progress
        from rich.console import Console

        self._console = Console(file=sys.stderr)
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[figures]}", markup=False),
            progress.TextColumn("{task.fields[message]}", markup=False),
        )
        self._bars = progress.Progress(*columns, console=self._console, auto_refresh=False)
        self._bar = self._bars.add_task(title, total=None, figures="", message="")
        self._lock = threading.Lock()
        self._last_line = 0
        self._stopped = False
        self._bars.start()

    def draw(self, view: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        with self._lock:
            if self._stopped:
                return
            for line in lines:
                if line["n"] > self._last_line:
                    self._console.print(line["text"], markup=False, highlight=False)
                    self._last_line = line["n"]
            self._show(view)

    def stop(self, view: dict[str, Any]) -> None:
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._show(view)
                self._bars.stop()

    def _show(self, view: dict[str, Any]) -> None:
        fraction, left = view["fraction"], view["left"]
        counted = _plain(view["done"]) + (f"/{_plain(view['total'])}" if view["total"] else "")
        figures = [counted, view["unit"]]
        if left is not None:
            minutes, seconds = divmod(round(left), 60)
            figures.append(f"{minutes}:{seconds:02} left")
        self._bars.update(
            self._bar,
            total=None if fraction is None else 1.0,
            completed=fraction or 0.0,
            figures=" ".join(filter(None, figures)),
            message=view["error"] or view["message"],
            refresh=True,
        )


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:.1f}"


def drawing_for(title: str, wanted: bool | None) -> Drawing | None:
    """A bar, where one is wanted and can be drawn."""
    if wanted is None:
        is_main = threading.current_thread() is threading.main_thread()
        wanted = is_main and sys.stderr is not None and sys.stderr.isatty()
    if not wanted or find_spec("rich") is None:
        return None
    return Drawing(title)
