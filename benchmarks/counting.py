"""What counting adds to a delivery: a dispatch to many connections, with the counters and without.

    python benchmarks/counting.py --connections 1000 --events 300

The two take turns in one process, so that a busy machine slows both. The sockets are stand-ins that take
everything at once: what is compared is the hub's own work, which is the smaller part of a delivery's
cost; docs/concepts/performance.md says what a whole one takes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from common import arguments, in_children, report

WHOLE = 11.9
"""Microseconds of server CPU that a delivery costs on uvicorn: docs/concepts/performance.md."""


class Sink:
    """Takes everything; see ``django_live.core.connections.Sink``."""

    form = "everything"

    def prepare(self, data: bytes) -> bytes:
        return data

    def put(self, prepared: bytes) -> bool:
        return True

    def write(self, data: bytes) -> bool:
        return True

    def end(self) -> None:
        pass


def plain_class() -> Any:
    """The dispatch as it would be if nothing were counted."""
    from django_live.core.feeds import FramedEvent, Subscription
    from django_live.core.hub import SLICE_CHECK, Hub

    class PlainHub(Hub):
        def _dispatch_to(
            self, readers: Iterator[Subscription], entry: FramedEvent, until: float
        ) -> bool:
            live = Subscription.LIVE
            before, last = entry.first - 1, entry.offset
            now = time.monotonic()
            for count, subscription in enumerate(readers, 1):
                if subscription.state is live and (subscription.offset == before or not last):
                    connection = subscription.connection
                    if connection.blocked or not subscription.direct:
                        self._fall_behind(subscription, entry)
                    else:
                        connection.deliver(subscription, entry, now)
                if count % SLICE_CHECK == 0 and time.perf_counter() > until:
                    return False
            return True

    return PlainHub


def with_readers(hub_class: Any, count: int) -> Any:
    """A hub, and the feed that so many connections read."""
    from django_live.core.connections import Connection
    from django_live.core.feeds import Subscription
    from django_live.core.topics import Viewer, as_topic
    from django_live.transports.frames import SSE

    hub, topic = hub_class(), as_topic("open/a")
    for _ in range(count):
        one = Connection(hub, Sink(), SSE, Viewer(), lambda _: None)
        one.blocked = False
        hub.add(one)
        subscription = hub.subscribe(one, topic)
        subscription.state = Subscription.LIVE
        subscription.feed.live[subscription] = None
    feed = hub.feeds[topic.key]
    feed.begin("epoch", 0)
    return hub, feed


async def measure(connections: int, events: int) -> dict[str, Any]:
    from django_live.core.events import Event
    from django_live.core.hub import Hub

    variants = {
        "counted": with_readers(Hub, connections),
        "plain": with_readers(plain_class(), connections),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    data = json.dumps({"text": "x" * 180})
    for number in range(events):
        for name, (hub, feed) in variants.items():
            entry = feed.append(Event("said", data, number + 1, created=time.time()))
            readers = iter(list(feed.live))
            until = time.perf_counter() + 60
            began = time.process_time()
            hub._dispatch_to(readers, entry, until)  # noqa: SLF001 - the part that is compared
            times[name].append(time.process_time() - began)
    each = {name: statistics.median(own) / connections * 1e6 for name, own in times.items()}
    added = each["counted"] - each["plain"]
    return {
        "connections": connections,
        "plain_us": round(each["plain"], 3),
        "counted_us": round(each["counted"], 3),
        "added_us": round(added, 3),
        "of_a_whole_delivery": f"{added / WHOLE:.2%}",
    }


def main() -> None:
    given = arguments(__doc__ or "", connections=1000, events=300)
    if given.in_child:
        import django

        django.setup()
        print(json.dumps([asyncio.run(measure(given.connections, given.events))]))
        return
    rows = in_children(__file__, "sqlite", {"DJANGO_SETTINGS_MODULE": "tests.settings"})
    report("counting", rows)


if __name__ == "__main__":
    sys.exit(main())
