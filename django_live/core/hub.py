"""Station 5: inside one process. Feeds, subscriptions, connections, and the dispatch between them.

Must keep true: a dispatch to many thousands lets other work run in between; a reader that is too slow
costs what its topic's overflow rule says, and the others nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator

from ..conf import live_settings
from .connections import Connection
from .counting import tally
from .events import Event
from .feeds import Feed, FramedEvent, FramedEvents, Subscription, Tap, enqueue
from .records import record
from .topics import Topic

logger = logging.getLogger("django_live.hub")

DISPATCH_SLICE = 0.005
"""Seconds of a dispatch before other work of the event loop gets a turn."""
SLICE_CHECK = 32
"""Writes between two looks at the clock."""


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
        tally.count("opened", connection.transport)
        record("connection.opened", level=logging.DEBUG, **connection.as_record())

    def subscribe(self, connection: Connection, topic: Topic) -> Subscription:
        """Register the interest. Nothing is delivered before it is set live or lagging."""
        feed = self.feed(topic)
        subscription = Subscription(connection, feed)
        feed.subscriptions.add(subscription)
        connection.subscriptions[topic.key] = subscription
        connection.topics_changed()
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
        connection.topics_changed()
        if not feed.in_use:
            self.on_feed_unused(feed)
        self.on_unsubscribed(subscription)

    def forget(self, feed: Feed) -> None:
        """Drop a feed that nobody listens to."""
        if not feed.in_use and self.feeds.get(feed.key) is feed:
            del self.feeds[feed.key]

    def drop(self, connection: Connection) -> None:
        """The connection is gone, or has to go."""
        if connection.closed:
            return
        connection.closed = True
        if self.connections.pop(connection.id, None) is not None:
            tally.count("closed", connection.ending)
            record("connection.closed", level=logging.DEBUG, **connection.as_record())
        for subscription in list(connection.subscriptions.values()):
            self.unsubscribe(subscription)
        connection.sink.end()

    def listen(
        self, topic: Topic, on_event: Callable[[Event], None], on_reset: Callable[[str], None]
    ) -> Tap:
        """Register work of this process's own; see ``Subscribing.listen``."""
        tap = Tap(self.feed(topic), on_event, on_reset)
        tap.feed.taps[tap] = None
        return tap

    def unlisten(self, tap: Tap) -> None:
        if tap in tap.feed.taps:
            del tap.feed.taps[tap]
            if not tap.feed.in_use:
                self.on_feed_unused(tap.feed)

    # -- dispatch ----------------------------------------------------------------------------------

    def dispatch(self, feed: Feed, entries: Iterable[FramedEvent]) -> None:
        """Give these entries to every live subscription, in order. They are in the ring already."""
        if feed.slow:
            self._disconnect_slow_readers(feed)
        entries = list(entries)
        for tap in list(feed.taps):
            self._tell(tap, entries)
        feed.to_dispatch.extend(entries)
        if not feed.dispatching:
            feed.dispatching = True
            self._continue_dispatch(feed, iter(()), None)

    def _tell(self, tap: Tap, entries: Iterable[FramedEvent]) -> None:
        for entry in entries:
            try:
                tap.on_event(entry.event)
            except Exception:
                logger.exception("A listener to %s failed.", tap.feed.topic.name)

    def _continue_dispatch(
        self, feed: Feed, readers: Iterator[Subscription], entry: FramedEvent | FramedEvents | None
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
            entry = feed.next_for_dispatch()
            if entry is None:
                feed.dispatching = False
                return
            readers = iter(list(feed.live))

    def _dispatch_to(
        self, readers: Iterator[Subscription], entry: FramedEvent | FramedEvents, until: float
    ) -> bool:
        """Write to one reader after the other; False when the time is over before the readers are."""
        live = Subscription.LIVE
        before, last = entry.first - 1, entry.offset
        now = time.monotonic()
        written = size = 0
        over = False
        for count, subscription in enumerate(readers, 1):
            # A reader that joined or fell behind while this dispatch let others work has the event
            # already, or will get it from the ring: then the offsets do not meet.
            if subscription.state is live:
                if subscription.offset == before or not last:
                    connection = subscription.connection
                    if connection.blocked or not subscription.direct:
                        self._fall_behind(subscription, entry)
                    elif sent := connection.deliver(subscription, entry, now):
                        written += 1
                        size += sent
                elif before < subscription.offset < last:
                    for one in entry:
                        self._dispatch_to(iter((subscription,)), one, until)
            if count % SLICE_CHECK == 0 and time.perf_counter() > until:
                over = True
                break
        if written and not entry.topic.is_internal:
            for one in entry:
                tally.delivered(one.event.created, written, size)
                size = 0  # was that of all together
        return not over

    def _fall_behind(self, subscription: Subscription, entry: FramedEvent | FramedEvents) -> None:
        """The socket is full: what this topic's overflow rule makes of it."""
        feed = subscription.feed
        rule = feed.topic.overflow_rule()
        tally.count("overflow", rule)
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
        for one in entry:
            enqueue(subscription, one, rule, self.disconnect_slow)

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
        record(
            "reader.too_slow",
            "A reader of %(topic)s is too slow and was disconnected.",
            topic=subscription.feed.topic.name,
            connection=subscription.connection.id,
        )
        subscription.connection.ending = "too-slow"
        self.drop(subscription.connection)
