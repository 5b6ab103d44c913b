"""What viewers of the four kinds see, whatever is written and whatever is lost on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import transaction

from django_live.core.events import Event
from django_live.core.runtime import Runtime
from django_live.core.state import get_state
from django_live.core.topics import Viewer, as_topic
from django_live.exceptions import InvalidEvent, InvalidTopic
from django_live.features.dashboards import (
    Board,
    Latest,
    add_lines,
    add_points,
    changes,
    following,
    holdings,
    remove_rows,
    set_rows,
    set_value,
    sources,
)
from django_live.features.dashboards.holdings import map_name
from django_live.features.dashboards.reading import snapshot
from tests.core.fakes import until
from tests.features.dashboards.boards import Load, Log, Points, Private, Rows, Watcher

HOST = Load(host="a")


async def watching(live: Runtime, topic: Any) -> Watcher:
    watcher = await Watcher(topic).open(live)
    await until(lambda: watcher.shows is not None or watcher.snapshots)
    return watcher


# -- the four kinds --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_value_is_there_for_newcomers_and_then_changes(
    live: Runtime, elsewhere: Any
) -> None:
    await elsewhere(set_value, HOST, 1)
    ann = await watching(live, HOST)
    assert ann.shows == 1
    await elsewhere(set_value, HOST, {"load": 2})
    await until(lambda: ann.shows == {"load": 2})
    assert [frame["run"] for frame in ann.frames] == [ann._place[0]]


@pytest.mark.asyncio
async def test_rows_come_change_and_go(live: Runtime, elsewhere: Any) -> None:
    await elsewhere(set_rows, Rows(), {"a": {"n": 1}, "b": {"n": 2}})
    ann = await watching(live, Rows())
    assert ann.shows == {"a": {"n": 1}, "b": {"n": 2}}
    await elsewhere(set_rows, Rows(), {"b": {"n": 3}, "c": {}})
    await elsewhere(remove_rows, Rows(), ["a", "never there"])
    await until(lambda: ann.shows == {"b": {"n": 3}, "c": {}})
    await elsewhere(set_rows, Rows(), {"c": {"n": 4}, "d": {"n": 5}}, replace=True)
    await until(lambda: ann.shows == {"c": {"n": 4}, "d": {"n": 5}})


@pytest.mark.asyncio
async def test_a_window_keeps_the_last_points_in_their_order(live: Runtime, elsewhere: Any) -> None:
    for number in range(6):
        await elsewhere(add_points, Points(), (float(number), {"cpu": number}))
    ann = await watching(live, Points())
    await elsewhere(add_points, Points(), (6.0, {"cpu": float("nan"), "other": 1}))
    await until(lambda: ann.shows[-1] == [6.0, {"cpu": None, "other": 1}])
    assert [point[0] for point in ann.shows] == sorted({point[0] for point in ann.shows})
    bob = await watching(live, Points())
    await until(lambda: bob.shows == ann.shows[-4:])


@pytest.mark.asyncio
async def test_a_log_keeps_the_last_lines(live: Runtime, elsewhere: Any) -> None:
    await elsewhere(add_lines, Log(), "one", ("ERROR", "two\nthree\x00"), "four")
    ann = await watching(live, Log())
    assert [line[1:] for line in ann.shows] == [
        ["ERROR", "two"],
        ["ERROR", "three\N{REPLACEMENT CHARACTER}"],
        ["", "four"],
    ]


# -- rates and permissions -------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_each_viewer_gets_the_rate_asked_for_and_all_the_right_end(
    live: Runtime, elsewhere: Any
) -> None:
    slow, greedy = await watching(live, HOST.at(1)), await watching(live, HOST.at(1_000))
    assert greedy.topic.name == "@20/load/a", "capped"
    assert cast(Board, as_topic("@1000/load/a")).updates_per_second == 20

    def write_many() -> None:
        for number in range(2_000):
            set_value(HOST, number)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await elsewhere(write_many)
    await until(lambda: slow.shows == greedy.shows == 1_999)
    took = loop.time() - began
    assert len(greedy.frames) <= 2 + took * 20
    assert len(slow.frames) <= 2 + took


@pytest.mark.asyncio
async def test_viewers_of_one_rate_share_their_frames(live: Runtime, elsewhere: Any) -> None:
    watchers = [await watching(live, HOST) for _ in range(5)]
    await elsewhere(set_value, HOST, 1)
    await until(lambda: all(watcher.shows == 1 for watcher in watchers))
    assert [list(watcher.frames) for watcher in watchers] == [watchers[0].frames] * 5
    follower = following.boards_of(live)._followers[HOST.key]
    assert len(follower.levels) == 1


def test_the_companions_have_the_permissions_of_the_board(declared: None) -> None:  # noqa: ARG001
    board = Private()
    for topic in (board, board.at(2), as_topic("@7/private")):
        assert topic.can_subscribe(Viewer(user_id="1"))
        assert not topic.can_subscribe(Viewer(user_id="2"))
    assert not board.news.can_subscribe(Viewer(user_id="1")), "between processes only"
    assert board.at(2).within("b").board.key == Private(namespace="b").key


def test_a_board_that_cannot_be_is_refused(declared: None) -> None:  # noqa: ARG001
    with pytest.raises(InvalidTopic, match="rate"):

        class Fast(Latest):
            pattern = "fast"
            rate = 30


# -- what is written -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), None),
        ({"a": [float("inf"), 1.5]}, {"a": [None, 1.5]}),
        ((1, "two"), [1, "two"]),
    ],
)
def test_what_json_cannot_say_is_shown_as_nothing(
    state: Any,  # noqa: ARG001
    declared: None,  # noqa: ARG001
    value: Any,
    shown: Any,
) -> None:
    set_value(HOST, value)
    assert snapshot(HOST)["value"] == shown


def test_who_writes_nonsense_is_told(state: Any, declared: None) -> None:  # noqa: ARG001
    with pytest.raises(InvalidEvent, match="no dict"):
        set_rows(Rows(), {"a": 1})
    with pytest.raises(InvalidEvent, match="key"):
        set_rows(Rows(), {"": {}})
    with pytest.raises(InvalidEvent, match="key"):
        set_rows(Rows(), {"\ud800": {}})
    with pytest.raises(InvalidEvent, match="key"):
        add_points(Points(), {"\ud800": 1})
    with pytest.raises(InvalidEvent, match="10001 rows"):
        set_rows(Rows(), {number: {} for number in range(10_001)})
    with pytest.raises(InvalidEvent, match="no number"):
        add_points(Points(), {"cpu": "high"})
    with pytest.raises(InvalidEvent, match="no time"):
        add_points(Points(), ("now", {"cpu": 1}))  # type: ignore[arg-type]
    with pytest.raises(InvalidTopic, match="writes to a Latest"):
        set_value(Rows(), 1)  # type: ignore[arg-type]
    assert snapshot(Rows())["rows"] == {}


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("make", [endless, deep])
def test_a_value_that_has_no_end_is_refused(make: Callable[[], Any]) -> None:
    value = make()
    with pytest.raises(InvalidEvent, match="nested too deeply"):
        set_value(HOST, value)
    with pytest.raises(InvalidEvent, match="nested too deeply"):
        set_rows(Rows(), {"a": {"b": {"c": value}}})
    with pytest.raises(InvalidEvent, match="no dict"):
        set_rows(Rows(), {"a": value})
    with pytest.raises(InvalidEvent, match="nested too deeply"):
        add_points(Points(), {"cpu": value})
    with pytest.raises(InvalidEvent, match="nested too deeply"):
        add_points(Points(), (value, {"cpu": 1}))


@pytest.mark.parametrize(
    "point", [1, "cpu", ["cpu"], (1.0, 2.0), (1.0, {"cpu": 1}, 2), (), None, endless()], ids=repr
)
def test_a_point_of_another_shape_is_told_what_is_wanted(point: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"dict of numbers.*\(time, dict\)"):
        add_points(Points(), point)
    with pytest.raises(InvalidEvent, match=r"dict of numbers.*\(time, dict\)"):
        sources.change_of(Points(), [point])


def test_lines_and_rows_of_another_shape_are_told_what_is_wanted() -> None:
    with pytest.raises(InvalidEvent, match=r"\(level, text\)"):
        add_lines(Log(), ("ERROR", "too", "many"))  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match="dict of rows"):
        set_rows(Rows(), [{"a": 1}])  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [Decimal("1e400"), 10**400, 10**5000, float("inf")], ids=type)
def test_a_point_that_no_browser_could_read_is_a_gap(value: Any) -> None:
    change = changes.points_change(Points(), [(None, {"cpu": value})])
    assert [series for _, series in change.items] == [{"cpu": None}]


def test_a_rollback_writes_nothing(state: Any, declared: None) -> None:  # noqa: ARG001
    with transaction.atomic():
        set_value(HOST, 1)
        transaction.set_rollback(True)
    with transaction.atomic():
        set_value(HOST, 2)
        assert snapshot(HOST)["value"] is None
    assert snapshot(HOST)["value"] == 2


@pytest.mark.asyncio
async def test_inside_of_an_event_loop_there_is_another_name(live: Runtime) -> None:  # noqa: ARG001
    with pytest.raises(RuntimeError, match="await aset_value"):
        set_value(HOST, 1)


# -- what is lost ----------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("is_checked", [True, False], ids=["checked", "control"])
async def test_viewers_end_up_right_though_news_are_lost(
    live: Runtime, elsewhere: Any, monkeypatch: pytest.MonkeyPatch, *, is_checked: bool
) -> None:
    """Of the news of forty changes three in four never arrive, the last one included. The control is
    the same without the checks: then what was lost stays lost."""
    if not is_checked:
        monkeypatch.setattr(following, "CHECK", 1_000.0)
    ann = await watching(live, Rows())
    follower = following.boards_of(live)._followers[Rows().key]
    heard = follower.holding.take
    count = 0

    def lossy(event: Any) -> Any:
        nonlocal count
        count += 1
        return heard(event) if count % 4 == 1 else ()

    monkeypatch.setattr(follower.holding, "take", lossy)
    for number in range(40):
        await elsewhere(_write_at_once, {f"r{number}": {"n": number}})
    await until(lambda: count == 40)
    if is_checked:
        await until(lambda: len(ann.shows) == 40)
        assert ann.shows == {f"r{number}": {"n": number} for number in range(40)}
    else:
        await until(lambda: len(ann.shows) == 10)
        assert sorted(ann.shows) == sorted(f"r{number}" for number in range(0, 40, 4))


def _write_at_once(rows: dict[str, Any]) -> None:
    from django_live.features.dashboards.changes import MapChange

    MapChange.of_rows(rows).write(Rows())


@pytest.mark.asyncio
@pytest.mark.parametrize("jump", [-3_600.0, 3_600.0], ids=["back", "forwards"])
async def test_a_clock_that_jumps_makes_nothing_wrong_or_old(
    live: Runtime, elsewhere: Any, time: Any, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """The stores' clock and this process's are set by an hour, and set right again: what was written
    last is what is shown, in a snapshot, too; and what was written just now is fresh."""
    ours = SimpleNamespace(time=time, monotonic=monotonic)
    monkeypatch.setattr(holdings, "time", ours)
    monkeypatch.setattr(changes, "time", ours)
    rows, ann, bob = Rows(), await watching(live, Rows()), await watching(live, HOST)
    for number, by in enumerate([0.0, jump, -jump]):
        time.advance(by)
        await elsewhere(set_rows, rows, {f"r{number}": {"n": number}, "same": {"n": number}})
        await elsewhere(set_value, HOST, number)
        await until(lambda n=number: ann.shows.get("same") == {"n": n} and bob.shows == n)  # type: ignore[misc]
        assert ann.frames[-1]["age"] < 60
        now = await elsewhere(snapshot, rows)
        assert (now["rows"], now["age"] < 60) == (ann.shows, True)
    await elsewhere(remove_rows, rows, ["r0", "r1"])
    await until(lambda: ann.shows == {"r2": {"n": 2}, "same": {"n": 2}})


@pytest.mark.asyncio
async def test_a_look_into_the_store_that_is_older_than_the_news_makes_nothing_old(
    live: Runtime,  # noqa: ARG001 - with a store
    elsewhere: Any,
    time: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It began before the write that the news tell of, and comes back after them."""
    monkeypatch.setattr(holdings, "time", SimpleNamespace(time=time, monotonic=monotonic))
    await elsewhere(_write_at_once, {"a": {"n": 0}})
    holding = holdings.MapHolding(Rows())
    await holding.load()
    looked = await get_state().aitems(map_name(Rows()))
    time.advance(3_600.0)
    news = json.dumps({"v": looked.version + 3_600_000_000, "set": {"a": {"n": 1}}, "gone": []})
    holding.take(Event(type="news", data=news, offset=1))
    assert holding.age is not None
    assert holding.age < 60

    holding._replace(looked, emptied=False)
    assert holding.age < 60
    assert holding.rows == {"a": {"n": 1}}


@pytest.mark.asyncio
async def test_a_board_that_nobody_watches_costs_nothing(
    live: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LINGER", 0.0)
    ann = await watching(live, HOST)
    boards = following.boards_of(live)
    assert HOST.key in boards._followers
    assert HOST.news.key in live.hub.feeds
    ann.leave(live)
    await until(lambda: not boards._followers)
    await until(lambda: HOST.news.key not in live.hub.feeds)
