"""A group's permissions change, and each of its members has a stream open: what it takes to ask them all
again, on each database: `python benchmarks/recheck.py --people 10000 --streams 2`.

One process holds all streams. Told are the time, the queries, how many of them ran at once, the threads
that this took, and how long the event loop was kept from anything else at most, in a piece.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from common import arguments, in_children, peak_memory, report

NO_OTHER_PASS = {"LIVE_TEST_DJANGO_LIVE": json.dumps({"RECHECK": 3600})}
"""The periodic one would ask everybody once more while this is measured, if that takes a minute."""


REVOKED = 5
"""People who lose their permission while all are asked: the last in line."""


class Nobody:
    """A socket that takes everything."""

    form = ""

    def prepare(self, data: bytes) -> bytes:
        return data

    def put(self, prepared: bytes) -> bool:
        return True

    def write(self, data: bytes) -> bool:
        return True

    def end(self) -> None:
        """It is over."""


class Queries:
    """Those of all threads, counted."""

    def __init__(self) -> None:
        self.count = self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        with self._lock:
            self.count += 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return execute(sql, params, many, context)
        finally:
            with self._lock:
                self.running -= 1

    @contextmanager
    def counted(self) -> Iterator[Queries]:
        from django.db.backends.signals import connection_created

        def watch(connection: Any, **kwargs: Any) -> None:
            if self not in connection.execute_wrappers:
                connection.execute_wrappers.append(self)

        connection_created.connect(watch)
        yield self
        connection_created.disconnect(watch)


async def longest_wait(until: asyncio.Event) -> float:
    """How long somebody who only wanted one turn of the loop had to wait, at most."""
    longest = 0.0
    while not until.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began - 0.001)
    return longest


def prepare(people: int) -> list[str]:
    """The members of a group with a permission; their primary keys."""
    from django.contrib.auth.models import Group, Permission, User

    group = Group.objects.create(name="readers")
    group.permissions.add(
        Permission.objects.get(codename="view_order", content_type__app_label="testapp")
    )
    User.objects.bulk_create(User(username=f"user {n}") for n in range(people))
    keys = list(User.objects.values_list("pk", flat=True))
    through = User.groups.through
    through.objects.bulk_create(through(user_id=pk, group_id=group.pk) for pk in keys)
    return [str(pk) for pk in keys]


async def one_is_revoked(key: str) -> float:
    """A single person loses the permission, by the signal that Django sends, while all are asked: the
    seconds until their streams have ended."""
    from asgiref.sync import sync_to_async
    from django.contrib.auth.models import User

    from django_live.core.runtime import runtime

    live = runtime()
    theirs = [one for one in live.hub.connections.values() if one.viewer.user_id == key]
    user = await sync_to_async(User.objects.get)(pk=key)
    began = time.perf_counter()
    await sync_to_async(user.groups.clear)()
    while any(one.subscriptions for one in theirs):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    return time.perf_counter() - began


async def recheck(keys: list[str], streams: int) -> dict[str, Any]:
    """Open the streams, ask once while all may stay and once when nobody may."""
    from asgiref.sync import sync_to_async
    from django.contrib.auth.models import Group

    from django_live.core.runtime import runtime
    from django_live.core.subscribing import Request
    from django_live.core.topics import Viewer
    from django_live.transports.authentication import user_of_session
    from django_live.transports.frames import SSE
    from tests.testapp.live import ReadersTopic

    live = runtime()
    topic = ReadersTopic(slug="all")
    for key in keys:
        for _ in range(streams):
            viewer = Viewer(user_id=key, source=user_of_session)
            request = Request(topic, None)
            await live.open(Nobody(), SSE, viewer, [request], decided=time.monotonic())
    before, threads = peak_memory(), threading.active_count()
    queries, done = Queries(), asyncio.Event()
    # A process that begins to listen asks about everybody: this waits for that.
    await live.control.check(list(live.hub.connections.values()))
    with queries.counted():
        waiting = asyncio.ensure_future(longest_wait(done))
        began = time.perf_counter()
        check = asyncio.ensure_future(live.control.check(list(live.hub.connections.values())))
        await asyncio.sleep(0.1)
        revoked = [await one_is_revoked(key) for key in keys[: -REVOKED - 1 : -1]]
        assert not check.done(), "there was no crowd to wait for"
        await check
        took = time.perf_counter() - began
        done.set()
    left = {one.viewer.user_id for one in live.hub.connections.values() if one.subscriptions}
    assert len(left) == len(keys) - REVOKED, "somebody else was sent away"
    found = {
        "seconds": round(took, 2),
        "queries": queries.count,
        "per person": round(queries.count / len(keys), 2),
        "at once": queries.most,
        "threads": threading.active_count() - threads,
        "one revoked meanwhile, s": f"{median(revoked):.2f}, at most {max(revoked):.2f}",
        "loop held, ms": round(await waiting * 1000),
        "memory, MB": (peak_memory() - before) // 2**20,
    }
    await sync_to_async(Group.objects.all().delete)()
    began = time.perf_counter()
    await live.control.check(list(live.hub.connections.values()))
    found["all revoked, s"] = round(time.perf_counter() - began, 2)
    assert not live.hub.connections, "somebody was left"
    await live.stop()
    return found


def measure(database: str, people: int, streams: int) -> list[dict[str, Any]]:
    """In a child."""
    import django

    django.setup()
    found = asyncio.run(recheck(prepare(people), streams))
    return [{"database": database, "people": people, "streams": people * streams, **found}]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", people=10_000, streams=2)
    if chosen.in_child:
        print(json.dumps(measure(chosen.in_child, chosen.people, chosen.streams)))
    else:
        report("recheck", in_children(__file__, chosen.databases, NO_OTHER_PASS))
