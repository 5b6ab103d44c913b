"""How a reader begins, and when it is reset; what a thousand of them cost the store."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.test import override_settings

from django_live.core import subscribing as subscribing_module
from django_live.core.bus import envelopes
from django_live.core.events import Draft, Event, Position, place_text
from django_live.core.feeds import Feed
from django_live.core.log import Appended
from django_live.core.subscribing import Subscribing
from tests.core.fakes import (
    FakeSink,
    Frame,
    Process,
    ScriptedLog,
    SteppedLoop,
    events_of,
    kinds_of,
    publish,
    send,
)
from tests.core.topics_of_tests import Dropping, EphemeralState, Kept, WithState

ROOM = Kept(pk=1)


@pytest.fixture
def read(stepped: SteppedLoop, process: Process) -> Callable[..., list[Frame]]:
    """The frames of a new stream."""

    def read(*topics: Any, cursor: str = "", **options: Any) -> list[Frame]:
        sink = process.connect(*topics, cursor=cursor, **options)
        stepped.settle()
        return sink.take()

    return read


def cursor_at(log: ScriptedLog, topic: Any, offset: int) -> str:
    return place_text(topic.key, Position(log.life(topic).epoch, offset))


def append(log: ScriptedLog, topic: Any, count: int) -> None:
    for number in range(1, count + 1):
        log.append(topic, [Draft("said", json.dumps(number))])


# -- beginnings ------------------------------------------------------------------------------------


def test_a_newcomer_begins_with_the_next_event(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    append(log, ROOM, 3)
    sink = process.connect(ROOM)
    stepped.settle()
    publish(log, ROOM, 4, process)
    process.bus.deliver_all()
    frames = sink.take()
    assert kinds_of(frames) == ["open", "event"]
    assert frames[0].cursor == cursor_at(log, ROOM, 3)
    assert events_of(frames) == [4]


def test_who_comes_back_gets_what_was_missed(log: ScriptedLog, read: Any) -> None:
    append(log, ROOM, 5)
    frames = read(ROOM, cursor=cursor_at(log, ROOM, 2))
    assert kinds_of(frames) == ["open", "event", "event", "event"]
    assert frames[0].cursor == cursor_at(log, ROOM, 2)
    assert events_of(frames) == [3, 4, 5]


def test_before_the_first_event_there_is_a_position_to_resume_from(
    log: ScriptedLog, process: Process, stepped: SteppedLoop, read: Any
) -> None:
    (opened,) = read(ROOM)
    append(log, ROOM, 2)
    stepped.do(process.check_heads())
    assert events_of(read(ROOM, cursor=opened.cursor)) == [1, 2]


def test_a_page_is_not_told_what_its_viewer_may_not_know(log: ScriptedLog, read: Any) -> None:
    append(log, ROOM, 4)  # event n was created at second n
    frames = read(ROOM, cursor=cursor_at(log, ROOM, 1), visible_from=4.0)
    assert events_of(frames) == [4]
    assert kinds_of(frames) == ["open", "", "", "event"]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda log: log.trim_to(ROOM, 4), "trimmed"),
        (lambda log: log.trim_to(ROOM, 5), "trimmed"),
        (lambda log: log.flush(ROOM), "epoch"),
        (lambda log: log.set_back(ROOM, log.backup), "epoch"),
    ],
    ids=["trimmed", "all-trimmed", "flushed", "set-back"],
)
def test_what_cannot_be_had_any_more_is_a_reset(
    log: ScriptedLog, read: Any, prepare: Any, reason: str
) -> None:
    append(log, ROOM, 2)
    log.backup = log.life(ROOM).copy()  # type: ignore[attr-defined]
    append(log, ROOM, 3)
    cursor = cursor_at(log, ROOM, 3)
    prepare(log)
    frames = read(ROOM, cursor=cursor)
    assert kinds_of(frames) == ["open", "reset"]
    assert frames[1].parts == ["kept/1", reason, False]
    head = log.life(ROOM).head
    assert frames[1].cursor == place_text(ROOM.key, head.position)


def test_what_the_log_still_holds_is_no_reset(log: ScriptedLog, read: Any) -> None:
    append(log, ROOM, 5)
    log.trim_to(ROOM, 3)
    assert events_of(read(ROOM, cursor=cursor_at(log, ROOM, 3))) == [4, 5]


def test_a_forged_cursor_is_a_reset_and_begins_no_new_life(log: ScriptedLog, read: Any) -> None:
    append(log, ROOM, 2)
    epoch = log.life(ROOM).epoch
    forged = cursor_at(log, ROOM, 2).replace(".2.", ".900.")
    frames = read(ROOM, cursor=forged)
    assert frames[1].parts == ["kept/1", "unknown-cursor", False]
    assert log.life(ROOM).epoch == epoch


def test_a_log_that_was_set_back_begins_a_new_life_once(
    log: ScriptedLog, new_process: Any, stepped: SteppedLoop
) -> None:
    processes = [new_process(), new_process()]
    append(log, ROOM, 2)
    backup = log.life(ROOM).copy()
    append(log, ROOM, 3)
    cursor = cursor_at(log, ROOM, 5)
    log.set_back(ROOM, backup)
    sinks = [process.connect(ROOM, cursor=cursor) for process in processes for _ in range(3)]
    stepped.settle()
    assert all(sink.take()[1].parts == ["kept/1", "epoch", False] for sink in sinks)
    assert log.life(ROOM).epoch == "e2"


def test_a_log_that_was_set_back_and_went_on_is_noticed_by_its_next_event(
    log: ScriptedLog, process: Process, stepped: SteppedLoop
) -> None:
    append(log, ROOM, 1)
    backup = log.life(ROOM).copy()
    sink = process.connect(ROOM)
    stepped.settle()
    for number in (2, 3, 4):
        publish(log, ROOM, number, process)
    process.bus.deliver_all()
    log.set_back(ROOM, backup)
    publish(log, ROOM, "another 2", process)
    process.bus.deliver_all()
    stepped.settle()
    assert kinds_of(sink.take()) == ["open", "event", "event", "event", "reset"]


def test_a_repeated_event_is_no_sign_of_that(
    log: ScriptedLog, process: Process, stepped: SteppedLoop
) -> None:
    sink = process.connect(ROOM)
    stepped.settle()
    publish(log, ROOM, 1, process)
    process.bus.inbox *= 3
    process.bus.deliver_all()
    stepped.settle()
    assert events_of(sink.take()) == [1]
    assert log.reads() == []


def test_a_topic_that_keeps_nothing_cannot_be_resumed(read: Any) -> None:
    (opened,) = read(Dropping())
    assert opened.cursor == place_text(Dropping().key, None)
    frames = read(Dropping(), cursor=opened.cursor)
    assert kinds_of(frames) == ["open", "reset"]
    assert frames[1].parts == ["dropping", "not-resumable", False]


# -- snapshots -------------------------------------------------------------------------------------


@pytest.fixture
def shown() -> Any:
    """Snapshots that are taken when the test says so."""

    class Shown:
        def __init__(self) -> None:
            self.taken = 0
            self.answers: list[asyncio.Future[Any]] = []

        async def __call__(self) -> Any:
            self.taken += 1
            future = asyncio.get_running_loop().create_future()
            self.answers.append(future)
            return await future

        def answer(self, value: Any) -> None:
            self.answers.pop(0).set_result(value)

    shown = Shown()
    WithState.shows = EphemeralState.shows = shown
    yield shown
    WithState.shows = EphemeralState.shows = None


def test_a_newcomer_starts_from_a_snapshot_and_misses_nothing_meanwhile(
    process: Process, log: ScriptedLog, stepped: SteppedLoop, shown: Any
) -> None:
    topic = WithState()
    append(log, topic, 2)
    sink = process.connect(topic)
    stepped.settle()
    publish(log, topic, "meanwhile", process)
    process.bus.deliver_all()
    assert kinds_of(sink.take()) == ["open"]
    shown.answer({"orders": 2})
    stepped.settle()
    frames = sink.take()
    assert kinds_of(frames) == ["snapshot", "event"]
    assert frames[0].parts == ["state", {"orders": 2}]
    assert frames[0].cursor == cursor_at(log, topic, 2)


def test_who_resumes_needs_no_snapshot(log: ScriptedLog, read: Any, shown: Any) -> None:
    append(log, WithState(), 2)
    assert kinds_of(read(WithState(), cursor=cursor_at(log, WithState(), 1))) == ["open", "event"]
    assert shown.taken == 0


def test_after_a_reset_comes_the_snapshot(
    process: Process, log: ScriptedLog, stepped: SteppedLoop, shown: Any
) -> None:
    topic = WithState()
    append(log, topic, 2)
    cursor = cursor_at(log, topic, 1)
    log.flush(topic)
    sink = process.connect(topic, cursor=cursor)
    stepped.settle()
    assert sink.take()[0].cursor == cursor, (
        "until the snapshot is there, the client is where it was"
    )
    shown.answer("anew")
    stepped.settle()
    frames = sink.take()
    assert kinds_of(frames) == ["reset", "snapshot"]
    assert frames[0].parts == ["state", "epoch", True]
    assert not frames[0].cursor
    assert frames[1].cursor == cursor_at(log, topic, 0)


def test_many_newcomers_share_one_snapshot(
    process: Process, stepped: SteppedLoop, shown: Any
) -> None:
    sinks = [process.connect(WithState()) for _ in range(50)]
    stepped.settle()
    shown.answer("for all")
    stepped.settle()
    assert shown.taken == 1
    assert all(kinds_of(sink.take()) == ["open", "snapshot"] for sink in sinks)


def test_a_snapshot_that_fails_opens_nothing(
    process: Process, log: ScriptedLog, stepped: SteppedLoop, shown: Any
) -> None:
    sink = process.connect(WithState(), ROOM)
    stepped.settle()
    shown.answers.pop().set_exception(RuntimeError("no"))
    stepped.settle()
    frames = sink.take()
    assert kinds_of(frames) == ["open", "error"]
    assert frames[1].parts == ["state", "unavailable"]
    publish(log, ROOM, "the other goes on", process)
    process.bus.deliver_all()
    assert events_of(sink.take()) == ["the other goes on"]


def test_without_a_log_events_wait_for_the_snapshot(
    process: Process, stepped: SteppedLoop, shown: Any
) -> None:
    topic = EphemeralState()
    sink = process.connect(topic)
    stepped.settle()
    dispatch(process, topic, "meanwhile")
    assert kinds_of(sink.take()) == ["open"]
    shown.answer("state")
    stepped.settle()
    dispatch(process, topic, "after")
    frames = sink.take()
    assert kinds_of(frames) == ["snapshot", "event", "event"]
    assert events_of(frames) == ["meanwhile", "after"]


def test_without_a_log_a_latecomer_does_not_share_a_snapshot_from_before(
    process: Process, stepped: SteppedLoop, shown: Any
) -> None:
    topic = EphemeralState()
    first = process.connect(topic)
    stepped.settle()
    dispatch(process, topic, "between")
    late = process.connect(topic)
    stepped.settle()
    shown.answer("before")
    stepped.settle()
    assert kinds_of(first.take()) == ["open", "snapshot", "event"]
    assert kinds_of(late.take()) == ["open"]
    shown.answer("with what came between")
    stepped.settle()
    assert late.take()[0].parts == ["ephemeral-state", "with what came between"]


@override_settings(DJANGO_LIVE={"QUEUE_BYTES": 1000})
def test_after_an_overflow_the_snapshot_stands_for_what_was_dropped(
    process: Process, stepped: SteppedLoop, shown: Any
) -> None:
    topic = EphemeralState()
    sink = process.connect(topic)
    stepped.settle()
    shown.answer("at first")
    stepped.settle()
    sink.stuck = True
    dispatch(process, topic, *range(20))
    sink.unblock()
    stepped.settle()
    dispatch(process, topic, "after")
    shown.answer("now")
    stepped.settle()
    frames = sink.take()
    assert kinds_of(frames) == ["open", "snapshot", "event", "reset", "snapshot", "event"]
    assert frames[3].parts == ["ephemeral-state", "overflow", True]
    assert events_of(frames) == [0, "after"]


def dispatch(process: Process, topic: Any, *data: Any) -> None:
    for value in data:
        events = [Event("said", json.dumps(value))]
        process.bus.inbox.extend(envelopes(topic.key, "", events))
    process.bus.deliver_all()


# -- join, read, deliver ---------------------------------------------------------------------------


class ReadsBeforeItJoins(Subscribing):
    async def _begin_feeds(self, feeds: Sequence[Feed]) -> None:
        join, self.bus.join = self.bus.join, nobody  # type: ignore[method-assign]
        await super()._begin_feeds(feeds)
        self.bus.join = join  # type: ignore[method-assign]
        for feed in feeds:
            await self.bus.join(feed.key)


async def nobody(key: str) -> None:
    pass


def published_while_the_log_is_read(
    stepped: SteppedLoop, log: ScriptedLog, subscribing: type[Subscribing]
) -> list[Any]:
    process = Process(stepped, log, subscribing)
    log.slow = True
    sink = process.connect(ROOM, cursor=cursor_at(log, ROOM, 0))
    stepped.settle()
    log.step()  # the log has answered, and its answer is on the way
    stepped.settle()
    publish(log, ROOM, "just now", process)
    process.bus.deliver_all()
    while log.waiting:
        log.step()
    stepped.settle()
    return events_of(sink.take())


def test_what_is_published_while_the_log_is_read_arrives(
    stepped: SteppedLoop, log: ScriptedLog
) -> None:
    assert published_while_the_log_is_read(stepped, log, Subscribing) == ["just now"]


def test_it_would_not_if_the_log_were_read_before_the_bus_is_joined(
    stepped: SteppedLoop, log: ScriptedLog
) -> None:
    assert published_while_the_log_is_read(stepped, log, ReadsBeforeItJoins) == []


def test_one_client_that_leaves_does_not_take_the_feed_of_others_along(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    log.slow = True
    first = FakeSink()
    process.connect(ROOM, sink=first)
    stepped.settle()
    second = process.connect(ROOM)
    process.hub.drop(first.connection)  # type: ignore[arg-type]
    while log.waiting:
        log.step()
        stepped.settle()
    assert kinds_of(second.take()) == ["open"]


def test_a_topic_left_while_it_was_opened_is_forgotten(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    log.slow = True
    sink = process.connect(ROOM)
    stepped.settle()
    process.hub.drop(sink.connection)  # type: ignore[arg-type]
    while log.waiting:
        log.step()
        stepped.settle()
    assert process.hub.feeds == {}
    assert process.bus.joined == set()
    assert process.subscribing._ready == {}


# -- what it costs the store -----------------------------------------------------------------------


def test_two_thousand_that_resume_together_cost_one_read(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    append(log, ROOM, 1000)
    sinks = [process.connect(ROOM, cursor=cursor_at(log, ROOM, 900 - n % 50)) for n in range(2000)]
    stepped.settle()
    assert len(log.reads()) <= 1
    assert log.asked.count("heads kept/1") == 1
    for number, sink in enumerate(sinks):
        assert events_of(sink.take()) == list(range(901 - number % 50, 1001))


def test_who_comes_at_the_moment_a_read_ends_shares_it_too(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    append(log, ROOM, 100)
    newcomer = process.connect(ROOM)
    stepped.settle()  # the head is known, and nothing of what was said before
    log.slow = True
    sinks: list[FakeSink] = []
    for _ in range(40):  # somebody comes in each turn of the loop
        if len(sinks) % 10 == 9 and log.waiting:
            log.step()
        sinks.append(process.connect(ROOM, cursor=cursor_at(log, ROOM, 0)))
        stepped.turn()
    log.slow = False
    while log.waiting:
        log.step()
        stepped.settle()
    assert log.reads() == ["read kept/1 after 0"]
    assert [events_of(sink.take()) for sink in sinks] == [list(range(1, 101))] * len(sinks)
    assert events_of(newcomer.take()) == []


def test_it_would_cost_two_thousand_without_sharing(
    process: Process, log: ScriptedLog, stepped: SteppedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subscribing, "_put_into_ring", lambda *args: None)

    async def alone(self: Subscribing, feed: Feed, subscription: Any) -> Any:
        return await self._framed_page(feed, subscription.offset)

    monkeypatch.setattr(Subscribing, "_page_for", alone)
    append(log, ROOM, 1000)
    for number in range(200):
        process.connect(ROOM, cursor=cursor_at(log, ROOM, 900 - number % 50))
    stepped.settle()
    assert len(log.reads()) == 200


def test_long_replays_share_their_pages(
    process: Process, log: ScriptedLog, stepped: SteppedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribing_module, "PAGE_EVENTS", 100)
    with override_settings(DJANGO_LIVE={"RING_BYTES": 1000}):
        append(log, ROOM, 1000)
        sinks = [process.connect(ROOM, cursor=cursor_at(log, ROOM, 0)) for _ in range(100)]
        stepped.settle()
        assert all(events_of(sink.take()) == list(range(1, 1001)) for sink in sinks)
    assert len(log.reads()) <= 12


def test_a_thousand_cursors_of_a_life_before_cost_a_handful_of_questions(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    append(log, ROOM, 5)
    cursor = cursor_at(log, ROOM, 3)
    log.flush(ROOM)
    sinks = [process.connect(ROOM, cursor=cursor) for _ in range(1000)]
    stepped.settle()
    assert all(kinds_of(sink.take()) == ["open", "reset"] for sink in sinks)
    assert len(log.asked) <= 3


def test_heads_of_many_topics_are_one_question(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    topics = [Kept(pk=n) for n in range(1, 41)]
    sink = process.connect(*topics)
    stepped.settle()
    for topic in topics:
        publish(log, topic, topic.kwargs["pk"])
    log.asked.clear()
    stepped.do(process.check_heads())
    assert sorted(events_of(sink.take())) == list(range(1, 41))
    assert len([question for question in log.asked if question.startswith("heads")]) == 1


def test_a_gap_is_filled_by_one_read_however_many_messages_show_it(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    sink = process.connect(ROOM)
    stepped.settle()
    for number in range(1, 11):
        publish(log, ROOM, number, process)
    del process.bus.inbox[0]
    process.bus.deliver_all()
    stepped.settle()
    assert events_of(sink.take()) == list(range(1, 11))
    assert len(log.reads()) == 1


# -- a store that is away --------------------------------------------------------------------------


def test_while_the_store_is_away_topics_are_refused_and_later_resumed(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    append(log, ROOM, 3)
    cursor = cursor_at(log, ROOM, 1)
    log.down = True
    sink = process.connect(ROOM, cursor=cursor)
    stepped.settle()
    frames = sink.take()
    assert kinds_of(frames) == ["open", "error", "goodbye"]
    assert frames[0].cursor == cursor
    assert frames[1].parts == ["kept/1", "unavailable"]
    assert sink.ended
    log.down = False
    sink = process.connect(ROOM, cursor=frames[0].cursor)
    stepped.settle()
    assert events_of(sink.take()) == [2, 3]


def test_readers_that_wait_for_a_store_go_on_when_it_is_back(
    process: Process,
    log: ScriptedLog,
    stepped: SteppedLoop,
    caplog: pytest.LogCaptureFixture,
) -> None:
    append(log, ROOM, 3)
    other = process.connect(ROOM)
    stepped.settle()
    log.down = True
    sinks = [process.connect(ROOM, cursor=cursor_at(log, ROOM, 1)) for _ in range(20)]
    for _ in range(10):
        stepped.advance(3.0)
    assert all(kinds_of(sink.take()) == ["open"] for sink in sinks)
    log.down = False
    stepped.advance(3.0)
    assert all(events_of(sink.take()) == [2, 3] for sink in sinks)
    assert not other.ended
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) <= 2, "one report now and then, not one per reader and try"


def test_a_head_check_delivers_what_could_not_be_read_before(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    sink = process.connect(ROOM)
    stepped.settle()
    publish(log, ROOM, 1, process)
    publish(log, ROOM, 2, process)
    log.down = True
    process.bus.deliver(1)  # the first is lost: a gap that cannot be read
    stepped.settle()
    log.down = False
    process.bus.inbox.clear()
    stepped.do(process.check_heads())
    assert events_of(sink.take()) == [1, 2]


# -- what else the bus says ------------------------------------------------------------------------


@pytest.mark.parametrize("message", [{}, {"type": "live.events"}, {"type": "other", "v": 1}])
def test_a_message_of_somebody_else_is_ignored(
    process: Process, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    process.subscribing.receive(message)
    assert "not one of ours" in caplog.text


def test_a_message_of_a_later_release_is_read_as_far_as_it_is_known(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    sink = process.connect(ROOM)
    stepped.settle()
    publish(log, ROOM, "hello", process)
    (message,) = process.bus.inbox
    message.update(v=2, more="unknown", events=[[*row, "unknown"] for row in message["events"]])
    process.bus.deliver_all()
    assert events_of(sink.take()) == ["hello"]


def test_stragglers_of_an_earlier_life_are_nobodys(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    sink = process.connect(ROOM)
    stepped.settle()
    publish(log, ROOM, "old", process)
    log.flush(ROOM)
    stepped.do(process.check_heads())
    process.bus.deliver_all()
    publish(log, ROOM, "new", process)
    process.bus.deliver_all()
    stepped.settle()
    assert kinds_of(sink.take()) == ["open", "reset", "event"]


def test_what_the_bus_says_of_a_new_life_while_the_old_one_is_read_is_not_lost(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    sink = process.connect(ROOM)
    stepped.settle()
    log.flush(ROOM)
    publish(log, ROOM, 1, process)
    log.slow = True
    process.bus.deliver_all()
    stepped.settle()
    log.step()
    stepped.settle()
    publish(log, ROOM, 2, process)
    process.bus.deliver_all()  # of an epoch that this process does not know yet
    while log.waiting:
        log.step()
        stepped.settle()
    frames = sink.take()
    assert kinds_of(frames) == ["open", "reset", "event"]
    assert events_of(frames) == [2]


def test_a_batch_is_delivered_in_order(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    sink = process.connect(ROOM)
    stepped.settle()
    appended: Appended = log.append(ROOM, [Draft("said", str(n)) for n in range(250)])
    send(ROOM, appended, process)
    assert len(process.bus.inbox) == 3
    process.bus.deliver_all()
    assert events_of(sink.take()) == list(range(250))


# -- the process's own ears ------------------------------------------------------------------------


def test_work_of_the_process_hears_a_topic_without_a_gap(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    append(log, ROOM, 2)
    heard: list[int] = []
    resets: list[str] = []
    listening = process.subscribing.listen(
        ROOM, lambda event: heard.append(json.loads(event.data)), resets.append
    )
    tap = stepped.do(listening)
    publish(log, ROOM, 3, process)
    publish(log, ROOM, 4, process)
    process.bus.deliver(1)  # the first is late
    stepped.settle()
    process.bus.deliver_all()
    stepped.settle()
    assert (heard, resets) == ([3, 4], [])
    log.flush(ROOM)
    stepped.do(process.check_heads())
    assert resets == ["epoch"]
    process.hub.unlisten(tap)
    assert ROOM.key not in process.hub.feeds, "nobody needs it any more"


def test_work_that_fails_to_hear_costs_no_viewer_anything(
    process: Process, log: ScriptedLog, stepped: SteppedLoop
) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError(event.type)

    resets: list[str] = []
    stepped.do(process.subscribing.listen(ROOM, fail, resets.append))
    sink = process.connect(ROOM)
    stepped.settle()
    publish(log, ROOM, 1, process)
    process.bus.deliver_all()
    assert events_of(sink.take()) == [1]
