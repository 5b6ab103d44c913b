"""Whatever happens, in whatever order: every reader gets every event once, in order, or a reset.

A state machine publishes, loses, delays, repeats and reorders what the bus carries, cuts clients and
brings them back to another process, trims, flushes and sets back the log, switches it off, lets its
answers arrive late, and blocks sockets. Two processes share the log. What a reader is owed is known
here from the order of the appends alone, not from offsets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_live.core import hub as hub_module
from django_live.core import subscribing as subscribing_module
from django_live.core.events import Cursor, Draft, Event, Position
from django_live.core.feeds import Feed, Subscription
from django_live.core.log import Appended, Head
from django_live.core.subscribing import Subscribing
from django_live.core.topics import History, Topic, registry
from tests.core.fakes import FakeSink, Frame, Life, Process, ScriptedLog, SteppedLoop, send

EXAMPLES = int(os.environ.get("LIVE_TEST_EXAMPLES", "150"))

SMALL = {
    "RING_BYTES": 1000,  # four events
    "WRITE_BYTES": 300,
}

Node = str
"""An event, or the beginning of a life of a log."""


class Truth:
    """What was appended, and what follows what."""

    def __init__(self) -> None:
        self.before: dict[Node, Node] = {}
        self.excluded: dict[Node, str] = {}
        self.at: dict[tuple[str, str, int], list[Node]] = {}
        self.place_of: dict[Node, tuple[str, int]] = {}
        self.newest: dict[str, Node] = {}
        self.epochs: dict[str, str] = {}
        self.serial = 0

    def begin(self, key: str, head: Head) -> None:
        """A life begins with this head."""
        self._put(key, head.epoch, head.last, f"root of {head.epoch}")

    def _put(self, key: str, epoch: str, offset: int, node: Node) -> None:
        self.at.setdefault((key, epoch, offset), []).append(node)
        self.place_of[node] = (epoch, offset)
        self.newest[key] = node
        self.epochs[key] = epoch

    def next_node(self) -> Node:
        self.serial += 1
        return f"#{self.serial}"

    def appended(self, key: str, appended: Appended) -> None:
        for event in appended.events:
            node = json.loads(event.data)
            self.before[node] = self.newest[key]
            self.excluded[node] = event.exclude
            self._put(key, appended.epoch, event.offset, node)

    def set_back(self, key: str, life: Life) -> None:
        self.newest[key] = self.at[key, life.epoch, life.last][-1]
        self.epochs[key] = life.epoch

    def nodes(self, topic: Topic, cursor: str) -> list[Node] | None:
        """What a cursor says about a topic; None when it does not speak of it."""
        place = Cursor.parse(cursor).get(topic.key)
        if place is None:
            return None
        assert place.genuine
        assert place.position is not None
        return self.at[topic.key, place.position.epoch, place.position.offset]


@dataclass
class Reader:
    """A client: what it has, and what it will come back with."""

    topics: list[Topic]
    sink: ReaderSink | None = None
    process: Process | None = None
    cursor: str = ""
    seen: dict[str, Node] = field(default_factory=dict)
    """The newest event it has, by topic. No entry: a newcomer, or it waits for a snapshot."""
    refused: set[str] = field(default_factory=set)


class ReaderSink(FakeSink):
    """Judges every frame at the moment in which it is written."""

    def __init__(self, machine: DeliveryMachine, reader: Reader) -> None:
        super().__init__()
        self.machine = machine
        self.reader = reader
        self.states: list[tuple[str, dict[str, Node]]] = []
        """Cursor and newest events after each frame that the peer has not received yet."""
        self.before = (reader.cursor, dict(reader.seen))
        """The same, before those."""
        self.opened = False
        self.downs = machine.downs - machine.log.down
        self.new: set[str] = {t.key for t in reader.topics if t.key not in reader.seen}

    def put(self, prepared: bytes) -> bool:
        try:
            return self.judged(prepared)
        except Exception as fault:  # the hub takes what a socket raises for its end
            self.machine.faults.append(fault)
            raise

    def judged(self, data: bytes) -> bool:
        taken = super().put(data)
        for line in data.split(b"\n")[:-1]:
            self.judge(Frame.of(line))
            self.states.append((self.reader.cursor, dict(self.reader.seen)))
        if taken:
            self.all_received()
        return taken

    def all_received(self) -> None:
        self.before = (self.reader.cursor, dict(self.reader.seen))
        self.states.clear()

    def drain(self) -> None:
        self.all_received()
        super().drain()

    def topic(self, name: str) -> Topic:
        return next(t for t in self.reader.topics if t.name == name)

    def judge(self, frame: Frame) -> None:
        reader, truth = self.reader, self.machine.truth
        assert self.opened == (frame.kind != "open"), f"{frame} as the first frame"
        if frame.kind == "open":
            self.opened = True
            for topic in reader.topics:
                nodes = truth.nodes(topic, frame.cursor)
                if topic.key in self.new and nodes is not None:
                    reader.seen[topic.key] = nodes[-1]
        elif frame.kind == "event":
            self.judge_event(self.topic(frame.parts[0]).key, frame.parts[2])
        elif frame.kind == "reset":
            self.judge_reset(self.topic(frame.parts[0]), frame)
        elif frame.kind == "snapshot":
            self.judge_snapshot(self.topic(frame.parts[0]), frame)
        elif frame.kind == "error":
            topic = self.topic(frame.parts[0])
            assert frame.parts[1] == "unavailable"
            assert self.machine.downs > self.downs, "refused by a store that answers"
            reader.refused.add(topic.key)
        elif frame.kind == "":
            self.judge_move(frame.cursor)
        if frame.cursor:
            self.judge_cursor(frame)
            reader.cursor = frame.cursor

    def judge_event(self, key: str, node: Node) -> None:
        truth, seen = self.machine.truth, self.reader.seen
        assert key in seen, f"{node} before the snapshot"
        assert truth.before[node] == seen[key], f"{node} after {seen[key]}"
        assert self.connection is not None
        assert truth.excluded[node] != self.connection.id, "an event that it was to be spared"
        seen[key] = node

    def judge_move(self, cursor: str) -> None:
        """A cursor alone: it moves past one event that this connection is spared."""
        truth, seen = self.machine.truth, self.reader.seen
        for topic in self.reader.topics:
            nodes = truth.nodes(topic, cursor)
            if nodes is None or seen.get(topic.key) in nodes:
                continue
            node = nodes[-1]
            assert self.connection is not None
            assert truth.excluded[node] == self.connection.id, f"{node} without content"
            assert truth.before[node] == seen[topic.key], f"{node} after {seen[topic.key]}"
            seen[topic.key] = node

    def judge_reset(self, topic: Topic, frame: Frame) -> None:
        reader, truth, log = self.reader, self.machine.truth, self.machine.log
        life = log.life(topic)
        _, reason, snapshot_follows = frame.parts
        assert snapshot_follows == topic.has_snapshot()
        if topic.key in reader.seen:
            epoch, offset = truth.place_of[reader.seen[topic.key]]
            if reason == "trimmed":
                assert epoch != life.epoch or offset < life.floor, "nothing was trimmed"
            else:
                assert reason == "epoch"
                assert epoch != life.epoch, "the same life"
        else:
            assert reason in ("epoch", "trimmed")
        reader.seen.pop(topic.key, None)
        if not snapshot_follows:
            nodes = truth.nodes(topic, frame.cursor)
            assert nodes is not None
            reader.seen[topic.key] = nodes[-1]

    def judge_snapshot(self, topic: Topic, frame: Frame) -> None:
        nodes = self.machine.truth.nodes(topic, frame.cursor)
        assert nodes is not None
        epoch, offset = self.machine.truth.place_of[nodes[-1]]
        shown = frame.parts[1]
        assert shown["epoch"] != epoch or shown["last"] >= offset, "older than its position"
        self.reader.seen[topic.key] = nodes[-1]

    def judge_cursor(self, frame: Frame) -> None:
        """It says what was written so far: no more, and no less."""
        for topic in self.reader.topics:
            nodes = self.machine.truth.nodes(topic, frame.cursor)
            if topic.key in self.reader.seen:
                assert nodes is not None, f"{frame} forgets {topic}"
                assert self.reader.seen[topic.key] in nodes, f"{frame} is ahead, or behind"

    def cut(self, received: int) -> None:
        """The connection breaks after so many of the pending frames arrived."""
        if self.states:
            kept = self.states[min(received, len(self.states)) - 1] if received else self.before
            self.reader.cursor, self.reader.seen = kept[0], dict(kept[1])
        assert self.connection is not None
        self.connection.hub.drop(self.connection)


class DeliveryMachine(RuleBasedStateMachine):
    """See the module. ``subscribing_class`` is what the negative controls replace."""

    subscribing_class: type[Subscribing] = Subscribing

    def __init__(self) -> None:
        super().__init__()
        self.settings = override_settings(DJANGO_LIVE=SMALL)
        self.settings.enable()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(subscribing_module, "PAGE_EVENTS", 3)
        self.patch.setattr(subscribing_module, "RESUME_SLACK", 2)
        self.patch.setattr(hub_module, "DISPATCH_SLICE", -1.0)
        self.patch.setattr(hub_module, "SLICE_CHECK", 1)
        self.declared = registry.isolated()
        self.declared.__enter__()
        self.loop = SteppedLoop()
        self.log = ScriptedLog()
        self.truth = Truth()
        self.downs = 0
        self.faults: list[Exception] = []
        self.backups: list[tuple[Topic, Life]] = []
        self.set_back_epochs: set[str] = set()
        self.readers: list[Reader] = []
        self.topics = self.declare()
        self.processes = [Process(self.loop, self.log, self.subscribing_class) for _ in range(2)]
        self.watch_epochs()

    def declare(self) -> list[Topic]:
        log = self.log

        class Plain(Topic):
            pattern = "plain/<int:pk>"
            history = History()

        class Stated(Topic):
            pattern = "stated"
            history = History()

            async def snapshot(self) -> dict[str, Any]:
                await log._turn_of()
                life = log.life(self)
                found = {"epoch": life.epoch, "last": life.last}
                await log._turn_of()
                return found

        return [Plain(pk=1), Plain(pk=2), Stated()]

    def watch_epochs(self) -> None:
        begin, log = self.log.begin_epoch, self.log

        def watched(topic: Topic, seen: Head) -> Head:
            epoch = log.life(topic).epoch
            head = begin(topic, seen)
            if head.epoch != epoch:
                assert epoch in self.set_back_epochs, "A new life, and nothing was lost."
                self.truth.begin(topic.key, head)
            return head

        self.log.begin_epoch = watched  # type: ignore[method-assign]

    # -- helpers --

    def turn(self, turns: int) -> None:
        if turns > 4:
            self.loop.settle()
        else:
            self.loop.turn(turns)

    def connect(self, reader: Reader, process: Process) -> None:
        reader.refused.clear()
        sink = ReaderSink(self, reader)
        reader.sink, reader.process = sink, process
        process.connect(*reader.topics, cursor=reader.cursor, sink=sink)

    def cut(self, reader: Reader, received: int) -> None:
        assert reader.sink is not None
        reader.sink.cut(received)
        reader.sink = None
        # What the client remembers is what its last cursor says: of other topics it is a newcomer.
        reader.seen = {
            topic.key: reader.seen[topic.key]
            for topic in reader.topics
            if self.truth.nodes(topic, reader.cursor) is not None
        }

    @property
    def connected(self) -> list[Reader]:
        return [reader for reader in self.readers if reader.sink is not None]

    # -- rules --

    @initialize(
        choices=st.lists(
            st.tuples(st.sets(st.sampled_from([0, 1, 2]), min_size=1), st.booleans()),
            min_size=1,
            max_size=4,
        )
    )
    def readers_come(self, choices: list[tuple[set[int], bool]]) -> None:
        for topic in self.topics:
            self.truth.begin(topic.key, self.log.life(topic).head)
        for chosen, second in choices:
            reader = Reader([self.topics[index] for index in sorted(chosen)])
            self.readers.append(reader)
            self.connect(reader, self.processes[second])
        self.loop.settle()

    turns = st.integers(0, 6)
    topic_index = st.integers(0, 2)

    @rule(topic=topic_index, count=st.integers(1, 6), spare=st.integers(0, 12), turns=turns)
    def publish(self, topic: int, count: int, spare: int, turns: int) -> None:
        chosen = self.topics[topic]
        if self.log.down or self.log.life(chosen).epoch in self.set_back_epochs:
            return
        spared = ""
        if spare < len(self.connected):
            sink = self.connected[spare].sink
            assert sink is not None
            assert sink.connection is not None
            spared = sink.connection.id
        for _ in range(count):
            draft = Draft("said", json.dumps(self.truth.next_node()), exclude=spared)
            appended = self.log.append(chosen, [draft])
            self.truth.appended(chosen.key, appended)
            send(chosen, appended, *self.processes)
        self.turn(turns)

    @rule(process=st.booleans(), turns=turns)
    def bus_delivers_all(self, process: bool, turns: int) -> None:
        self.processes[process].bus.deliver_all()
        self.turn(turns)

    @rule(process=st.booleans(), index=st.integers(0, 8), turns=turns)
    def bus_delivers_one(self, process: bool, index: int, turns: int) -> None:
        if self.processes[process].bus.inbox:
            self.processes[process].bus.deliver(index)
            self.turn(turns)

    @rule(process=st.booleans(), index=st.integers(0, 8))
    def bus_loses_one(self, process: bool, index: int) -> None:
        inbox = self.processes[process].bus.inbox
        if inbox:
            inbox.pop(index % len(inbox))

    @rule(process=st.booleans(), index=st.integers(0, 8))
    def bus_repeats_one(self, process: bool, index: int) -> None:
        inbox = self.processes[process].bus.inbox
        if inbox:
            inbox.append(inbox[index % len(inbox)])

    @rule(process=st.booleans())
    def bus_loses_all(self, process: bool) -> None:
        self.processes[process].bus.inbox.clear()

    @rule(reader=st.integers(0, 3), received=st.integers(0, 6), turns=turns)
    def client_is_cut(self, reader: int, received: int, turns: int) -> None:
        if reader < len(self.connected):
            self.cut(self.connected[reader], received)
            self.turn(turns)

    @rule(process=st.booleans(), turns=turns)
    def clients_come_back(self, process: bool, turns: int) -> None:
        for reader in self.readers:
            if reader.sink is None:
                self.connect(reader, self.processes[process])
        self.turn(turns)

    @rule(reader=st.integers(0, 3))
    def socket_is_stuck(self, reader: int) -> None:
        if reader < len(self.connected):
            sink = self.connected[reader].sink
            assert sink is not None
            sink.stuck = True

    @rule(reader=st.integers(0, 3), free=st.booleans(), turns=turns)
    def socket_drains(self, reader: int, free: bool, turns: int) -> None:
        if reader < len(self.connected):
            sink = self.connected[reader].sink
            assert sink is not None
            sink.stuck = not free
            sink.drain()
            self.turn(turns)

    @rule(process=st.booleans(), turns=turns)
    def heads_are_checked(self, process: bool, turns: int) -> None:
        self.processes[process].spawn(self.check_heads(self.processes[process]))
        self.turn(turns)

    async def check_heads(self, process: Process) -> None:
        try:
            await process.check_heads()
        except Exception:
            assert self.log.down or self.log.slow or self.downs, "a head check failed"

    @rule(topic=topic_index, keep=st.integers(0, 5))
    def log_is_trimmed(self, topic: int, keep: int) -> None:
        life = self.log.life(self.topics[topic])
        self.log.trim_to(self.topics[topic], life.last - keep)

    @rule(topic=topic_index)
    def log_is_backed_up(self, topic: int) -> None:
        self.backups.append((self.topics[topic], self.log.life(self.topics[topic]).copy()))

    @precondition(lambda self: self.backups)
    @rule()
    def log_is_set_back(self) -> None:
        topic, backup = self.backups.pop()
        life = self.log.life(topic)
        if backup.epoch != life.epoch or backup.last == life.last:
            return
        # Of what happens next no log can tell the old 7 from the new 7: so nothing is published
        # before somebody notices.
        self.set_back_epochs.add(life.epoch)
        self.log.set_back(topic, backup)
        self.truth.set_back(topic.key, backup)

    @rule(topic=topic_index)
    def log_is_flushed(self, topic: int) -> None:
        chosen = self.topics[topic]
        self.log.flush(chosen)
        self.truth.begin(chosen.key, self.log.life(chosen).head)

    @rule(slow=st.booleans())
    def store_slows_down(self, slow: bool) -> None:
        self.log.slow = slow
        if not slow:
            self.store_answers_all()

    @precondition(lambda self: self.log.waiting)
    @rule(index=st.integers(0, 5), turns=turns)
    def store_answers_one(self, index: int, turns: int) -> None:
        self.log.step(index)
        self.turn(turns)

    def store_answers_all(self) -> None:
        while self.log.waiting:
            self.log.step()
            self.loop.settle()

    @rule(down=st.booleans())
    def store_fails(self, down: bool) -> None:
        self.downs += down and not self.log.down
        self.log.down = down

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @rule()
    def everything_settles(self) -> None:
        """The network and the store are well again; whatever was under way on the bus is lost."""
        self.log.down = self.log.slow = False
        self.store_answers_all()
        for _ in range(4):
            for reader in self.readers:
                if reader.sink is not None and (reader.refused or reader.sink.ended):
                    reader.sink.unblock()
                    self.cut(reader, 99)
                if reader.sink is None:
                    self.connect(reader, self.processes[0])
                assert reader.sink is not None
                reader.sink.unblock()
            self.loop.settle()
            for process in self.processes:
                process.bus.inbox.clear()
                process.spawn(self.check_heads(process))
            self.loop.advance(3.0)
        self.nothing_failed_unseen()
        for reader in self.readers:
            assert reader.sink is not None
            assert not reader.refused
            for topic in reader.topics:
                head = self.log.life(topic)
                seen = reader.seen.get(topic.key)
                assert seen == self.truth.newest[topic.key], f"{topic}: {seen}, and not {head.head}"
                assert reader.process is not None
                subscription = reader.process.subscription(reader.sink, topic)
                assert subscription.state == Subscription.LIVE

    @invariant()
    def nothing_failed_unseen(self) -> None:
        if self.faults:
            raise self.faults[0]
        for process in self.processes:
            if process.failures:
                raise process.failures[0]
        if self.loop.failures:
            raise AssertionError(self.loop.failures)

    @invariant()
    def memory_is_bounded(self) -> None:
        for process in self.processes:
            for feed in process.hub.feeds.values():
                assert feed.ring_size <= feed.ring_bytes or len(feed.ring) == 1
                assert all(s.state != Subscription.ENDED for s in feed.live)
                assert all(s.state != Subscription.ENDED for s in feed.subscriptions)

    def teardown(self) -> None:
        try:
            if self.readers:
                self.everything_settles()
                self.nothing_failed_unseen()
        finally:
            self.loop.end()
            self.declared.__exit__(None, None, None)
            self.patch.undo()
            self.settings.disable()


def test_every_reader_gets_every_event_once_in_order_or_a_reset() -> None:
    run_state_machine_as_test(
        DeliveryMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


# -- negative controls: the machine notices when a mechanism is off --------------------------------


class IgnoresGaps(Subscribing):
    def _take(self, feed: Feed, epoch: str, events: Sequence[Event]) -> None:
        if epoch == feed.epoch:
            fresh = [feed.append(event) for event in events if event.offset > feed.last]
            self.hub.dispatch(feed, fresh)


class TrustsRepeats(Subscribing):
    def _take(self, feed: Feed, epoch: str, events: Sequence[Event]) -> None:
        if epoch == feed.epoch:
            self.hub.dispatch(feed, [feed.append(event) for event in events])


class PutsSnapshotsTooLate(Subscribing):
    """Its position is read after the snapshot, so what happened meanwhile is skipped."""

    async def _take_snapshot(self, feed: Feed) -> tuple[str, int, str]:
        _, _, data = await super()._take_snapshot(feed)
        return feed.epoch, feed.last, data


class BelievesOldAnswers(Subscribing):
    """An answer of the store counts, even if the feed began another life meanwhile."""

    async def _compare(self, feed: Feed, had: Position, head: Head) -> None:
        await super()._compare(feed, had._replace(epoch=feed.epoch), head)


class AsksNobodyNew(Subscribing):
    """A cursor ahead of this process is judged by a head that may be older than the cursor."""

    async def _ask_head(self, feed: Feed) -> Head:
        return Head(feed.epoch, feed.last)


class ForgetsRefused(Subscribing):
    """The cursor of a stream says nothing of topics that could not be opened."""

    def end(
        self, subscription: Subscription, code: str, message: str, *, comes_back: bool = False
    ) -> None:
        super().end(subscription, code, message)


class KeepsTheOldRing(Subscribing):
    """A new life begins without forgetting the events of the one before."""

    def _new_life(self, feed: Feed, head: Head) -> None:
        if feed.epoch != head.epoch:
            ring, size = feed.ring.copy(), feed.ring_size
            super()._new_life(feed, head)
            feed.ring, feed.ring_size = ring, size


class HidesTrimming(Subscribing):
    """Readers that lost events hear nothing of it."""

    def reset(self, subscription: Subscription, reason: str) -> None:
        if reason == "trimmed":
            self.hub.deliver_from(subscription, subscription.feed.last)
        else:
            super().reset(subscription, reason)


class ResetsTooMuch(Subscribing):
    """A reader that needs the log is reset at once."""

    def need(self, subscription: Subscription) -> None:
        self.reset(subscription, "trimmed")


class ChecksNoHeads(Subscribing):
    async def check_heads(self, feeds: Sequence[Feed]) -> None:
        pass


FIRST, SECOND = False, True
PLAIN, OTHER, STATED = 0, 1, 2
SETTLE = 6


def an_event_in_the_middle_is_lost(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST)])
    machine.publish(PLAIN, 2, 12, 0)
    machine.bus_loses_one(FIRST, 0)
    machine.bus_delivers_all(FIRST, SETTLE)


def the_last_event_is_lost(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST)])
    machine.publish(PLAIN, 1, 12, 0)
    machine.bus_loses_all(FIRST)


def an_event_comes_twice(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST), ({PLAIN}, FIRST)])
    machine.client_is_cut(0, 0, SETTLE)
    machine.publish(PLAIN, 1, 12, 0)
    machine.bus_repeats_one(FIRST, 0)
    machine.bus_delivers_all(FIRST, SETTLE)
    machine.clients_come_back(FIRST, SETTLE)


def an_event_comes_while_a_snapshot_is_taken(machine: DeliveryMachine) -> None:
    machine.log.slow = True
    machine.readers_come([({STATED}, FIRST)])
    for _ in range(3):  # the head, twice, and the question for the snapshot
        machine.store_answers_one(0, SETTLE)
    machine.publish(STATED, 1, 12, 0)
    machine.bus_delivers_all(FIRST, SETTLE)


def an_answer_comes_from_the_life_before(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST)])
    machine.log.slow = True
    machine.heads_are_checked(FIRST, SETTLE)
    machine.store_answers_one(0, SETTLE)
    machine.log_is_flushed(PLAIN)
    machine.heads_are_checked(FIRST, SETTLE)
    machine.store_answers_one(1, SETTLE)
    machine.store_answers_one(1, SETTLE)
    machine.store_answers_one(0, SETTLE)


def a_client_knows_more_than_its_process(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST), ({PLAIN}, SECOND)])
    machine.publish(PLAIN, 2, 12, 0)
    machine.bus_delivers_all(FIRST, SETTLE)
    machine.bus_loses_all(SECOND)
    machine.client_is_cut(0, 0, SETTLE)
    machine.clients_come_back(SECOND, SETTLE)


def one_of_two_topics_cannot_be_opened(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN, OTHER}, FIRST), ({PLAIN}, SECOND)])
    machine.client_is_cut(0, 0, SETTLE)
    machine.store_fails(True)
    machine.clients_come_back(SECOND, SETTLE)
    machine.store_fails(False)
    machine.publish(PLAIN, 1, 12, 0)
    machine.bus_delivers_all(SECOND, SETTLE)


def the_log_is_flushed(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST), ({PLAIN}, FIRST)])
    machine.publish(PLAIN, 3, 12, 0)
    machine.bus_delivers_all(FIRST, SETTLE)
    machine.log_is_flushed(PLAIN)
    machine.heads_are_checked(FIRST, SETTLE)
    machine.client_is_cut(0, 0, SETTLE)
    machine.publish(PLAIN, 1, 12, 0)
    machine.bus_delivers_all(FIRST, SETTLE)
    machine.clients_come_back(FIRST, SETTLE)


def the_log_is_set_back(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST)])
    machine.publish(PLAIN, 1, 12, 0)
    machine.log_is_backed_up(PLAIN)
    machine.publish(PLAIN, 2, 12, 0)
    machine.bus_delivers_all(FIRST, SETTLE)
    machine.log_is_set_back()


def lost_events_are_trimmed(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST)])
    machine.publish(PLAIN, 6, 12, 0)
    machine.bus_loses_all(FIRST)
    machine.log_is_trimmed(PLAIN, 2)
    machine.heads_are_checked(FIRST, SETTLE)
    machine.publish(PLAIN, 1, 12, 0)
    machine.bus_delivers_all(FIRST, SETTLE)


def everything_lost_is_trimmed(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST)])
    machine.publish(PLAIN, 2, 12, 0)
    machine.bus_loses_all(FIRST)
    machine.log_is_trimmed(PLAIN, 0)


def a_client_was_away_for_more_than_the_ring(machine: DeliveryMachine) -> None:
    machine.readers_come([({PLAIN}, FIRST), ({PLAIN}, FIRST)])
    machine.client_is_cut(0, 0, SETTLE)
    machine.publish(PLAIN, 6, 12, 0)
    machine.publish(PLAIN, 6, 12, 0)
    machine.bus_delivers_all(FIRST, SETTLE)
    machine.clients_come_back(FIRST, SETTLE)


CONTROLS: list[tuple[Callable[[DeliveryMachine], None], type[Subscribing]]] = [
    (an_event_in_the_middle_is_lost, IgnoresGaps),
    (the_last_event_is_lost, ChecksNoHeads),
    (an_event_comes_twice, TrustsRepeats),
    (an_event_comes_while_a_snapshot_is_taken, PutsSnapshotsTooLate),
    (an_answer_comes_from_the_life_before, BelievesOldAnswers),
    (a_client_knows_more_than_its_process, AsksNobodyNew),
    (one_of_two_topics_cannot_be_opened, ForgetsRefused),
    (the_log_is_flushed, KeepsTheOldRing),
    (the_log_is_set_back, ChecksNoHeads),
    (lost_events_are_trimmed, HidesTrimming),
    (everything_lost_is_trimmed, ChecksNoHeads),
    (a_client_was_away_for_more_than_the_ring, ResetsTooMuch),
]
NAMES = [scenario.__name__ for scenario, _ in CONTROLS]


def play(
    scenario: Callable[[DeliveryMachine], None], subscribing: type[Subscribing] = Subscribing
) -> None:
    class Machine(DeliveryMachine):
        subscribing_class = subscribing

    machine = Machine()
    try:
        scenario(machine)
    finally:
        machine.teardown()


@pytest.mark.parametrize("scenario", [scenario for scenario, _ in CONTROLS], ids=NAMES)
def test_nobody_notices_when(scenario: Callable[[DeliveryMachine], None]) -> None:
    play(scenario)


@pytest.mark.parametrize(("scenario", "broken"), CONTROLS, ids=NAMES)
def test_the_machine_notices_when_a_mechanism_is_off_and(
    scenario: Callable[[DeliveryMachine], None], broken: type[Subscribing]
) -> None:
    with pytest.raises((AssertionError, KeyError)):
        play(scenario, broken)
