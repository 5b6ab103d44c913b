"""Station 6: the way out. Replay, then live, without a gap; the only one who knows both hub and log.

Must keep true: a subscription to a topic with history gets every event after its cursor exactly once,
in offset order, or is told ``reset``; and ``reset`` only when the log no longer holds the range, began
another epoch, or never gave the cursor out. The order is always: join live, then read the log, then
deliver what came meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import DatabaseError

from ..conf import live_settings
from . import hooks
from .bus import Bus, Envelope, read_envelope
from .events import Event, Place, Position, encode_data, place_text
from .hub import Connection, Feed, FramedEvent, Hub, Subscription
from .log import EventLog, Head, Page
from .topics import Topic

logger = logging.getLogger("django_live.subscribing")

PAGE_EVENTS = 500
PAGE_BYTES = 256 * 1024
RESUME_SLACK = 128
"""Events before the asked-for one that are read along: clients that reconnect together come with
cursors a little apart, and one read should serve them all."""
HEADS_AT_ONCE = 500
RETRY_AFTER = (0.5, 2.0)
EARLY_EVENTS = 1000
REPORT_EVERY = 30.0
"""Seconds between two reports of a store that does not answer."""


@dataclass(slots=True)
class Request:
    """One topic that a connection asks for, already permitted."""

    topic: Topic
    place: Place | None
    """Where the client was; None for a newcomer."""
    visible_from: float = 0.0


class _FramedPage(NamedTuple):
    """A page of the log, framed once for all who read it."""

    head: Head
    entries: list[FramedEvent]


class Subscribing:
    """Opens subscriptions and keeps the feeds of one event loop complete."""

    def __init__(self, hub: Hub, bus: Bus, log: EventLog, spawn: Callable[..., Any]) -> None:
        self.hub = hub
        self.bus = bus
        self.log = log
        self._spawn: Callable[[Coroutine[Any, Any, None]], Any] = spawn
        self._reported_store = float("-inf")
        self._ready: dict[str, asyncio.Task[None]] = {}
        self._early: dict[str, list[tuple[str, list[Event]]]] = {}
        self._filling: dict[Feed, asyncio.Future[None]] = {}
        self._asking: dict[Feed, asyncio.Future[Head]] = {}
        self._ahead: dict[str, int] = {}
        self._pages: dict[str, dict[int, asyncio.Future[_FramedPage]]] = {}
        self._replaying: set[Subscription] = set()
        self._snapshots: dict[str, asyncio.Task[tuple[str, int, str]]] = {}

    # -- opening -----------------------------------------------------------------------------------

    async def open(self, connection: Connection, requests: Sequence[Request]) -> None:
        """Subscribe a new connection: the first frame, then what it missed, then live."""
        opened = [(r, self.hub.subscribe(connection, r.topic)) for r in requests]
        await self._make_ready([subscription.feed for _, subscription in opened])
        failed = [s for r, s in opened if not await self._agrees(s.feed, r.place)]
        if connection.closed:
            return
        begun = [(r, s) for r, s in opened if s not in failed and s.state == Subscription.JOINING]
        for request, subscription in opened:
            subscription.visible_from = request.visible_from
            # Whatever is decided below, until its frames are written the client is where it was.
            subscription.place = request.place.text if request.place else ""
        starts = [self._start_of(s, r.place) for r, s in begun]
        settings = live_settings()
        names = [subscription.feed.topic.name for _, subscription in begun]
        opening = connection.dialect.opened(
            connection.id, settings.HEARTBEAT, settings.RETRY, names
        )
        connection.begin(opening + connection.dialect.end(connection.cursor))
        for subscription in failed:
            self.end_unavailable(subscription)
        for start in starts:
            start()
        connection.pump()

    def _start_of(self, subscription: Subscription, place: Place | None) -> Callable[[], None]:
        """How this subscription begins: where the client was, at a reset, or as a newcomer's."""
        feed = subscription.feed
        if place is None:
            if feed.topic.has_snapshot():
                return lambda: self._snapshot_first(subscription, None)
            subscription.place = feed.place
            last = feed.last
            return lambda: self.hub.deliver_from(subscription, last)
        reason = self._reason_for_reset(feed, place)
        if reason is not None:
            return lambda: self.reset(subscription, reason)
        if not feed.logged:
            return lambda: self._snapshot_first(subscription, None)
        assert place.position is not None
        offset = place.position.offset
        return lambda: self.hub.deliver_from(subscription, offset)

    def _reason_for_reset(self, feed: Feed, place: Place) -> str | None:
        if not feed.logged:
            return None if feed.topic.has_snapshot() else "not-resumable"
        if not place.genuine or place.position is None:
            return "unknown-cursor"
        if place.position.epoch != feed.epoch:
            return "epoch"
        return "unknown-cursor" if place.position.offset > feed.last else None

    async def _agrees(self, feed: Feed, place: Place | None) -> bool:
        """Where a genuine cursor and the feed disagree, ask the log who is right. False: the log
        could not be asked."""
        if feed.logged and not feed.epoch:
            return False
        if not feed.logged or place is None or not place.genuine or place.position is None:
            return True
        epoch, offset = place.position
        if epoch == feed.epoch and offset <= feed.last:
            return True
        try:
            head = await self._ask_head(feed)
            if epoch == head.epoch == feed.epoch and head.last < offset:
                # The log gave this place out and no longer knows it: it was set back.
                await self._begin_epoch(feed, head)
        except Exception as error:
            self._store_failed(error)
            return False
        if epoch == feed.epoch and offset > feed.last:
            await self.fill(feed)
        return epoch != feed.epoch or offset <= feed.last

    async def _ask_head(self, feed: Feed) -> Head:
        """A head check of one feed that begins after this call: an answer that is under way may be
        older than the caller's cursor. Clients that come together share it."""
        if feed in self._asking:
            await asyncio.wait({self._asking[feed]})
        if feed not in self._asking:
            self._asking[feed] = asyncio.ensure_future(self._check_head(feed))
        return await asyncio.shield(self._asking[feed])

    async def _check_head(self, feed: Feed) -> Head:
        try:
            had = Position(feed.epoch, feed.last)
            head = (await self.log.aheads([feed.topic]))[feed.key]
            await self._compare(feed, had, head)
            return head
        finally:
            del self._asking[feed]

    async def _make_ready(self, feeds: Iterable[Feed]) -> None:
        """Join the bus and learn where each log stands, once per feed."""
        cold = [feed for feed in feeds if feed.key not in self._ready]
        if cold:
            task = self._spawn(self._begin_feeds(cold))
            for feed in cold:
                self._ready[feed.key] = task
        waited = {self._ready[feed.key] for feed in feeds if feed.key in self._ready}
        for task in waited:
            # Shielded: one client that leaves must not take the others' feed along.
            await asyncio.shield(task)

    async def _begin_feeds(self, feeds: Sequence[Feed]) -> None:
        for feed in feeds:
            if feed.logged:
                self._early[feed.key] = []
            await self.bus.join(feed.key)
        logged = [feed for feed in feeds if feed.logged]
        try:
            heads = await self.log.aheads([feed.topic for feed in logged]) if logged else {}
        except Exception as error:
            self._store_failed(error)
            for feed in feeds:
                self._ready.pop(feed.key, None)
                self._early.pop(feed.key, None)
            return
        for feed in logged:
            head = heads[feed.key]
            feed.begin(head.epoch, head.last)
            for epoch, events in self._early.pop(feed.key, ()):
                self._take(feed, epoch, events)

    def _store_failed(self, error: Exception) -> None:
        """Report it: now and then, not once per reader."""
        now = self.hub.loop.time()
        if now - self._reported_store < REPORT_EVERY:
            return
        self._reported_store = now
        logger.error(
            "The store does not answer (%s: %s); topics are refused or wait until it does. If tables "
            "are missing, run `manage.py migrate`.",
            type(error).__name__,
            error,
            # A database's own words are enough.
            exc_info=None if isinstance(error, DatabaseError) else error,
        )

    def feed_unused(self, feed: Feed) -> None:
        """Nobody listens here any more."""
        if feed.subscriptions:
            return
        task = self._ready.get(feed.key)
        if task is not None and not task.done():
            task.add_done_callback(lambda _: self.feed_unused(feed))
            return
        self.bus.leave(feed.key)
        self.hub.forget(feed)
        for known in (self._ready, self._early, self._ahead, self._pages):
            known.pop(feed.key, None)

    # -- live --------------------------------------------------------------------------------------

    def receive(self, message: Envelope) -> None:
        """A message of the bus."""
        parsed = read_envelope(message)
        if parsed is None:
            logger.warning("A message on the channel layer is not one of ours; it was ignored.")
            return
        key, epoch, events = parsed
        feed = self.hub.feeds.get(key)
        if feed is None:
            return
        if not feed.logged:
            self.hub.dispatch(feed, [feed.append(event) for event in events])
        elif key in self._early:
            if len(self._early[key]) < EARLY_EVENTS:
                self._early[key].append((epoch, events))
        elif feed.epoch:
            self._take(feed, epoch, events)

    def _take(self, feed: Feed, epoch: str, events: Sequence[Event]) -> None:
        """Append what follows; what does not follow makes us read the log."""
        if epoch != feed.epoch:
            self._fill_soon(feed)
            return
        fresh: list[FramedEvent] = []
        for event in events:
            if event.offset == feed.last + 1:
                fresh.append(feed.append(event))
            elif event.offset <= feed.last:
                if feed.contradicts(event):  # the log was set back, and went on from there
                    self._fill_soon(feed)
            else:
                self._ahead[feed.key] = max(event.offset, self._ahead.get(feed.key, 0))
                self._fill_soon(feed)
                break
        if fresh:
            self.hub.dispatch(feed, fresh)

    # -- keeping complete --------------------------------------------------------------------------

    def _fill_soon(self, feed: Feed) -> None:
        if feed not in self._filling:
            self._spawn(self.fill(feed))

    async def fill(self, feed: Feed) -> None:
        """Read the log until this process has what it holds, together with those who already do.
        Nothing happens while the store does not answer: the next head check tries again."""
        if feed not in self._filling:
            self._filling[feed] = asyncio.ensure_future(self._fill(feed))
        await asyncio.shield(self._filling[feed])

    async def _fill(self, feed: Feed) -> None:
        try:
            more = bool(feed.epoch)
            while more and feed.subscriptions:
                had = Position(feed.epoch, feed.last)
                page = await self.log.aread(feed.topic, had.offset, PAGE_EVENTS, PAGE_BYTES)
                # A page of a life that ended while it was read says nothing.
                more = feed.epoch != had.epoch or await self._apply(feed, had, page)
        except Exception as error:
            self._store_failed(error)
        finally:
            del self._filling[feed]

    async def _apply(self, feed: Feed, had: Position, page: Page) -> bool:
        """Bring a feed up to a page that was read after ``had``; whether to read on."""
        head = page.head
        if head.epoch != feed.epoch or head.last < had.offset:
            await self._compare(feed, had, head)
            # What the bus said of the new life meanwhile was not taken.
            return feed.epoch != had.epoch
        first = page.events[0].offset if page.events else head.last + 1
        if first > feed.last + 1:
            # Trimmed before this process could read it. Readers that have less than the floor lost it.
            feed.begin(head.epoch, first - 1)
            for subscription in list(feed.subscriptions):
                if subscription.state != Subscription.JOINING:
                    self.reset(subscription, "trimmed")
        fresh = [feed.append(e) for e in page.events if e.offset == feed.last + 1]
        if fresh:
            self.hub.dispatch(feed, fresh)
        heard_of = self._ahead.get(feed.key, 0)
        if feed.last >= heard_of:
            self._ahead.pop(feed.key, None)
        return had.offset < feed.last < max(head.last, heard_of)

    async def _begin_epoch(self, feed: Feed, seen: Head) -> None:
        """The log lost events that had been given out: begin a new life of it."""
        logger.error(
            "The log of %s ends at %d, before events that were already delivered. It was set back "
            "(a restored backup, a failover); its readers are reset.",
            feed.topic.name,
            seen.last,
        )
        head = await self.log.abegin_epoch(feed.topic, seen)
        if feed.epoch == seen.epoch:
            self._new_life(feed, head)

    def _new_life(self, feed: Feed, head: Head) -> None:
        if feed.epoch == head.epoch:
            return
        feed.begin(head.epoch, head.last)
        feed.to_dispatch.clear()
        self._ahead.pop(feed.key, None)
        for subscription in list(feed.subscriptions):
            if subscription.state != Subscription.JOINING:
                self.reset(subscription, "epoch")

    async def check_heads(self, feeds: Sequence[Feed]) -> None:
        """Look for events that the bus lost, many topics in one question."""
        feeds = [feed for feed in feeds if feed.logged and feed.epoch]
        for start in range(0, len(feeds), HEADS_AT_ONCE):
            some = feeds[start : start + HEADS_AT_ONCE]
            had = {feed.key: Position(feed.epoch, feed.last) for feed in some}
            heads = await self.log.aheads([feed.topic for feed in some])
            for feed in some:
                if feed.key in heads and feed.subscriptions:
                    await self._compare(feed, had[feed.key], heads[feed.key])

    async def _compare(self, feed: Feed, had: Position, head: Head) -> None:
        """Make of a head what it says. ``had`` is where the feed stood before the head was read: an
        answer that comes after the feed began another life is not about it any more."""
        if feed.epoch != had.epoch:
            return
        if head.epoch != feed.epoch:
            self._new_life(feed, head)
        elif head.last < had.offset:
            await self._begin_epoch(feed, head)
        elif head.last > feed.last:
            await self.fill(feed)

    # -- replay ------------------------------------------------------------------------------------

    def need(self, subscription: Subscription) -> None:
        """A reader needs events that this process no longer has."""
        if not subscription.feed.logged:
            self.reset(subscription, "overflow")
        elif subscription not in self._replaying:
            self._replaying.add(subscription)
            self._spawn(self._replay(subscription))

    async def _replay(self, subscription: Subscription) -> None:
        lagging = Subscription.LAGGING
        try:
            while subscription.state == lagging:
                if await self._replay_page(subscription):
                    break
                await asyncio.sleep(random.uniform(*RETRY_AFTER))
        finally:
            self._replaying.discard(subscription)
        if subscription.state == lagging:
            subscription.connection.lagging[subscription] = None
            if not subscription.connection.blocked:
                subscription.connection.pump()

    async def _replay_page(self, subscription: Subscription) -> bool:
        """Get the reader's next events; False: try again in a moment."""
        feed = subscription.feed
        try:
            page = await self._page_for(feed, subscription)
        except Exception as error:
            self._store_failed(error)
            return False
        if page.head.epoch != feed.epoch:
            await self.fill(feed)
            return feed.after(subscription.offset) is not None
        self._put_into_ring(feed, page)
        wanted = subscription.offset + 1
        if (
            subscription.state != Subscription.LAGGING
            or feed.after(subscription.offset) is not None
        ):
            return True
        if any(entry.offset == wanted for entry in page.entries):
            subscription.page = page.entries
            return True
        first = page.entries[0].offset if page.entries else page.head.last + 1
        if first > wanted and page.head.floor >= wanted:
            self.reset(subscription, "trimmed")
            return True
        return False  # the log does not have yet what this process was told of

    async def _page_for(self, feed: Feed, subscription: Subscription) -> _FramedPage:
        """A page of the log with the reader's next event, shared with readers nearby."""
        offset = subscription.offset
        pages = self._pages.setdefault(feed.key, {})
        for after, reading in pages.items():
            if after <= offset < after + PAGE_EVENTS:
                page = await asyncio.shield(reading)
                if any(entry.offset == offset + 1 for entry in page.entries):
                    return page
                break
        # A reader in the middle of a long replay comes for the next page exactly.
        after = offset if subscription.page else max(0, offset - RESUME_SLACK)
        page = await self._read_page(feed, pages, after)
        reaches = not page.entries or page.entries[-1].offset > offset
        return page if reaches else await self._read_page(feed, pages, offset)

    async def _read_page(
        self, feed: Feed, pages: dict[int, asyncio.Future[_FramedPage]], after: int
    ) -> _FramedPage:
        if after not in pages:
            pages[after] = asyncio.ensure_future(self._framed_page(feed, after))
            pages[after].add_done_callback(lambda _: pages.pop(after, None))
        return await asyncio.shield(pages[after])

    async def _framed_page(self, feed: Feed, after: int) -> _FramedPage:
        page = await self.log.aread(feed.topic, after, PAGE_EVENTS, PAGE_BYTES)
        epoch = page.head.epoch
        return _FramedPage(page.head, [FramedEvent(feed.topic, e, epoch) for e in page.events])

    def _put_into_ring(self, feed: Feed, page: _FramedPage) -> None:
        """Keep a page for readers to come, where it fits."""
        older = [entry for entry in page.entries if entry.offset < feed.ring_start]
        if older and older[-1].offset == feed.ring_start - 1:
            feed.prepend(older)

    # -- resets and snapshots ----------------------------------------------------------------------

    def reset(self, subscription: Subscription, reason: str) -> None:
        """Say that events in between cannot be had, and begin anew."""
        feed = subscription.feed
        if subscription.state == Subscription.ENDED:
            return
        if feed.topic.has_snapshot():
            self._snapshot_first(subscription, reason)
            return
        frame = subscription.connection.dialect.reset(feed.topic.name, reason, False)
        subscription.prelude = (frame, feed.place)
        self.hub.deliver_from(subscription, feed.last)
        if not subscription.connection.blocked:
            subscription.connection.pump()

    def _snapshot_first(self, subscription: Subscription, reason: str | None) -> None:
        """Deliver the topic's snapshot, then what came after it began to be taken."""
        feed = subscription.feed
        if subscription.state == Subscription.ENDED:
            return
        feed.live.pop(subscription, None)
        subscription.connection.lagging.pop(subscription, None)
        if feed.logged:
            subscription.state = Subscription.JOINING
        else:
            subscription.hold()
            self.hub.deliver_from(subscription, 0)
        self._spawn(self._deliver_snapshot(subscription, reason))

    async def _deliver_snapshot(self, subscription: Subscription, reason: str | None) -> None:
        feed, dialect = subscription.feed, subscription.connection.dialect
        try:
            epoch, last, data = await self._snapshot(feed)
        except Exception:
            logger.exception("%r.snapshot() failed; the subscription is ended.", feed.topic)
            self.end_unavailable(subscription)
            return
        if subscription.state == Subscription.ENDED:
            return
        if epoch != feed.epoch:
            self._snapshot_first(subscription, reason)
            return
        frames = b""
        if reason is not None:
            frames = dialect.reset(feed.topic.name, reason, True) + dialect.end("")
        frames += dialect.snapshot(feed.topic.name, data)
        place = place_text(feed.key, Position(epoch, last) if feed.logged else None)
        subscription.prelude = (frames, place)
        subscription.holding = False
        self.hub.deliver_from(subscription, last)
        if not subscription.connection.blocked:
            subscription.connection.pump()

    async def _snapshot(self, feed: Feed) -> tuple[str, int, str]:
        """Epoch and offset that a snapshot covers, and its JSON; one at a time for all who wait."""
        task = self._snapshots.get(feed.key)
        if task is not None and not feed.logged:
            # Without a log nobody replays what came between its beginning and this reader's.
            await asyncio.wait({task})
            task = self._snapshots.get(feed.key)
        if task is None or task.done():
            task = asyncio.ensure_future(self._take_snapshot(feed))
            self._snapshots[feed.key] = task
            task.add_done_callback(lambda done: self._forget_snapshot(feed.key, done))
        return await asyncio.shield(task)

    def _forget_snapshot(self, key: str, done: asyncio.Task[Any]) -> None:
        if self._snapshots.get(key) is done:
            del self._snapshots[key]

    async def _take_snapshot(self, feed: Feed) -> tuple[str, int, str]:
        epoch, last = feed.epoch, feed.last  # before it is read: what comes meanwhile is replayed
        return epoch, last, encode_data(await hooks.call(feed.topic.snapshot))

    def end_unavailable(self, subscription: Subscription) -> None:
        """End one subscription for a fault of ours; its client may try again."""
        self.end(
            subscription,
            "unavailable",
            "This topic could not be opened just now. Try again in a moment.",
            comes_back=True,
        )

    def end(
        self, subscription: Subscription, code: str, message: str, *, comes_back: bool = False
    ) -> None:
        """End one subscription and tell its client why; the others go on. A stream without any is
        over: a client that only reconnects would else wait for ever. ``comes_back``: the client may
        resume where it was, so the stream's cursor keeps its place."""
        connection = subscription.connection
        if subscription.state == Subscription.ENDED:
            return
        self.hub.unsubscribe(subscription)
        if comes_back and subscription.place:
            connection.kept_places.append(subscription.place)
        connection.notify(connection.dialect.error(subscription.feed.topic.name, code, message))
        if not connection.subscriptions and not connection.closed:
            connection.close(live_settings().RETRY)
