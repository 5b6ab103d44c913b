"""What is to be written to a board, merged while it waits, and how it is written."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from ...core.events import Draft, encode_data
from ...core.outbox import Entry
from ...core.publishing import publish_entries
from ...core.state import get_state
from ...exceptions import InvalidEvent
from .holdings import map_name
from .values import LONGEST_KEY, brief, checked_key, checked_number, clean, encode, line_text

if TYPE_CHECKING:
    from .topics import Board, Keyed

LARGEST_NEWS = 64 * 1024
"""Characters of what changed that is told; of more, each process reads the store."""


class Change(ABC):
    """Something to write to one board."""

    @abstractmethod
    def add(self, later: Any) -> None:
        """Make it what both do, one after the other."""

    @abstractmethod
    def write(self, board: Board, fence: int = 0) -> bool:
        """Write it, and tell every process. False, and nothing happened: somebody with a greater
        fencing token has written since. Raises ``StoreError``, ``MapFull``."""


class MapChange(Change):
    """Rows to set and keys to remove; or all rows there shall be."""

    def __init__(
        self, rows: Mapping[str, str], gone: Collection[str] = (), *, whole: bool = False
    ) -> None:
        self.rows = dict(rows)
        self.gone = set(gone)
        self.whole = whole

    @classmethod
    def of_rows(cls, rows: Mapping[Any, Any], *, whole: bool = False) -> Self:
        """Raises ``InvalidEvent`` for a key or a row that cannot be one."""
        if not isinstance(rows, Mapping):
            raise InvalidEvent(f"{brief(rows)} are no rows: pass a dict of rows by key.")
        for key, row in rows.items():
            if not isinstance(row, Mapping):
                raise InvalidEvent(f"The row {brief(key)} is {brief(row)}, which is no dict.")
        return cls({checked_key(key): encode(row) for key, row in rows.items()}, whole=whole)

    def add(self, later: MapChange) -> None:
        if later.whole:
            self.rows, self.gone, self.whole = dict(later.rows), set(), True
            return
        self.rows.update(later.rows)
        for key in later.gone:
            self.rows.pop(key, None)
        self.gone = set() if self.whole else (self.gone - later.rows.keys()) | later.gone

    def write(self, board: Board, fence: int = 0) -> bool:
        rows, gone = self._against(board) if self.whole else (self.rows, self.gone)
        most = getattr(board, "most", 1)
        changes = get_state().change(map_name(board), rows, gone, fence=fence, most=most)
        if changes is None:
            return False
        told = "{}"
        size = sum(map(len, rows.values())) + LONGEST_KEY * len(gone)
        if size <= LARGEST_NEWS:
            members = ",".join(f"{encode_data(key)}:{value}" for key, value in rows.items())
            told = f'"set":{{{members}}},"gone":{encode_data(sorted(gone))}'
            news = f'{{"v":{changes.version},{told}}}'
        else:
            news = f'{{"v":{changes.version}}}'
        _tell(board, news)
        return True

    def _against(self, board: Board) -> tuple[dict[str, str], set[str]]:
        """What has to be written for the board to have just these rows."""
        had = get_state().items(map_name(board)).entries
        rows = {
            key: value
            for key, value in self.rows.items()
            if key not in had or had[key].value != value
        }
        if not rows and self.rows:
            # The board is as old as its newest version: one row says that all are fresh.
            rows = dict([next(iter(self.rows.items()))])
        return rows, had.keys() - self.rows.keys()


class LogChange(Change):
    """Points or lines to add."""

    def __init__(self, items: Iterable[list[Any]], most: int) -> None:
        self.items = deque(items, most)

    def add(self, later: LogChange) -> None:
        self.items.extend(later.items)

    def write(self, board: Board, fence: int = 0) -> bool:
        if self.items:
            _tell(board, json.dumps({"items": list(self.items)}, ensure_ascii=False))
        return True


Point = Mapping[str, Any] | tuple[float | None, Mapping[str, Any]]


def points_change(board: Any, points: Iterable[Point]) -> LogChange:
    """Raises ``InvalidEvent``."""
    items = []
    for at, values in map(_timed, points):
        moment = time.time() if at is None else clean(at)
        if not isinstance(moment, int | float):
            raise InvalidEvent(f"{brief(at)} is no time: pass seconds since 1970, or None for now.")
        series = {checked_key(name): checked_number(name, one) for name, one in values.items()}
        items.append([round(moment, 3), series])
    return LogChange(items, board.points)


def _timed(point: Any) -> tuple[Any, Mapping[str, Any]]:
    """A point with its time; None: now."""
    if isinstance(point, Mapping):
        return None, point
    if isinstance(point, list | tuple) and len(point) == 2 and isinstance(point[1], Mapping):
        return point[0], point[1]
    raise InvalidEvent(
        f"{brief(point)} is no point: pass a dict of numbers by name of the series, or (time, dict)."
    )


def lines_change(board: Any, lines: Iterable[str | tuple[str, str]]) -> LogChange:
    """A line is text, or (level, text). One with line breaks is several. Raises ``InvalidEvent``."""
    now = round(time.time(), 3)
    items = []
    for line in lines:
        if isinstance(line, tuple) and len(line) != 2:
            raise InvalidEvent(f"{brief(line)} is no line: pass text, or (level, text).")
        level, text = line if isinstance(line, tuple) else ("", line)
        items += [[now, line_text(level)[:20], one] for one in line_text(text).splitlines() or [""]]
    return LogChange(items, board.lines)


def rows_change(board: Keyed, rows: Mapping[Any, Any], *, whole: bool = False) -> MapChange:
    change = MapChange.of_rows(rows, whole=whole)
    if len(change.rows) > board.most:
        raise InvalidEvent(f"{len(change.rows)} rows; {board.name} may have {board.most}.")
    return change


def _tell(board: Board, data: str) -> None:
    publish_entries([Entry(board.news, Draft("news", data))], on_commit=False)
