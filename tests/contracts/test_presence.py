"""Who is in a topic, on each store: two processes, a clock that stands still, and a reader who has
nothing but the snapshot and the events."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied

from django_live import Message, Rejected, Topic, Viewer
from django_live.core.log import get_log
from django_live.core.state import Entries, SharedState
from django_live.core.topics import registry
from django_live.features import attendance as attendance_module
from django_live.features.attendance import LONGEST_REST, REST, Attendance, short
from django_live.features.presence import Presence, PresenceTopic, members_of, presence_of
from django_live.features.seats import LARGE, Seats, map_of
from tests.contracts.conftest import FakeClock

pytestmark = pytest.mark.asyncio

GRACE, LEASE = 4.0, 15.0


@pytest.fixture(autouse=True)
def small_steps(state: SharedState, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log beside the state under test; nobody's own rounds."""
    get_log.cache_clear()
    monkeypatch.setattr(attendance_module, "get_state", lambda: state)


@pytest.fixture
def room() -> Iterator[Topic]:
    with registry.isolated():

        class Salon(Topic):
            pattern = "salons/<slug:slug>"
            presence = Presence(
                show=lambda user: {"name": user.username}, grace=GRACE, names=5, visitors=True
            )

            def can_subscribe(self, viewer: Viewer) -> bool:
                return bool(viewer.user.is_authenticated)

        yield Salon(slug="blue")


class Process:
    """What one process knows of one topic."""

    def __init__(self, room: Topic, time: FakeClock) -> None:
        self.room = room
        self.attendance = Attendance(clock=time)
        presence = presence_of(room)
        assert presence is not None
        self.presence = presence

    def open(self, member: str, connection: str) -> None:
        self.attendance.arrived(self.presence, self.room, viewer_of(member), connection)

    def close(self, member: str, connection: str) -> None:
        self.attendance.departed(self.presence, self.room, viewer_of(member), connection)

    async def write(self) -> None:
        await self.attendance.write()

    async def round(self) -> None:
        await self.attendance.round()

    async def count(self) -> None:
        await self.attendance.count()


def viewer_of(member: str) -> Viewer:
    user: Any = SimpleNamespace(pk=member, username=f"user {member}", is_authenticated=True)
    return Viewer(user=user)


class Reader:
    """Applies the rule of the protocol: a seat's newest version counts."""

    def __init__(self, room: Topic, *, begins: bool = True) -> None:
        self.companion = PresenceTopic(of=room.name)
        self.heard: list[tuple[str, Any]] = []
        self.entries: dict[str, tuple[Any, int]] = {}
        self.base = 0
        self.count: int | None = None
        self.offset = get_log().read(self.companion, 0, 1, 1).head.last
        if begins:
            self._begin(self.companion.snapshot())

    def read(self) -> list[tuple[str, Any]]:
        """What was told since it last read."""
        page = get_log().read(self.companion, self.offset, 100_000, 10**9)
        self.offset = page.head.last
        heard = [(event.type, json.loads(event.data)) for event in page.events]
        self.heard += heard
        for type, data in heard:
            if type == "changed" and self.count is None:
                self._change(data)
            elif type != "changed" and data["version"] > self.base:
                self._begin(data)
        return heard

    def _begin(self, data: dict[str, Any]) -> None:
        self.base, self.count = data["version"], data.get("count")
        self.entries = {
            k: (value, version) for k, (value, version) in data.get("entries", {}).items()
        }

    def _change(self, data: dict[str, Any]) -> None:
        for key in [*data["set"], *data["gone"]]:
            _, known = self.entries.get(key, (None, self.base))
            if data["version"] > known:
                self.entries[key] = (data["set"].get(key), data["version"])

    @property
    def members(self) -> set[str]:
        return {
            k.split(" ", 2)[2] for k, (value, _) in self.entries.items() if k[0] == "m" and value
        }


@pytest.fixture
def new_process(room: Topic, time: FakeClock) -> Callable[[], Process]:
    return lambda: Process(room, time)


@pytest.fixture
def process(new_process: Callable[[], Process]) -> Process:
    return new_process()


def ids(room: Topic) -> set[str]:
    return {member.id for member in members_of(room).members}


async def in_thread(work: Callable[[], Any]) -> Any:
    """As views and hooks run: outside of the event loop."""
    return await sync_to_async(work)()


