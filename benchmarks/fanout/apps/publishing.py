"""In front of a Django subject: what the load generator asks of the server's process.

`/publish?rate=&count=&size=` makes events, `&topics=` of so many topics in turn: then each event says of
which (`"k"`), and each topic counts for itself. `/watch?rate=&count=&size=` does the same, and answers when it is over with the longest
that the event loop kept a timer waiting. `/tally` says what the process has counted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

Application = Callable[..., Awaitable[None]]
Publish = Callable[[dict[str, Any], int], Awaitable[Any]]
"""Of these data, to the topic of this number."""

numbers: defaultdict[int, itertools.count[int]] = defaultdict(itertools.count)
tasks: set[asyncio.Task[None]] = set()


def with_publisher(application: Application, publish: Publish) -> Application:
    """The application, and beside it these addresses."""

    async def outer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] not in ("/publish", "/watch", "/tally"):
            await application(scope, receive, send)
            return
        query = {key: int(value) for key, value in parse_qsl(scope["query_string"].decode())}
        told: Any = "ok"
        if scope["path"] == "/tally":
            from django_live.core.counting import tally

            told = tally.as_json()
        elif scope["path"] == "/watch":
            told = await longest_wait(make(publish, **query))
        else:
            tasks.add(asyncio.create_task(make(publish, **query)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    return outer


async def longest_wait(work: Awaitable[None]) -> float:
    """Seconds by which a timer was late at most, while this was done and for a second after it."""
    worst = 0.0
    until = float("inf")
    task = asyncio.ensure_future(work)
    while time.monotonic() < until:
        began = time.monotonic()
        await asyncio.sleep(0.001)
        worst = max(worst, time.monotonic() - began - 0.001)
        if task.done() and until == float("inf"):
            until = time.monotonic() + 1.0
    return worst


async def make(publish: Publish, rate: int, count: int, size: int, topics: int = 1) -> None:
    began = time.monotonic()
    for sent in range(count):
        if rate:
            await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
        topic = sent % topics
        which = {"k": topic} if topics > 1 else {}
        data = {"n": next(numbers[topic]), "t": time.monotonic(), **which, "pad": "x" * (size - 40)}
        await publish(data, topic)
