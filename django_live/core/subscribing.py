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
from typing import Any

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


@dataclass(slots=True)
class Request:
    """One topic that a connection asks for, already permitted."""

    topic: Topic
    place: Place | None
    """Where the client was; None for a newcomer."""
    visible_from: float = 0.0


class Subscribing:
    """Opens subscriptions and keeps the feeds of one event loop complete."""

    def __init__(self, hub: Hub, bus: Bus, log: EventLog, spawn: Callable[..., Any]) -> None:
        self.hub = hub
        self.bus = bus
        self.log = log
        self._spawn: Callable[[Coroutine[Any, Any, None]], Any] = spawn
        self._store_is_down = False
        self._ready: dict[str, asyncio.Task[None]] = {}
        self._early: dict[str, list[tuple[str, list[Event]]]] = {}
        self._filling: set[str] = set()
        self._ahead: dict[str, int] = {}
        self._pages: dict[str, dict[int, asyncio.Future[Page]]] = {}
        self._snapshots: dict[str, asyncio.Task[tuple[str, int, str]]] = {}

    # -- opening -----------------------------------------------------------------------------------

    async def open(self, connection: Connection, requests: Sequence[Request]) -> None:
        """Subscribe a new connection: the first frame, then what it missed, then live."""
        opened = [(r, self.hub.subscribe(connection, r.topic)) for r in requests]
        await self._make_ready([subscription.feed for _, subscription in opened])
        failed = []
        for request, subscription in opened:
            if (subscription.feed.logged and not subscription.feed.epoch) or not await self._agrees(
                subscription.feed, request.place
            ):
                failed.append(subscription)
        if connection.closed:
            return
        for subscription in failed:
            self._unavailable(subscription)
        begun = [(r, s) for r, s in opened if s.state == Subscription.JOINING]
        for request, subscription in begun:
            subscription.visible_from = request.visible_from
            # Whatever is decided below, until its frames are written the client is where it was.
            subscription.place = request.place.text if request.place else ""
        starts = [self._start_of(s, r.place) for r, s in begun]
        settings = live_settings()
        names = [subscription.feed.topic.name for _, subscription in begun]
        opening = connection.dialect.opened(
            connection.id, settings.HEARTBEAT, settings.RETRY, names
        )
        connection.write(opening + connection.dialect.end(connection.cursor))
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
        if not feed.logged or place is None or not place.genuine or place.position is None:
            return True
        epoch, offset = place.position
        if epoch == feed.epoch and offset <= feed.last:
            return True
        try:
            await self.check_heads([feed])
            if epoch == feed.epoch and offset > feed.last:
                # The log gave this place out and no longer knows it: it was set back.
                await self._begin_epoch(feed, (await self.log.aheads([feed.topic]))[feed.key])
        except Exception:
            logger.exception("The log of %s could not be asked.", feed.topic.name)
            return False
        return True

    async def _make_ready(self, feeds: Iterable[Feed]) -> None:
        """Join the bus and learn where each log stands, once per feed."""
        cold = [feed for feed in feeds if feed.key not in self._ready]
        if cold:
            task = asyncio.ensure_future(self._begin_feeds(cold))
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
        except Exception:
            if not self._store_is_down:
                logger.exception("The store does not answer; streams are refused until it does.")
            self._store_is_down = True
            for feed in feeds:
                self._ready.pop(feed.key, None)
                self._early.pop(feed.key, None)
            return
        self._store_is_down = False
        for feed in logged:
            head = heads[feed.key]
            feed.begin(head.epoch, head.last)
            for epoch, events in self._early.pop(feed.key, ()):
                self._take(feed, epoch, events)

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
            elif event.offset > feed.last:
                self._ahead[feed.key] = max(event.offset, self._ahead.get(feed.key, 0))
                self._fill_soon(feed)
                break
        if fresh:
            self.hub.dispatch(feed, fresh)

    # -- keeping complete --------------------------------------------------------------------------

    def _fill_soon(self, feed: Feed) -> None:
        if feed.key not in self._filling:
            self._spawn(self.fill(feed))

    async def fill(self, feed: Feed) -> None:
        """Read the log until this process has what it holds. Nothing happens while the store does
        not answer: the next head check tries again."""
        if feed.key in self._filling or not feed.epoch:
            return
        self._filling.add(feed.key)
        try:
            more = True
            while more and feed.subscriptions:
                had = feed.last
                page = await self.log.aread(feed.topic, had, PAGE_EVENTS, PAGE_BYTES)
                more = await self._apply(feed, had, page)
        except Exception:
            logger.exception("The log of %s could not be read; trying again.", feed.topic.name)
        finally:
            self._filling.discard(feed.key)

    async def _apply(self, feed: Feed, had: int, page: Page) -> bool:
        """Bring a feed up to a page that was read after offset ``had``; whether there is more."""
        head = page.head
        if head.epoch != feed.epoch:
            self._new_life(feed, head)
            return False
        if head.last < had:
            await self._begin_epoch(feed, head)
            return False
        if page.events and page.events[0].offset > feed.last + 1:
            # Trimmed before this process could read it. Readers that have less than the floor lost it.
            feed.begin(head.epoch, page.events[0].offset - 1)
            for subscription in list(feed.subscriptions):
                if subscription.state != Subscription.JOINING:
                    self.reset(subscription, "trimmed")
        fresh = [feed.append(e) for e in page.events if e.offset == feed.last + 1]
        if fresh:
            self.hub.dispatch(feed, fresh)
        heard_of = self._ahead.get(feed.key, 0)
        if feed.last >= heard_of:
            self._ahead.pop(feed.key, None)
        return bool(fresh) and feed.last < max(head.last, heard_of)

    async def _begin_epoch(self, feed: Feed, seen: Head) -> None:
        """The log lost events that had been given out: begin a new life of it."""
        if seen.epoch == feed.epoch:
            logger.error(
                "The log of %s ends at %d, before events that were already delivered. It was set back "
                "(a restored backup, a failover); its readers are reset.",
                feed.topic.name,
                seen.last,
            )
            seen = await self.log.abegin_epoch(feed.topic, seen)
        self._new_life(feed, seen)

    def _new_life(self, feed: Feed, head: Head) -> None:
        if feed.epoch == head.epoch:
            return
        feed.begin(head.epoch, head.last)
        feed.to_dispatch.clear()
        for subscription in list(feed.subscriptions):
            if subscription.state != Subscription.JOINING:
                self.reset(subscription, "epoch")

    async def check_heads(self, feeds: Sequence[Feed]) -> None:
        """Look for events that the bus lost, many topics in one question."""
        feeds = [feed for feed in feeds if feed.logged and feed.epoch]
        for start in range(0, len(feeds), HEADS_AT_ONCE):
            some = feeds[start : start + HEADS_AT_ONCE]
            had = {feed.key: feed.last for feed in some}
            heads = await self.log.aheads([feed.topic for feed in some])
            for feed in some:
                head = heads.get(feed.key)
                if head is None or not feed.subscriptions:
                    continue
                if head.epoch != feed.epoch:
                    self._new_life(feed, head)
                elif head.last < had[feed.key]:
                    await self._begin_epoch(feed, head)
                elif head.last > feed.last:
                    await self.fill(feed)

    # -- replay ------------------------------------------------------------------------------------

    def need(self, subscription: Subscription) -> None:
        """A reader needs events that this process no longer has."""
        self._spawn(self._replay(subscription))

    async def _replay(self, subscription: Subscription) -> None:
        feed = subscription.feed
        try:
            page = await self._page_for(feed, subscription)
        except Exception:
            logger.exception("The log of %s could not be read; trying again.", feed.topic.name)
            self.hub.loop.call_later(random.uniform(*RETRY_AFTER), self._replay_again, subscription)
            return
        if subscription.state != Subscription.LAGGING:
            return
        if page.head.epoch != feed.epoch:
            await self.fill(feed)
            return
        wanted = subscription.offset + 1
        first = page.events[0].offset if page.events else page.head.last + 1
        if first > wanted and page.head.floor >= wanted:
            self.reset(subscription, "trimmed")
            return
        if not self._keep_page(feed, subscription, page):
            # The log does not have what this process was told of; look again in a moment.
            self.hub.loop.call_later(random.uniform(*RETRY_AFTER), self._replay_again, subscription)
            return
        subscription.connection.lagging[subscription] = None
        if not subscription.connection.blocked:
            subscription.connection.pump()

    def _replay_again(self, subscription: Subscription) -> None:
        if subscription.state == Subscription.LAGGING:
            self.need(subscription)

    async def _page_for(self, feed: Feed, subscription: Subscription) -> Page:
        """A page of the log with the reader's next event, shared with readers nearby."""
        offset = subscription.offset
        pages = self._pages.setdefault(feed.key, {})
        for after, reading in pages.items():
            if after <= offset < after + PAGE_EVENTS:
                page = await asyncio.shield(reading)
                if any(event.offset == offset + 1 for event in page.events):
                    return page
                break
        # A reader in the middle of a long replay comes for the next page exactly.
        after = offset if subscription.page else max(0, offset - RESUME_SLACK)
        page = await self._read_page(feed, pages, after)
        reaches = not page.events or page.events[-1].offset > offset
        return page if reaches else await self._read_page(feed, pages, offset)

    async def _read_page(
        self, feed: Feed, pages: dict[int, asyncio.Future[Page]], after: int
    ) -> Page:
        if after not in pages:
            pages[after] = asyncio.ensure_future(
                self.log.aread(feed.topic, after, PAGE_EVENTS, PAGE_BYTES)
            )
            pages[after].add_done_callback(lambda _: pages.pop(after, None))
        return await asyncio.shield(pages[after])

    def _keep_page(self, feed: Feed, subscription: Subscription, page: Page) -> bool:
        """Put a page into the ring where it fits, else only into this reader's hands. False: the
        reader's next event is in neither."""
        older = [event for event in page.events if event.offset < feed.ring_start]
        if older and older[-1].offset == feed.ring_start - 1:
            feed.prepend(older)
        if feed.after(subscription.offset) is not None:
            return True
        subscription.page = [FramedEvent(feed.topic, e, feed.epoch) for e in page.events]
        return any(event.offset == subscription.offset + 1 for event in page.events)

    # -- resets and snapshots ----------------------------------------------------------------------

    def reset(self, subscription: Subscription, reason: str) -> None:
        """Say that events in between cannot be had, and begin anew."""
        feed = subscription.feed
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
        feed.live.pop(subscription, None)
        subscription.connection.lagging.pop(subscription, None)
        if feed.logged:
            subscription.state = Subscription.JOINING
        else:
            subscription.holding, subscription.direct = True, False
            self.hub.deliver_from(subscription, 0)
        self._spawn(self._deliver_snapshot(subscription, reason))

    async def _deliver_snapshot(self, subscription: Subscription, reason: str | None) -> None:
        feed, dialect = subscription.feed, subscription.connection.dialect
        try:
            epoch, last, data = await self._snapshot(feed)
        except Exception:
            logger.exception("%r.snapshot() failed; the subscription is ended.", feed.topic)
            self._unavailable(subscription)
            return
        if subscription.state == Subscription.ENDED:
            return
        if epoch != feed.epoch:
            self._snapshot_first(subscription, "epoch")
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
        if task is None:
            task = asyncio.ensure_future(self._take_snapshot(feed))
            self._snapshots[feed.key] = task
            task.add_done_callback(lambda _: self._snapshots.pop(feed.key, None))
        return await asyncio.shield(task)

    async def _take_snapshot(self, feed: Feed) -> tuple[str, int, str]:
        epoch, last = feed.epoch, feed.last  # before it is read: what comes meanwhile is replayed
        return epoch, last, encode_data(await hooks.call(feed.topic.snapshot))

    def _unavailable(self, subscription: Subscription) -> None:
        self.end(
            subscription,
            "unavailable",
            "This topic could not be opened just now. Try again in a moment.",
        )

    def end(self, subscription: Subscription, code: str, message: str) -> None:
        """End one subscription and tell its client why; the others go on."""
        connection = subscription.connection
        if subscription.state != Subscription.ENDED:
            self.hub.unsubscribe(subscription)
            name = subscription.feed.topic.name
            connection.notify(connection.dialect.error(name, code, message))