async def test_who_comes_is_told_with_what_the_topic_shows(room: Topic, process: Process) -> None:
    reader = await in_thread(lambda: Reader(room))
    process.open("1", "tab")
    await process.write()
    heard = await in_thread(reader.read)
    assert [type for type, _ in heard] == ["changed"]
    (seat,) = heard[0][1]["set"].values()
    assert seat["i"] == {"name": "user 1"}
    found = await in_thread(lambda: members_of(room))
    assert (found.count, found.is_large) == (1, False)
    assert found.members == [("1", {"name": "user 1"}, "active")]


async def test_a_member_is_one_over_tabs_and_processes_and_gone_with_the_last(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    here, there = new_process(), new_process()
    here.open("1", "phone")
    here.open("1", "laptop")
    there.open("1", "tablet")
    await here.write()
    await there.write()
    assert (await in_thread(lambda: members_of(room))).count == 1
    here.close("1", "phone")
    here.close("1", "laptop")
    time.advance(GRACE)
    await here.write()
    assert await in_thread(lambda: ids(room)) == {"1"}
    there.close("1", "tablet")
    time.advance(GRACE)
    await there.write()
    assert await in_thread(lambda: ids(room)) == set()


async def test_two_devices_that_leave_two_processes_at_once_are_gone(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    here, there = new_process(), new_process()
    reader = await in_thread(lambda: Reader(room))
    for one in (here, there):
        one.open("1", f"device {id(one)}")
        await one.write()
    for one in (here, there):
        one.close("1", f"device {id(one)}")
    time.advance(GRACE)
    await here.write()
    await there.write()
    await in_thread(reader.read)
    assert reader.members == set()


async def test_a_reload_is_neither_a_leave_nor_a_join(
    room: Topic, time: FakeClock, process: Process
) -> None:
    process.open("1", "before")
    await process.write()
    reader = await in_thread(lambda: Reader(room))
    process.close("1", "before")
    time.advance(GRACE / 2)
    await process.write()
    assert await in_thread(reader.read) == []
    process.open("1", "after")
    await process.write()
    time.advance(GRACE * 2)
    await process.write()
    for _, data in await in_thread(reader.read):
        assert not [key for key in data["gone"] if key.startswith("m ")]
    assert reader.members == {"1"}


async def test_who_is_away_longer_than_the_grace_has_left(
    room: Topic, time: FakeClock, process: Process
) -> None:
    process.open("1", "tab")
    await process.write()
    reader = await in_thread(lambda: Reader(room))
    process.close("1", "tab")
    time.advance(GRACE - 0.1)
    await process.write()
    assert reader.members == {"1"}
    time.advance(0.2)
    await process.write()
    await in_thread(reader.read)
    assert reader.members == set()


async def test_comings_and_goings_of_a_moment_are_one_event(
    room: Topic, time: FakeClock, process: Process
) -> None:
    process.open("left", "l")
    await process.write()
    reader = await in_thread(lambda: Reader(room))
    process.close("left", "l")
    time.advance(GRACE)
    for number in range(4):
        process.open(str(number), f"c{number}")
    await process.write()
    ((_, data),) = await in_thread(reader.read)
    assert len([key for key in data["set"] if key[0] == "m"]) == 4
    assert len([key for key in data["gone"] if key[0] == "m"]) == 1
    await process.write()
    assert await in_thread(reader.read) == [], "nothing has happened since"


async def test_members_of_a_killed_process_are_gone_within_the_lease(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    killed, living = new_process(), new_process()
    killed.open("1", "a")
    living.open("2", "b")
    await killed.write()
    await living.write()
    reader = await in_thread(lambda: Reader(room))
    for _ in range(5):
        time.advance(LEASE / 5)
        await living.round()
    assert await in_thread(lambda: ids(room)) == {"2"}
    await in_thread(reader.read)
    assert reader.members == {"2"}


async def test_a_process_with_onlookers_only_tells_of_the_death_of_another(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    killed, watching = new_process(), new_process()
    killed.open("1", "a")
    await killed.write()
    reader = await in_thread(lambda: Reader(room))
    time.advance(LEASE)
    await watching.round()
    assert await in_thread(reader.read) == [], "nobody there cares"
    watching.attendance.is_watched = True
    await watching.round()
    await in_thread(reader.read)
    assert reader.members == set()
    assert [type for type, _ in reader.heard] == ["changed"]


async def test_members_of_a_process_that_lives_stay(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    """The control of the test above: the same, but the process is not killed."""
    first, second = new_process(), new_process()
    first.open("1", "a")
    second.open("2", "b")
    await first.write()
    await second.write()
    reader = await in_thread(lambda: Reader(room))
    for _ in range(5):
        time.advance(LEASE / 5)
        await first.round()
        await second.round()
    assert await in_thread(reader.read) == []
    assert await in_thread(lambda: ids(room)) == {"1", "2"}


async def test_whoever_dies_while_cleaning_up_leaves_it_to_the_next(
    room: Topic, time: FakeClock, new_process: Callable[[], Process], state: SharedState
) -> None:
    killed, second, third = new_process(), new_process(), new_process()
    for number, one in enumerate((killed, second, third)):
        one.open(str(number), f"c{number}")
        await one.write()
    reader = await in_thread(lambda: Reader(room))
    time.advance(LEASE)
    dead = killed.attendance.process
    # It takes the lease, and is gone before it has told anybody.
    assert await in_thread(lambda: Seats(state).left_by(dead, second.attendance.process))
    for _ in range(20):
        time.advance(LEASE / 5)
        await third.round()
        await third.write()
    await in_thread(reader.read)
    assert "0" not in {m.id for m in (await in_thread(lambda: members_of(room))).members}
    assert dead not in await in_thread(lambda: Seats(state).dead())


async def test_a_process_that_was_taken_for_dead_sits_down_again(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    stalled, living = new_process(), new_process()
    stalled.open("1", "a")
    living.open("2", "b")
    await stalled.write()
    await living.write()
    reader = await in_thread(lambda: Reader(room))
    time.advance(LEASE)
    await living.round()  # it too was late; it begins anew, and cleans up
    await living.write()
    time.advance(0.1)
    await stalled.round()
    await stalled.write()
    await living.round()
    await in_thread(reader.read)
    assert reader.members == {"1", "2"}
    assert await in_thread(lambda: ids(room)) == {"1", "2"}


async def test_a_member_is_as_active_as_the_best_connection(
    room: Topic, new_process: Callable[[], Process]
) -> None:
    here, there = new_process(), new_process()
    here.open("1", "phone")
    there.open("1", "laptop")
    await here.write()
    await there.write()
    companion = PresenceTopic(of=room.name)

    async def say(state: str, connection: str) -> str:
        message = Message("state", state, viewer_of("1"), connection)
        await in_thread(lambda: companion.on_message(message))
        found = await in_thread(lambda: members_of(room))
        return str(found.members[0].state)

    assert await say("away", "phone") == "active"
    assert await say("idle", "laptop") == "idle"
    assert await say("away", "laptop") == "away"
    assert await say("active", "phone") == "active"


async def test_who_names_a_connection_of_another_changes_nothing(
    room: Topic, process: Process
) -> None:
    process.open("1", "tab")
    process.open("2", "other")
    await process.write()
    reader = await in_thread(lambda: Reader(room))
    companion = PresenceTopic(of=room.name)
    for forged in ("other", "nobody's", short("tab")):
        message = Message("state", "away", viewer_of("1"), forged)
        await in_thread(partial(companion.on_message, message))
    assert await in_thread(reader.read) == []
    for bad in ("gone", "", None, 5, {"state": "idle"}, ["idle"]):
        message = Message("state", bad, viewer_of("1"), "tab")
        with pytest.raises(Rejected):
            await in_thread(partial(companion.on_message, message))


async def test_a_large_topic_tells_only_how_many(room: Topic, process: Process) -> None:
    reader = await in_thread(lambda: Reader(room))
    for number in range(60):
        process.open(str(number), f"c{number}")
    await process.write()
    await process.count()
    assert await in_thread(reader.read) == [("count", {"version": reader.base, "count": 60})]
    found = await in_thread(lambda: members_of(room))
    assert (found.count, found.members, found.is_large) == (60, [], True)
    late = await in_thread(lambda: Reader(room))
    assert (late.count, late.entries) == (60, {})


async def test_a_large_topic_counts_a_member_once_over_processes(
    room: Topic, new_process: Callable[[], Process]
) -> None:
    here, there = new_process(), new_process()
    for number in range(8):
        here.open(str(number), f"h{number}")
        there.open(str(number), f"t{number}")
    await here.write()
    await there.write()
    await there.count()
    assert (await in_thread(lambda: members_of(room))).count == 8


async def test_a_large_topic_does_not_count_the_members_of_a_killed_process(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    killed, living = new_process(), new_process()
    for number in range(6):
        killed.open(f"1{number}", f"k{number}")
        living.open(f"2{number}", f"l{number}")
    await killed.write()
    await living.write()
    reader = await in_thread(lambda: Reader(room))
    for _ in range(5):
        time.advance(LEASE / 5)
        await living.round()
    assert (await in_thread(lambda: members_of(room))).count == 6
    await in_thread(reader.read)
    assert reader.count == 6


async def test_a_count_does_not_hide_members_that_are_named_meanwhile(
    room: Topic, process: Process, state: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        process.open(str(number), f"c{number}")
    await process.write()
    entries = Seats._entries

    def read_as_others_write(seats: Seats, topic: Topic) -> Entries:
        state.delete(map_of(topic), [LARGE])
        return entries(seats, topic)

    monkeypatch.setattr(Seats, "_entries", read_as_others_write)
    await process.count()
    monkeypatch.undo()
    assert (await in_thread(lambda: members_of(room))).members


async def test_a_large_topic_that_shrinks_names_its_members_again(
    room: Topic, time: FakeClock, process: Process
) -> None:
    reader = await in_thread(lambda: Reader(room))
    for number in range(7):
        process.open(str(number), f"c{number}")
    await process.write()
    await process.count()
    await in_thread(reader.read)
    for number in range(4):
        process.close(str(number), f"c{number}")
    time.advance(GRACE)
    await process.write()
    assert [type for type, _ in await in_thread(reader.read)] == ["members"]
    assert reader.count is None
    assert reader.members == {"4", "5", "6"}
    process.open("7", "c7")
    await process.write()
    await in_thread(reader.read)
    assert reader.members == {"4", "5", "6", "7"}


async def test_the_traffic_of_a_large_topic_does_not_grow_with_its_square(
    room: Topic, time: FakeClock, process: Process
) -> None:
    async def bytes_told(count: int) -> int:
        reader = await in_thread(lambda: Reader(room, begins=False))
        for number in range(count):
            process.open(str(number), f"c{number}")
            if number % 50 == 0:
                await process.write()
        await process.write()
        time.advance(2)
        await process.count()
        return len(json.dumps(await in_thread(reader.read)))

    await bytes_told(20)
    assert await bytes_told(400) <= 200, "one short line for each who listens, however many came"


async def test_a_reader_who_begins_at_any_moment_sees_what_the_store_knows(
    room: Topic, time: FakeClock, new_process: Callable[[], Process]
) -> None:
    """Random comings and goings on three processes, one of which dies now and then."""
    draw = random.Random(8)
    processes = [new_process() for _ in range(3)]
    open_now: dict[int, set[tuple[str, str]]] = {0: set(), 1: set(), 2: set()}
    readers = [await in_thread(lambda: Reader(room))]
    for step in range(60):
        number = draw.randrange(3)
        one = processes[number]
        member, connection = draw.choice("abcdefgh"), f"c{step}"
        if open_now[number] and draw.random() < 0.5:
            gone = draw.choice(sorted(open_now[number]))
            open_now[number].discard(gone)
            one.close(*gone)
        else:
            open_now[number].add((member, connection))
            one.open(member, connection)
        if draw.random() < 0.6:
            await one.write()
        if draw.random() < 0.1:
            processes[number], open_now[number] = new_process(), set()
        if draw.random() < 0.1:
            readers.append(await in_thread(lambda: Reader(room)))
        time.advance(draw.choice([0.3, 1.0, 3.0]))
        for living in processes:
            await living.round()
            await living.count()
    time.advance(GRACE)
    for _ in range(12):
        time.advance(3.0)
        for living in processes:
            await living.round()
            await living.write()
            await living.count()
    expected = {member for own in open_now.values() for member, _ in own}
    found = await in_thread(lambda: members_of(room))
    assert found.count == len(expected)
    for reader in readers:
        await in_thread(reader.read)
        if found.is_large:
            assert reader.count == len(expected)
        else:
            assert reader.members == expected == {member.id for member in found.members}


async def test_what_could_not_be_written_is_written_later(
    room: Topic, time: FakeClock, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.open("1", "a")
    process.open("2", "b")
    await process.write()
    reader = await in_thread(lambda: Reader(room))
    process.close("1", "a")
    process.open("3", "c")
    time.advance(GRACE)

    def fail(*args: object) -> None:
        raise OSError("no store")

    with monkeypatch.context() as patched:
        patched.setattr(Seats, "write", fail)
        with pytest.raises(OSError, match="no store"):
            await process.write()
    await process.write()
    await in_thread(reader.read)
    assert reader.members == {"2", "3"}


async def test_a_store_that_takes_long_is_asked_less_often_and_gets_more_at_once(
    room: Topic, time: FakeClock, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await in_thread(lambda: Reader(room))
    write, took = Seats.write, 0.1

    def slowly(*args: Any) -> Any:
        time.advance(took)
        return write(*args)

    monkeypatch.setattr(Seats, "write", slowly)
    process.open("1", "a")
    await process.write()
    rest = took * REST
    for member in ("2", "3"):
        process.open(member, member)
        time.advance(rest * 0.4)
        await process.write()
    await in_thread(reader.read)
    assert reader.members == {"1"}
    time.advance(rest * 0.3)
    await process.write()
    assert len(await in_thread(reader.read)) == 1
    assert reader.members == {"1", "2", "3"}

    took = 100.0
    process.open("4", "d")
    time.advance(rest * 1.1)
    await process.write()
    await in_thread(reader.read)
    assert reader.members == {"1", "2", "3", "4"}
    process.open("5", "e")
    time.advance(LONGEST_REST * 1.1)
    await process.write()
    await in_thread(reader.read)
    assert reader.members == {"1", "2", "3", "4", "5"}


async def test_who_comes_while_others_are_asked_for_is_written_the_next_time(
    room: Topic, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = process.attendance._ask_who_they_are

    async def slowly(rooms: Any) -> None:
        await ask(rooms)
        process.open("2", "b")

    process.open("1", "a")
    with monkeypatch.context() as patched:
        patched.setattr(process.attendance, "_ask_who_they_are", slowly)
        await process.write()
    assert await in_thread(lambda: ids(room)) == {"1"}
    await process.write()
    assert {m.info["name"] for m in (await in_thread(lambda: members_of(room))).members} == {
        "user 1",
        "user 2",
    }


async def test_a_topic_that_fails_to_show_a_member_costs_only_that(
    room: Topic, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    def show(user: Any) -> Any:
        if user.pk == "1":
            raise ValueError("no name")
        return "x" * 3000 if user.pk == "2" else None if user.pk == "3" else user.pk

    object.__setattr__(process.presence, "show", show)
    for member in "1234":
        process.open(member, f"c{member}")
    await process.write()
    found = await in_thread(lambda: members_of(room))
    assert {m.id: m.info for m in found.members} == {"1": {}, "2": {}, "4": "4"}
    assert caplog.text.count("could not be had") == 2


async def test_visitors_are_known_by_their_session_which_nobody_sees(
    room: Topic, process: Process
) -> None:
    anonymous: Any = AnonymousUser()
    for connection in ("a", "b"):
        viewer = Viewer(user=anonymous, session_key="secret-key")
        process.attendance.arrived(process.presence, room, viewer, connection)
    process.attendance.arrived(process.presence, room, Viewer(user=anonymous), "no session")
    await process.write()
    (member,) = (await in_thread(lambda: members_of(room))).members
    assert member.id.startswith("visitor-")
    assert "secret" not in member.id


async def test_users_are_not_read_one_by_one(room: Topic, process: Process) -> None:
    users = await in_thread(lambda: [User.objects.create_user(f"u{n}") for n in range(5)])
    asked: list[Any] = []
    for user in users:
        viewer = Viewer(user_id=str(user.pk), source=asked.append)
        process.attendance.arrived(process.presence, room, viewer, f"c{user.pk}")
    await process.write()
    names = {m.info["name"] for m in (await in_thread(lambda: members_of(room))).members}
    assert names == {f"u{n}" for n in range(5)}
    assert asked == [], "no user was loaded one by one"


async def test_nobody_sees_the_members_of_what_they_may_not_subscribe_to(room: Topic) -> None:
    anonymous: Any = AnonymousUser()
    companion = PresenceTopic(of=room.name)

    def can(topic: PresenceTopic, viewer: Viewer) -> Callable[[], Awaitable[bool]]:
        return lambda: in_thread(lambda: topic.can_subscribe(viewer))

    assert await can(companion, viewer_of("1"))()
    assert not await can(companion, Viewer(user=anonymous))()
    for other in ("unknown", "live/presence/" + room.name):
        with pytest.raises(PermissionDenied):
            await can(PresenceTopic(of=other), viewer_of("1"))()


async def test_a_forgotten_user_is_taken_out_of_what_was_told(
    room: Topic, process: Process
) -> None:
    reader = await in_thread(lambda: Reader(room))
    process.open("1", "a")
    process.open("2", "b")
    await process.write()
    ((_, data),) = await in_thread(reader.read)
    left = PresenceTopic(of=room.name).forget(SimpleNamespace(pk=1), "changed", data)
    assert "user 1" in json.dumps(data)
    assert "user 1" not in json.dumps(left)
    assert "user 2" in json.dumps(left)
