"""The way in: what a program writes to a board reaches the store a few times a second at most.

The first change after a pause is written at once, by the caller; those that follow within
``1 / most_rate`` of a second wait, merged, for a thread of this process.

Must keep true: what was written last is what the store has, a moment later; a caller is told what is
wrong with what it writes, and never waits for what a thread can do.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections, transaction

from ...core.commits import after_commit
from ...core.publishing import refuse_event_loop
from ...core.store_threads import own_transactions
from ...exceptions import InvalidEvent, InvalidTopic, MapFull
from .changes import Change, MapChange, lines_change, points_change, rows_change
from .holdings import VALUE
from .topics import Board, Keyed, Latest, Lines, Window
from .values import checked_key, encode

logger = logging.getLogger("django_live.dashboards")

IDLE = 5.0
"""Seconds after which the thread ends."""
RETRY = 1.0
"""Seconds until what the store refused is tried again."""


def set_value(topic: Latest, value: Any, *, on_commit: bool = True) -> None:
    """What the board shows from now on: anything that JSON can say. NaN and infinities become None.

    Inside a transaction it is written after the commit, unless ``on_commit`` is False. Raises
    ``InvalidEvent``; ``StoreError`` if the store could not be written just now.
    """
    _write(topic, Latest, "set_value", lambda _: MapChange({VALUE: encode(value)}), on_commit)


def set_rows(
    topic: Keyed, rows: Mapping[Any, Any], *, replace: bool = False, on_commit: bool = True
) -> None:
    """Set rows, dicts by key; the others stay, or go with ``replace``. Otherwise as ``set_value``."""
    make = lambda board: rows_change(board, rows, whole=replace)  # noqa: E731
    _write(topic, Keyed, "set_rows", make, on_commit)


def remove_rows(topic: Keyed, keys: Iterable[Any], *, on_commit: bool = True) -> None:
    """Remove rows. A key that is not there is no error."""
    gone = {checked_key(key) for key in keys}
    _write(topic, Keyed, "remove_rows", lambda _: MapChange({}, gone), on_commit)


def add_points(
    topic: Window,
    *points: Mapping[str, Any] | tuple[float | None, Mapping[str, Any]],
    on_commit: bool = True,
) -> None:
    """Add points: a number, or None, by name of the series; or (time, those), the time in seconds
    since 1970."""
    _write(topic, Window, "add_points", lambda board: points_change(board, points), on_commit)


def add_lines(topic: Lines, *lines: str | tuple[str, str], on_commit: bool = True) -> None:
    """Add lines: text, or (level, text)."""
    _write(topic, Lines, "add_lines", lambda board: lines_change(board, lines), on_commit)


async def aset_value(topic: Latest, value: Any, **options: Any) -> None:
    """``set_value()`` for async callers."""
    await sync_to_async(set_value)(topic, value, **options)


async def aset_rows(topic: Keyed, rows: Mapping[Any, Any], **options: Any) -> None:
    """``set_rows()`` for async callers."""
    await sync_to_async(set_rows)(topic, rows, **options)


async def aremove_rows(topic: Keyed, keys: Iterable[Any], **options: Any) -> None:
    """``remove_rows()`` for async callers."""
    await sync_to_async(remove_rows)(topic, keys, **options)


async def aadd_points(topic: Window, *points: Any, **options: Any) -> None:
    """``add_points()`` for async callers."""
    await sync_to_async(add_points)(topic, *points, **options)


async def aadd_lines(topic: Lines, *lines: Any, **options: Any) -> None:
    """``add_lines()`` for async callers."""
    await sync_to_async(add_lines)(topic, *lines, **options)


def _write(topic: Any, kind: type[Board], name: str, make: Any, on_commit: bool) -> None:
    refuse_event_loop(name)
    if not isinstance(topic, kind):
        raise InvalidTopic(f"{name}() writes to a {kind.__name__}, not to {topic!r}.")
    board = topic.board
    change = make(board)  # now, so that what is wrong is told to who wrote it
    if on_commit and transaction.get_connection(DEFAULT_DB_ALIAS).in_atomic_block:
        after_commit(lambda: writer.write(board, change), DEFAULT_DB_ALIAS)
    else:
        writer.write(board, change)


class _Slot:
    """One board that this process writes to."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.waiting: Change | None = None
        self.due = 0.0
        self.is_busy = False
        self.has_failed = False

    def put(self, change: Change) -> None:
        if self.waiting is None:
            self.waiting = change
        else:
            self.waiting.add(change)

    def take(self) -> Change:
        assert self.waiting is not None
        change, self.waiting = self.waiting, None
        self.is_busy = True
        return change


