"""An ASGI application without Django: event streams for the tests of the readers and servers.

`/?topic=a&count=3` sends `stream-open`, then events 1 to 3 (after `Last-Event-ID`, those behind it)
and stays open; with `&end=1` it ends. `/broken?…` dies within the body. `/refused` answers 403.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """The whole of it."""
    if scope["type"] != "http":
        raise ValueError("HTTP only")  # servers take this as "no lifespan here"
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    if scope["path"] == "/refused":
        await _start(send, 403, b"application/json")
        await _body(send, json.dumps({"errors": [{"code": "forbidden"}]}), more=False)
        return
    await _start(send, 200, b"text/event-stream")
    topic = query.get("topic", "a")
    await _body(send, f'event: stream-open\ndata: {{"topics":["{topic}"]}}\nid: 0\n\n')
    headers = dict(scope["headers"])
    first = int(headers.get(b"last-event-id", b"0")) + 1
    for n in range(first, int(query.get("count", "3")) + 1):
        await _body(send, f'event: updated\ntopic: {topic}\ndata: {{"n":{n}}}\nid: {n}\n\n')
        await asyncio.sleep(0)
    if scope["path"] == "/broken":
        raise RuntimeError("broken on purpose")
    if "end" not in query:
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await _body(send, "", more=False)


async def _start(send: Send, status: int, content_type: bytes) -> None:
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _body(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})
