"""Any interleaving of what can be done to a log, against a plain model of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from django_live.core.events import Draft, Event
from django_live.core.log import EventLog, Head
from django_live.core.topics import History, Topic
from tests.contracts.conftest import FakeClock

KEEPS = History(events=6, age=timedelta(seconds=100))
PLENTY = 10_000_000

_numbers = itertools.count()


@dataclass
class Model:
    """A list, and how far its beginning may have been trimmed."""

    epoch: str
    events: list[Event] = field(default_factory=list)
    """All that were ever numbered in this life."""
    by_key: dict[str, Event] = field(default_factory=dict)
    last: int = 0
    certain_floor: int = 0
    ended_epochs: set[str] = field(default_factory=set)

    def allowed_floor(self, now: float) -> int:
        """The floor after a trim; before one it may lie anywhere up to here."""
        too_old = [e.offset for e in self.events if e.created < now - KEEPS.age.total_seconds()]
        return max(self.certain_floor, self.last - KEEPS.events, *too_old, 0)

    def after(self, offset: int) -> list[Event]:
        return [event for event in self.events if event.offset > offset]


drafts = st.lists(
    st.builds(
        Draft,
        type=st.just("said"),
        data=st.sampled_from(['"a"', '"long %s"' % ("é" * 40), "{}"]),
        idempotency_key=st.sampled_from(["", "", "", "k1", "k2"]),
    ),
    max_size=5,
)


class LogMachine(RuleBasedStateMachine):
    """One topic of the log under test, whose every answer the model has to agree with."""

    log: EventLog
    topic_class: type[Topic]
    time: FakeClock

    def __init__(self) -> None:
        super().__init__()
        self.topic = self.topic_class(title=f"{next(_numbers)}")
        head = self.log.heads([self.topic])[self.topic.key]
        assert head[1:] == (0, 0)
        self.model = Model(head.epoch)

    @rule(drafts=drafts)
    def append(self, drafts: list[Draft]) -> None:
        model = self.model
        # Only a key whose event is certainly kept is certainly known.
        floor = model.allowed_floor(self.time())
        if any(
            draft.idempotency_key in model.by_key
            and model.by_key[draft.idempotency_key].offset <= floor + len(drafts)
            for draft in drafts
        ):
            return
        appended = self.log.append(self.topic, drafts)
        assert appended.epoch == model.epoch
        assert len(appended.events) == len(drafts)
        for draft, event in zip(drafts, appended.events, strict=True):
            known = model.by_key.get(draft.idempotency_key)
            if known is not None:
                assert event == known
                continue
            model.last += 1
            assert (event.offset, event.type, event.data) == (model.last, draft.type, draft.data)
            if model.events:
                assert event.created >= model.events[-1].created
            model.events.append(event)
            if draft.idempotency_key:
                model.by_key[draft.idempotency_key] = event

    @rule(after=st.integers(0, 30), limit=st.integers(1, 8), max_bytes=st.integers(1, 300))
    def read(self, after: int, limit: int, max_bytes: int) -> None:
        head, events = self.log.read(self.topic, after, limit, max_bytes)
        self.check_head(head)
        expected = self.model.after(max(after, head.floor))[:limit]
        assert events == expected[: len(events)]
        size = sum(len(event.data.encode()) for event in events)
        assert bool(events) == bool(expected)
        assert size <= max_bytes or len(events) == 1
        if len(events) < len(expected):
            assert size + len(expected[len(events)].data.encode()) > max_bytes

    @rule()
    def trim(self) -> None:
        self.log.trim(limit=2)
        head = self.log.heads([self.topic])[self.topic.key]
        assert head.floor == self.model.allowed_floor(self.time())
        self.check_head(head)

    @rule(stale=st.booleans())
    def begin_epoch(self, stale: bool) -> None:
        model = self.model
        seen = self.log.heads([self.topic])[self.topic.key]
        if stale:
            assert self.log.begin_epoch(self.topic, Head("0ther11f"))._replace(floor=0) == (
                seen._replace(floor=0)
            )
            return
        head = self.log.begin_epoch(self.topic, seen)
        assert head.epoch not in {model.epoch, *model.ended_epochs}
        assert head[1:] == (model.last, model.last)
        self.model = Model(
            head.epoch,
            last=head.last,
            certain_floor=head.floor,
            ended_epochs={model.epoch, *model.ended_epochs},
        )

    @rule(ago=st.floats(0, 150))
    def position(self, ago: float) -> None:
        at = self.time() - ago
        position = self.log.positions([self.topic], at)[self.topic.key]
        assert position.epoch == self.model.epoch
        later = [event.offset for event in self.model.events if event.created > at]
        assert position.offset <= self.model.last
        assert not later or position.offset < later[0]
        if later and later[0] > self.model.allowed_floor(self.time()) + 1:
            assert position.offset == later[0] - 1

    @rule(seconds=st.sampled_from([-5.0, 0.000_001, 1.0, 60.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.time.advance(seconds)

    @invariant()
    def heads_agree(self) -> None:
        self.check_head(self.log.heads([self.topic])[self.topic.key])

    def check_head(self, head: Head) -> None:
        assert (head.epoch, head.last) == (self.model.epoch, self.model.last)
        assert self.model.certain_floor <= head.floor <= self.model.allowed_floor(self.time())
        self.model.certain_floor = head.floor


def test_a_log_behaves_like_a_list_that_is_trimmed_from_the_front(
    log: EventLog, room_class: type[Topic], time: FakeClock
) -> None:
    room_class.history = KEEPS
    machine = type("Machine", (LogMachine,), {"log": log, "topic_class": room_class, "time": time})
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
