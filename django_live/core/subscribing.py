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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..conf import live_settings
from ..exceptions import StoreError
from . import hooks
from .bus import Bus
from .connections import Connection
from .counting import tally
from .events import Event, Place, Position, encode_data, place_text
from .feeds import Feed, FramedEvent, Subscription, Tap
from .following import PAGE_BYTES, PAGE_EVENTS, Following
from .hub import Hub
from .log import EventLog, Head
from .records import record
from .topics import Topic

logger = logging.getLogger("django_live.subscribing")

RESUME_SLACK = 128
"""Events before the asked-for one that are read along: clients that reconnect together come with
cursors a little apart, and one read should serve them all."""
RETRY_AFTER = (0.5, 2.0)


@dataclass(slots=True)
class Request:
    """One topic that a connection asks for, already permitted."""

    topic: Topic
    place: Place | None
    """Where the client was; None for a newcomer."""
    visible_from: float = 0.0


class _Joined(NamedTuple):
    """Subscriptions that joined live, before anything was written."""

    begun: list[Subscription]
    failed: list[Subscription]
    starts: list[Callable[[], None]]

    @property
    def names(self) -> list[str]:
        return [subscription.feed.topic.name for subscription in self.begun]


class _FramedPage(NamedTuple):
    """A page of the log, framed once for all who read it."""

    head: Head
    entries: list[FramedEvent]


