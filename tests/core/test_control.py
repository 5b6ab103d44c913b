# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""Commands reach every process, also without the bus; who may no longer see something stops seeing it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from django_live.core.control import Control, ControlTopic
from django_live.core.events import Draft
from django_live.core.rechecking import FEW
from django_live.core.topics import History, Topic, Viewer, registry
from tests.core.fakes import (
    FakeSink,
    Process,
    ScriptedLog,
    SteppedLoop,
    events_of,
    kinds_of,
    publish,
    send,
)


class SomeUser:
    def __init__(self, pk: int, *, is_active: bool = True) -> None:
        self.pk = pk
        self.is_active = is_active


USERS: dict[str, Any] = {}
ALLOWED: dict[str, Any] = {}

with registry.isolated():

    class Guarded(Topic):
        pattern = "guarded/<int:pk>"
        history = History()
        asked: list[tuple[Any, Any]] = []

        def can_subscribe(self, viewer: Viewer) -> Any:
            self.asked.append((self.kwargs["pk"], viewer.user_id))
            allowed = ALLOWED.get(self.name, True)
            return allowed(viewer) if callable(allowed) else allowed


def load(viewer: Viewer) -> Any:
    found = USERS.get(viewer.user_id or "")
    if isinstance(found, Exception):
        raise found
    return found


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    USERS.clear()
    ALLOWED.clear()
    Guarded.asked = []


ONE, TWO = Guarded(pk=1), Guarded(pk=2)


@pytest.fixture
def join(process: Process, stepped: SteppedLoop) -> Callable[..., FakeSink]:
    def join(*topics: Topic, pk: int | None = None, **who: Any) -> FakeSink:
        if pk is not None:
            USERS.setdefault(str(pk), SomeUser(pk))
            who["user_id"] = str(pk)
        sink = process.connect(*topics, viewer=Viewer(source=load, **who))
        stepped.settle()
        sink.take()
        return sink

    return join


@pytest.fixture
def listening(process: Process, stepped: SteppedLoop) -> Process:
    process.spawn(process.control.listen())
    stepped.settle()
    return process


def check(process: Process, stepped: SteppedLoop) -> None:
    connections = list(process.hub.connections.values())
    stepped.run_until_complete(process.control.check(connections))


def command(log: ScriptedLog, name: str, selection: dict[str, str], *processes: Process) -> None:
    appended = log.append(ControlTopic(), [Draft(name, json.dumps(selection))])
    send(ControlTopic(), appended, *processes)


# -- commands --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "gone"),
    [
        ({"user": "1"}, {"a", "b"}),
        ({"session": "s1"}, {"a"}),
        ({"topic": TWO.key}, {"b", "c"}),
        ({"user": "1", "topic": TWO.key}, {"b"}),
        ({"user": "9"}, set()),
    ],
)
def test_a_disconnect_meets_whom_it_names(
    listening: Process, log: ScriptedLog, join: Any, selection: Any, gone: set[str]
) -> None:
    sinks = {
        "a": join(ONE, pk=1, session_key="s1"),
        "b": join(TWO, pk=1, session_key="s2"),
        "c": join(ONE, TWO, pk=2, session_key="s3"),
    }
    command(log, "disconnect", selection, listening)
    listening.bus.deliver_all()
    assert {name for name, sink in sinks.items() if sink.ended} == gone
    for name in gone:
        frames = sinks[name].take()
        assert kinds_of(frames) == ["error", "goodbye"]
        assert frames[0].parts == ["", "disconnected"]


def test_one_connection_is_disconnected_by_its_id(
    listening: Process, log: ScriptedLog, join: Any
) -> None:
    sinks = [join(ONE, pk=1) for _ in range(3)]
    command(log, "disconnect", {"connection": sinks[1].connection.id}, listening)
    listening.bus.deliver_all()
    assert [sink.ended for sink in sinks] == [False, True, False]


def test_a_command_that_the_bus_lost_is_found_in_the_log(
    listening: Process, log: ScriptedLog, join: Any, stepped: SteppedLoop
) -> None:
    sink = join(ONE, pk=1)
    command(log, "disconnect", {"user": "1"}, listening)
    listening.bus.inbox.clear()
    assert not sink.ended, "the control: nobody told this process"
    stepped.do(listening.check_heads())
    assert sink.ended


