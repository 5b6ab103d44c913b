"""Station 5, what is known: feeds and who listens to them.

A Feed is what this process knows of one topic: its newest events (the ring) and its subscriptions.

Must keep true: nothing here grows with a slow reader (its queue is the ring that all share, or bounded
in bytes); an event's frame is encoded once for all connections of a dialect.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..conf import live_settings
from .counting import tally
from .events import Event, Position, place_text
from .topics import Topic

if TYPE_CHECKING:
    from .connections import Connection


class Dialect(Protocol):
    """How one client convention frames what is said to it."""

    name: str
    """What frames are kept by, for the next connection that speaks it. Empty: this is one connection's
    own, and gets each event once, in order."""

    def event(self, topic: Topic, event: Event) -> bytes:
        """An event's frame without its end, so that it is encoded once for everybody."""

    def end(self, cursor: str) -> bytes:
        """The end of a frame: what differs between connections. ``""``: no cursor."""

    def moved(self, cursor: str) -> bytes:
        """A whole frame that only moves the cursor."""

    def keep_alive(self) -> bytes: ...

    def opened(
        self, connection: str, heartbeat: float, retry: float, topics: list[str]
    ) -> bytes: ...

    def snapshot(self, topic: str, data: str) -> bytes: ...

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes: ...

    def error(self, topic: str, code: str, message: str) -> bytes:
        """A whole frame: errors move no cursor."""

    def goodbye(self, retry: float) -> bytes:
        """The last frame of a stream that the server ends; the client comes back within ``retry``
        seconds."""


class Ready(NamedTuple):
    """An event as it goes to every connection of one form that has no other topic."""

    frame: bytes
    message: Any
    """The frame, prepared for the sinks of that form."""
    place: str
    """The cursor's entry of who has it."""


class FramedEvent:
    """An event in a feed's ring, with its frames."""

    __slots__ = (
        "_frames",
        "_places",
        "epoch",
        "event",
        "first",
        "offset",
        "ready",
        "size",
        "topic",
    )

    def __init__(self, topic: Topic, event: Event, epoch: str) -> None:
        self.topic = topic
        self.event = event
        self.epoch = epoch
        self.first = self.offset = event.offset
        # Text of other scripts takes up to three bytes a character.
        self.size = 200 + (len(event.data) if event.data.isascii() else len(event.data.encode()))
        self._frames: dict[str, bytes] = {}
        # Of visitors, and of those who have said who they are.
        self._places = ["", ""]
        self.ready: dict[str, Ready] = {}
        """By the form of a connection, as soon as one of that form has asked ``ready_for``."""

    def __iter__(self) -> Iterator[FramedEvent]:
        return iter((self,))

    def place(self, known: bool) -> str:
        """The cursor's entry of who has read this far; empty without history."""
        place = self._places[known]
        if not place and self.offset:
            position = Position(self.epoch, self.offset)
            place = self._places[known] = place_text(self.topic.key, position, known=known)
        return place

    def frame(self, dialect: Dialect) -> bytes:
        """The frame without its end."""
        if not dialect.name:
            return dialect.event(self.topic, self.event)
        frame = self._frames.get(dialect.name)
        if frame is None:
            frame = self._frames[dialect.name] = dialect.event(self.topic, self.event)
        return frame

    def ready_for(self, connection: Connection) -> Ready:
        """What a connection without other topics gets; made once for all of its form."""
        ready = self.ready.get(connection.form)
        if ready is None:
            dialect, place = connection.dialect, self.place(connection.known)
            frame = self.frame(dialect) + dialect.end(place)
            ready = Ready(frame, connection.sink.prepare(frame), place)
            if connection.form:
                self.ready[connection.form] = ready
        return ready


