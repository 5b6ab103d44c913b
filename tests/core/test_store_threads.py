"""The threads of the store: few, and with connections that last while streams are served, no longer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from django_live.core import store_threads
from django_live.core.store_threads import StoreThreads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

LONG = 10


class Opened:
    """What was opened and closed in the threads, by Django's own connections in a file."""

    def __init__(self, threads: StoreThreads) -> None:
        self.threads = threads
        self.opened: list[Any] = []

    def look(self) -> Any:
        """The raw connection that a piece of work had."""

        def work() -> Any:
            connections["default"].ensure_connection()
            raw = connections["default"].connection
            if raw not in self.opened:
                self.opened.append(raw)
            return raw

        return self.threads.submit(work).result(LONG)

    def is_open(self) -> bool:
        """Whether the thread that worked last still holds one."""

        def work() -> bool:
            return connections["default"].connection is not None

        return bool(self.threads.submit(work).result(LONG))


@pytest.fixture
def threads() -> Iterator[StoreThreads]:
    made = StoreThreads(2)
    yield made
    with made.keeping_connections():
        pass
    assert made.flush()


@pytest.fixture
def opened(threads: StoreThreads, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Opened:
    # A database in memory, as tests on SQLite have it, is never closed.
    settings = connections["default"].settings_dict
    monkeypatch.setitem(settings, "NAME", str(tmp_path / "own.sqlite3"))
    monkeypatch.setitem(settings, "CONN_MAX_AGE", 0)
    return Opened(threads)


def test_a_connection_is_kept_while_somebody_keeps_and_closed_with_the_last(opened: Opened) -> None:
    first = opened.look()
    assert opened.look() is not first, "nobody keeps"
    with opened.threads.keeping_connections():
        with opened.threads.keeping_connections():
            kept = opened.look()
        assert opened.look() is kept, "the other one still keeps"
        assert opened.is_open()
    assert not opened.threads._holding, "closed when the block is left, not some time after it"
    assert not opened.is_open()


def test_no_connection_gets_older_than_it_may(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with opened.threads.keeping_connections():
        kept = opened.look()
        now[0] += store_threads.KEPT / 2
        assert opened.look() is kept
        now[0] += store_threads.KEPT / 2 - 0.1
        assert opened.look() is kept, "use does not make it live longer"
        now[0] += 0.2
        assert opened.look() is not kept


def test_a_broken_connection_is_noticed_before_it_is_used(opened: Opened) -> None:
    def is_checked() -> bool:
        return bool(connections["default"].health_check_enabled)  # type: ignore[attr-defined]

    with opened.threads.keeping_connections():
        opened.look()
        assert opened.threads.submit(is_checked).result(LONG)


def test_a_sqlite_file_that_was_replaced_is_noticed_before_it_is_used(
    opened: Opened, tmp_path: Path
) -> None:
    """With a WAL SQLite writes on into the file that is gone."""
    with opened.threads.keeping_connections():
        kept = opened.look()
        assert opened.look() is kept
        (tmp_path / "own.sqlite3").rename(tmp_path / "backup.sqlite3")
        other = opened.look()
        assert other is not kept
        assert (tmp_path / "own.sqlite3").exists()
        assert opened.look() is other


def test_what_is_kept_for_ever_is_left_to_django(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closing() -> float | None:
        return connections["default"].close_at

    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", None)
    with opened.threads.keeping_connections():
        kept = opened.look()
        assert opened.threads.submit(closing).result(LONG) is None
        assert opened.look() is kept
        opened.threads.submit(lambda: connections["default"].close()).result(LONG)


def test_an_idle_thread_ends_and_closes(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_threads, "IDLE", 0.01)
    with opened.threads.keeping_connections():
        opened.look()
        with opened.threads._changed:
            assert opened.threads._changed.wait_for(lambda: not opened.threads._holding, LONG)
        assert not opened.threads._threads
        assert opened.look() is not None, "and another one comes when there is work"


def test_a_thousand_pieces_of_work_need_two_threads_and_all_are_done(threads: StoreThreads) -> None:
    names: set[int] = set()

    def work(number: int) -> Callable[[], int]:
        def run() -> int:
            names.add(threading.get_ident())
            return number

        return run

    futures = [threads.submit(work(number)) for number in range(1000)]
    assert [one.result(LONG) for one in futures] == list(range(1000))
    assert len(names) <= 2


def test_work_that_comes_while_threads_end_is_done(
    threads: StoreThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever decides to end is no longer counted on."""
    monkeypatch.setattr(store_threads, "IDLE", 0.0)
    with ExitStack() as stack:
        stack.enter_context(threads.keeping_connections())
        for number in range(500):
            assert threads.submit(int, number).result(LONG) == number


def test_what_fails_is_told_and_what_was_given_up_is_not_done(threads: StoreThreads) -> None:
    done: list[int] = []
    gate = threading.Event()
    busy = [threads.submit(gate.wait, LONG) for _ in range(2)]
    given_up, failing = threads.submit(done.append, 1), threads.submit(int, "x")
    assert given_up.cancel()
    gate.set()
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result(LONG)
    assert all(one.result(LONG) for one in busy)
    assert threads.flush()
    assert done == []


@pytest.mark.parametrize("place", ["begin", "keep"])
def test_a_fault_around_the_work_is_told_and_the_thread_goes_on(
    opened: Opened, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever waits for the work would wait for ever."""

    def fails(_: Any) -> None:
        raise LookupError("no such database")

    with opened.threads.keeping_connections():
        with monkeypatch.context() as patch:
            patch.setattr(store_threads._Thread, place, fails)
            with pytest.raises(LookupError):
                opened.threads.submit(int).result(LONG)
        assert opened.threads.submit(int).result(LONG) == 0