def test_commands_that_cannot_be_had_any_more_make_everybody_prove_themselves(
    listening: Process, log: ScriptedLog, join: Any, stepped: SteppedLoop
) -> None:
    sink = join(ONE, pk=1)
    ALLOWED[ONE.name] = False
    for _ in range(3):
        command(log, "recheck", {"user": "1"})
    log.trim_to(ControlTopic(), 3)
    log.append(ControlTopic(), [Draft("recheck", json.dumps({"user": "7"}))])
    stepped.do(listening.check_heads())
    wait_for(stepped, lambda: sink.ended)
    assert sink.take()[0].parts == [ONE.name, "revoked"]


def wait_for(stepped: SteppedLoop, condition: Callable[[], Any]) -> None:
    """Hooks run in threads: turn until they are done."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        stepped.turn()


def test_a_process_that_could_not_listen_asks_everybody_once_it_can(
    process: Process, log: ScriptedLog, join: Any, stepped: SteppedLoop
) -> None:
    sink = join(ONE, pk=1)
    log.down = True
    process.spawn(process.control.listen())
    for _ in range(5):
        stepped.advance(1.0)
    assert Guarded.asked == [], "while the store is away nothing is asked again and again"
    ALLOWED[ONE.name] = False
    log.down = False
    stepped.advance(1.0)
    wait_for(stepped, lambda: sink.ended)


def test_a_command_of_a_later_release_is_passed_by(
    listening: Process, log: ScriptedLog, join: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sink = join(ONE, pk=1)
    command(log, "dance", {}, listening)
    command(log, "disconnect", {"user": "1"}, listening)
    listening.bus.deliver_all()
    assert "'dance', unknown here" in caplog.text
    assert sink.ended


def test_a_command_between_the_decision_and_the_opening_is_not_lost(
    process: Process, join: Any
) -> None:
    """A view decided, then the user was signed out, then the stream was opened."""
    decided = time.monotonic()
    process.control.carry_out("disconnect", {"user": "1"})
    late, other = join(ONE, pk=1), join(ONE, pk=2)
    assert not late.ended, "the control: it was not there when the command came"
    for sink in (late, other):
        process.control.catch_up(sink.connection, decided)
    assert late.ended
    assert not other.ended


def test_a_command_from_before_the_decision_is_no_reason(process: Process, join: Any) -> None:
    process.control.carry_out("disconnect", {"user": "1"})
    decided = time.monotonic()
    sink = join(ONE, pk=1)
    process.control.catch_up(sink.connection, decided)
    assert not sink.ended


# -- asking again ----------------------------------------------------------------------------------


def test_a_permission_that_is_gone_is_revoked_within_the_pass(
    process: Process, join: Any, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    sink = join(ONE, TWO, pk=1)
    check(process, stepped)
    assert sink.take() == []
    ALLOWED[ONE.name] = False
    check(process, stepped)
    (frame,) = sink.take()
    assert frame.kind == "error"
    assert frame.parts == [ONE.name, "revoked"]
    publish(log, ONE, "secret", process)
    publish(log, TWO, "the other goes on", process)
    process.bus.deliver_all()
    assert events_of(sink.take()) == ["the other goes on"]


def test_each_user_and_topic_is_asked_once_however_many_streams_there_are(
    process: Process, join: Any, stepped: SteppedLoop
) -> None:
    for pk in (1, 2):
        for _ in range(20):
            join(ONE, pk=pk)
    check(process, stepped)
    assert sorted(Guarded.asked) == [(1, "1"), (1, "2")]


def test_tokens_with_other_scopes_are_other_viewers(
    process: Process, join: Any, stepped: SteppedLoop
) -> None:
    wide = join(ONE, pk=1, scopes=frozenset({"orders"}))
    narrow = join(ONE, pk=1, scopes=frozenset())
    tenant = join(ONE, pk=1, scopes=frozenset({"orders"}), namespace="other")
    ALLOWED[ONE.name] = lambda viewer: "orders" in viewer.scopes and not viewer.namespace
    check(process, stepped)
    assert [sink.ended for sink in (wide, narrow, tenant)] == [False, True, True]


@pytest.mark.parametrize(
    "now", [None, SomeUser(1, is_active=False), SomeUser(2)], ids=["deleted", "inactive", "other"]
)
def test_a_user_who_is_gone_is_signed_out(
    process: Process, join: Any, stepped: SteppedLoop, now: Any
) -> None:
    sink, visitor = join(ONE, pk=1), join(ONE)
    USERS["1"] = now
    check(process, stepped)
    assert sink.ended
    assert sink.take()[0].parts == ["", "signed-out"]
    assert not visitor.ended


def test_a_permission_that_cannot_be_decided_fails_closed(
    process: Process, join: Any, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    sink = join(ONE, TWO, pk=1)

    def fails(viewer: Viewer) -> bool:
        raise RuntimeError("the database is away")

    ALLOWED[ONE.name] = fails
    check(process, stepped)
    (frame,) = sink.take()
    assert frame.parts == [ONE.name, "unavailable"], "the client may come back, and is asked anew"
    publish(log, ONE, "secret", process)
    process.bus.deliver_all()
    assert sink.take() == []


def test_nobody_can_subscribe_to_the_commands() -> None:
    assert ControlTopic().can_subscribe(Viewer()) is False
    assert ControlTopic().can_send(Viewer()) is False


class Gate:
    """Holds whoever asks until it is opened, and counts them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting: list[str | None] = []

    async def __call__(self, viewer: Viewer) -> bool:
        self.waiting.append(viewer.user_id)
        await self.open.wait()
        self.waiting.remove(viewer.user_id)
        return True