class FramedEvents:
    """Events that follow each other and are dispatched together: one write for who gets them all."""

    __slots__ = ("_entries", "epoch", "event", "first", "offset", "ready", "size", "topic")

    def __init__(self, entries: list[FramedEvent]) -> None:
        self._entries = entries
        newest = entries[-1]
        self.topic = newest.topic
        self.epoch = newest.epoch
        self.first = entries[0].offset
        self.offset = newest.offset
        self.size = sum(entry.size for entry in entries)
        self.event = min((entry.event for entry in entries), key=attrgetter("created"))
        """The oldest: who may see it may see all of them."""
        self.ready: dict[str, Ready] = {}

    def __iter__(self) -> Iterator[FramedEvent]:
        return iter(self._entries)

    def ready_for(self, connection: Connection) -> Ready:
        """As that of one event."""
        ready = self.ready.get(connection.form)
        if ready is None:
            parts = [entry.ready_for(connection) for entry in self._entries]
            frame = b"".join(part.frame for part in parts)
            ready = Ready(frame, connection.sink.prepare(frame), parts[-1].place)
            if connection.form:
                self.ready[connection.form] = ready
        return ready


_NO_QUEUE: deque[FramedEvent] = deque(maxlen=0)
"""Of every subscription with history: the ring and the log are its queue."""


class Subscription:
    """One connection's interest in one topic."""

    __slots__ = (
        "announcement",
        "attended",
        "connection",
        "direct",
        "feed",
        "holding",
        "offset",
        "overflowed",
        "page",
        "place",
        "prelude",
        "queue",
        "queued_bytes",
        "state",
        "visible_from",
    )

    JOINING, LIVE, LAGGING, ENDED = "joining", "live", "lagging", "ended"

    def __init__(self, connection: Connection, feed: Feed) -> None:
        self.connection = connection
        self.feed = feed
        self.state = self.JOINING
        self.offset = 0
        self.place = ""
        """The cursor's entry for this topic, as far as its frames were written."""
        self.prelude: tuple[bytes, str] | None = None
        """What has to be written before the events: frames, and the place they move the cursor to."""
        self.page: Sequence[FramedEvent] = ()
        """Events that the ring no longer has, read from the log for this and other readers."""
        self.visible_from = 0.0
        self.queue: deque[FramedEvent] = deque() if not feed.logged else _NO_QUEUE
        """Of topics without history: what waits for the socket."""
        self.queued_bytes = 0
        self.holding = False
        """Of topics without history: the queue waits for a snapshot that comes first."""
        self.direct = True
        """Whether a new event may go straight to the socket when that is free."""
        self.announcement: asyncio.Task[None] | None = None
        """The call of the topic's ``on_subscribe``; its ``on_unsubscribe`` comes after it."""
        self.attended = False
        """Whether the topic's attendants were told that it has begun."""
        self.overflowed = False
        """Of topics without history: events were dropped, and the client has not been told."""

    def hold(self) -> None:
        """Of topics without history: let what comes now wait until a snapshot was written. What
        waited before is in the snapshot."""
        self.holding, self.direct, self.overflowed = True, False, False
        self.queue.clear()
        self.queued_bytes = 0

    def moved_to(self, entry: FramedEvent) -> None:
        if entry.offset:
            self.offset = entry.offset
            self.place = entry.place(self.connection.known)

    def is_spared(self, entry: FramedEvent) -> bool:
        """Whether this connection gets the cursor of this event and not its content."""
        event = entry.event
        return event.exclude == self.connection.id or (
            event.offset != 0 and event.created < self.visible_from
        )


class Tap:
    """Work of this process's own that hears a topic, beside the connections."""

    def __init__(
        self, feed: Feed, on_event: Callable[[Event], None], on_reset: Callable[[str], None]
    ) -> None:
        self.feed = feed
        self.on_event = on_event
        """Called in the event loop with each event after the tap was opened, in order."""
        self.on_reset = on_reset
        """Called with the reason where events in between cannot be had: read anew."""


