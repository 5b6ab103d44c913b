# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""Queues that are bounded in bytes, one writer at a time, and a dispatch that lets others work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.test import override_settings

from django_live.core import hub as hub_module
from django_live.core.counting import Tally
from django_live.core.events import Event, topic_key
from django_live.core.feeds import Feed, FramedEvent, Subscription
from django_live.core.topics import Topic
from tests.core.fakes import (
    FakeSink,
    Process,
    RecordDialect,
    ScriptedLog,
    SteppedLoop,
    events_of,
    kinds_of,
    publish,
)
from tests.core.topics_of_tests import Conflated, Dropping, Impatient, Kept, Strict

ROOM = Kept(pk=1)


def size_of(data: str) -> int:
    return FramedEvent(ROOM, Event("said", data, 1), "e").size


@pytest.fixture
def say(stepped: SteppedLoop, log: ScriptedLog, process: Process) -> Callable[..., None]:
    """Publish to a topic and let the process hear it at once."""

    def say(topic: Any, *data: Any, **options: Any) -> None:
        for value in data:
            if topic.history is None:
                feed = process.hub.feeds[topic.key]
                event = Event("said", f'"{value}"', **options)
                process.hub.dispatch(feed, [feed.append(event)])
            else:
                publish(log, topic, value, process, **options)
                process.bus.deliver_all()
        stepped.settle()

    return say


@pytest.fixture
def reader(stepped: SteppedLoop, process: Process) -> Callable[..., FakeSink]:
    def reader(*topics: Any) -> FakeSink:
        sink = process.connect(*topics)
        stepped.settle()
        sink.take()
        return sink

    return reader


# -- the ring --------------------------------------------------------------------------------------


def fill(feed: Feed, sizes: list[int]) -> None:
    for number, size in enumerate(sizes, feed.last + 1):
        feed.append(Event("said", "x" * size, number))


def test_a_ring_keeps_the_newest_events_within_its_bytes() -> None:
    feed = Feed(ROOM, ring_bytes=3 * size_of("x" * 100))
    fill(feed, [100] * 5)
    assert [entry.offset for entry in feed.ring] == [3, 4, 5]
    assert feed.ring_size == feed.ring_bytes


def test_one_event_too_many_bytes_makes_room_for_itself() -> None:
    feed = Feed(ROOM, ring_bytes=3 * size_of("x" * 100))
    fill(feed, [100, 100, 101])
    assert [entry.offset for entry in feed.ring] == [2, 3]


def test_an_event_larger_than_the_ring_is_its_only_one() -> None:
    feed = Feed(ROOM, ring_bytes=1000)
    fill(feed, [10, 5000])
    assert [entry.offset for entry in feed.ring] == [2]


def test_the_ring_counts_bytes_and_not_characters() -> None:
    assert size_of("€" * 100) == size_of("x" * 300)


def test_what_is_put_before_a_ring_does_not_overfill_it() -> None:
    feed = Feed(ROOM, ring_bytes=3 * size_of("x"))
    feed.begin("e", 4)
    fill(feed, [1])
    feed.prepend([FramedEvent(ROOM, Event("said", "x", offset), "e") for offset in range(1, 5)])
    assert [entry.offset for entry in feed.ring] == [3, 4, 5]
    assert feed.ring_size <= feed.ring_bytes


def test_a_ring_knows_how_far_it_reaches_back() -> None:
    feed = Feed(ROOM, ring_bytes=10_000)
    feed.begin("e", 4)
    assert list(feed.after(4) or ()) == []
    assert feed.after(3) is None
    fill(feed, [1, 1])
    assert [entry.offset for entry in feed.after(4) or ()] == [5, 6]
    assert feed.after(3) is None


def test_an_event_that_contradicts_the_ring_is_noticed() -> None:
    feed = Feed(ROOM, ring_bytes=10_000)
    fill(feed, [1, 1])
    assert feed.contradicts(Event("said", "another", 2))
    assert not feed.contradicts(Event("said", "x", 2))
    assert not feed.contradicts(Event("said", "another", 9))


