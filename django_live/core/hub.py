"""Station 5: inside one process. Feeds, subscriptions, connections, and the dispatch between them.

A Feed is what this process knows of one topic: its newest events (the ring) and who listens. A
subscription is *live* when it has been given everything the feed has; then a new event is one write to
its socket. Otherwise it *lags*, and is served from the ring, or by ``subscribing`` from the log.

Must keep true: nothing here grows with a slow reader (its queue is the ring that all share, or bounded
in bytes); one writer per connection at a time; an event's frame is encoded once for all connections of
a dialect; a dispatch to many thousands lets other work run in between.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ..conf import live_settings
from .events import Event, Position, place_text
from .topics import Topic, Viewer

logger = logging.getLogger("django_live.hub")

DISPATCH_SLICE = 0.005
"""Seconds of a dispatch before other work of the event loop gets a turn."""
SLICE_CHECK = 32
"""Writes between two looks at the clock."""


class Dialect(Protocol):
    """How one client convention frames what is said to it."""

    name: str

    def event(self, topic: Topic, event: Event) -> bytes:
        """An event's frame without its end, so that it is encoded once for everybody."""

    def end(self, cursor: str) -> bytes:
        """The end of a frame: what differs between connections. ``""``: no cursor. With a cursor it
        is a frame by itself, which only moves it."""

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


class Sink(Protocol):
    """The socket side of a connection."""

    def write(self, data: bytes) -> bool:
        """Give the socket these bytes now. False: it has not taken all of them yet, and calls
        ``Connection.drained()`` once it has; until then nobody writes."""

    def end(self) -> None:
        """End the stream after what was written."""


class FramedEvent:
    """An event in a feed's ring, with its frames."""

    __slots__ = ("_frames", "_shared_frames", "epoch", "event", "offset", "place", "size", "topic")

    def __init__(self, topic: Topic, event: Event, epoch: str) -> None:
        self.topic = topic
        self.event = event
        self.epoch = epoch
        self.offset = event.offset
        self.place = place_text(topic.key, Position(epoch, event.offset)) if event.offset else ""
        # Text of other scripts takes up to three bytes a character.
        self.size = 200 + (len(event.data) if event.data.isascii() else len(event.data.encode()))
        self._frames: dict[str, bytes] = {}
        self._shared_frames: dict[str, bytes] = {}

    def frame(self, dialect: Dialect) -> bytes:
        """The frame without its end."""
        frame = self._frames.get(dialect.name)
        if frame is None:
            frame = self._frames[dialect.name] = dialect.event(self.topic, self.event)
        return frame

    def shared_frame(self, dialect: Dialect) -> bytes:
        """The whole frame, the same for every connection that has no other topic."""
        frame = self._shared_frames.get(dialect.name)
        if frame is None:
            frame = self.frame(dialect) + dialect.end(self.place)
            self._shared_frames[dialect.name] = frame
        return frame


_NO_QUEUE: deque[FramedEvent] = deque(maxlen=0)
"""Of every subscription with history: the ring and the log are its queue."""


