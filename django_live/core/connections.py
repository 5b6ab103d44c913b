"""Station 5, who is written to: one open stream, and the only way to its socket.

A subscription is *live* when it has been given everything its feed has; then a new event is one write
to its socket. Otherwise it *lags*, and is served from the ring, or by ``subscribing`` from the log.

Must keep true: one writer per connection at a time; what is written moves the cursor exactly as far as
its frames go.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from ..conf import live_settings
from .counting import tally
from .feeds import Dialect, FramedEvent, FramedEvents, Subscription
from .topics import Viewer

logger = logging.getLogger("django_live.hub")

SILENT_BEATS = 5
"""Beats (half a ``HEARTBEAT`` each) without a word of a client that answers them."""


class Sink(Protocol):
    """The socket side of a connection."""

    __slots__ = ()

    form: ClassVar[str] = ""
    """Sinks of one form take what any of them has prepared."""

    def prepare(self, data: bytes) -> Any:
        """What ``put()`` takes for these bytes. It may go to thousands, so nobody changes it."""
        return data

    def put(self, prepared: Any) -> bool:
        """Give it to the socket now. False: it has not taken all of it yet, and calls
        ``Connection.drained()`` once it has; until then nobody writes."""

    def write(self, data: bytes) -> bool:
        """The same for bytes that nobody else gets."""
        return self.put(self.prepare(data))

    def end(self) -> None:
        """End the stream after what was written."""


class Keeper(Protocol):
    """Who knows all connections: the hub."""

    def drop(self, connection: Connection) -> None:
        """The connection is gone, or has to go."""


class Peer(NamedTuple):
    """Where a connection comes from, for those who operate the site."""

    address: str = ""
    """Of IPv6 the network of 64 bits."""
    agent: str = ""


NOBODY = Peer()


class Connection:
    """One open stream: its subscriptions, and the only way to write to its socket."""

    __slots__ = (
        "__weakref__",
        "active",
        "blocked",
        "closed",
        "dialect",
        "ending",
        "expires",
        "form",
        "heard",
        "hub",
        "id",
        "is_busy",
        "is_single",
        "kept_places",
        "known",
        "lagging",
        "last_active",
        "next_beat",
        "notices",
        "on_need",
        "opened",
        "peer",
        "pumping",
        "silent_beats",
        "sink",
        "subscriptions",
        "transport",
        "two_way",
        "viewer",
    )

    def __init__(
        self,
        hub: Keeper,
        sink: Sink,
        dialect: Dialect,
        viewer: Viewer,
        on_need: Callable[[Subscription], None],
        *,
        two_way: bool = False,
        transport: str = "sse",
        peer: Peer = NOBODY,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.hub = hub
        self.sink = sink
        self.dialect = dialect
        self.viewer = viewer
        self.known = viewer.is_known
        self.form = sys.intern(f"{dialect.name} {sink.form} {self.known}") if dialect.name else ""
        """Connections of one form are given the same bytes for an event. Empty: it has its own."""
        self.on_need = on_need
        """Called for a subscription that needs events which only the log has."""
        self.subscriptions: dict[str, Subscription] = {}
        self.lagging: dict[Subscription, None] = {}
        self.notices: list[bytes] = []
        """Whole frames that wait for the socket and move no cursor."""
        self.kept_places: tuple[str, ...] = ()
        """Where the client was in topics that could not be opened; it comes back for them."""
        self.is_single = False
        """Whether the cursor is that of one topic. Kept, because every delivery asks: looking into two
        collections of each of a thousand connections is a memory access more for each."""
        self.blocked = True
        """Nobody may write: the socket is full, or the first frame has not been written."""
        self.closed = False
        self.active = False
        self.pumping = False
        self.opened = time.time()
        self.last_active = time.monotonic()
        """When something was last written here, or heard from the client, by ``time.monotonic()``."""
        self.transport = transport
        self.peer = peer
        self.expires = float("inf")
        self.next_beat = 0.0
        """By ``time.monotonic()``."""
        self.two_way = two_way
        """Whether the client speaks here, too: then it has to answer each keep-alive, and may go on
        without a topic."""
        self.heard = True
        """Of two-way connections: whether the client said something since the last beat."""
        self.silent_beats = 0
        self.is_busy: Callable[[], bool] = _never
        """Whether something that the client asked for is being done, and will be answered here."""
        self.ending = ""
        """Why the server ended it: what the last word does not say in every dialect."""

    def as_record(self) -> dict[str, Any]:
        """What a line in the log says of it."""
        return {
            "connection": self.id,
            "transport": self.transport,
            "user": self.viewer.user_id,
            "ending": self.ending,
        }

    def topics_changed(self) -> None:
        """It has other subscriptions or kept places than before."""
        self.is_single = len(self.subscriptions) == 1 and not self.kept_places

    def keep_place(self, place: str) -> None:
        """The cursor goes on saying where the client was in a topic that it could not open."""
        self.kept_places += (place,)
        self.topics_changed()

    def forget_place(self, key: str) -> None:
        """The cursor says no more where the client was in a topic that it could not open."""
        if self.kept_places:
            other = key[:12] + "."
            self.kept_places = tuple(p for p in self.kept_places if not p.startswith(other))
            self.topics_changed()

    @property
    def cursor(self) -> str:
        """What a client that has read everything written so far may resume with."""
        if self.is_single:
            return next(iter(self.subscriptions.values())).place
        places = [s.place for s in self.subscriptions.values() if s.place]
        return ",".join([*places, *self.kept_places])

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
        self.last_active = time.monotonic()
        try:
            if not self.sink.write(data):
                self.blocked = True
        except Exception as error:
            self._is_over(error)

    def deliver(
        self, subscription: Subscription, entry: FramedEvent | FramedEvents, now: float
    ) -> int:
        """Write what is new, and return its bytes. Only while not ``blocked``.

        Every delivery comes through here. Nearly all are of connections with one topic, and of events
        that spare nobody: those cost 0.7 µs beside the server's own ``send`` (benchmarks/dispatch.py).
        """
        event = entry.event
        if not self.is_single or event.exclude or event.created < subscription.visible_from:
            if isinstance(entry, FramedEvent):
                frame = self.frame(subscription, entry)
            else:
                frame = b"".join([self.frame(subscription, one) for one in entry])
            if frame:
                self.write(frame)
            return len(frame)
        ready = entry.ready.get(self.form) or entry.ready_for(self)
        if entry.offset:
            subscription.offset = entry.offset
            subscription.place = ready.place
        self.active = True
        self.last_active = now
        try:
            if not self.sink.put(ready.message):
                self.blocked = True
        except Exception as error:
            self._is_over(error)
        return len(ready.frame)

    def _is_over(self, error: Exception) -> None:
        """The peer is gone, or the server cannot write any more. Either way this stream is over."""
        logger.debug("A stream could not be written to.", exc_info=error)
        self.hub.drop(self)

    def notify(self, frame: bytes) -> None:
        """Write a whole frame that moves no cursor, as soon as the socket takes it."""
        if frame:
            self.notices.append(frame)
        if not self.blocked:
            self.pump()

    def keep_alive(self) -> None:
        """Prove that the stream lives, unless something else has done so since the last call. A
        client that could answer and does not is gone, whatever its socket says."""
        if self.two_way:
            self.silent_beats = 0 if self.heard else self.silent_beats + 1
            self.heard = False
            if self.silent_beats >= SILENT_BEATS:
                self.ending = "silent"
                self.hub.drop(self)
                return
        if (self.active and not self.silent_beats) or self.blocked:
            self.active = False
        else:
            self.write(self.dialect.keep_alive() + self.dialect.end(self.cursor))

    def close(self, retry: float, frame: bytes = b"", ending: str = "good-bye") -> None:
        """End the stream after a last word; the client may come back within ``retry`` seconds."""
        self.ending = ending
        if not self.blocked:
            # Where the end itself has a code it says more than a good-bye could.
            coming_back = ending == "good-bye" or not self.two_way
            last = frame + (self.dialect.goodbye(retry) if coming_back else b"")
            if last:
                self.write(last)
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
                    self.lagging.clear()  # an emptied dict keeps 160 bytes that a cleared one does not
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
            subscription.page = ()
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
            if not subscription.feed.topic.is_internal:
                # What is replayed may be old: that is no lag.
                tally.delivered(0.0, len(frames), size)

    def frame(self, subscription: Subscription, entry: FramedEvent) -> bytes:
        """The frame of an event for this connection, which counts as written from here on."""
        spared = subscription.is_spared(entry)
        subscription.moved_to(entry)
        if spared:
            return self.dialect.moved(self.cursor) if entry.offset else b""
        if self.is_single:
            return entry.ready_for(self).frame
        return entry.frame(self.dialect) + self.dialect.end(self.cursor if entry.offset else "")


def _never() -> bool:
    return False


def _after(page: Sequence[FramedEvent], offset: int) -> Iterator[FramedEvent] | None:
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
