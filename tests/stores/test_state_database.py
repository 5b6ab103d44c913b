"""What is particular to the shared state in the project's database."""

from __future__ import annotations

import time as real_time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from django_live.exceptions import StoreError
from django_live.models import Lease as LeaseRow
from django_live.models import StateCounter, StateEntry, StateMap
from django_live.stores import clock
from django_live.stores.state_database import DatabaseState
from tests.contracts.conftest import FakeClock, in_threads
from tests.stores.aliases import WITH_SERVERS, serializable
from tests.support.requirements import require

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)

ROOM = "presence:rooms/lobby"
DAY = 86_400.0


@pytest.fixture
def state() -> DatabaseState:
    return DatabaseState()


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements of the block, without those that begin and end transactions or ask the time."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield found
    found.extend(
        query["sql"]
        for query in captured.captured_queries
        if not query["sql"].startswith(
            ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "SELECT EXTRACT", "SELECT TIMESTAMPDIFF")
        )
    )


# -- how many statements ---------------------------------------------------------------------------


def test_reading_a_map_is_one_statement(state: DatabaseState) -> None:
    state.set(ROOM, {"ada": "1", "bob": "2"})
    with statements() as made:
        state.items(ROOM)
    assert len(made) == 1


def test_renewing_many_keys_of_many_maps_is_one_statement(state: DatabaseState) -> None:
    maps = {f"presence:{number}": ["ada", "bob"] for number in range(50)}
    for name, keys in maps.items():
        state.set(name, dict.fromkeys(keys, ""), ttl=10)
    with statements() as made:
        assert not any(state.renew(maps, 10).values())
    assert len(made) == 1


# -- transactions ----------------------------------------------------------------------------------


class RollBack(Exception):
    """Ends a transaction on purpose."""


def test_a_callers_transaction_takes_maps_and_counters_with_it(state: DatabaseState) -> None:
    with suppress(RollBack), transaction.atomic():
        state.set(ROOM, {"ada": "1"})
        assert state.count("hits", ttl=60).value == 1
        raise RollBack
    assert state.items(ROOM).entries == {}
    with transaction.atomic():
        state.set(ROOM, {"bob": "1"})
        assert state.count("hits", ttl=60).value == 1
    assert state.items(ROOM).entries.keys() == {"bob"}


def test_a_lease_is_refused_where_a_rollback_could_undo_it(state: DatabaseState) -> None:
    lease = state.acquire("rounds", "web-1", 60)
    assert lease
    with transaction.atomic():
        for act in (
            lambda: state.acquire("other", "web-1", 60),
            lambda: state.extend("rounds", lease.token, 60),
            lambda: state.release("rounds", lease.token),
        ):
            with pytest.raises(StoreError, match="inside a transaction"):
                act()
        assert state.lease("rounds")


class InATestCase(TestCase):
    """A TestCase's transaction is nobody's."""

    def test_a_lease_can_be_had(self) -> None:
        assert DatabaseState().acquire("rounds", "web-1", 60)


def test_a_database_that_fails_is_a_store_error(
    state: DatabaseState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise DatabaseError("disk is full")

    monkeypatch.setattr(DatabaseState, "_locked", fail)
    with pytest.raises(StoreError, match="disk is full"):
        state.set(ROOM, {"ada": "1"})


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", WITH_SERVERS)
def test_time_is_the_databases(
    server: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose clock is an hour late neither takes a lease that is held, nor gives one for longer."""
    require(server)
    with WITH_SERVERS[server]() as alias:
        settings.DJANGO_LIVE = {"DATABASE": alias}
        state = DatabaseState()
        lease = state.acquire("rounds", "web-1", 600)
        state.set(ROOM, {"ada": ""}, ttl=600)
        for wrong in (3600, -3600):
            monkeypatch.setattr(clock, "now", lambda wrong=wrong: real_time.time() + wrong)
            assert state.acquire("rounds", "web-2", 600) is None
            found = state.lease("rounds")
            assert lease
            assert found
            assert 590 < found.left <= 600
            assert state.items(ROOM).entries.keys() == {"ada"}


@pytest.mark.parametrize("server", WITH_SERVERS)
def test_stricter_isolation_changes_nothing(server: str, settings: Settings) -> None:
    require(server)
    with WITH_SERVERS[server](isolation_level=serializable(server)) as alias:
        # Deadlocks are to be expected here; how long one may go on is another matter.
        settings.DJANGO_LIVE = {"DATABASE": alias, "NUMBERING_WAIT": 10.0}
        state = DatabaseState()

        def count(_: int) -> list[int]:
            try:
                return [state.count("hits", ttl=60).value for _ in range(10)]
            finally:
                connections[alias].close()

        counts = in_threads(4, count)
        assert sorted(value for own in counts for value in own) == list(range(1, 41))


# -- rows ------------------------------------------------------------------------------------------


def test_no_row_outlives_its_use_by_more_than_a_day(state: DatabaseState, time: FakeClock) -> None:
    for number in range(7):
        state.set(f"map {number}", {"ada": "", "bob": ""}, ttl=1)
        state.acquire(f"lease {number}", "web-1", 1)
        state.count(f"counter {number}", ttl=1)
    state.set("map 0", {"eve": ""})
    time.advance(DAY + 2)
    with statements() as made:
        assert state.purge(limit=3) == 14 + 7 + 7 + 6
    assert len(made) > 12
    assert [model.objects.count() for model in (StateMap, StateEntry, LeaseRow, StateCounter)] == [
        *(1, 1, 0, 0)
    ]


def test_what_came_to_life_in_between_is_not_purged(
    state: DatabaseState, time: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.set(ROOM, {"ada": ""}, ttl=1)
    time.advance(DAY + 2)
    run = DatabaseState._run
    came: list[bool] = []

    def come_first(self: DatabaseState, work: object, **kwargs: object) -> object:
        if not came:
            came.append(True)
            self.set(ROOM, {"ada": "back"}, ttl=60)
        return run(self, work, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(DatabaseState, "_run", come_first)
    assert state.purge() == 0
    assert state.items(ROOM).entries["ada"].value == "back"
