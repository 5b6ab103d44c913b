"""Station 0, beside all others: what this process has done so far, in plain numbers.

Nothing here knows Prometheus or anybody else who reads them. Must keep true: a delivery costs an
addition or two where the dispatch is anyway, never a call per connection; numbers of a process only
grow, so that a rate can be made of any two looks at them.

Deliveries are added to by the event loop alone, without a lock. What other threads count goes through
``count()``, which has one.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a histogram's buckets; what is above the last has one of its own."""


class Metric(NamedTuple):
    """What is counted under a name, for those who show it."""

    name: str
    help: str
    label: str = ""
    """What its parts are told apart by."""
    kind: str = "counter"
    """"counter", "histogram" (of seconds) or "gauge" (as it is now)."""


METRICS = (
    Metric("connections", "Open connections.", "transport", "gauge"),
    Metric("subscriptions", "Subscriptions of the open connections.", kind="gauge"),
    Metric("topics", "Topics that somebody here listens to.", kind="gauge"),
    Metric("unsent_bytes", "Bytes that wait for sockets of slow readers.", kind="gauge"),
    Metric("opened", "Connections that were opened.", "transport"),
    Metric("closed", "Connections that ended, by reason; without one the client left.", "reason"),
    Metric("reconnects", "Connections that came with a cursor."),
    Metric("published", "Events that were numbered and sent, or sent without a log."),
    Metric("deliveries", "Events written to sockets."),
    Metric("delivered_bytes", "Bytes of those events, frames included."),
    Metric("delivery_lag", "From the numbering to the write to sockets.", kind="histogram"),
    Metric("bus_lag", "From the numbering to the arrival in a process.", kind="histogram"),
    Metric("overflow", "Events that found a full socket, by the topic's rule.", "rule"),
    Metric("dropped", "Events that a slow reader of a topic without history did not get."),
    Metric("replays", "Subscriptions that read from the log what they had missed."),
    Metric("gaps", "Holes in what the bus brought, which were filled from the log."),
    Metric("resets", "Readers that were told to start anew, by reason.", "reason"),
    Metric("permission_checks", "Permissions that were asked for, by answer.", "answer"),
    Metric("store", "What the store took for an answer, by question.", "question", "histogram"),
    Metric("messages", "Messages of clients, by what became of them.", "answer"),
)
"""Everything that is counted; docs/reference/metrics.md says the same."""


class Histogram:
    """How often something took how long."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS) + 1)
        self.total = 0.0
        self.count = 0

    def observe(self, seconds: float, times: int = 1) -> None:
        seconds = max(seconds, 0.0)  # clocks of two hosts
        self.buckets[bisect_left(SECONDS, seconds)] += times
        self.total += seconds * times
        self.count += times

    def as_json(self) -> dict[str, Any]:
        return {"buckets": list(self.buckets), "sum": round(self.total, 6), "count": self.count}


class Tally:
    """The numbers of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._store: dict[str, Histogram] = {}
        self.deliveries = 0
        self.delivered_bytes = 0
        self.delivery_lag = Histogram()
        self.bus_lag = Histogram()

    def count(self, name: str, part: str = "", amount: int = 1) -> None:
        """Add to a counter of ``METRICS``. From any thread."""
        with self._lock:
            self._counts[name, part] += amount

    def counted(self, name: str, part: str | None = None) -> int:
        """A counter, or one part of it."""
        with self._lock:
            return sum(
                amount
                for (counter, one), amount in self._counts.items()
                if counter == name and part in (None, one)
            )

    def delivered(self, created: float, times: int, size: int) -> None:
        """An event, numbered at ``created``, was written to so many sockets. By the event loop."""
        self.deliveries += times
        self.delivered_bytes += size
        if created:
            self.delivery_lag.observe(time.time() - created, times)

    @contextmanager
    def asking_store(self, question: str) -> Iterator[None]:
        """Measure how long the block waits for the store, whatever comes of it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.store_took(question, time.perf_counter() - began)

    def store_took(self, question: str, seconds: float) -> None:
        """The store answered a question within so many seconds."""
        with self._lock:
            self._store.setdefault(question, Histogram()).observe(seconds)

    @property
    def store_latency(self) -> tuple[float, int]:
        """Seconds that the store took for all answers together, and how many they were."""
        with self._lock:
            histograms = list(self._store.values())
        return sum(h.total for h in histograms), sum(h.count for h in histograms)

    def as_json(self) -> Mapping[str, Any]:
        """By the name of a metric its number, its histogram, or either by part."""
        with self._lock:
            counts, store = dict(self._counts), dict(self._store)
        told: dict[str, Any] = {
            "deliveries": self.deliveries,
            "delivered_bytes": self.delivered_bytes,
            "delivery_lag": self.delivery_lag.as_json(),
            "bus_lag": self.bus_lag.as_json(),
            "store": {question: one.as_json() for question, one in store.items()},
        }
        for metric in METRICS:
            if metric.kind == "counter" and metric.name not in told:
                told[metric.name] = {} if metric.label else counts.get((metric.name, ""), 0)
        for (name, part), amount in counts.items():
            if isinstance(told.get(name), dict):
                told[name][part] = amount
        return told


tally = Tally()
"""Of this process. A child that a server forks begins with what its parent had counted, which is
nothing as long as the parent serves nobody."""
