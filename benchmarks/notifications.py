"""`notify()` to many, and the bell of somebody who has been told much.

* How long `notify()` takes for so many recipients, of whom a tenth has a connection to another process,
  and how long after the commit of its notification each of those has it.
* Queries and time of opening the bell with 100,000 old notifications.

`python benchmarks/notifications.py --recipients 10000 --connected 1000`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from common import ROOT, arguments, in_children, own_redis, report, seconds

LISTENER = """
import asyncio, os, sys, time, json
from types import SimpleNamespace
import django
django.setup()
from django_live.core.connections import Connection
from django_live.core.runtime import runtime
from django_live.core.subscribing import Request
from django_live.core.topics import Viewer
from django_live.notifications.inbox import inbox_of
from tests.core.fakes import FakeSink, RecordDialect

class Sink(FakeSink):
    def put(self, data):
        LATE.append((time.time(), data))
        return True

LATE = []
keys = json.loads(sys.argv[1])

async def main():
    live = runtime()
    for key in keys:
        sink = Sink()
        request = Request(inbox_of(key), None)
        user = SimpleNamespace(pk=key, is_active=True)
        viewer = Viewer(user_id=str(key), source=lambda viewer, user=user: user)
        await live.open(sink, RecordDialect(), viewer, [request], decided=time.monotonic())
    LATE.clear()
    print("ready", flush=True)
    until = time.monotonic() + 60
    while sum(b"notified" in data for _, data in LATE) < len(keys) and time.monotonic() < until:
        await asyncio.sleep(0.2)
    print(json.dumps([when for when, data in LATE if b"notified" in data]), flush=True)
    os._exit(0)

asyncio.run(main())
"""


def measure(database: str, recipients: int, connected: int, old: int) -> list[dict[str, Any]]:
    """In a child."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.utils import timezone

    from django_live.core.sending import observed_by
    from django_live.notifications import EVERYBODY, notify
    from django_live.notifications.models import Notification

    users = [User(username=f"user{n}", password="x") for n in range(recipients)]
    User.objects.bulk_create(users, batch_size=1000)
    step = max(1, recipients // connected)
    keys = list(User.objects.order_by("pk").values_list("pk", flat=True)[::step][:connected])
    listener = subprocess.Popen(
        [sys.executable, "-c", LISTENER, json.dumps(keys)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert listener.stdout is not None
    assert listener.stdout.readline().strip() == "ready"
    written: list[float] = []
    wanted = {f"live/inbox/{key}" for key in keys}

    def noted(topic: Any, events: Any) -> None:
        if topic.name in wanted:  # they were numbered just before the commit
            written.extend(event.created for event in events)

    stranger = User.objects.exclude(pk__in=keys)[:1]
    notify(stranger, "Welcome")  # the first one imports what a server has long since
    cpu = time.process_time()
    with observed_by(noted):
        took = seconds(lambda: notify(EVERYBODY, "The shop is closed on Monday", body="x" * 100))
    cpu = time.process_time() - cpu
    heard = sorted(json.loads(listener.stdout.readline()))
    late = [after - before for before, after in zip(sorted(written), heard, strict=False)]
    rows = [
        {
            "database": database,
            "what": f"notify() to {recipients}, {connected} connected",
            "seconds": round(took, 2),
            "cpu_s": round(cpu, 2),
            "heard": len(heard),
            "latest_after_commit_s": round(max(late, default=-1), 2),
        }
    ]

    reader = User.objects.get(username="user1")
    for start in range(0, old, 5000):
        Notification.objects.bulk_create(
            Notification(recipient=reader, kind="old", title=f"number {n}", read_at=timezone.now())
            for n in range(start, min(old, start + 5000))
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as autovacuum does a minute after so many rows were written
    client = Client()
    client.force_login(reader)
    client.get("/notifications/latest/")
    with CaptureQueriesContext(connection) as queries:
        client.get("/notifications/latest/")
    own = [q for q in queries if "live_notifications" in q["sql"]]
    times = sorted(seconds(lambda: client.get("/notifications/latest/")) for _ in range(30))
    rows.append(
        {
            "database": database,
            "what": f"opening the bell with {old} old ones",
            "queries": len(own),
            "in_queries_ms": round(1000 * sum(float(q["time"]) for q in own), 1),
            "median_ms": round(times[15] * 1000, 1),
        }
    )
    return rows


def main() -> None:
    """Measure in a child for each database, and print."""
    options = arguments("notifications", recipients=10_000, connected=1000, old=100_000)
    if options.in_child:
        found = measure(options.in_child, options.recipients, options.connected, options.old)
        print(json.dumps(found))
        sys.stdout.flush()
        os._exit(0)
    with own_redis() as url:
        env = {"LIVE_TEST_LAYER": url}
        rows = in_children(__file__, options.databases, env)
    report("notifications", rows)


if __name__ == "__main__":
    main()