class _OfProcess:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.slots: dict[str, _Slot] = {}
        self.is_running = False


class Writer:
    """Writes for one process."""

    def __init__(self) -> None:
        # By process, and looked up at each call: uWSGI forks without Python's hooks.
        self._by_process: dict[int, _OfProcess] = {}
        atexit.register(self.flush)

    @property
    def _own(self) -> _OfProcess:
        process = os.getpid()
        own = self._by_process.get(process)
        return own if own is not None else self._by_process.setdefault(process, _OfProcess())

    def write(self, board: Board, change: Change, *, later: bool = False) -> None:
        """Write soon; at once where nothing was written just now, unless ``later``. Raises what the
        store does, where it is written at once."""
        own = self._own
        with own.changed:
            slot = own.slots.setdefault(board.key, _Slot(board))
            slot.put(change)
            if later or slot.is_busy or time.monotonic() < slot.due:
                self._have_thread(own)
                return
            now = slot.take()
            self._have_thread(own)
        try:
            now.write(board)
        finally:
            self._done(own, slot)

    def flush(self, timeout: float = 5.0) -> bool:
        """Have everything written, in at most so many seconds; whether it is."""
        own = self._own
        with own.changed:
            for slot in own.slots.values():
                slot.due = 0.0
            if own.slots:
                self._have_thread(own)
            return own.changed.wait_for(
                lambda: not any(s.waiting or s.is_busy for s in own.slots.values()), timeout
            )

    def _have_thread(self, own: _OfProcess) -> None:
        if not own.is_running:
            own.is_running = True
            threading.Thread(
                target=self._run, args=(own,), name="django_live-boards", daemon=True
            ).start()
        own.changed.notify_all()

    def _done(self, own: _OfProcess, slot: _Slot, *, wait: float = 0.0) -> None:
        with own.changed:
            slot.is_busy = False
            slot.due = time.monotonic() + (wait or 1 / slot.board.most_rate)
            own.changed.notify_all()

    def _run(self, own: _OfProcess) -> None:
        while (taken := self._take_next(own)) is not None:
            self._write_later(own, *taken)
        connections.close_all()

    def _take_next(self, own: _OfProcess) -> tuple[_Slot, Change] | None:
        """Wait for what is due. None: there was nothing to do for a while, and the thread ends."""
        idle = time.monotonic() + IDLE
        with own.changed:
            while True:
                now = time.monotonic()
                waiting = [s for s in own.slots.values() if s.waiting and not s.is_busy]
                slot = min(waiting, key=lambda slot: slot.due, default=None)
                if slot is not None and slot.due <= now:
                    return slot, slot.take()
                is_busy = any(s.is_busy for s in own.slots.values())
                if slot is None and now >= idle and not is_busy:
                    own.slots.clear()
                    own.is_running = False
                    return None
                own.changed.wait((slot.due if slot else max(idle, now + 0.1)) - now)

    def _write_later(self, own: _OfProcess, slot: _Slot, change: Change) -> None:
        """Write; what the store refuses for now is tried again, under what came meanwhile."""
        wait = 0.0
        try:
            close_old_connections()
            with own_transactions():
                change.write(slot.board)
        except (InvalidEvent, MapFull) as error:
            logger.error("What was written to %s is lost: %s", slot.board.name, error)  # noqa: TRY400
        except Exception as error:
            if not slot.has_failed:
                logger.warning(
                    "%s could not be written and is tried again: %s", slot.board.name, error
                )
            slot.has_failed, wait = True, RETRY
            with own.changed:
                if slot.waiting is not None:
                    change.add(slot.waiting)
                slot.waiting = change
        else:
            slot.has_failed = False
        finally:
            close_old_connections()
            self._done(own, slot, wait=wait)


writer = Writer()
