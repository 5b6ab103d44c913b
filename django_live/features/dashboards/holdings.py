"""What one process knows of a board: kept up to date by the news of other processes, checked against
the store, and given to viewers whole (a snapshot) or in part (what changed).

Must keep true: news that come late, twice or not at all leave nothing wrong behind, at the latest when
``load`` has been called again.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ...core.events import Event
from ...core.log import get_log
from ...core.state import Entries, get_state

if TYPE_CHECKING:
    from .topics import Board

VALUE = "value"
"""The key of the only entry of a ``Latest``."""
ON_THE_WAY = 0.5
"""Seconds that news may take."""
PAGE_EVENTS, PAGE_BYTES = 2_000, 4 * 1024 * 1024


def map_name(board: Board) -> str:
    return f"board:{board.key}"


class Holding(ABC):
    """The state of one board."""

    _since: float | None = None
    """By ``time.monotonic()`` when it was last written, as far as known."""

    @abstractmethod
    async def load(self) -> Collection[Any] | None:
        """Read the store; what changed. None: everything may have. Raises what the store does."""

    @abstractmethod
    async def check(self) -> bool:
        """Whether the store holds something that the news did not tell of."""

    @property
    def may_lack(self) -> bool:
        """Whether of several changes that were told one may have been lost: the last one arrived."""
        return False

    @abstractmethod
    def take(self, event: Event) -> Collection[Any] | None:
        """Take the news; what changed. None: they do not say, so load."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """All of it, as viewers get it."""

    @abstractmethod
    def part(self, changed: Iterable[Any]) -> dict[str, Any]:
        """What changed, as viewers get it."""

    @abstractmethod
    def waiting(self) -> Any:
        """An empty collection for what changed between two updates of a viewer."""

    @property
    def age(self) -> float | None:
        """Seconds since it was written; None: never."""
        return None if self._since is None else round(time.monotonic() - self._since, 3)

    def _heard(self) -> None:
        """It is written just now, whatever the clocks say."""
        self._since = time.monotonic()

    def _found(self, written: float) -> None:
        """It was written then, in seconds since 1970: by another clock, but the only one there is."""
        self._since = time.monotonic() - max(0.0, time.time() - written) if written else None


class MapHolding(Holding):
    """Rows by key, or one value. The version of each tells what is older."""

    def __init__(self, board: Board, *, single: bool = False) -> None:
        self.board = board
        self.single = single
        self.rows: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.removed: dict[str, int] = {}
        """Versions at which keys went, since the last load: news of before then may still come."""
        self.floor = 0
        """Version of the map when it was loaded: what is older is in it."""
        self.seen = 0
        """The greatest version that was heard of."""
        self._moved = False
        """Whether news came since it was loaded. Some of them may have been lost on the way."""

    async def load(self) -> Collection[str]:
        seen = self.seen
        self._moved = False
        entries = await get_state().aitems(map_name(self.board))
        return self._replace(entries, emptied=entries.version < seen)

    def _replace(self, entries: Entries, *, emptied: bool) -> set[str]:
        """What is read is at least as new as its version. ``emptied``: the store forgot what it had."""
        changed = set()
        for key, (value, version) in entries.entries.items():
            if emptied or version > max(self.versions.get(key, 0), self.removed.get(key, 0)):
                changed.add(key)
                self.rows[key], self.versions[key] = json.loads(value), version
        for key in self.rows.keys() - entries.entries.keys():
            if emptied or self.versions[key] <= entries.version:
                changed.add(key)
                del self.rows[key], self.versions[key]
        self.removed = {key: at for key, at in self.removed.items() if at > entries.version}
        self.floor = entries.version
        if emptied or entries.version > self.seen:  # else news that came meanwhile are newer
            self._found(entries.version / 1e6)
        self.seen = entries.version if emptied else max(self.seen, entries.version)
        return changed

    async def check(self) -> bool:
        before = self.seen
        version = (await get_state().aitems(map_name(self.board), ())).version
        if version < before:
            return True  # the store was emptied
        if version > self.seen:
            await asyncio.sleep(ON_THE_WAY)
        return version > self.seen

    @property
    def may_lack(self) -> bool:
        return self._moved

    def take(self, event: Event) -> Collection[str] | None:
        news = json.loads(event.data)
        version = news["v"]
        if version <= self.floor:
            return ()
        self._heard()
        if "set" not in news:
            return None
        self.seen = max(self.seen, version)
        self._moved = True
        changed = set()
        for key, value in news.get("set", {}).items():
            if version > max(self.versions.get(key, 0), self.removed.get(key, 0)):
                changed.add(key)
                self.rows[key], self.versions[key] = value, version
                self.removed.pop(key, None)
        for key in news.get("gone", ()):
            if version > max(self.versions.get(key, 0), self.removed.get(key, 0)):
                self.removed[key] = version
                if self.rows.pop(key, self) is not self:
                    changed.add(key)
                self.versions.pop(key, None)
        return changed

    def snapshot(self) -> dict[str, Any]:
        return {"value": self.rows.get(VALUE)} if self.single else {"rows": self.rows}

    def part(self, changed: Iterable[str]) -> dict[str, Any]:
        if self.single:
            return {"value": self.rows.get(VALUE)}
        keys = list(changed)
        rows = self.rows
        return {
            "set": {key: rows[key] for key in keys if key in rows},
            "gone": [key for key in keys if key not in rows],
        }

    def waiting(self) -> set[str]:
        return set()


class LogHolding(Holding):
    """The last points or lines. Their log has every one, in one order, so nothing is compared."""

    def __init__(self, board: Board, most: int) -> None:
        self.board = board
        self.most = most
        self.items: deque[list[Any]] = deque(maxlen=most)
        self.last = 0
        """Offset of the newest event in it."""

        self._early: list[Event] | None = None
        """News that came while the log was being read."""
        self._is_broken = False

    async def load(self) -> None:
        self._is_broken, self._early = True, []
        try:
            await self._read()
            self._is_broken = False
        finally:
            early, self._early = self._early, None
            for event in early:
                self._add(event)

    async def _read(self) -> None:
        news, log = self.board.news, get_log()
        head = (await log.aheads([news]))[news.key]
        # An event holds one item at least.
        after = max(head.floor, head.last - self.most)
        self.items.clear()
        self.last = after
        while after < head.last:
            page = await log.aread(news, after, PAGE_EVENTS, PAGE_BYTES)
            if not page.events:
                break
            for event in page.events:
                self._add(event)
            after = page.events[-1].offset
            self._found(page.events[-1].created)

    async def check(self) -> bool:
        return self._is_broken  # what the log has, the core finds

    def take(self, event: Event) -> Collection[Any]:
        self._heard()
        if self._early is not None:
            self._early.append(event)
            return ()
        return self._add(event)

    def _add(self, event: Event) -> list[Any]:
        if event.offset <= self.last:
            return []
        self.last = event.offset
        items = [[event.offset, *item] for item in json.loads(event.data)["items"]]
        self.items.extend(items)
        return items

    def snapshot(self) -> dict[str, Any]:
        return {"items": list(self.items)}

    def part(self, changed: Iterable[Any]) -> dict[str, Any]:
        return {"items": list(changed)}

    def waiting(self) -> deque[Any]:
        return deque(maxlen=self.most)
