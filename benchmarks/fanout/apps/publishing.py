"""`/publish?rate=&count=&size=` in front of a Django subject: events made in the server's process."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

Application = Callable[..., Awaitable[None]]
Publish = Callable[[dict[str, Any]], Awaitable[Any]]

numbers = itertools.count()
tasks: set[asyncio.Task[None]] = set()


def with_publisher(application: Application, publish: Publish) -> Application:
    """The application, and beside it the address that makes it publish."""

    async def outer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/publish":
            await application(scope, receive, send)
            return
        query = {key: int(value) for key, value in parse_qsl(scope["query_string"].decode())}
        tasks.add(asyncio.create_task(make(publish, **query)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    return outer


async def make(publish: Publish, rate: int, count: int, size: int) -> None:
    began = time.monotonic()
    for sent in range(count):
        if rate:
            await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
        await publish({"n": next(numbers), "t": time.monotonic(), "pad": "x" * (size - 40)})
