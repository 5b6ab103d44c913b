"""The log of one process, for development and tests. It is gone when the process ends: every
instance has epochs of its own, so nobody takes its positions for those of the one before."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ..core.events import Draft, Event, Position
from ..core.log import Appended, EventLog, Head, Page
from ..core.topics import History, Topic
from . import clock
from .epochs import new_epoch


@dataclass(slots=True)
class _Life:
    """One topic's events, its head, and what is known of those that were trimmed."""

    head: Head
    topic: Topic
    events: deque[Event] = field(default_factory=deque)
    uids: dict[str, Event] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    updated: float = 0.0
    floor_created: float = 0.0

    def add(self, draft: Draft, now: float) -> Event:
        known = self.uids.get(draft.idempotency_key) if draft.idempotency_key else None
        if known is not None:
            return known
        self.updated = max(now, self.updated)
        event = Event(draft.type, draft.data, self.head.last + 1, draft.exclude, self.updated)
        self.events.append(event)
        self.head = self.head._replace(last=event.offset)
        if draft.idempotency_key:
            self.uids[draft.idempotency_key] = event
            self.keys[event.offset] = draft.idempotency_key
        return event

    def trim(self, now: float) -> int:
        history = self.topic.history or History()
        oldest_allowed = now - history.age.total_seconds()
        removed = 0
        while self.events and (
            len(self.events) > history.events or self.events[0].created < oldest_allowed
        ):
            self._drop_oldest()
            removed += 1
        return removed

    def _drop_oldest(self) -> None:
        event = self.events.popleft()
        self.uids.pop(self.keys.pop(event.offset, ""), None)
        self.head = self.head._replace(floor=event.offset)
        self.floor_created = event.created

    def replace(self, data: Mapping[int, str]) -> int:
        found = {event.offset for event in self.events} & data.keys()
        self.events = deque(
            dataclasses.replace(event, data=data[event.offset]) if event.offset in found else event
            for event in self.events
        )
        for event in self.events:
            if event.offset in found and event.offset in self.keys:
                self.uids[self.keys[event.offset]] = event
        return len(found)

    def begin_epoch(self, after: int) -> None:
        last = max(self.head.last, after)
        self.events.clear()
        self.uids.clear()
        self.keys.clear()
        self.floor_created = self.updated
        self.head = Head(new_epoch(), last, last)


class MemoryLog(EventLog):
    """Events in this process's memory, bounded by each topic's ``History``."""

    shared = False
    uses_outbox = False

    def __init__(self) -> None:
        self._unborn = Head(new_epoch())
        self._lives: dict[str, _Life] = {}
        self._lock = threading.Lock()

    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        with self._lock:
            life = self._born(topic)
            now = clock.now()
            events = [life.add(draft, now) for draft in drafts]
            life.trim(now)
            return Appended(life.head.epoch, events)

    def read(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        with self._lock:
            life = self._lives.get(topic.key)
            if life is None:
                return Page(self._unborn, [])
            life.trim(clock.now())
            start = max(0, after - life.head.floor)
            return Page(life.head, _page(islice(life.events, start, None), limit, max_bytes))

    def heads(self, topics: Sequence[Topic]) -> dict[str, Head]:
        with self._lock:
            return {topic.key: self._head(topic) for topic in topics}

    def positions(self, topics: Sequence[Topic], at: float) -> dict[str, Position]:
        with self._lock:
            return {topic.key: self._position(topic, at) for topic in topics}

    def begin_epoch(self, topic: Topic, seen: Head) -> Head:
        with self._lock:
            life = self._born(topic)
            if life.head.epoch == seen.epoch:
                life.begin_epoch(seen.last)
            return life.head

    def trim(self, *, limit: int = 500) -> int:
        # In memory there is nobody to make way for, so `limit` bounds nothing.
        with self._lock:
            now = clock.now()
            return sum(life.trim(now) for life in self._lives.values())

    def names(self) -> Iterator[tuple[str, str]]:
        with self._lock:
            topics = [life.topic for life in self._lives.values() if life.events]
        return iter([(topic.namespace, topic.name) for topic in topics])

    def replace(self, topic: Topic, data: Mapping[int, str]) -> int:
        with self._lock:
            life = self._lives.get(topic.key)
            return life.replace(data) if life else 0

    def _born(self, topic: Topic) -> _Life:
        life = self._lives.get(topic.key)
        if life is None:
            life = _Life(self._unborn, topic)
            self._lives[topic.key] = life
        return life

    def _head(self, topic: Topic) -> Head:
        life = self._lives.get(topic.key)
        return life.head if life else self._unborn

    def _position(self, topic: Topic, at: float) -> Position:
        life = self._lives.get(topic.key)
        if life is None or life.updated <= at:
            return self._head(topic).position
        for event in reversed(life.events):
            if event.created <= at:
                return Position(life.head.epoch, event.offset)
        floor = life.head.floor if life.floor_created <= at else 0
        return Position(life.head.epoch, floor)


def _page(events: islice[Event], limit: int, max_bytes: int) -> list[Event]:
    page: list[Event] = []
    size = 0
    for event in islice(events, max(limit, 0)):
        size += len(event.data.encode())
        if page and size > max_bytes:
            break
        page.append(event)
    return page
