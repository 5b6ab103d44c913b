"""A source runs once for everybody, while somebody watches; what goes wrong in it stays in it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_live.core.runtime import Runtime
from django_live.core.state import get_state
from django_live.exceptions import InvalidEvent
from django_live.features.dashboards import following, live_source, sources
from django_live.features.dashboards.changes import MapChange
from django_live.features.dashboards.holdings import VALUE
from django_live.features.dashboards.sources import change_of
from tests.core.fakes import until
from tests.features.dashboards.boards import DO, Computed, Load, Log, Points, Rows, Watcher

NAME = f"source:{Computed().key}"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LEASE", 1.0)
    DO.update(runs=0, compute=lambda: DO["runs"])


@pytest.mark.asyncio
async def test_it_runs_for_all_viewers_together_and_ends_with_the_last(
    live: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LINGER", 0.0)
    watchers = [await Watcher(Computed()).open(live) for _ in range(5)]
    await until(lambda: DO["runs"] >= 3)
    await until(lambda: all(watcher.shows == watchers[0].shows for watcher in watchers))
    assert await get_state().alease(NAME)
    for watcher in watchers:
        watcher.leave(live)
    await until(lambda: not following.boards_of(live)._followers)
    await until(lambda: not any("SourceRunner" in repr(task) for task in asyncio.all_tasks()))
    assert await get_state().alease(NAME) is None, "given back, so that another may go on at once"


@pytest.mark.asyncio
async def test_another_takes_over_when_the_lease_of_a_dead_process_ends(
    live: Runtime, elsewhere: Any
) -> None:
    dead = await get_state().aacquire(NAME, "dead", 0.5)
    assert dead
    ann = await Watcher(Computed()).open(live)
    await until(lambda: ann.shows is None and ann.snapshots)
    assert DO["runs"] == 0, "while the other may be alive"
    await until(lambda: ann.shows)
    change = MapChange({VALUE: '"late"'})
    assert not await elsewhere(change.write, Computed(), dead.token)
    assert ann.shows != "late", "what the former holder still writes is refused"


@pytest.mark.asyncio
async def test_one_that_raises_leaves_what_is_shown_and_goes_on(
    live: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    DO["compute"] = lambda: 1 / 0
    ann = await Watcher(Computed()).open(live)
    await until(lambda: DO["runs"] >= 3)
    assert ann.shows is None
    failed = [r for r in caplog.records if "failed" in r.message and r.levelno == logging.ERROR]
    assert len(failed) == 1, "said once"
    DO["compute"] = lambda: "well"
    await until(lambda: ann.shows == "well")
    await until(lambda: "works again" in caplog.text)


@pytest.mark.asyncio
async def test_one_that_hangs_costs_one_thread_and_gives_the_lease_away(live: Runtime) -> None:
    release = threading.Event()
    DO["compute"] = lambda: release.wait(30)
    try:
        ann = await Watcher(Computed()).open(live)
        await until(lambda: DO["runs"] == 1)
        for _ in range(1000):
            if await get_state().alease(NAME) is None:
                break
            await asyncio.sleep(0.005)
        assert await get_state().alease(NAME) is None, "another process may try"
        threads = [t for t in threading.enumerate() if t.name == "django_live-source"]
        assert len(threads) == 1
        assert DO["runs"] == 1
    finally:
        DO["compute"] = lambda: "back"
        release.set()
    await until(lambda: ann.shows == "back")


@pytest.mark.asyncio
async def test_one_that_is_slower_than_its_interval_never_overlaps_itself(live: Runtime) -> None:
    at_once = most = 0

    def slow() -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        threading.Event().wait(0.1)
        at_once -= 1
        return DO["runs"]  # type: ignore[no-any-return]

    DO["compute"] = slow
    ann = await Watcher(Computed()).open(live)
    await until(lambda: (ann.shows or 0) >= 3)
    assert most == 1


@pytest.mark.parametrize(
    ("board", "result"),
    [(Rows(), [1]), (Points(), 1), (Log(), "text"), (Rows(), {"a": 1}), (Load(host="a"), object())],
)
def test_what_a_board_cannot_show_is_refused(declared: None, board: Any, result: Any) -> None:  # noqa: ARG001
    with pytest.raises(InvalidEvent):
        change_of(board, result)


def test_an_interval_that_would_keep_a_process_busy_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"0\.05 seconds at least"):
        live_source(every=0)