def settled(stepped: SteppedLoop, gate: Gate) -> int:
    """How many wait at the gate when no more come."""
    seen = -1
    while seen != len(gate.waiting):
        seen = len(gate.waiting)
        for _ in range(20):
            stepped.turn()
            time.sleep(0.002)  # threads load the users
    return seen


@pytest.mark.parametrize(("people", "at_once"), [(20, 12), (FEW, 12), (FEW + 1, 4), (300, 4)])
def test_checks_run_a_few_at_a_time(
    process: Process, join: Any, stepped: SteppedLoop, people: int, at_once: int
) -> None:
    gate = ALLOWED[ONE.name] = Gate()
    for pk in range(people):
        join(ONE, pk=pk)
    done = process.spawn(process.control.check(list(process.hub.connections.values())))
    assert settled(stepped, gate) == at_once
    gate.open.set()
    wait_for(stepped, done.done)
    assert len(Guarded.asked) == people


def test_nobody_waits_for_a_large_group(process: Process, join: Any, stepped: SteppedLoop) -> None:
    gate = ALLOWED[ONE.name] = Gate()
    for pk in range(100):
        join(ONE, pk=pk)
    group = process.spawn(process.control.check(list(process.hub.connections.values())))
    assert settled(stepped, gate) == 4
    # Both somebody else, and one of the group whose turn has not come.
    for sink in (join(TWO, pk=500), join(TWO, pk=99)):
        ALLOWED[TWO.name] = False
        process.spawn(process.control.check([sink.connection], TWO.key))
        wait_for(stepped, partial(getattr, sink, "ended"))
    assert len(gate.waiting) == 4, "the group is still being asked"
    gate.open.set()
    wait_for(stepped, group.done)


@pytest.mark.parametrize("people", [FEW + 1, 300])
def test_who_waits_already_is_not_asked_a_second_time(
    process: Process, join: Any, stepped: SteppedLoop, people: int
) -> None:
    """A group loses one permission and gets another: that is told twice."""
    gate = ALLOWED[ONE.name] = Gate()
    for pk in range(people):
        join(ONE, TWO, pk=pk)
    everybody = list(process.hub.connections.values())
    first = process.spawn(process.control.check(everybody))
    assert settled(stepped, gate) == 4
    begun = len({user for _, user in Guarded.asked})
    others = [process.spawn(process.control.check(everybody)) for _ in range(3)]
    by_topic = process.spawn(process.control.check(everybody, TWO.key))
    assert settled(stepped, gate) == 4
    gate.open.set()
    wait_for(stepped, lambda: all(task.done() for task in [first, by_topic, *others]))
    asked = Counter(Guarded.asked)
    twice = {user for (_, user), times in asked.items() if times == 2}
    assert len(twice) == begun, "they had been asked before it was told again"
    assert len(asked) == 2 * people
    assert max(asked.values()) == 2


