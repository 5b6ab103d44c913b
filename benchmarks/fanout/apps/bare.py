"""The yardstick: an ASGI application that writes a ready-made frame to whoever listens, and no more.

One asyncio.Event per connection, no framework, no permissions, no cursor. All ratios of the budgets
are against this file on the same server in the same run, so a change of it is a commit of its own,
with the figures before and after.

`/events` is the stream, a WebSocket gets the same at any path, and `/publish?rate=&count=&size=`
makes so many frames, so many a second (0: as fast as they can be written).
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

listeners: set[asyncio.Event] = set()
frames: list[tuple[bytes, str]] = []
"""All that were published: as a frame of a stream, and as the text of a WebSocket's."""
tasks: set[asyncio.Task[None]] = set()


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await follow(lambda frame: send({"type": "websocket.send", "text": frame[1]}))
    elif scope["path"] == "/publish":
        query = {key: int(value) for key, value in parse_qsl(scope["query_string"].decode())}
        tasks.add(asyncio.create_task(publish(**query)))
        await start(send, b"text/plain")
        await send({"type": "http.response.body", "body": b"ok"})
    else:
        await start(send, b"text/event-stream")
        await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
        await follow(
            lambda frame: send({"type": "http.response.body", "body": frame[0], "more_body": True})
        )


async def follow(write: Callable[[tuple[bytes, str]], Awaitable[None]]) -> None:
    """Write every frame that is published from now on."""
    event = asyncio.Event()
    listeners.add(event)
    place = len(frames)
    try:
        while True:
            await event.wait()
            event.clear()
            while place < len(frames):
                frame = frames[place]
                place += 1
                await write(frame)
    finally:
        listeners.discard(event)


async def publish(rate: int, count: int, size: int) -> None:
    began = time.monotonic()
    for sent in range(count):
        if rate:
            await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
        else:
            await asyncio.sleep(0)
        n = len(frames)
        text = json.dumps({"n": n, "t": time.monotonic(), "pad": "x" * (size - 40)})
        frames.append((f"event: tick\ndata: {text}\nid: {n}\n\n".encode(), text))
        for event in listeners:
            event.set()


async def start(send: Send, content_type: bytes) -> None:
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