class Subscription:
    """One connection's interest in one topic."""

    __slots__ = (
        "announcement",
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
        self.page: list[FramedEvent] = []
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
            self.place = entry.place

    def is_spared(self, entry: FramedEvent) -> bool:
        """Whether this connection gets the cursor of this event and not its content."""
        event = entry.event
        return event.exclude == self.connection.id or (
            event.offset != 0 and event.created < self.visible_from
        )


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
        self.appended_bytes = 0
        self.live: dict[Subscription, None] = {}
        self.slow: dict[Subscription, int] = {}
        """With overflow "disconnect": who fell behind, and ``appended_bytes`` before they did."""
        self.subscriptions: set[Subscription] = set()
        self.quiet_since = time.monotonic()
        self.to_dispatch: deque[FramedEvent] = deque()
        self.dispatching = False

    def begin(self, epoch: str, last: int) -> None:
        """Begin at this place of the log, forgetting what was known of an earlier life."""
        self.epoch = epoch
        self.last = last
        self.ring.clear()
        self.ring_size = 0

    def append(self, event: Event) -> FramedEvent:
        """Take the event that follows ``last`` (or one without an offset)."""
        entry = FramedEvent(self.topic, event, self.epoch)
        self.appended_bytes += entry.size
        self.quiet_since = time.monotonic()
        if entry.offset:
            self.last = entry.offset
            self.ring.append(entry)
            self.ring_size += entry.size
            while self.ring_size > self.ring_bytes and len(self.ring) > 1:
                self.ring_size -= self.ring.popleft().size
        return entry

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

    @property
    def place(self) -> str:
        """The cursor's entry for a reader that has everything."""
        if not self.logged:
            return place_text(self.key, None)
        if self.ring:
            return self.ring[-1].place
        return place_text(self.key, Position(self.epoch, self.last))


class Connection:
    """One open stream: its subscriptions, and the only way to write to its socket."""

    __slots__ = (
        "__weakref__",
        "active",
        "blocked",
        "closed",
        "dialect",
        "expires",
        "hub",
        "id",
        "kept_places",
        "lagging",
        "next_beat",
        "notices",
        "on_need",
        "opened",
        "pumping",
        "sink",
        "subscriptions",
        "viewer",
    )

    def __init__(
        self,
        hub: Hub,
        sink: Sink,
        dialect: Dialect,
        viewer: Viewer,
        on_need: Callable[[Subscription], None],
    ) -> None:
        self.id = secrets.token_hex(8)
        self.hub = hub
        self.sink = sink
        self.dialect = dialect
        self.viewer = viewer
        self.on_need = on_need
        """Called for a subscription that needs events which only the log has."""
        self.subscriptions: dict[str, Subscription] = {}
        self.lagging: dict[Subscription, None] = {}
        self.notices: list[bytes] = []
        """Whole frames that wait for the socket and move no cursor."""
        self.kept_places: list[str] = []
        """Where the client was in topics that could not be opened; it comes back for them."""
        self.blocked = True
        """Nobody may write: the socket is full, or the first frame has not been written."""
        self.closed = False
        self.active = False
        self.pumping = False
        self.opened = time.time()
        self.expires = float("inf")
        self.next_beat = 0.0
        """By ``time.monotonic()``."""

    @property
    def cursor(self) -> str:
        """What a client that has read everything written so far may resume with."""
        if len(self.subscriptions) == 1 and not self.kept_places:
            return next(iter(self.subscriptions.values())).place
        places = [s.place for s in self.subscriptions.values() if s.place]
        return ",".join(places + self.kept_places)

    # -- writing -----------------------------------------------------------------------------------

    def begin(self, frame: bytes) -> None:
        """Write the first frame, and what had to wait for it."""
        self.blocked = False
        waiting = b"".join(self.notices)
        self.notices.clear()
        self.write(frame + waiting)

    def write(self, data: bytes) -> None:
        """Write now. Only while not ``blocked``."""
        self.active = True
        try:
            if not self.sink.write(data):
                self.blocked = True
        except Exception:
            # The peer is gone, or the server cannot write any more. Either way this stream is over.
            logger.debug("A stream could not be written to.", exc_info=True)
            self.hub.drop(self)

    def notify(self, frame: bytes) -> None:
        """Write a whole frame that moves no cursor, as soon as the socket takes it."""
        self.notices.append(frame)
        if not self.blocked:
            self.pump()

    def keep_alive(self) -> None:
        """Prove that the stream lives, unless something else has done so since the last call."""
        if self.active or self.blocked:
            self.active = False
        else:
            self.write(self.dialect.keep_alive() + self.dialect.end(self.cursor))

    def close(self, retry: float, frame: bytes = b"") -> None:
        """End the stream after a last word; the client may come back within ``retry`` seconds."""
        if not self.blocked:
            self.write(frame + self.dialect.goodbye(retry))
        self.hub.drop(self)

    def drained(self) -> None:
        """The socket has taken everything."""
        self.blocked = False
        self.pump()

    def pump(self) -> None:
        """Write what lags, as much as the socket takes."""
        if self.pumping:  # a sink that drains inside write()
            return
        self.pumping = True
        try:
            while not self.blocked and not self.closed:
                if self.notices:
                    notices = b"".join(self.notices)
                    self.notices.clear()
                    self.write(notices)
                elif self.lagging:
                    subscription = next(iter(self.lagging))
                    del self.lagging[subscription]
                    self._pump_one(subscription)
                else:
                    return
        finally:
            self.pumping = False

    def _pump_one(self, subscription: Subscription) -> None:
        if subscription.prelude is not None:
            frames, subscription.place = subscription.prelude
            subscription.prelude = None
            self.write(frames + self.dialect.end(self.cursor))
            self.lagging[subscription] = None
        elif subscription.feed.logged:
            self._pump_from_log(subscription)
        elif subscription.overflowed:
            subscription.overflowed = False
            self.on_need(subscription)
        elif not subscription.holding:
            self._write_some(subscription, _emptied(subscription))
            subscription.direct = not subscription.queue
            if subscription.queue:
                self.lagging[subscription] = None

    def _pump_from_log(self, subscription: Subscription) -> None:
        feed = subscription.feed
        waiting = feed.after(subscription.offset)
        if waiting is None:
            waiting = _after(subscription.page, subscription.offset)
            if waiting is None:
                self.on_need(subscription)
                return
        else:
            subscription.page = []
        self._write_some(subscription, waiting)
        if self.closed:
            return
        if subscription.offset < feed.last:
            self.lagging[subscription] = None  # behind the connection's other topics
        else:
            subscription.state = Subscription.LIVE
            feed.live[subscription] = None

    def _write_some(self, subscription: Subscription, entries: Iterable[FramedEvent]) -> None:
        """Write entries up to a bound, in one write."""
        limit = live_settings().WRITE_BYTES
        frames: list[bytes] = []
        size = 0
        for entry in entries:
            frame = self.frame(subscription, entry)
            frames.append(frame)
            size += len(frame)
            if size >= limit:
                break
        if size:
            self.write(b"".join(frames))

    def frame(self, subscription: Subscription, entry: FramedEvent) -> bytes:
        """The frame of an event for this connection, which counts as written from here on."""
        spared = subscription.is_spared(entry)
        subscription.moved_to(entry)
        if spared:
            return self.dialect.end(self.cursor) if entry.offset else b""
        if len(self.subscriptions) == 1 and not self.kept_places:
            return entry.shared_frame(self.dialect)
        return entry.frame(self.dialect) + self.dialect.end(self.cursor if entry.offset else "")


def _after(page: list[FramedEvent], offset: int) -> Iterator[FramedEvent] | None:
    """The page's events after ``offset``; None when the next one is not on it."""
    skip = offset + 1 - page[0].offset if page else -1
    return itertools.islice(page, skip, None) if 0 <= skip < len(page) else None


def _emptied(subscription: Subscription) -> Iterator[FramedEvent]:
    """Take what waits for a topic without history, one by one."""
    queue = subscription.queue
    while queue:
        entry = queue.popleft()
        subscription.queued_bytes -= entry.size
        yield entry


class Hub:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.feeds: dict[str, Feed] = {}
        self.connections: dict[str, Connection] = {}
        self.on_feed_unused: Callable[[Feed], None] = lambda feed: None
        self.on_unsubscribed: Callable[[Subscription], None] = lambda subscription: None

    # -- who listens -------------------------------------------------------------------------------

    def feed(self, topic: Topic) -> Feed:
        """The feed of a topic, new if nobody listened to it yet."""
        feed = self.feeds.get(topic.key)
        if feed is None:
            feed = self.feeds[topic.key] = Feed(topic, live_settings().RING_BYTES)
        return feed

    def add(self, connection: Connection) -> None:
        self.connections[connection.id] = connection

    def subscribe(self, connection: Connection, topic: Topic) -> Subscription:
        """Register the interest. Nothing is delivered before it is set live or lagging."""
        feed = self.feed(topic)
        subscription = Subscription(connection, feed)
        feed.subscriptions.add(subscription)
        connection.subscriptions[topic.key] = subscription
        return subscription

    def deliver_from(self, subscription: Subscription, offset: int) -> None:
        """Deliver everything after ``offset`` from now on, with the connection's next ``pump()``.
        Topics without history begin with their next event."""
        if subscription.state == Subscription.ENDED:
            return
        if not subscription.feed.logged:
            subscription.state = Subscription.LIVE
            subscription.feed.live[subscription] = None
            subscription.connection.lagging[subscription] = None
            return
        subscription.offset = offset
        subscription.state = Subscription.LAGGING
        subscription.feed.live.pop(subscription, None)
        subscription.connection.lagging[subscription] = None

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription.state == Subscription.ENDED:
            return
        subscription.state = Subscription.ENDED
        feed, connection = subscription.feed, subscription.connection
        feed.live.pop(subscription, None)
        feed.slow.pop(subscription, None)
        feed.subscriptions.discard(subscription)
        connection.lagging.pop(subscription, None)
        connection.subscriptions.pop(feed.key, None)
        if not feed.subscriptions:
            self.on_feed_unused(feed)
        self.on_unsubscribed(subscription)

    def forget(self, feed: Feed) -> None:
        """Drop a feed that nobody listens to."""
        if not feed.subscriptions and self.feeds.get(feed.key) is feed:
            del self.feeds[feed.key]

    def drop(self, connection: Connection) -> None:
        """The connection is gone, or has to go."""
        if connection.closed:
            return
        connection.closed = True
        self.connections.pop(connection.id, None)
        for subscription in list(connection.subscriptions.values()):
            self.unsubscribe(subscription)
        connection.sink.end()

    # -- dispatch ----------------------------------------------------------------------------------

    def dispatch(self, feed: Feed, entries: Iterable[FramedEvent]) -> None:
        """Give these entries to every live subscription, in order. They are in the ring already."""
        if feed.slow:
            self._disconnect_slow_readers(feed)
        feed.to_dispatch.extend(entries)
        if not feed.dispatching:
            feed.dispatching = True
            self._continue_dispatch(feed, iter(()), None)

    def _continue_dispatch(
        self, feed: Feed, readers: Iterator[Subscription], entry: FramedEvent | None
    ) -> None:
        until = time.perf_counter() + DISPATCH_SLICE
        while True:
            # An event of a life of the log that ended meanwhile is nobody's any more.
            if (
                entry is not None
                and entry.epoch == feed.epoch
                and not self._dispatch_to(readers, entry, until)
            ):
                self.loop.call_soon(self._continue_dispatch, feed, readers, entry)
                return
            if not feed.to_dispatch:
                feed.dispatching = False
                return
            entry = feed.to_dispatch.popleft()
            readers = iter(list(feed.live))

    def _dispatch_to(
        self, readers: Iterator[Subscription], entry: FramedEvent, until: float
    ) -> bool:
        """Write to one reader after the other; False when the time is over before the readers are."""
        live = Subscription.LIVE
        for count, subscription in enumerate(readers, 1):
            # A reader that joined or fell behind while this dispatch let others work has the event
            # already, or will get it from the ring: then the offsets do not meet.
            if subscription.state is live and (
                not entry.offset or subscription.offset + 1 == entry.offset
            ):
                connection = subscription.connection
                if connection.blocked or not subscription.direct:
                    self._fall_behind(subscription, entry)
                elif frame := connection.frame(subscription, entry):
                    connection.write(frame)
            if count % SLICE_CHECK == 0 and time.perf_counter() > until:
                return False
        return True

    def _fall_behind(self, subscription: Subscription, entry: FramedEvent) -> None:
        """The socket is full: what this topic's overflow rule makes of it."""
        feed = subscription.feed
        rule = feed.topic.overflow_rule()
        if feed.logged:
            # The ring and the log are the queue. A slow reader costs nothing but its place in them.
            if rule == "disconnect":
                feed.slow[subscription] = feed.appended_bytes - entry.size
            subscription.state = Subscription.LAGGING
            feed.live.pop(subscription, None)
            subscription.connection.lagging[subscription] = None
            return
        subscription.direct = False
        subscription.connection.lagging[subscription] = None
        enqueue(subscription, entry, rule, self.disconnect_slow)

    def _disconnect_slow_readers(self, feed: Feed) -> None:
        """End those for whom more waits than may."""
        limit = live_settings().QUEUE_BYTES
        for subscription, since in list(feed.slow.items()):
            if subscription.state != Subscription.LAGGING:
                del feed.slow[subscription]
            elif feed.appended_bytes - since > limit:
                del feed.slow[subscription]
                self.disconnect_slow(subscription)

    def disconnect_slow(self, subscription: Subscription) -> None:
        """End the connection of a reader that is too slow for a topic which must not wait."""
        logger.info(
            "A reader of %s is too slow and was disconnected.", subscription.feed.topic.name
        )
        self.drop(subscription.connection)


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
