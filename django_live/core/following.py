"""Station 6, the way in: keeps the feeds of one event loop complete. What the bus says, checked against
the log.

Must keep true: a feed has every event from where it began up to ``last``, in offset order, whatever the
bus loses, delays or repeats; a log that was set back begins a new epoch, and its readers are reset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from django.db import DatabaseError

from . import tracing
from .bus import Bus, Envelope, read_envelope
from .counting import tally
from .envelopes import trace_of
from .events import Event, Position
from .feeds import Feed, FramedEvent, Subscription
from .hub import Hub
from .log import EventLog, Head, Page
from .records import record

logger = logging.getLogger("django_live.subscribing")

PAGE_EVENTS = 500
PAGE_BYTES = 256 * 1024
HEADS_AT_ONCE = 500
EARLY_EVENTS = 1000
REPORT_EVERY = 30.0
"""Seconds between two reports of a store that does not answer."""


class Following(ABC):
    """Follows the logs of the topics that somebody listens to."""

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

    @abstractmethod
    def reset(self, subscription: Subscription, reason: str) -> None:
        """Say that events in between cannot be had, and begin anew."""

    # -- begin and end -----------------------------------------------------------------------------

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
            heads = await self._heads(logged)
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

    async def _heads(self, feeds: Sequence[Feed]) -> Mapping[str, Head]:
        if not feeds:
            return {}
        with tally.asking_store("heads"):
            return await self.log.aheads([feed.topic for feed in feeds])

    def feed_unused(self, feed: Feed) -> None:
        """Nobody listens here any more."""
        if feed.in_use:
            return
        task = self._ready.get(feed.key)
        if task is not None and not task.done():
            task.add_done_callback(lambda _: self.feed_unused(feed))
            return
        self.bus.leave(feed.key)
        self.hub.forget(feed)
        self._forget(feed.key)

    def _forget(self, key: str) -> None:
        for known in (self._ready, self._early, self._ahead):
            known.pop(key, None)

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
        if events and events[-1].created and not feed.topic.is_internal:
            tally.bus_lag.observe(time.time() - events[-1].created, len(events))
        if tracing.is_on():
            with tracing.delivering(feed.topic.name, len(events), trace_of(message)):
                self._hand_on(feed, epoch, events)
        else:
            self._hand_on(feed, epoch, events)

    def _hand_on(self, feed: Feed, epoch: str, events: list[Event]) -> None:
        key = feed.key
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
                tally.count("gaps")
                record("gap", level=logging.DEBUG, topic=feed.topic.name, offset=event.offset)
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
            while more and feed.in_use:
                had = Position(feed.epoch, feed.last)
                with tally.asking_store("read"):
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
            self._reset_all(feed, "trimmed")
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
        self._reset_all(feed, "epoch")

    def _reset_all(self, feed: Feed, reason: str) -> None:
        for tap in list(feed.taps):
            tap.on_reset(reason)
        for subscription in list(feed.subscriptions):
            if subscription.state != Subscription.JOINING:
                self.reset(subscription, reason)

    async def check_heads(self, feeds: Sequence[Feed]) -> None:
        """Look for events that the bus lost, many topics in one question."""
        feeds = [feed for feed in feeds if feed.logged and feed.epoch]
        for start in range(0, len(feeds), HEADS_AT_ONCE):
            some = feeds[start : start + HEADS_AT_ONCE]
            had = {feed.key: Position(feed.epoch, feed.last) for feed in some}
            heads = await self._heads(some)
            for feed in some:
                if feed.key in heads and feed.in_use:
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
            head = (await self._heads([feed]))[feed.key]
            await self._compare(feed, had, head)
            return head
        finally:
            del self._asking[feed]
