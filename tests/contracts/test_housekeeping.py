"""Of many processes one trims and purges; when it is gone, another."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from django_live.core import housekeeping
from django_live.core.events import Draft
from django_live.core.hooks import in_thread, store_threads
from django_live.core.housekeeping import tidy
from django_live.core.log import EventLog, get_log
from django_live.core.state import SharedState, get_state
from django_live.core.topics import History, Topic
from django_live.stores.memory import MemoryLog
from tests.contracts.conftest import FakeClock

if TYPE_CHECKING:
    from pytest_django import Settings

INTERVAL = 60.0


class Counted:
    """How often the log was trimmed and the state purged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trims = self.purges = 0
        trim, purge = get_log().trim, get_state().purge

        def count_trim(*, limit: int = 500) -> int:
            self.trims += 1
            return trim(limit=limit)

        def count_purge(*, limit: int = 500) -> int:
            self.purges += 1
            return purge(limit=limit)

        async def atrim(*, limit: int = 500) -> int:
            return await in_thread(store_threads(), lambda: count_trim(limit=limit))

        async def apurge(*, limit: int = 500) -> int:
            return await in_thread(store_threads(), lambda: count_purge(limit=limit))

        monkeypatch.setattr(get_log(), "atrim", atrim)
        monkeypatch.setattr(get_state(), "apurge", apurge)


def everybody(count: int) -> list[bool]:
    """Each process has its turn."""

    async def turns() -> list[bool]:
        return [await tidy(f"process {number}", INTERVAL) for number in range(count)]

    return asyncio.run(turns())


def test_one_process_does_it_in_each_interval(
    state: SharedState, time: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state is get_state()
    counted = Counted(monkeypatch)
    for turn in range(1, 4):
        assert sum(everybody(5)) == 1
        assert (counted.trims, counted.purges) == (turn, turn)
        time.advance(INTERVAL * 0.9)


def test_without_a_lease_every_process_would(
    state: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    assert state is get_state()
    counted = Counted(monkeypatch)
    monkeypatch.setattr(housekeeping, "_state", lambda: None)
    assert sum(everybody(5)) == 5
    assert counted.trims == 5


def test_when_the_one_is_gone_another_does_it(state: SharedState, time: FakeClock) -> None:
    assert state is get_state()
    assert asyncio.run(tidy("gone", INTERVAL))
    assert not asyncio.run(tidy("there", INTERVAL))
    time.advance(INTERVAL)
    assert asyncio.run(tidy("there", INTERVAL))


def test_it_removes_what_is_old(
    log: EventLog, room: Topic, room_class: type[Topic], time: FakeClock
) -> None:
    room_class.history = History(events=100_000, age=timedelta(hours=1))
    log.append(room, [Draft("said", "1")] * 700)
    get_state().set("presence", {"ada": ""}, ttl=1)
    time.advance(timedelta(days=2).total_seconds())
    log.append(room, [Draft("said", "1")])
    asyncio.run(tidy("here", INTERVAL))
    assert len(log.read(room, 0, 1000, 10**6).events) == 1
    assert get_state().purge() == 0


class StatelessLog(MemoryLog):
    """A store of somebody's own, without a state beside it."""


def test_a_store_without_a_state_is_trimmed_all_the_same(settings: Settings) -> None:
    settings.DJANGO_LIVE = {"STORE": f"{__name__}.StatelessLog"}
    assert everybody(2) == [True, True]