def test_only_what_follows_each_other_is_dispatched_together() -> None:
    feed = Feed(ROOM, ring_bytes=10_000)
    fill(feed, [1, 1])
    feed.begin(feed.epoch, 7)  # in between was trimmed
    entries = [FramedEvent(ROOM, Event("said", "x", n), "") for n in (1, 2, 8, 9)]
    entries.append(FramedEvent(ROOM, Event("said", "x", 10), "another life"))
    feed.to_dispatch.extend(entries)
    together = []
    while (found := feed.next_for_dispatch()) is not None:
        together.append([entry.offset for entry in found])
    assert together == [[1, 2], [8, 9], [10]]


# -- dispatch --------------------------------------------------------------------------------------


def test_a_live_reader_gets_one_write_per_event(reader: Any, say: Any) -> None:
    sink = reader(ROOM)
    before = sink.writes
    say(ROOM, "a", "b")
    assert events_of(sink.take()) == ["a", "b"]
    assert sink.writes == before + 2


def test_an_event_is_framed_once_for_everybody(
    reader: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    framed: list[Event] = []
    encode = RecordDialect.event

    def counted(self: RecordDialect, topic: Topic, event: Event) -> bytes:
        framed.append(event)
        return encode(self, topic, event)

    monkeypatch.setattr(RecordDialect, "event", counted)
    sinks = [reader(ROOM), reader(ROOM), reader(ROOM, Kept(pk=2))]
    say(ROOM, "a")
    assert [events_of(sink.take()) for sink in sinks] == [["a"]] * 3
    assert len(framed) == 1


def test_the_cursor_of_a_stream_covers_all_its_topics(reader: Any, say: Any) -> None:
    sink = reader(ROOM, Kept(pk=2))
    say(ROOM, "a")
    (frame,) = sink.take()
    assert len(frame.cursor.split(",")) == 2


def test_the_cursor_follows_topics_that_come_and_go(
    reader: Any, say: Any, process: Process
) -> None:
    """It is put together anew only where somebody has several; see ``Connection.is_single``."""
    sink = reader(ROOM)
    connection = process.subscription(sink, ROOM).connection

    def places() -> int:
        say(ROOM, "x")
        return len(sink.take()[-1].cursor.split(","))

    assert places() == 1
    connection.keep_place("another.1")
    assert places() == 2
    connection.forget_place("another")
    assert places() == 1
    second = process.hub.subscribe(connection, Kept(pk=2))
    second.place = "second.1"
    assert places() == 2
    process.hub.unsubscribe(second)
    assert places() == 1


def test_a_sender_that_is_spared_gets_the_cursor_and_no_content(reader: Any, say: Any) -> None:
    sender, other = reader(ROOM), reader(ROOM)
    say(ROOM, "hello", exclude=sender.connection.id)
    (spared,), (told,) = sender.take(), other.take()
    assert events_of([told]) == ["hello"]
    assert spared.kind == ""
    assert spared.cursor == told.cursor


def test_dispatch_to_many_lets_others_work_in_between(
    process: Process, stepped: SteppedLoop, log: ScriptedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks = [process.connect(ROOM) for _ in range(200)]
    stepped.settle()
    monkeypatch.setattr(hub_module, "DISPATCH_SLICE", -1.0)
    publish(log, ROOM, "a", process)
    publish(log, ROOM, "b", process)
    [sink.take() for sink in sinks]
    process.bus.deliver_all()
    served = [bool(sink.received) for sink in sinks]
    assert sum(served) == hub_module.SLICE_CHECK
    # Who comes, goes or is blocked meanwhile gets everything all the same, once.
    newcomer = process.connect(ROOM)
    sinks[150].stuck = True
    process.hub.drop(sinks[151].connection)  # type: ignore[arg-type]
    stepped.settle()
    sinks[150].unblock()
    for number, sink in enumerate(sinks):
        assert events_of(sink.take()) == ([] if number == 151 else ["a", "b"])
    assert events_of(newcomer.take()) == []


@pytest.fixture
def dispatching(
    process: Process,
    stepped: SteppedLoop,
    log: ScriptedLog,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[FakeSink]]:
    """So many readers in the middle of a dispatch: ``SLICE_CHECK`` of them have its event."""

    def begin(topic: Topic = ROOM, count: int = 40) -> list[FakeSink]:
        sinks = [process.connect(topic) for _ in range(count)]
        stepped.settle()
        for sink in sinks:
            sink.take()
            sink.writes = sink.bytes_taken = 0
        monkeypatch.setattr(hub_module, "DISPATCH_SLICE", -1.0)
        hear(process, log, topic, "first")
        assert sum(bool(sink.received) for sink in sinks) == hub_module.SLICE_CHECK
        return sinks

    return begin


def hear(process: Process, log: ScriptedLog, topic: Topic, *data: str, **options: Any) -> None:
    """Publish, and let the process hear of it, without a turn of the loop."""
    for value in data:
        if topic.history is None:
            feed = process.hub.feeds[topic.key]
            event = Event("said", f'"{value}"', created=1.0, **options)
            process.hub.dispatch(feed, [feed.append(event)])
        else:
            publish(log, topic, value, process, **options)
            process.bus.deliver_all()


@pytest.mark.parametrize("topic", [ROOM, Dropping()], ids=["logged", "ephemeral"])
def test_events_that_wait_for_a_dispatch_are_written_together(
    topic: Topic,
    dispatching: Any,
    process: Process,
    stepped: SteppedLoop,
    log: ScriptedLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tally = Tally()
    monkeypatch.setattr(hub_module, "tally", tally)
    sinks = dispatching(topic)
    hear(process, log, topic, "a", "b", "c")
    stepped.settle()
    for sink in sinks:
        frames = sink.take()
        assert events_of(frames) == ["first", "a", "b", "c"]
        assert sink.writes == 2
        assert frames[-1].cursor == (sink.connection.cursor if topic.history else "")
    assert tally.deliveries == len(sinks) * 4
    assert tally.delivery_lag.count == len(sinks) * 4
    assert tally.delivered_bytes == sum(sink.bytes_taken for sink in sinks)


def test_what_waits_is_written_in_pieces(
    dispatching: Any, process: Process, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    with override_settings(DJANGO_LIVE={"WRITE_BYTES": 3 * size_of('"a"')}):
        sinks = dispatching()
        hear(process, log, ROOM, *"abcdefg")
        stepped.settle()
    for sink in sinks:
        assert events_of(sink.take()) == ["first", *"abcdefg"]
        assert sink.writes == 1 + 3


def test_who_has_a_part_of_what_is_written_together_gets_the_rest(
    dispatching: Any, process: Process, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    sinks = dispatching(count=1000)
    hear(process, log, ROOM, "a")
    newcomer, late = process.connect(ROOM), sinks[40]
    late.stuck = True  # it falls behind, and comes back while the others wait
    while not late.pending:
        stepped.turn()
    late.unblock()
    while not newcomer.connection.subscriptions:  # type: ignore[union-attr]
        stepped.turn()
    joined = process.subscription(newcomer, ROOM)
    while joined.state != Subscription.LIVE:
        stepped.turn()
    hear(process, log, ROOM, "b", "c")
    waiting = [entry.offset for entry in process.hub.feeds[ROOM.key].to_dispatch]
    assert waiting == [joined.offset, joined.offset + 1, joined.offset + 2]
    stepped.settle()
    assert events_of(newcomer.take()) == ["b", "c"]
    for sink in sinks:
        assert events_of(sink.take()) == ["first", "a", "b", "c"]


def test_a_stuck_reader_of_what_is_written_together_loses_nothing(
    dispatching: Any, process: Process, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    sinks = dispatching()
    for sink in sinks[::2]:
        sink.stuck = True
    hear(process, log, ROOM, "a", "b")
    stepped.settle()
    hear(process, log, ROOM, "c")
    stepped.settle()
    for sink in sinks:
        sink.unblock()
        assert events_of(sink.take()) == ["first", "a", "b", "c"]


def test_what_spares_somebody_is_written_by_itself(
    dispatching: Any, process: Process, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    sinks = dispatching()
    spared = sinks[-1]
    hear(process, log, ROOM, "a", "b")
    hear(process, log, ROOM, "c", exclude=spared.connection.id)
    hear(process, log, ROOM, "d", "e")
    stepped.settle()
    for sink in sinks:
        frames = sink.take()
        said = ["first", "a", "b", "c", "d", "e"]
        if sink is spared:
            said.remove("c")
        assert events_of(frames) == said
        assert sink.writes == 4
        assert len(frames) == 6


def test_who_may_not_see_the_oldest_of_what_is_written_together_sees_the_rest(
    dispatching: Any, process: Process, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    sinks = dispatching()
    hear(process, log, ROOM, "a", "b")
    entries = process.hub.feeds[ROOM.key].to_dispatch
    entries[0].event = replace(entries[0].event, created=1000.0)
    entries[1].event = replace(entries[1].event, created=3000.0)
    process.subscription(sinks[-1], ROOM).visible_from = 2000.0
    stepped.settle()
    for sink in sinks[:-1]:
        assert events_of(sink.take()) == ["first", "a", "b"]
    frames = sinks[-1].take()
    assert events_of(frames)[-1:] == ["b"]
    assert "a" not in events_of(frames)


def test_what_waits_of_an_ended_life_of_the_log_is_nobodys(
    dispatching: Any, process: Process, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    sinks = dispatching()
    hear(process, log, ROOM, "a", "b")
    feed = process.hub.feeds[ROOM.key]
    feed.begin("another", feed.last)
    stepped.settle()
    assert not feed.dispatching
    assert all("a" not in events_of(sink.take()) for sink in sinks)


def test_a_socket_that_breaks_ends_its_connection_and_no_other(
    reader: Any, say: Any, process: Process
) -> None:
    broken, whole = reader(ROOM), reader(ROOM)
    broken.broken = True
    say(ROOM, "a")
    assert broken.ended
    assert events_of(whole.take()) == ["a"]
    assert list(process.hub.connections.values()) == [whole.connection]


def test_a_connection_that_broke_while_it_was_opened_leaves_nothing(
    process: Process, stepped: SteppedLoop
) -> None:
    sink = FakeSink()
    sink.broken = True
    process.connect(ROOM, Dropping(), sink=sink)
    stepped.settle()
    assert process.hub.feeds == {}
    assert process.bus.joined == set()


def test_nothing_is_written_before_the_first_frame(
    process: Process, stepped: SteppedLoop, log: ScriptedLog
) -> None:
    log.slow = True
    sink = process.connect(ROOM)
    stepped.settle()
    assert sink.connection is not None
    sink.connection.keep_alive()
    sink.connection.notify(b'["notice"] \n')
    assert not sink.writes
    while log.waiting:
        log.step()
        stepped.settle()
    assert kinds_of(sink.take()) == ["open", "notice"]


# -- heartbeats and the end ------------------------------------------------------------------------


def test_a_silent_stream_gets_a_heartbeat_with_its_cursor(reader: Any, say: Any) -> None:
    sink = reader(ROOM)
    say(ROOM, "a")
    (event,) = sink.take()
    sink.connection.keep_alive()  # something was written since the last one
    assert sink.take() == []
    sink.connection.keep_alive()
    (beat,) = sink.take()
    assert beat.kind == "keep-alive"
    assert beat.cursor == event.cursor


def test_a_blocked_stream_gets_neither_heartbeat_nor_farewell(reader: Any, say: Any) -> None:
    sink = reader(ROOM)
    sink.stuck = True
    say(ROOM, "a")
    sink.connection.keep_alive()
    sink.connection.keep_alive()
    sink.connection.close(2.0)
    assert sink.ended
    sink.unblock()
    assert kinds_of(sink.take()) == ["event"]


def test_a_stream_that_is_closed_hears_why_and_when_to_come_back(reader: Any) -> None:
    sink = reader(ROOM)
    sink.connection.close(2.0, b'["why"] \n')
    assert kinds_of(sink.take()) == ["why", "goodbye"]
    assert sink.ended


# -- slow readers ----------------------------------------------------------------------------------


def test_a_slow_reader_of_a_log_is_replayed_to_and_costs_no_queue(reader: Any, say: Any) -> None:
    sink = reader(ROOM)
    sink.stuck = True
    say(ROOM, *range(100))
    subscription = next(iter(sink.connection.subscriptions.values()))
    assert subscription.state == Subscription.LAGGING
    assert not subscription.queue
    sink.unblock()
    assert events_of(sink.take()) == list(range(100))
    assert subscription.state == Subscription.LIVE


@override_settings(DJANGO_LIVE={"WRITE_BYTES": 1000, "RING_BYTES": 1500})
def test_what_waited_is_written_in_bounded_pieces(reader: Any, say: Any) -> None:
    sink = reader(ROOM)
    sink.stuck = True
    say(ROOM, *("x" * 100 for _ in range(50)))
    sink.stuck = False
    sink.largest_write = 0
    sink.drain()
    say(ROOM)
    assert len(events_of(sink.take())) == 50
    assert 1000 <= sink.largest_write <= 1300


def test_one_slow_topic_does_not_starve_the_others(reader: Any, say: Any) -> None:
    other = Kept(pk=2)
    sink = reader(ROOM, other)
    sink.stuck = True
    say(ROOM, "a", "b")
    say(other, "c")
    sink.unblock()
    assert sorted(events_of(sink.take())) == ["a", "b", "c"]


FIVE = 5 * size_of('"number 1"')


@override_settings(DJANGO_LIVE={"QUEUE_BYTES": FIVE})
def test_of_what_waits_without_a_log_the_oldest_is_dropped_and_the_client_is_told(
    reader: Any, say: Any
) -> None:
    topic = Dropping()
    sink = reader(topic)
    sink.stuck = True
    say(topic, *(f"number {n}" for n in range(6)))  # the first is with the socket, five wait
    subscription = next(iter(sink.connection.subscriptions.values()))
    assert subscription.queued_bytes == FIVE
    say(topic, "number 6")
    assert subscription.queued_bytes == FIVE
    sink.unblock()
    frames = sink.take()
    assert kinds_of(frames) == ["event", "reset", *["event"] * 5]
    assert frames[1].parts == ["dropping", "overflow", False]
    assert events_of(frames) == ["number 0", *(f"number {n}" for n in range(2, 7))]
    say(topic, "number 7")
    assert events_of(sink.take()) == ["number 7"]


@override_settings(DJANGO_LIVE={"QUEUE_BYTES": FIVE})
def test_nobody_is_told_of_an_overflow_that_did_not_happen(reader: Any, say: Any) -> None:
    topic = Dropping()
    sink = reader(topic)
    sink.stuck = True
    say(topic, *(f"number {n}" for n in range(6)))
    sink.unblock()
    assert kinds_of(sink.take()) == ["event"] * 6


def test_of_conflated_events_the_newest_of_each_key_waits(reader: Any, say: Any) -> None:
    topic = Conflated()
    sink = reader(topic)
    sink.stuck = True
    say(topic, "first")
    for price in range(50):
        say(topic, f"gold {price}", conflate="gold")
        say(topic, f"tin {price}", conflate="tin")
    sink.unblock()
    assert events_of(sink.take()) == ["first", "gold 49", "tin 49"]


@override_settings(DJANGO_LIVE={"QUEUE_BYTES": FIVE})
def test_an_impatient_topic_without_a_log_disconnects_at_its_bound(reader: Any, say: Any) -> None:
    topic = Strict()
    sink = reader(topic)
    sink.stuck = True
    say(topic, *(f"number {n}" for n in range(6)))
    assert not sink.ended
    say(topic, "number 6")
    assert sink.ended


@override_settings(DJANGO_LIVE={"QUEUE_BYTES": FIVE})
def test_an_impatient_topic_with_a_log_disconnects_at_its_bound(reader: Any, say: Any) -> None:
    topic = Impatient()
    sink, fast = reader(topic), reader(topic)
    sink.stuck = True
    say(topic, *(f"number {n}" for n in range(6)))
    assert not sink.ended
    say(topic, "number 6", "number 7")
    assert sink.ended
    assert len(events_of(fast.take())) == 8


@override_settings(DJANGO_LIVE={"QUEUE_BYTES": FIVE})
def test_an_impatient_topic_keeps_those_who_catch_up(reader: Any, say: Any) -> None:
    topic = Impatient()
    sink = reader(topic)
    for _ in range(10):
        sink.stuck = True
        say(topic, *(f"number {n}" for n in range(3)))
        sink.unblock()
    assert not sink.ended
    assert len(events_of(sink.take())) == 30


def test_nobody_writes_while_a_socket_is_busy(
    reader: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the rule the socket has two writers."""
    sink = reader(ROOM)
    sink.stuck = True
    say(ROOM, "a", "b")
    assert not sink.ended
    sink.connection.blocked = False
    with pytest.raises(AssertionError, match="Two writers"):
        sink.write(b"c")


def test_a_feed_that_nobody_listens_to_is_forgotten(reader: Any, process: Process) -> None:
    sinks = [reader(ROOM), reader(ROOM)]
    process.hub.drop(sinks[0].connection)
    assert process.bus.joined == {topic_key("", "kept/1")}
    process.hub.drop(sinks[1].connection)
    process.hub.drop(sinks[1].connection)
    assert process.hub.feeds == {}
    assert process.bus.joined == set()
    assert process.hub.connections == {}
