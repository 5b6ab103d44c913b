"""What one event loop can tell of itself: its connections, its topics, and how it is doing.

Must keep true: an answer is bounded in rows and bytes, whatever is asked; ten thousand connections are
looked through without keeping the loop from its deliveries.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .connections import Connection
from .counting import tally
from .feeds import Feed, Subscription
from .hub import Hub

MOST_ROWS = 10_000
MOST_BYTES = 4 * 1024 * 1024
SHOWN_TOPICS = 5
"""Of a connection's topics; all are counted."""
AT_ONCE = 500
"""Connections that are looked at before other work of the loop has a turn."""
SAMPLES = 60
"""Looks at the counters that are kept, for charts: five minutes."""

Row = dict[str, Any]


class Sample(NamedTuple):
    """What happened between two looks, for a chart. Rates are per second, times in seconds."""

    at: float
    connections: int
    deliveries: float
    bytes: float
    bus_lag: float
    store_latency: float


class Facts:
    """Tells them. One for each event loop."""

    def __init__(self, process: str, hub: Hub) -> None:
        self.process = process
        self.hub = hub
        self.started = time.time()
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._looked = time.monotonic()
        self._before = _totals()
        self._topics: dict[str, tuple[int, int]] = {}
        self._rates: dict[str, tuple[float, float]] = {}

    # -- looks -------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take a sample of the counters. Called every few seconds."""
        now = time.monotonic()
        passed = max(now - self._looked, 0.001)
        totals = _totals()
        deliveries, size, lag, lags, store, answers = (
            new - old for new, old in zip(totals, self._before, strict=True)
        )
        self._looked, self._before = now, totals
        self.samples.append(
            Sample(
                at=round(time.time(), 1),
                connections=len(self.hub.connections),
                deliveries=round(deliveries / passed, 2),
                bytes=round(size / passed, 1),
                bus_lag=round(lag / lags, 5) if lags else 0.0,
                store_latency=round(store / answers, 5) if answers else 0.0,
            )
        )
        topics = {f.key: (f.appended, f.appended_bytes) for f in self.hub.feeds.values()}
        self._rates = {
            key: _per_second(self._topics.get(key, seen), seen, passed)
            for key, seen in topics.items()
        }
        self._topics = topics

    # -- answers -----------------------------------------------------------------------------------

    async def answer(self, kind: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is told for a question of this kind. A kind that only a later release knows gets {}."""
        kinds: dict[str, Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]] = {
            "process": self._process,
            "connections": self._connections,
            "topics": self._topics_asked,
            "reach": self._reach,
        }
        return await kinds[kind](options) if kind in kinds else {}

    async def _process(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        by_transport: Counter[str] = Counter()
        unsent = subscriptions = 0
        sizes = _Backlogs()
        async for connection in self._in_turns():
            by_transport[connection.transport] += 1
            subscriptions += len(connection.subscriptions)
            unsent += sizes.unsent(connection)
        last = self.samples[-1] if self.samples else None
        return {
            "started": self.started,
            "clock": time.time(),
            "connections": dict(by_transport),
            "subscriptions": subscriptions,
            "topics": sum(1 for feed in self.hub.feeds.values() if not feed.topic.is_internal),
            "unsent_bytes": unsent,
            "deliveries_per_second": last.deliveries if last else 0.0,
            "bus_lag": last.bus_lag if last else 0.0,
            "store_latency": last.store_latency if last else 0.0,
            "counters": tally.as_json(),
            "samples": [list(sample) for sample in self.samples] if options.get("samples") else [],
        }

    async def _connections(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Rows in the order asked for, from a place on: ``{"total", "matching", "rows", "cut"}``."""
        order = str(options.get("order", "since"))
        descending = bool(options.get("descending", True))
        after = options.get("after")
        limit = min(int(options.get("limit", 100)), MOST_ROWS)
        sizes = _Backlogs()
        value_of: Callable[[Connection], float] = {
            "since": lambda c: c.opened,
            "active": lambda c: c.last_active,
            "unsent": sizes.unsent,
            "lag": _lag,
        }.get(order, lambda c: c.opened)
        offset = time.time() - time.monotonic()  # other processes have another monotonic clock
        shift = offset if order == "active" else 0.0
        matching = total = 0
        found: list[tuple[tuple[float, str], Connection]] = []
        async for connection in self._in_turns():
            total += 1
            if not _matches(connection, options):
                continue
            matching += 1
            key = (round(value_of(connection) + shift, 3), connection.id)
            if after is None or (key < tuple(after) if descending else key > tuple(after)):
                found.append((key, connection))
        pick = heapq.nlargest if descending else heapq.nsmallest
        page = pick(limit, found, key=lambda one: one[0])
        rows = (
            {**self._row(connection, sizes, offset), "key": list(key)}
            for key, connection in page
            if not connection.closed
        )
        return {"total": total, "matching": matching, **await bounded(rows)}

    def _row(self, connection: Connection, sizes: _Backlogs, offset: float) -> Row:
        names = [s.feed.topic.name for s in connection.subscriptions.values()]
        return {
            "id": connection.id,
            "user": connection.viewer.user_id,
            "namespace": connection.viewer.namespace,
            "transport": connection.transport,
            "dialect": connection.dialect.name,
            "topics": names[:SHOWN_TOPICS],
            "topic_count": len(names),
            "since": round(connection.opened, 3),
            "address": connection.peer.address,
            "agent": connection.peer.agent,
            "unsent": sizes.unsent(connection),
            "lag": _lag(connection),
            "active": round(connection.last_active + offset, 3),
        }

    async def _topics_asked(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        text = str(options.get("text", "")).lower()
        names = options.get("names")
        limit = min(int(options.get("limit", 1000)), MOST_ROWS)
        feeds = [
            feed
            for feed in self.hub.feeds.values()
            if not feed.topic.is_internal
            and text in feed.topic.name.lower()
            and (names is None or feed.topic.name in names)
        ]
        busiest = heapq.nlargest(limit, feeds, key=lambda f: (len(f.subscriptions), f.topic.name))
        return {"total": len(feeds), **await bounded(map(self._topic_row, busiest))}

    def _topic_row(self, feed: Feed) -> Row:
        events, size = self._rates.get(feed.key, (0.0, 0.0))
        return {
            "name": feed.topic.name,
            "namespace": feed.topic.namespace,
            "subscribers": len(feed.subscriptions),
            "lagging": len(feed.subscriptions) - len(feed.live),
            "rate": events,
            "byte_rate": size,
            "bytes": feed.appended_bytes,
        }

    async def _reach(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """How many connections hear one of these topics, by key, and of how many users."""
        reached: set[str] = set()
        users: set[str] = set()
        for key in options.get("keys", ()):
            feed = self.hub.feeds.get(key)
            for subscription in list(feed.subscriptions) if feed is not None else ():
                reached.add(subscription.connection.id)
                user = subscription.connection.viewer.user_id
                if user is not None:
                    users.add(user)
        return {"connections": len(reached), "users": sorted(users)[:MOST_ROWS]}

    async def _in_turns(self) -> Any:
        for place, connection in enumerate(list(self.hub.connections.values()), 1):
            if not connection.closed:
                yield connection
            if place % AT_ONCE == 0:
                await asyncio.sleep(0)


def _per_second(
    before: tuple[int, int], after: tuple[int, int], passed: float
) -> tuple[float, float]:
    events, size = (max(new - old, 0) for new, old in zip(after, before, strict=True))
    return round(events / passed, 2), round(size / passed, 1)


def _totals() -> tuple[float, ...]:
    store, answers = tally.store_latency
    lag = tally.bus_lag
    return (
        tally.deliveries,
        tally.delivered_bytes,
        lag.total,
        lag.count,
        store,
        answers,
    )


async def bounded(rows: Iterable[Row]) -> dict[str, Any]:
    """As many rows as an answer may carry. ``cut``: there are more, which did not fit."""
    kept: list[Row] = []
    size = 0
    for row in rows:
        size += len(json.dumps(row))
        if size > MOST_BYTES:
            return {"rows": kept, "cut": True}
        kept.append(row)
        if len(kept) % AT_ONCE == 0:
            await asyncio.sleep(0)
    return {"rows": kept, "cut": False}


def _matches(connection: Connection, options: Mapping[str, Any]) -> bool:
    viewer = connection.viewer
    for name, have in (
        ("user", viewer.user_id),
        ("transport", connection.transport),
        ("id", connection.id),
        ("address", connection.peer.address),
    ):
        if options.get(name) not in (None, "", have):
            return False
    topic = options.get("topic")
    if topic and all(s.feed.topic.name != topic for s in connection.subscriptions.values()):
        return False
    text = str(options.get("text") or "").lower()
    if not text or viewer.user_id in options.get("users", ()):
        return True
    told = (connection.id, connection.peer.address, connection.peer.agent, viewer.user_id or "")
    names = (s.feed.topic.name for s in connection.subscriptions.values())
    return any(text in one.lower() for one in itertools.chain(told, names))


def _lag(connection: Connection) -> int:
    """How many events the topic is ahead of which it is furthest behind."""
    return max(map(_behind, connection.subscriptions.values()), default=0)


def _behind(subscription: Subscription) -> int:
    if not subscription.feed.logged:
        return len(subscription.queue)
    if subscription.state != Subscription.LAGGING:
        return 0
    return max(subscription.feed.last - subscription.offset, 0)


class _Backlogs:
    """How much waits for a connection. What a ring holds after an offset is summed up once."""

    def __init__(self) -> None:
        self._after: dict[Feed, list[int]] = {}

    def unsent(self, connection: Connection) -> int:
        """Bytes, about: frames that are ready, and events that are in this process."""
        size = sum(map(len, connection.notices))
        for subscription in connection.lagging:
            feed = subscription.feed
            size += subscription.queued_bytes
            if feed.logged and subscription.offset < feed.last:
                if feed not in self._after:
                    sizes = itertools.accumulate(entry.size for entry in reversed(feed.ring))
                    self._after[feed] = [0, *sizes]
                sums = self._after[feed]
                size += sums[min(feed.last - subscription.offset, len(sums) - 1)]
        return size
