"""The contract of the state: `django_live.core.state.SharedState`, sentence by sentence."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from django_live.core.state import ABSENT, Changes, Entries, Entry, Lease, SharedState
from django_live.exceptions import MapFull, StoreError
from tests.contracts.conftest import FakeClock, in_threads

ROOM = "presence:rooms/lobby"
DAY = 86_400.0


def values(state: SharedState, name: str = ROOM) -> dict[str, str]:
    return {key: entry.value for key, entry in state.items(name).entries.items()}


def members(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "")


# -- maps ------------------------------------------------------------------------------------------


def test_a_map_that_nobody_wrote_to_is_empty(state: SharedState) -> None:
    assert state.items(ROOM) == Entries(0, {})
    assert state.get(ROOM, "ada") is None


def test_what_is_set_can_be_read(state: SharedState) -> None:
    changes = state.set(ROOM, {"ada": "1", "bob": "2"})
    assert changes == Changes(changes.version, frozenset({"ada", "bob"}))
    assert state.items(ROOM) == Entries(
        changes.version,
        {"ada": Entry("1", changes.version), "bob": Entry("2", changes.version)},
    )
    assert state.get(ROOM, "ada") == Entry("1", changes.version)
    assert state.items(ROOM, ["bob", "eve"]).entries.keys() == {"bob"}


def test_each_change_gives_a_greater_version(state: SharedState, time: FakeClock) -> None:
    first = state.set(ROOM, {"ada": "1"})
    second = state.set(ROOM, {"bob": "1"})
    time.advance(-60)
    third = state.set(ROOM, {"ada": "2"})
    time.advance(120)
    fourth = state.delete(ROOM, ["bob"])
    versions = [first.version, second.version, third.version, fourth.version]
    assert versions == sorted(set(versions))
    assert state.items(ROOM) == Entries(fourth.version, {"ada": Entry("2", third.version)})


def test_a_change_tells_what_was_there_before(state: SharedState) -> None:
    state.set(ROOM, members("ada", "bob"))
    assert state.set(ROOM, members("bob", "eve")).added == {"eve"}
    assert state.delete(ROOM, ["ada", "eve", "zoe"]).removed == {"ada", "eve"}
    assert values(state) == {"bob": ""}


def test_to_delete_what_is_not_there_is_no_change(state: SharedState) -> None:
    version = state.set(ROOM, {"ada": "1"}).version
    assert state.delete(ROOM, ["bob"]) == Changes(version)
    assert state.delete("nowhere", ["bob"]).version == 0
    assert state.items(ROOM).version == version


def test_some_may_be_set_and_others_deleted_at_once(state: SharedState) -> None:
    state.set(ROOM, {"ada": "1", "bob": "1"})
    changes = state.change(ROOM, {"eve": "1", "ada": "2"}, delete=["bob", "ada"])
    assert changes is not None
    assert changes.added == {"eve"}
    assert changes.removed == {"bob"}
    assert values(state) == {"ada": "2", "eve": "1"}


def test_maps_are_apart(state: SharedState) -> None:
    state.set("a", {"key": "a"})
    state.set("A", {"key": "A"})
    assert values(state, "a") == {"key": "a"}
    assert values(state, "A") == {"key": "A"}
    state.delete("a", ["key"])
    assert values(state, "A") == {"key": "A"}


@pytest.mark.parametrize("text", ["", "é\U0001f9e1", "x" * 100_000, "1:2", '{"a": [1]}', "Ada"])
def test_keys_and_values_are_any_text(state: SharedState, text: str) -> None:
    state.set(ROOM, {text: "value", f"{text}2": text, "ADA": "other", "ada": "another"})
    assert values(state) == {text: "value", f"{text}2": text, "ADA": "other", "ada": "another"}


def test_versions_grow_although_everything_was_lost(
    state: SharedState, time: FakeClock, empty_again: Callable[[], SharedState]
) -> None:
    before = state.set(ROOM, {"ada": "1"}).version
    state = empty_again()
    assert state.items(ROOM) == Entries(0, {})
    time.advance(0.001)
    assert state.set(ROOM, {"ada": "1"}).version > before


def test_of_many_that_change_a_map_at_once_each_has_a_version(state: SharedState) -> None:
    changes = in_threads(
        4, lambda n: [state.set(ROOM, {f"{n}/{i}": "x"}).version for i in range(10)]
    )
    versions = [version for own in changes for version in own]
    assert len(set(versions)) == 40
    assert all(own == sorted(own) for own in changes)
    assert state.items(ROOM).version == max(versions)
    assert len(values(state)) == 40


def test_what_is_read_is_at_least_as_new_as_its_version(state: SharedState) -> None:
    """A reader that takes the entries, and then changes with a greater version, misses nothing."""
    versions: dict[int, str] = {}
    read: list[Entries] = []
    written = threading.Event()

    def work(number: int) -> None:
        if number:
            while not written.is_set():
                read.append(state.items(ROOM))
            return
        for i in itertools.count():
            if i >= 40 and len(read) > 3:
                break
            versions[state.set(ROOM, {f"k{i}": str(i)}).version] = f"k{i}"
        written.set()

    in_threads(2, work)
    for version, entries in read:
        assert {key for own, key in versions.items() if own <= version} <= entries.keys()


# -- what is expected ------------------------------------------------------------------------------


def test_a_value_is_replaced_only_in_the_version_that_was_read(state: SharedState) -> None:
    first = state.compare_and_set(ROOM, "ada", "1", ABSENT)
    assert first
    assert state.compare_and_set(ROOM, "ada", "x", ABSENT) is None
    second = state.compare_and_set(ROOM, "ada", "2", first)
    assert second
    assert second > first
    assert state.compare_and_set(ROOM, "ada", "x", first) is None
    assert state.get(ROOM, "ada") == Entry("2", second)


def test_where_one_thing_is_not_as_expected_nothing_happens(state: SharedState) -> None:
    version = state.set(ROOM, {"ada": "1", "bob": "1"}).version
    expect = {"ada": version, "bob": version + 1}
    assert state.change(ROOM, {"ada": "2", "eve": "1"}, expect=expect) is None
    assert state.change(ROOM, delete=["ada"], expect={"eve": version}) is None
    assert state.items(ROOM).version == version
    assert values(state) == {"ada": "1", "bob": "1"}
    assert state.change(ROOM, delete=["ada"], expect={"ada": version, "eve": ABSENT})
    assert values(state) == {"bob": "1"}


def test_of_many_that_expect_the_same_one_succeeds_each_time(state: SharedState) -> None:
    """Each adds one, 20 times over, by reading, comparing and setting."""

    def add_one(_: int) -> None:
        for _ in range(10):
            while True:
                entry = state.get(ROOM, "sum") or Entry("0", ABSENT)
                if state.compare_and_set(ROOM, "sum", str(int(entry.value) + 1), entry.version):
                    break

    in_threads(4, add_one)
    assert values(state) == {"sum": "40"}


def test_without_comparing_additions_would_be_lost(state: SharedState) -> None:
    """The control of the test above: two read the same value."""
    read = [state.get(ROOM, "sum") for _ in range(2)]
    for _ in read:
        state.set(ROOM, {"sum": "1"})
    assert values(state) == {"sum": "1"}


def test_who_comes_with_an_older_token_is_refused(state: SharedState) -> None:
    assert state.change(ROOM, {"text": "a"}, fence=10)
    assert state.change(ROOM, {"text": "ab"}, fence=10)
    assert state.change(ROOM, {"text": "new"}, fence=11)
    assert state.change(ROOM, {"text": "abc"}, fence=10) is None
    assert values(state) == {"text": "new"}
    assert state.set(ROOM, {"text": "by nobody's lease"})


# -- how much --------------------------------------------------------------------------------------


def test_a_map_holds_no_more_than_it_may(state: SharedState, time: FakeClock) -> None:
    state.set(ROOM, members("ada"), ttl=10, most=2)
    version = state.set(ROOM, members("bob"), most=2).version
    with pytest.raises(MapFull, match=ROOM):
        state.set(ROOM, members("eve", "ada"), most=2)
    assert state.items(ROOM).version == version
    assert state.set(ROOM, members("bob", "ada"), ttl=10, most=2)
    assert state.change(ROOM, members("eve"), delete=["bob"], most=2)
    with pytest.raises(StoreError):
        state.set(ROOM, members("bob"), most=2)
    time.advance(11)
    assert state.set(ROOM, members("bob"), most=2).added == {"bob"}


def test_large_maps_come_whole(state: SharedState) -> None:
    many = {f"key {number}": str(number) for number in range(2500)}
    assert len(state.set(ROOM, many, ttl=60).added) == 2500
    assert values(state) == many
    assert len(state.items(ROOM, list(many)[:1500]).entries) == 1500
    assert state.renew({ROOM: [*many, "nobody"]}, 60) == {ROOM: {"nobody"}}
    assert len(state.delete(ROOM, many).removed) == 2500


# -- expiry ----------------------------------------------------------------------------------------


def test_an_entry_that_expired_is_not_there(state: SharedState, time: FakeClock) -> None:
    version = state.set(ROOM, {"ada": "1"}, ttl=10).version
    state.set(ROOM, {"bob": "1"})
    time.advance(9.999)
    assert values(state) == {"ada": "1", "bob": "1"}
    time.advance(0.001)
    assert values(state) == {"bob": "1"}
    assert state.get(ROOM, "ada") is None
    assert state.delete(ROOM, ["ada"]).removed == frozenset()
    assert state.compare_and_set(ROOM, "ada", "2", version) is None
    assert state.compare_and_set(ROOM, "ada", "2", ABSENT)
    assert state.set(ROOM, {"eve": "1"}, ttl=1).added == {"eve"}
    time.advance(1)
    assert state.set(ROOM, {"eve": "1"}, ttl=1).added == {"eve"}


def test_each_setting_says_anew_how_long(state: SharedState, time: FakeClock) -> None:
    state.set(ROOM, members("ada", "bob"), ttl=10)
    state.set(ROOM, members("ada"), ttl=1)
    state.set(ROOM, members("bob"))
    time.advance(5 * DAY)
    assert values(state) == {"bob": ""}


def test_who_is_renewed_stays_and_the_version_too(state: SharedState, time: FakeClock) -> None:
    version = state.set(ROOM, members("ada", "bob"), ttl=10).version
    state.set("presence:rooms/kitchen", members("ada"), ttl=10)
    time.advance(9)
    some = {ROOM: ["ada", "eve"], "presence:rooms/kitchen": ["ada"], "nowhere": ["ada"]}
    assert state.renew(some, 10) == {
        ROOM: {"eve"},
        "presence:rooms/kitchen": frozenset(),
        "nowhere": {"ada"},
    }
    time.advance(9)
    assert values(state) == {"ada": ""}
    assert values(state, "presence:rooms/kitchen") == {"ada": ""}
    assert state.items(ROOM).version == version
    assert state.renew({ROOM: ["bob"]}, 10) == {ROOM: {"bob"}}
    assert state.renew({}, 10) == {}


def test_whoever_sweeps_is_told_who_expired(state: SharedState, time: FakeClock) -> None:
    version = state.set(ROOM, members("ada", "bob"), ttl=10).version
    state.set(ROOM, members("eve"), ttl=20)
    assert state.sweep(ROOM).removed == frozenset()
    time.advance(10)
    swept = state.sweep(ROOM)
    assert swept.removed == {"ada", "bob"}
    assert swept.version > version
    assert state.items(ROOM).version == swept.version
    assert state.sweep(ROOM) == Changes(swept.version)
    assert state.sweep("nowhere") == Changes(0)


def test_sweeping_in_small_steps_tells_all(state: SharedState, time: FakeClock) -> None:
    state.set(ROOM, members(*"abcdefg"), ttl=1)
    time.advance(2)
    told = [state.sweep(ROOM, limit=3).removed for _ in range(4)]
    assert sorted(map(len, told)) == [0, 1, 3, 3]
    assert frozenset().union(*told) == set("abcdefg")


def test_each_expired_entry_is_told_to_one_only(state: SharedState, time: FakeClock) -> None:
    state.set(ROOM, members(*(str(number) for number in range(60))), ttl=1)
    time.advance(2)
    told = in_threads(4, lambda _: [state.sweep(ROOM, limit=7).removed for _ in range(10)])
    names = [name for own in told for some in own for name in some]
    assert sorted(names, key=int) == [str(number) for number in range(60)]


def test_an_entry_that_was_set_again_is_not_swept(state: SharedState, time: FakeClock) -> None:
    state.set(ROOM, members("ada"), ttl=1)
    time.advance(2)
    assert state.set(ROOM, members("ada"), ttl=1).added == {"ada"}
    assert state.sweep(ROOM).removed == frozenset()
    assert values(state) == {"ada": ""}


# -- counters --------------------------------------------------------------------------------------


def counted(state: SharedState, name: str, amount: int, ttl: float) -> tuple[int, float]:
    count = state.count(name, amount, ttl=ttl)
    return count.value, round(count.left, 3)


def test_a_counter_counts_until_it_begins_again(state: SharedState, time: FakeClock) -> None:
    assert counted(state, "logins", 1, ttl=60) == (1, 60)
    time.advance(20)
    assert counted(state, "logins", 4, ttl=60) == (5, 40)
    assert counted(state, "logins", -2, ttl=999) == (3, 40)
    assert counted(state, "Logins", 0, ttl=60) == (0, 60)
    time.advance(40)
    assert counted(state, "logins", 1, ttl=30) == (1, 30)


def test_many_that_count_at_once_count_right(state: SharedState) -> None:
    values = in_threads(4, lambda _: [state.count("hits", ttl=60).value for _ in range(10)])
    assert sorted(value for own in values for value in own) == list(range(1, 41))


# -- leases ----------------------------------------------------------------------------------------


def test_one_at_a_time_has_a_lease(state: SharedState, time: FakeClock) -> None:
    lease = state.acquire("rounds", "web-1", 10)
    assert lease == Lease("web-1", lease.token if lease else 0, 10)
    assert state.acquire("rounds", "web-2", 10) is None
    assert state.acquire("other", "web-2", 10)
    time.advance(4)
    found = state.lease("rounds")
    assert found
    assert (found.holder, found.token, round(found.left, 3)) == ("web-1", lease.token, 6)
    assert state.lease("nobody's") is None


def test_the_next_token_is_always_greater(state: SharedState, time: FakeClock) -> None:
    tokens = []
    for number in range(6):
        lease = state.acquire("rounds", f"web-{number % 2}", 10)
        assert lease
        tokens.append(lease.token)
        if number % 3 == 0:
            assert state.release("rounds", lease.token)
            time.advance(-30)
        else:
            time.advance(10)
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


def test_tokens_grow_although_everything_was_lost(
    state: SharedState, time: FakeClock, empty_again: Callable[[], SharedState]
) -> None:
    before = state.acquire("rounds", "web-1", 10)
    state = empty_again()
    time.advance(0.001)
    after = state.acquire("rounds", "web-2", 10)
    assert before
    assert after
    assert after.token > before.token


def test_who_has_a_lease_already_keeps_its_token(state: SharedState, time: FakeClock) -> None:
    first = state.acquire("rounds", "web-1", 10)
    time.advance(6)
    assert state.acquire("rounds", "web-1", 10) == first
    time.advance(6)
    assert state.acquire("rounds", "web-2", 10) is None


def test_who_extends_a_lease_keeps_it(state: SharedState, time: FakeClock) -> None:
    lease = state.acquire("rounds", "web-1", 10)
    assert lease
    for _ in range(3):
        time.advance(9)
        assert state.extend("rounds", lease.token, 10)
    assert state.acquire("rounds", "web-2", 10) is None
    assert not state.extend("rounds", lease.token - 1, 10)
    assert not state.extend("nobody's", lease.token, 10)
    time.advance(10)
    assert not state.extend("rounds", lease.token, 10)
    assert state.lease("rounds") is None


def test_who_lost_a_lease_can_neither_extend_nor_release_it(
    state: SharedState, time: FakeClock
) -> None:
    lost = state.acquire("rounds", "web-1", 10)
    time.advance(10)
    mine = state.acquire("rounds", "web-2", 10)
    assert lost
    assert mine
    assert not state.extend("rounds", lost.token, 60)
    assert not state.release("rounds", lost.token)
    assert state.lease("rounds") == mine
    assert state.release("rounds", mine.token)
    assert not state.release("rounds", mine.token)
    assert state.acquire("rounds", "web-1", 10)


def test_of_many_that_ask_at_once_one_gets_the_lease(state: SharedState) -> None:
    for attempt in range(5):
        answers = in_threads(4, lambda n: state.acquire(f"rounds {attempt}", f"web-{n}", 60))  # noqa: B023
        assert sum(answer is not None for answer in answers) == 1


def test_what_a_former_holder_still_writes_is_refused(state: SharedState, time: FakeClock) -> None:
    former = state.acquire("writer", "web-1", 10)
    assert former
    assert state.change("answer", {"text": "old"}, fence=former.token)
    time.advance(10)
    holder = state.acquire("writer", "web-2", 10)
    assert holder
    assert state.change("answer", {"text": "new"}, fence=holder.token)
    assert state.change("answer", {"text": "late"}, fence=former.token) is None
    assert values(state, "answer") == {"text": "new"}


# -- housekeeping ----------------------------------------------------------------------------------


def test_purging_changes_nothing_that_anybody_sees(state: SharedState, time: FakeClock) -> None:
    state.set(ROOM, members("ada"), ttl=1)
    state.set(ROOM, members("bob"))
    lease = state.acquire("rounds", "web-1", 2 * DAY)
    state.acquire("old", "web-1", 1)
    state.count("hits", ttl=1)
    state.set("gone", members("eve"), ttl=1)
    time.advance(1.5 * DAY)
    version = state.items(ROOM).version
    state.purge(limit=1)
    assert state.items(ROOM).version == version
    assert values(state) == {"bob": ""}
    assert lease
    assert state.extend("rounds", lease.token, 10)
    assert state.count("hits", ttl=1).value == 1
    again = state.acquire("old", "web-2", 1)
    assert again
    assert again.token > lease.token
    assert state.set("gone", members("eve")).version > version
    assert state.purge() == 0


def test_what_was_not_swept_is_purged_after_a_day(state: SharedState, time: FakeClock) -> None:
    state.set(ROOM, members("ada"), ttl=1)
    time.advance(DAY / 2)
    state.purge()
    assert state.sweep(ROOM).removed == {"ada"}


# -- for the event loop ----------------------------------------------------------------------------


def test_the_forms_for_the_event_loop_do_the_same(state: SharedState) -> None:
    async def scenario() -> None:
        version = (await state.aset(ROOM, {"ada": "1", "bob": "1"}, ttl=60)).version
        assert await state.aget(ROOM, "ada") == Entry("1", version)
        assert await state.acompare_and_set(ROOM, "ada", "2", ABSENT) is None
        assert await state.acompare_and_set(ROOM, "ada", "2", version)
        assert (await state.adelete(ROOM, ["bob"])).removed == {"bob"}
        assert await state.achange(ROOM, {"ada": "3"}, fence=5)
        assert (await state.aitems(ROOM)).entries.keys() == {"ada"}
        assert await state.arenew({ROOM: ["ada", "bob"]}, 60) == {ROOM: {"bob"}}
        assert (await state.asweep(ROOM)).removed == frozenset()
        assert (await state.acount("hits", ttl=60)).value == 1
        lease = await state.aacquire("rounds", "web-1", 60)
        assert lease
        assert await state.aextend("rounds", lease.token, 60)
        assert await state.alease("rounds")
        assert await state.arelease("rounds", lease.token)
        assert await state.apurge() == 0

    asyncio.run(scenario())
    assert values(state) == {"ada": "3"}


@pytest.mark.asyncio
@pytest.mark.parametrize("ticks", range(1, 9))
async def test_a_task_that_is_cancelled_in_a_call_ends(state: SharedState, ticks: int) -> None:
    async def ask_for_ever() -> None:
        while True:
            await state.aget(ROOM, "ada")
            await asyncio.sleep(0)

    await state.aget(ROOM, "ada")  # what is opened with the first call takes its own time
    task = asyncio.create_task(ask_for_ever())
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await asyncio.wait({task}, timeout=2)
        assert task.done(), "its cancel was lost"
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)


# -- any interleaving, against a plain model -------------------------------------------------------

_numbers = itertools.count()
KEYS = ["a", "b", "c", "d"]
keys = st.lists(st.sampled_from(KEYS), max_size=3, unique=True)
times = st.one_of(st.none(), st.sampled_from([1.0, 30.0, 100.0]))


@dataclass
class Model:
    """A dict with what is there, and what expired and was not swept."""

    version: int = 0
    fence: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    expires: dict[str, float] = field(default_factory=dict)

    def live(self, now: float) -> dict[str, Entry]:
        return {key: entry for key, entry in self.entries.items() if self.expires[key] > now}


class StateMachine(RuleBasedStateMachine):
    """One map and one lease of the state under test."""

    state: SharedState
    time: FakeClock

    def __init__(self) -> None:
        super().__init__()
        self.name = f"map {next(_numbers)}"
        self.model = Model()
        self.lease: tuple[str, int, float] = ("", 0, -inf)

    @rule(
        entries=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["", "x", "é"]), max_size=3),
        delete=keys,
        ttl=times,
        expected=keys,
        stale=st.booleans(),
        fence=st.integers(0, 4),
        most=st.integers(1, 5),
    )
    def change(
        self,
        entries: dict[str, str],
        delete: list[str],
        ttl: float | None,
        expected: list[str],
        stale: bool,
        fence: int,
        most: int,
    ) -> None:
        model, now = self.model, self.time()
        live = model.live(now)
        expect = {key: live[key].version if key in live else ABSENT for key in expected}
        if stale and expect:
            expect[expected[0]] += 1
        added = entries.keys() - live.keys()
        removed = (live.keys() & {*delete}) - entries.keys()
        try:
            changes = self.state.change(
                self.name, entries, delete, ttl=ttl, expect=expect, fence=fence, most=most
            )
        except MapFull:
            assert added
            assert len(live) + len(added) - len(removed) > most
            return
        if (stale and expect) or 0 < fence < model.fence:
            assert changes is None
            return
        assert changes is not None
        assert not added or len(live) + len(added) - len(removed) <= most
        assert changes.added == added
        assert changes.removed == removed
        changed = bool(entries or removed)
        assert changes.version > model.version if changed else changes.version == model.version
        model.version, model.fence = changes.version, max(fence, model.fence)
        for key in removed:
            del model.entries[key], model.expires[key]
        for key, value in entries.items():
            model.entries[key] = Entry(value, changes.version)
            model.expires[key] = inf if ttl is None else now + ttl

    @rule(some=keys, ttl=st.sampled_from([1.0, 50.0]))
    def renew(self, some: list[str], ttl: float) -> None:
        live = self.model.live(self.time())
        missing = self.state.renew({self.name: some}, ttl)
        assert missing == {self.name: frozenset(some) - live.keys()}
        self.model.expires.update((key, self.time() + ttl) for key in some if key in live)

    @rule(limit=st.integers(1, 3))
    def sweep(self, limit: int) -> None:
        model = self.model
        expired = model.entries.keys() - model.live(self.time()).keys()
        swept = self.state.sweep(self.name, limit=limit)
        assert swept.removed <= expired
        assert len(swept.removed) == min(limit, len(expired))
        assert swept.version > model.version if expired else swept.version == model.version
        model.version = swept.version
        for key in swept.removed:
            del model.entries[key], model.expires[key]

    @rule(holder=st.sampled_from(["web-1", "web-2"]), ttl=st.sampled_from([1.0, 50.0]))
    def acquire(self, holder: str, ttl: float) -> None:
        owner, token, expires = self.lease
        found = self.state.acquire(self.name, holder, ttl)
        if expires > self.time() and owner != holder:
            assert found is None
            return
        assert found
        assert found.token == token if expires > self.time() else found.token > token
        self.lease = (holder, found.token, self.time() + ttl)

    @rule(ttl=st.sampled_from([0.0, 50.0]), old=st.booleans())
    def extend_or_release(self, ttl: float, old: bool) -> None:
        owner, token, expires = self.lease
        kept = (
            self.state.extend(self.name, token - old, ttl)
            if ttl
            else self.state.release(self.name, token - old)
        )
        assert kept == (expires > self.time() and not old)
        if kept:
            self.lease = (owner, token, self.time() + ttl)

    @rule(seconds=st.sampled_from([-5.0, 0.000_001, 1.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.time.advance(seconds)

    @invariant()
    def entries_agree(self) -> None:
        expected = Entries(self.model.version, self.model.live(self.time()))
        assert self.state.items(self.name) == expected


def test_a_state_behaves_like_a_dict_whose_entries_expire(
    state: SharedState, time: FakeClock
) -> None:
    machine = type("Machine", (StateMachine,), {"state": state, "time": time})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
