"""What the hub itself adds to a delivery: its dispatch to servers whose `send` does nothing.

    python benchmarks/dispatch.py

Beside it the least that any program could do: the same `send` stepped in a plain loop. The rest of a delivery's
cost (see `fanout/`) is the server's framing and the system's socket.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import django

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import report

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django_live import History, Topic
from django_live.core.connections import Connection
from django_live.core.events import Event
from django_live.core.hub import Hub
from django_live.core.topics import Viewer
from django_live.transports.frames import SSE
from django_live.transports.socket_frames import SOCKET
from django_live.transports.socket_sink import SocketSink
from django_live.transports.sockets import SendSink

CONNECTIONS = 1000
EVENTS = 200
ROUNDS = 7


class Ticks(Topic):
    pattern = "ticks/<int:pk>"
    history = History(events=1000)


async def nothing(message: dict[str, Any]) -> None:
    message.get("body")


# Else it counts as somebody's middleware, and is left to tasks.
nothing.__module__ = "uvicorn"


def main() -> None:
    rows = []
    for name, topics, at_once in (
        ("SSE", 1, 1),
        ("WebSocket", 1, 1),
        ("SSE, 10 topics each", 10, 1),
        ("SSE, 10 events at once", 1, 10),
        ("WebSocket, 10 events at once", 1, 10),
    ):
        taken = [asyncio.run(one_round(name, topics, at_once)) for _ in range(ROUNDS)]
        rows.append({"what": name, "µs a delivery": round(statistics.median(taken) * 1e6, 2)})
    taken = [asyncio.run(plain_loop()) for _ in range(ROUNDS)]
    rows.append({"what": "plain loop", "µs a delivery": round(statistics.median(taken) * 1e6, 2)})
    report("dispatch", rows)


async def one_round(name: str, topics: int, at_once: int) -> float:
    """Seconds for a delivery. So many events come in one bundle."""
    hub = Hub()
    feeds = [hub.feed(Ticks(pk=number)) for number in range(topics)]
    for feed in feeds:
        feed.begin("epoch", 0)
    task = asyncio.current_task()
    assert task is not None
    for _ in range(CONNECTIONS):
        is_socket = name.startswith("WebSocket")
        sink: Any = SocketSink(nothing, task) if is_socket else SendSink(nothing)
        dialect: Any = SOCKET if is_socket else SSE
        connection = Connection(hub, sink, dialect, Viewer(user_id="1"), lambda _: None)
        hub.add(connection)
        for feed in feeds:
            hub.deliver_from(hub.subscribe(connection, feed.topic), 0)
        connection.begin(b"open")
        connection.pump()
    gc.collect()
    began = time.process_time()
    for number in range(EVENTS // at_once):
        feed = feeds[number % topics]
        hub.dispatch(feed, [feed.append(event_after(feed.last)) for _ in range(at_once)])
        while feed.dispatching:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return (time.process_time() - began) / (EVENTS * CONNECTIONS)


def event_after(offset: int) -> Event:
    data = '{"n":1,"pad":"' + "x" * 180 + '"}'
    return Event("tick", data, offset=offset + 1, created=time.time())


async def plain_loop() -> float:
    began = time.process_time()
    for _ in range(EVENTS):
        for _ in range(CONNECTIONS):
            step = nothing({"type": "http.response.body", "body": b"x", "more_body": True})
            try:  # noqa: SIM105
                step.send(None)
            except StopIteration:
                pass
    return (time.process_time() - began) / (EVENTS * CONNECTIONS)


if __name__ == "__main__":
    main()