def test_who_is_revoked_does_not_wait_for_the_next_one_of_a_group(
    process: Process, join: Any, stepped: SteppedLoop
) -> None:
    """A thread asks about several people in one go, and one of them takes long."""
    go_on = threading.Event()

    def may(viewer: Viewer) -> bool:
        if viewer.user_id == "1":
            go_on.wait(10)
        return False

    ALLOWED[ONE.name] = may
    sinks = [join(ONE, pk=pk) for pk in range(FEW + 1)]
    group = process.spawn(process.control.check(list(process.hub.connections.values())))
    wait_for(stepped, lambda: sinks[0].ended)
    assert not sinks[1].ended
    go_on.set()
    wait_for(stepped, group.done)
    assert all(sink.ended for sink in sinks)


def test_a_coroutine_behind_a_plain_function_is_no_yes(
    process: Process, join: Any, stepped: SteppedLoop
) -> None:
    async def later(viewer: Viewer) -> bool:
        return viewer.user_id == "1"

    ALLOWED[ONE.name] = lambda viewer: later(viewer)
    stays, goes = join(ONE, pk=1), join(ONE, pk=2)
    check(process, stepped)
    assert [stays.ended, goes.ended] == [False, True]


def test_control_starts_with_nothing_to_catch_up_on(process: Process) -> None:
    assert isinstance(process.control, Control)
    assert not process.control._recent


# -- erasing ---------------------------------------------------------------------------------------


def say(log: ScriptedLog, process: Process, stepped: SteppedLoop, *data: str) -> None:
    for one in data:
        publish(log, ONE, one, process)
    process.bus.deliver_all()
    stepped.settle()


def rewrite(log: ScriptedLog, offset: int, data: str) -> None:
    """What `EventLog.replace()` does to the kept events."""
    events = log.life(ONE).events
    events[offset] = dataclasses.replace(events[offset], data=json.dumps(data))


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "control"])
@pytest.mark.parametrize("selection", [{"topic": ONE.key}, {}], ids=["topic", "everything"])
def test_who_comes_back_after_an_erasure_is_told_what_is_left(
    is_told: bool,
    selection: dict[str, str],
    listening: Process,
    log: ScriptedLog,
    join: Any,
    stepped: SteppedLoop,
) -> None:
    reader = join(ONE, pk=1)
    say(log, listening, stepped, "hello", "I am Ann", "bye")
    cursor = reader.take()[0].cursor
    rewrite(log, 2, "-")
    if is_told:
        command(log, "erased", selection, listening)
        listening.bus.deliver_all()
    again = listening.connect(ONE, cursor=cursor)
    stepped.settle()
    # In the control the ring of the process still has it.
    assert events_of(again.take()) == ["-" if is_told else "I am Ann", "bye"]
    assert reader.take() == []


def test_only_the_ring_of_the_erased_topic_is_dropped(
    listening: Process, log: ScriptedLog, join: Any, stepped: SteppedLoop
) -> None:
    join(ONE, TWO, pk=1)
    publish(log, ONE, 1, listening)
    publish(log, TWO, 1, listening)
    listening.bus.deliver_all()
    command(log, "erased", {"topic": ONE.key}, listening)
    listening.bus.deliver_all()
    stepped.settle()
    rings = {key: len(feed.ring) for key, feed in listening.hub.feeds.items()}
    assert (rings[ONE.key], rings[TWO.key]) == (0, 1)


def test_a_message_repeated_after_an_erasure_resets_nobody(
    listening: Process, log: ScriptedLog, join: Any, stepped: SteppedLoop
) -> None:
    """It has other data than the ring by then, as after a log that was set back."""
    reader = join(ONE, pk=1)
    publish(log, ONE, "hello", listening)
    publish(log, ONE, "I am Ann", listening)
    old = [message for message in listening.bus.inbox if message["key"] == ONE.key]
    listening.bus.deliver_all()
    stepped.settle()
    cursor = reader.take()[0].cursor
    rewrite(log, 2, "-")
    command(log, "erased", {"topic": ONE.key}, listening)
    listening.bus.deliver_all()
    again = listening.connect(ONE, cursor=cursor)
    stepped.settle()
    assert events_of(again.take()) == ["-"]
    feed = listening.hub.feeds[ONE.key]
    assert [entry.event.data for entry in feed.ring][-1:] in ([], ['"-"'])
    listening.bus.inbox.extend(old)
    listening.bus.deliver_all()
    stepped.settle()
    say(log, listening, stepped, "later")
    assert (events_of(reader.take()), events_of(again.take())) == (["later"], ["later"])
    assert log.life(ONE).epoch == feed.epoch
