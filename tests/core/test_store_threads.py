"""The threads of the store: few, and with connections that last while streams are served, no longer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from django_live.core import hooks, store_threads
from django_live.core.runtime import runtime
from django_live.core.store_threads import StoreThreads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

LONG = 10


class Looking:
    """Looks into the database from the threads."""

    def __init__(self, threads: StoreThreads) -> None:
        self.threads = threads

    def look(self) -> Any:
        """The raw connection that a piece of work had."""

        def work() -> Any:
            connections["default"].ensure_connection()
            return connections["default"].connection

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
def looking(threads: StoreThreads, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Looking:
    # A database in memory, as tests on SQLite have it, is never closed.
    settings = connections["default"].settings_dict
    monkeypatch.setitem(settings, "NAME", str(tmp_path / "own.sqlite3"))
    monkeypatch.setitem(settings, "CONN_MAX_AGE", 0)
    return Looking(threads)


def test_a_connection_is_kept_while_somebody_keeps_and_closed_with_the_last(
    looking: Looking,
) -> None:
    first = looking.look()
    assert looking.look() is not first, "nobody keeps"
    with looking.threads.keeping_connections():
        with looking.threads.keeping_connections():
            kept = looking.look()
        assert looking.look() is kept, "the other one still keeps"
        assert looking.is_open()
    assert not looking.threads._holding, "closed when the block is left, not some time after it"
    assert not looking.is_open()


def test_no_connection_gets_older_than_it_may(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with looking.threads.keeping_connections():
        kept = looking.look()
        now[0] += store_threads.KEPT / 2
        assert looking.look() is kept
        now[0] += store_threads.KEPT / 2 - 0.1
        assert looking.look() is kept, "use does not make it live longer"
        now[0] += 0.2
        assert looking.look() is not kept


def test_a_broken_connection_is_noticed_before_it_is_used(looking: Looking) -> None:
    def is_checked() -> bool:
        return bool(connections["default"].health_check_enabled)  # type: ignore[attr-defined]

    with looking.threads.keeping_connections():
        looking.look()
        assert looking.threads.submit(is_checked).result(LONG)


def test_a_sqlite_file_that_was_replaced_is_noticed_before_it_is_used(
    looking: Looking, tmp_path: Path
) -> None:
    """With a WAL SQLite writes on into the file that is gone."""
    with looking.threads.keeping_connections():
        kept = looking.look()
        assert looking.look() is kept
        (tmp_path / "own.sqlite3").rename(tmp_path / "backup.sqlite3")
        other = looking.look()
        assert other is not kept
        assert (tmp_path / "own.sqlite3").exists()
        assert looking.look() is other


def test_what_is_kept_for_ever_is_left_to_django(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closing() -> float | None:
        return connections["default"].close_at

    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", None)
    with looking.threads.keeping_connections():
        kept = looking.look()
        assert looking.threads.submit(closing).result(LONG) is None
        assert looking.look() is kept
        looking.threads.submit(lambda: connections["default"].close()).result(LONG)


def test_an_idle_thread_ends_and_closes(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_threads, "IDLE", 0.01)
    with looking.threads.keeping_connections():
        kept = looking.look()
        with looking.threads._changed:
            assert looking.threads._changed.wait_for(lambda: not looking.threads._holding, LONG)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            kept.execute("SELECT 1")
        assert not looking.threads._threads
        assert looking.look() is not None, "and another one comes when there is work"


def test_work_under_way_when_the_last_one_leaves_gives_its_connection_back(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_threads, "LETTING_GO", 0.0)
    gate = threading.Event()
    with looking.threads.keeping_connections():
        looking.look()
        under_way = looking.threads.submit(gate.wait, LONG)
    assert looking.threads._holding, "it is not waited for longer than that"
    gate.set()
    assert under_way.result(LONG)
    assert not looking.threads._holding
    assert not looking.is_open()


def test_who_is_about_to_rest_when_the_last_one_leaves_ends(threads: StoreThreads) -> None:
    about_to_rest = store_threads._Thread()
    threads._holding.add(about_to_rest)
    about_to_rest.inbox.put(store_threads._Work(int))  # what it would find if it rested
    assert threads._next(about_to_rest) is None
    threads._holding.clear()


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
    with threads.keeping_connections():
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


def test_little_work_is_done_by_one_thread(threads: StoreThreads) -> None:
    """So the other one, and its connection, may end."""
    together = threading.Barrier(2)
    for one in [threads.submit(together.wait, LONG) for _ in range(2)]:
        one.result(LONG)
    with threads._changed:
        assert threads._changed.wait_for(lambda: len(threads._resting) == 2, LONG)

    names = set()
    for _ in range(10):
        names.add(threads.submit(threading.get_ident).result(LONG))
        assert threads.flush(), "it rests again before it is asked"
    assert len(names) == 1


def test_a_fault_before_the_work_is_told(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever waits for the work would wait for ever."""

    def fails(_: Any) -> None:
        raise LookupError("no such database")

    with looking.threads.keeping_connections():
        with monkeypatch.context() as patch:
            patch.setattr(store_threads._Thread, "begin", fails)
            with pytest.raises(LookupError):
                looking.threads.submit(int).result(LONG)
        assert looking.threads.submit(int).result(LONG) == 0


def test_work_that_is_done_does_not_fail_by_its_connection(
    looking: Looking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else whoever has published would publish again."""

    def fails(_: Any) -> None:
        raise LookupError("no such database")

    monkeypatch.setattr(store_threads._Thread, "keep", fails)
    with looking.threads.keeping_connections():
        assert looking.threads.submit(int).result(LONG) == 0
    assert "could not be closed" in caplog.text


def test_a_thread_that_cannot_be_started_is_not_counted_on(
    threads: StoreThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="new thread"):
                threads.submit(int)
    assert threads.submit(int).result(LONG) == 0


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "just closed"])
def test_a_loop_that_serves_streams_keeps_them_until_it_ends(
    stopped: bool, looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "store_threads", lambda: looking.threads)

    async def serve() -> None:
        live = runtime()
        await asyncio.sleep(0)
        first = looking.look()
        assert looking.look() is first
        if stopped:
            await live.stop()
            assert not looking.threads._holding

    asyncio.run(serve())
    assert not looking.threads._holding
    assert looking.look() is not looking.look()