class Feed:
    """What this process knows of one topic."""

    def __init__(self, topic: Topic, ring_bytes: int) -> None:
        self.topic = topic
        self.key = topic.key
        self.logged = topic.history is not None
        self.epoch = ""
        self.last = 0
        """Offset of the newest event that this process has; every live subscription has it too, or
        gets it in the dispatch that is going on."""
        self.ring: deque[FramedEvent] = deque()
        self.ring_size = 0
        self.ring_bytes = ring_bytes
        self.appended = 0
        self.appended_bytes = 0
        self.live: dict[Subscription, None] = {}
        self.slow: dict[Subscription, int] = {}
        """With overflow "disconnect": who fell behind, and ``appended_bytes`` before they did."""
        self.subscriptions: set[Subscription] = set()
        self.taps: dict[Tap, None] = {}
        self.quiet_since = time.monotonic()
        self.to_dispatch: deque[FramedEvent] = deque()
        self.dispatching = False

    @property
    def in_use(self) -> bool:
        return bool(self.subscriptions or self.taps)

    def begin(self, epoch: str, last: int) -> None:
        """Begin at this place of the log, forgetting what was known of an earlier life."""
        self.epoch = epoch
        self.last = last
        self.forget_ring()

    def forget_ring(self) -> None:
        """Whoever lags or resumes is served from the log."""
        self.ring.clear()
        self.ring_size = 0

    def append(self, event: Event) -> FramedEvent:
        """Take the event that follows ``last`` (or one without an offset)."""
        entry = FramedEvent(self.topic, event, self.epoch)
        self.appended += 1
        self.appended_bytes += entry.size
        self.quiet_since = time.monotonic()
        if entry.offset:
            self.last = entry.offset
            self.ring.append(entry)
            self.ring_size += entry.size
            while self.ring_size > self.ring_bytes and len(self.ring) > 1:
                self.ring_size -= self.ring.popleft().size
        return entry

    def next_for_dispatch(self) -> FramedEvent | FramedEvents | None:
        """The event that comes next, or several that wait, as many as one write may carry."""
        waiting = self.to_dispatch
        if not waiting:
            return None
        entry = waiting.popleft()
        if not waiting or entry.event.exclude:
            return entry
        entries, room = [entry], live_settings().WRITE_BYTES - entry.size
        while waiting and follows(waiting[0], entries[-1]) and waiting[0].size <= room:
            entries.append(waiting.popleft())
            room -= entries[-1].size
        return FramedEvents(entries) if len(entries) > 1 else entry

    def prepend(self, entries: list[FramedEvent]) -> None:
        """Put events before the ring that end where it begins, as far as they fit."""
        for entry in reversed(entries):
            if self.ring_size + entry.size > self.ring_bytes:
                return
            self.ring.appendleft(entry)
            self.ring_size += entry.size

    @property
    def ring_start(self) -> int:
        """Offset of the first event in the ring; ``last + 1`` when it is empty."""
        return self.ring[0].offset if self.ring else self.last + 1

    def after(self, offset: int) -> Iterator[FramedEvent] | None:
        """The ring's events after ``offset``; None when the ring does not reach back so far."""
        skip = offset + 1 - self.ring_start
        return itertools.islice(self.ring, skip, None) if skip >= 0 else None

    def contradicts(self, event: Event) -> bool:
        """Whether another event had this one's offset: then the log was set back."""
        index = event.offset - self.ring_start
        if not 0 <= index < len(self.ring):
            return False
        known = self.ring[index].event
        return (known.type, known.data) != (event.type, event.data)

    def place(self, known: bool) -> str:
        """The cursor's entry for a reader that has everything."""
        if not self.logged:
            return place_text(self.key, None, known=known)
        if self.ring:
            return self.ring[-1].place(known)
        return place_text(self.key, Position(self.epoch, self.last), known=known)


def follows(entry: FramedEvent, earlier: FramedEvent) -> bool:
    """Whether everybody who gets the earlier one gets this one next."""
    offset = earlier.offset + 1 if earlier.offset else 0
    return entry.epoch == earlier.epoch and entry.offset == offset and not entry.event.exclude


def enqueue(
    subscription: Subscription,
    entry: FramedEvent,
    rule: str,
    disconnect: Callable[[Subscription], None],
) -> None:
    """Let an event without history wait for the socket, within the topic's bound in bytes."""
    queue = subscription.queue
    if rule == "conflate":
        for waiting in queue:
            if waiting.event.conflate == entry.event.conflate:
                queue.remove(waiting)
                tally.count("dropped")
                subscription.queued_bytes -= waiting.size
                break
    queue.append(entry)
    subscription.queued_bytes += entry.size
    limit = live_settings().QUEUE_BYTES
    if subscription.queued_bytes > limit and rule == "disconnect":
        disconnect(subscription)
    while subscription.queued_bytes > limit and len(queue) > 1:
        subscription.queued_bytes -= queue.popleft().size
        subscription.overflowed = True
        tally.count("dropped")
