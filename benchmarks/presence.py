"""What presence costs a process: the processor's time of joins, and the traffic of a large topic.

* Members join one after the other at a steady rate, and leave again or stay; how much of a core the process takes
  for all of it, the store's part in this process included.
* So many members in one topic: the bytes that are told while they join, which everybody gets once.

`python benchmarks/presence.py --rate 1000 --seconds 10 --members 10000`
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from typing import Any

from common import arguments, in_children, own_redis, report


def measure(database: str, rate: int, duration: int, members: int) -> list[dict[str, Any]]:
    """In a child: each store."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.test import override_settings

    User.objects.bulk_create(
        (User(username=f"user{n}", password="x") for n in range(members)), batch_size=1000
    )
    keys = [str(pk) for pk in User.objects.order_by("pk").values_list("pk", flat=True)]
    hall = _hall()
    rows: list[dict[str, Any]] = []
    stores = ["database"] if database != "sqlite" else ["database", "memory", "redis"]
    for store in stores:
        with override_settings(
            DJANGO_LIVE={"STORE": store, "REDIS_URL": os.environ["BENCH_REDIS"]}
        ):
            where = database if store == "database" else store
            for topics, leaves in ((1, True), (100, True), (100, False)):
                used, passed = asyncio.run(_join(hall, keys, rate, duration, topics, leaves))
                _forget()
                as_many = " and as many leaves" if leaves else ""
                rows.append(
                    {
                        "store": where,
                        "what": f"{rate} joins/s{as_many}, {topics} topics",
                        "joins_per_s": round(rate * duration / passed),
                        "cores": round(used / passed, 2),
                    }
                )
            filled = asyncio.run(_fill(hall, keys))
            rows.append({"store": where, "what": f"{members} members in a topic", **filled})
    return rows


def _hall() -> Any:
    from django_live import Topic
    from django_live.features.presence import Presence

    class Hall(Topic):
        pattern = "bench-halls/<slug:slug>"
        presence = Presence(grace=2.0)

    return Hall


async def _join(
    hall: Any, keys: list[str], rate: int, duration: int, topics: int, leaves: bool
) -> tuple[float, float]:
    """Seconds of the processor, and seconds."""
    from django_live import Viewer
    from django_live.core.runtime import runtime

    live = runtime()
    began, cpu = time.monotonic(), time.process_time()
    rooms = [hall(slug=f"t{number}-{topics}-{leaves}") for number in range(topics)]
    here: deque[tuple[Any, Any, str]] = deque()
    for number in range(rate * duration):
        viewer = Viewer(user_id=keys[number % len(keys)])
        here.append((rooms[number % topics], viewer, f"c{number}"))
        hall.presence.arrived(*here[-1])
        if leaves and number >= rate:  # who came a second ago goes
            hall.presence.departed(*here.popleft())
        if (wait := began + number / rate - time.monotonic()) > 0:
            await asyncio.sleep(wait)
    used = time.process_time() - cpu, time.monotonic() - began
    await live.stop()
    return used


def _forget() -> None:
    """Remove the seats of what ran: the next one would do that, as after a process that was killed."""
    from django_live.core.state import get_state
    from django_live.features.seats import KNOWN, Seats

    for process in get_state().items(KNOWN).entries:
        Seats(get_state()).remove(process)


async def _fill(hall: Any, keys: list[str]) -> dict[str, Any]:
    from asgiref.sync import sync_to_async

    from django_live import Viewer
    from django_live.core.log import get_log
    from django_live.core.runtime import runtime
    from django_live.features.presence import PresenceTopic, amembers_of

    live, topic, cpu = runtime(), hall(slug="large"), time.process_time()
    for number, key in enumerate(keys):
        hall.presence.arrived(topic, Viewer(user_id=key), f"l{number}")
        if number % 100 == 0:
            await asyncio.sleep(0.1)
    await asyncio.sleep(5)
    used = time.process_time() - cpu
    read = sync_to_async(get_log().read)
    page = await read(PresenceTopic(of=topic.name), 0, 10_000, 10**8)
    found = await amembers_of(topic)
    await live.stop()
    return {
        "cpu_s": round(used, 2),
        "events": len(page.events),
        "told_bytes": sum(len(event.data) for event in page.events),
        "counted": found.count,
    }


def main() -> None:
    """Measure in a child for each database, and print."""
    options = arguments("presence", rate=1000, seconds=10, members=10_000)
    if options.in_child:
        found = measure(options.in_child, options.rate, options.seconds, options.members)
        print(json.dumps(found))
        sys.stdout.flush()
        os._exit(0)
    with own_redis() as url:
        rows = in_children(__file__, options.databases, {"BENCH_REDIS": url})
    report("presence", rows)


if __name__ == "__main__":
    main()
