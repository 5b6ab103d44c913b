"""The threads in which the log, the outbox and the shared state are read and written.

A process that serves streams looks into the database three to five times a second, and to open a
connection for each look took four fifths of its time. So, while a loop serves streams, these threads
keep what they opened. It is what Django's ``CONN_MAX_AGE`` does, for these threads alone.

Must keep true: no connection stays open for longer than ``CONN_MAX_AGE`` or ``KEPT`` seconds, nor when
its thread has nothing to do, nor after the last loop that serves streams; one that broke, or whose
SQLite file was replaced, is noticed before it is used; what a pool lent is given back after each piece
of work.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("django_live.store")

KEPT = 10.0
"""Seconds that a connection is kept."""
IDLE = 5.0
"""Seconds without work after which a thread ends."""
LETTING_GO = 1.0
"""Seconds that work under way may take to give its connection back."""
FLUSH_AT_EXIT = 5.0

T = TypeVar("T")


class StoreThreads(Executor):
    """At most so many threads. Work goes to the one that rested for the shortest time, so little work
    is done by one of them, with one connection."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._waiting: deque[_Work] = deque()
        self._threads: set[_Thread] = set()
        self._resting: list[_Thread] = []
        self._holding: set[_Thread] = set()
        """Threads with connections that they keep, or have to close yet."""
        self._keepers = 0
        atexit.register(self.flush)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        work = _Work(partial(fn, *args, **kwargs))
        with self._changed:
            if self._resting:
                self._resting.pop().inbox.put(work)
            elif len(self._threads) < self._most:
                self._start(work)
            else:
                self._waiting.append(work)
        return work.future

    @contextmanager
    def keeping_connections(self) -> Iterator[None]:
        """While this block runs, in one place or several, connections are kept. After the last of them
        all are closed: PostgreSQL removes no database to which somebody is connected, and tests end so."""
        with self._changed:
            self._keepers += 1
        try:
            yield
        finally:
            with self._changed:
                self._keepers -= 1
                if not self._keepers:
                    for thread in self._resting:
                        self._threads.discard(thread)
                        thread.inbox.put(None)
                    self._resting.clear()
                    self._changed.wait_for(lambda: not self._holding, LETTING_GO)

    def flush(self, timeout: float = FLUSH_AT_EXIT) -> bool:
        """Wait until all work is done, or the time is over; whether it is done."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self._resting) == len(self._threads) and not self._waiting, timeout
            )

    def _start(self, work: _Work) -> None:
        thread = _Thread()
        threading.Thread(
            target=self._run, args=(thread, work), name="django_live-store", daemon=True
        ).start()
        self._threads.add(thread)  # only now: one that cannot be started is not to be counted on

    def _run(self, thread: _Thread, work: _Work | None) -> None:
        while work is not None:
            work.do(thread.begin)
            try:
                self._give_back(thread)
            except Exception:
                # The work itself is done: whoever heard that it failed would do it once more.
                logger.exception("A database connection could not be closed.")
            work.tell()
            work = None  # what it holds can go
            work = self._next(thread)
        try:
            connections.close_all()
        finally:
            with self._changed:
                self._holding.discard(thread)
                self._changed.notify_all()

    def _next(self, thread: _Thread) -> _Work | None:
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            if thread in self._holding and not self._keepers:
                self._threads.discard(thread)
                return None
            self._resting.append(thread)
            self._changed.notify_all()
        try:
            return thread.inbox.get(timeout=IDLE)
        except Empty:
            pass
        with self._changed:
            if thread in self._resting:
                self._resting.remove(thread)
                self._threads.discard(thread)
                return None
        return thread.inbox.get()  # it came at this moment

    def _give_back(self, thread: _Thread) -> None:
        """Close what is not to be kept."""
        with self._changed:
            keeps = self._keepers > 0
            if keeps:
                self._holding.add(thread)
        if keeps:
            thread.keep()
            close_old_connections()
        elif thread in self._holding:
            connections.close_all()
            thread.kept.clear()
            with self._changed:
                self._holding.discard(thread)
                self._changed.notify_all()
        else:
            close_old_connections()


class _Work:
    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._answer: Any = None
        self._error: BaseException | None = None
        self.future: Future[Any] = Future()

    def do(self, begin: Callable[[], None]) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            begin()
            with own_transactions():
                self._answer = self._call()
        except BaseException as error:
            self._error = error

    def tell(self) -> None:
        """Let those hear of it who wait for it."""
        if self.future.cancelled():
            return
        if self._error is None:
            self.future.set_result(self._answer)
        else:
            self.future.set_exception(self._error)


class _Kept(NamedTuple):
    """A connection that is kept."""

    until: float
    """When it has to be closed, by ``time.monotonic()``."""
    file: tuple[int, int] | None
    """What it has open."""


class _Thread:
    def __init__(self) -> None:
        self.inbox: SimpleQueue[_Work | None] = SimpleQueue()
        self.kept: dict[str, _Kept] = {}
        """By alias."""

    def begin(self) -> None:
        """Close what may not be used any more."""
        close_old_connections()
        for connection in connections.all(initialized_only=True):
            kept = self.kept.get(connection.alias)
            # SQLite goes on with a file that was removed, also writing to it where it has a WAL.
            if kept and kept.file != _file_of(connection):
                connection.close()

    def keep(self) -> None:
        """Let what was opened since the last time live for a while."""
        for connection in connections.all(initialized_only=True):
            kept, closing = self.kept.get(connection.alias), connection.close_at
            if closing is None or (kept and kept.until == closing):
                continue
            if _may_be_kept(connection):
                connection.close_at = until = max(closing, time.monotonic() + KEPT)
                connection.health_check_enabled = True  # type: ignore[attr-defined]
                self.kept[connection.alias] = _Kept(until, _file_of(connection))


def _file_of(connection: BaseDatabaseWrapper) -> tuple[int, int] | None:
    """Device and number of a SQLite file as it is now; None where there is none."""
    if connection.vendor != "sqlite":
        return None
    try:
        found = Path(connection.settings_dict["NAME"]).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _may_be_kept(connection: BaseDatabaseWrapper) -> bool:
    settings = connection.settings_dict
    return (
        connection.connection is not None
        and settings["AUTOCOMMIT"]
        and not settings["OPTIONS"].get("pool")
    )


@contextmanager
def own_transactions() -> Iterator[None]:
    """For work that is in nobody's transaction: it commits what it does, also on databases with
    ``AUTOCOMMIT`` False, where otherwise nothing would ever be committed."""
    manual = [one for one in connections.all() if not one.settings_dict["AUTOCOMMIT"]]
    for connection in manual:
        if connection.connection is None:  # else somebody may have begun something
            connection.set_autocommit(True)
    try:
        yield
    finally:
        for connection in manual:
            connection.close_if_unusable_or_obsolete()  # its autocommit is not as configured
