"""How long it takes to list 10,000 open connections: a page, every one of them, and the slowest order.

    python benchmarks/survey.py --connections 10000

One process with the connections asks itself, through the bus and the store as any other would.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from common import arguments, in_children, report, seconds


async def measure(connections: int) -> list[dict[str, Any]]:
    from asgiref.sync import sync_to_async

    from django_live.core import survey
    from django_live.core.connections import Connection, Peer
    from django_live.core.runtime import runtime
    from django_live.core.topics import Viewer, as_topic
    from django_live.transports.frames import SSE
    from tests.core.fakes import FakeSink

    live = runtime()
    for place in range(connections):
        viewer = Viewer()  # users that there are not would be signed out
        peer = Peer(f"10.0.{place // 250}.{place % 250}", "Mozilla/5.0 (a browser)")
        one = Connection(live.hub, FakeSink(), SSE, viewer, lambda _: None, peer=peer)
        live.hub.add(one)
        for name in ("everything", f"of-{place % 100}"):
            live.hub.subscribe(one, as_topic(f"open/{name}"))
    while not await sync_to_async(survey.processes)():  # noqa: ASYNC110 - the store has no event
        await asyncio.sleep(0.05)
    questions = {
        "a page of 100": {"limit": 100},
        "a page of 100 that match a text": {"limit": 100, "text": "10.0.3"},
        "a page of 100 by lag": {"limit": 100, "order": "lag"},
        "all of them": {"limit": connections},
    }
    rows = []
    for name, options in questions.items():
        found: list[Any] = []
        ask = sync_to_async(
            lambda options=options, found=found: seconds(
                lambda: found.append(survey.connections(**options))
            ),
            thread_sensitive=False,
        )
        times = sorted([await ask() for _ in range(5)])
        rows.append(
            {
                "question": name,
                "connections": found[-1].total,
                "rows": len(found[-1].rows),
                "median_s": round(times[2], 3),
                "slowest_s": round(times[-1], 3),
            }
        )
    await live.stop()
    return rows


def main() -> None:
    given = arguments(__doc__ or "", connections=10_000)
    if given.in_child:
        import django

        django.setup()
        rows = asyncio.run(measure(given.connections))
        print(json.dumps([{"database": given.in_child, **row} for row in rows]))
        return
    report(
        "survey",
        in_children(__file__, given.databases, {"DJANGO_SETTINGS_MODULE": "tests.settings"}),
    )


if __name__ == "__main__":
    sys.exit(main())
