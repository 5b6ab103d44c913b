"""How long a reader waits for 1,000 missed events when the log holds a million.

    python -m benchmarks.replay --events 1000000 --databases sqlite postgresql mariadb

For each database a new one is filled with events of 200 bytes: one topic of 10,000 events among 991 that
hold the rest. Then 1,000 events from the middle of that topic are read, as a client that comes back makes
a server do it, again and again on one connection; also the heads of 900 topics in one question, and the
position of a page. The goal on PostgreSQL: 20 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import cast

from tests.support.databases import Engine, server_database

MEASURE = """
import json, time
from django.db import connection
from django_live.core.topics import History, Topic
from django_live.models import Head, StoredEvent
from django_live.core.log import get_log

class Bench(Topic):
    pattern = "bench/<int:n>"
    history = History(events=10_000_000)

EVENTS, REPEATS = {events}, {repeats}
LONG = min(10_000, EVENTS // 2)
SHORT = max((EVENTS - LONG) // 990, 1)
data = json.dumps({{"status": "paid", "text": "x" * 170}})
now = time.time()
Head.objects.bulk_create(
    Head(key=Bench(n=n).key, name=Bench(n=n).name, epoch="bench", updated=now,
         last=LONG if n == 0 else SHORT)
    for n in range(991)
)
# In the order of time: the topics' events lie between each other, as in life.
with connection.cursor() as cursor:
    cursor.execute(
        "INSERT INTO django_live_storedevent (head_id, {offset}, type, data, exclude, created)"
        " SELECT h.id, s.n, 'updated', %s, '', %s - (h.last - s.n)"
        " FROM ({numbers}) AS s JOIN django_live_head AS h ON s.n <= h.last"
        " WHERE h.epoch = 'bench' ORDER BY s.n, h.id".replace("LONGEST", str(max(LONG, SHORT))),
        [data, now],
    )
with connection.cursor() as cursor:
    cursor.execute({analyse!r})
log = get_log()
topic = Bench(n=0)
many = [Bench(n=n) for n in range(900)]

def measure(work):
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return times

found = log.read(topic, LONG // 2, 1000, 10**9)
assert len(found.events) == min(1000, LONG - LONG // 2), len(found.events)
print(json.dumps({{
    "rows": StoredEvent.objects.count(),
    "replay of 1,000": measure(lambda: log.read(topic, LONG // 2, 1000, 10**9)),
    "heads of 900": measure(lambda: log.heads(many)),
    "position of a page": measure(lambda: log.positions([topic], now - 2)),
}}))
"""
ANALYSE = {
    "sqlite": "ANALYZE",
    "postgresql": "ANALYZE",
    "mariadb": "ANALYZE TABLE django_live_storedevent",
}
NUMBERS = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < LONGEST)"
    " SELECT n FROM c",
    "postgresql": "SELECT n FROM generate_series(1, LONGEST) AS g(n)",
    "mariadb": "SELECT seq AS n FROM seq_1_to_LONGEST",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--databases", nargs="+", default=list(ANALYSE), choices=list(ANALYSE))
    options = parser.parse_args()
    for engine in options.databases:
        with (
            tempfile.TemporaryDirectory() as folder,
            server_database(cast(Engine, engine), Path(folder)) as database,
        ):
            offset = "`offset`" if engine == "mariadb" else '"offset"'
            output = database.python(
                MEASURE.format(
                    events=options.events,
                    repeats=options.repeats,
                    offset=offset.replace('"', '\\"'),
                    analyse=ANALYSE[engine],
                    numbers=NUMBERS[engine],
                ),
                timeout=1800,
            )
        found = json.loads(output.splitlines()[-1])
        print(f"{engine}, {found.pop('rows'):,} events")
        for name, times in found.items():
            ordered = sorted(times)
            worst = ordered[int(len(ordered) * 0.95)]
            print(f"  {name}: median {statistics.median(ordered):.1f} ms, p95 {worst:.1f} ms")


if __name__ == "__main__":
    main()