class Subscribing(Following):
    """Opens subscriptions, and serves those that lag."""

    def __init__(self, hub: Hub, bus: Bus, log: EventLog, spawn: Callable[..., Any]) -> None:
        super().__init__(hub, bus, log, spawn)
        self._pages: dict[str, dict[int, asyncio.Future[_FramedPage]]] = {}
        self._replaying: set[Subscription] = set()
        self._snapshots: dict[str, asyncio.Task[tuple[str, int, str]]] = {}

    def _forget(self, key: str) -> None:
        super()._forget(key)
        self._pages.pop(key, None)

    # -- opening -----------------------------------------------------------------------------------

    async def open(self, connection: Connection, requests: Sequence[Request]) -> None:
        """Subscribe a new connection: the first frame, then what it missed, then live."""
        joined = await self._join(connection, requests)
        if connection.closed:
            return
        settings = live_settings()
        opening = connection.dialect.opened(
            connection.id, settings.HEARTBEAT, settings.RETRY, joined.names
        )
        connection.begin(opening + connection.dialect.end(connection.cursor))
        for subscription in joined.failed:
            self.end_unavailable(subscription)
        for start in joined.starts:
            start()
        connection.pump()

    async def subscribe(
        self,
        connection: Connection,
        requests: Sequence[Request],
        reply: Callable[[list[str], list[str]], bytes],
    ) -> list[Subscription]:
        """More topics for a connection that is open already: the reply, then what it missed, then
        live. ``reply`` gets the names that begin, and those that could not be opened just now.
        Returns the subscriptions that begin."""
        joined = await self._join(connection, requests)
        if connection.closed:
            return []
        failed = [subscription.feed.topic.name for subscription in joined.failed]
        for subscription in joined.failed:
            self._leave(subscription, comes_back=True)
        answer = reply(joined.names, failed)
        if joined.begun and any(request.place is None for request in requests):
            # A newcomer that is cut before the first event would come back as one, and miss that.
            answer += connection.dialect.moved(connection.cursor) if connection.cursor else b""
        connection.notify(answer)
        for start in joined.starts:
            start()
        if not connection.blocked:
            connection.pump()
        return joined.begun

    def unsubscribe(self, connection: Connection, topics: Iterable[Topic]) -> None:
        """End interests that the client has no more: no event of theirs is written from here on."""
        for topic in topics:
            connection.forget_place(topic.key)
            subscription = connection.subscriptions.get(topic.key)
            if subscription is not None:
                self.hub.unsubscribe(subscription)

    async def listen(
        self, topic: Topic, on_event: Callable[[Event], None], on_reset: Callable[[str], None]
    ) -> Tap:
        """Have this process's own work hear a topic: every event from here on, in order and, with
        history, without a gap, or ``on_reset`` with the reason. Until ``hub.unlisten(tap)``.

        Raises ``StoreError`` where the log cannot be asked.
        """
        tap = self.hub.listen(topic, on_event, on_reset)
        try:
            await self._make_ready([tap.feed])
            if tap.feed.logged and not tap.feed.epoch:
                raise StoreError(f"The log of {topic.name} does not answer.")
        except BaseException:
            self.hub.unlisten(tap)
            raise
        return tap

    async def _join(self, connection: Connection, requests: Sequence[Request]) -> _Joined:
        """Join live, and learn how each topic begins. Nothing is written."""
        opened = [(r, self.hub.subscribe(connection, r.topic)) for r in requests]
        for request, subscription in opened:
            subscription.visible_from = request.visible_from
            # Whatever is decided below, until its frames are written the client is where it was.
            subscription.place = request.place.text if request.place else ""
            connection.forget_place(request.topic.key)
        await self._make_ready([subscription.feed for _, subscription in opened])
        failed = [s for r, s in opened if not await self._agrees(s.feed, r.place)]
        begun = [(r, s) for r, s in opened if s not in failed and s.state == Subscription.JOINING]
        # Without a wait from here to the reply: what is decided now holds when it is written.
        starts = [] if connection.closed else [self._start_of(s, r.place) for r, s in begun]
        return _Joined([s for _, s in begun], failed, starts)

    def _start_of(self, subscription: Subscription, place: Place | None) -> Callable[[], None]:
        """How this subscription begins: where the client was, at a reset, or as a newcomer's."""
        feed = subscription.feed
        if place is None:
            if feed.topic.has_snapshot():
                return lambda: self._snapshot_first(subscription, None)
            subscription.place = feed.place(subscription.connection.known)
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

    # -- replay ------------------------------------------------------------------------------------

    def need(self, subscription: Subscription) -> None:
        """A reader needs events that this process no longer has."""
        if not subscription.feed.logged:
            self.reset(subscription, "overflow")
        elif subscription not in self._replaying:
            self._replaying.add(subscription)
            tally.count("replays")
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
        if feed.after(subscription.offset) is not None:
            return True  # another's page came between its asking and its turn
        try:
            page = await self._page_for(feed, subscription)
        except Exception as error:
            self._store_failed(error)
            return False
        if page.head.epoch != feed.epoch:
            await self.fill(feed)
            return feed.after(subscription.offset) is not None
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
        with tally.asking_store("read"):
            page = await self.log.aread(feed.topic, after, PAGE_EVENTS, PAGE_BYTES)
        epoch = page.head.epoch
        framed = _FramedPage(page.head, [FramedEvent(feed.topic, e, epoch) for e in page.events])
        if epoch == feed.epoch:
            # Here and not by its readers: who comes between the end of a read and their turn finds
            # neither it nor its events, and would read the same again.
            self._put_into_ring(feed, framed)
        return framed

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
        tally.count("resets", reason)
        facts = {"topic": feed.topic.name, "connection": subscription.connection.id}
        # Clients can cause it as they like: not for every log.
        record("reset", level=logging.DEBUG, reason=reason, **facts)
        if feed.topic.has_snapshot():
            self._snapshot_first(subscription, reason)
            return
        frame = subscription.connection.dialect.reset(feed.topic.name, reason, False)
        subscription.prelude = (frame, feed.place(subscription.connection.known))
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
        position = Position(epoch, last) if feed.logged else None
        place = place_text(feed.key, position, known=subscription.connection.known)
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
        self._leave(subscription, comes_back=comes_back)
        connection.notify(connection.dialect.error(subscription.feed.topic.name, code, message))
        if not connection.subscriptions and not connection.closed and not connection.two_way:
            connection.close(live_settings().RETRY)

    def _leave(self, subscription: Subscription, *, comes_back: bool) -> None:
        self.hub.unsubscribe(subscription)
        if comes_back and subscription.place:
            subscription.connection.keep_place(subscription.place)
