"""Beside station 6: one topic, heard by a process that serves nobody. A command that follows it is a
subscriber as any other: joined first, then read from the log, nothing twice and nothing left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from .bus import Bus, Envelope
from .connections import Connection, Sink
from .events import Event, Place, Position, place_text
from .hub import Hub
from .log import get_log
from .subscribing import Request, Subscribing
from .topics import Topic, Viewer

CHECK = 1.0
"""Seconds between two looks for what the bus may have lost."""

Line = Event | str
"""An event, or why some in between cannot be had."""


async def tail(topic: Topic, epoch: str, offset: int, tell: Callable[[Line], None]) -> None:
    """Call ``tell`` for each event after this place, for ever. Raises what the store raises."""
    tasks: set[asyncio.Task[Any]] = set()

    def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    subscribing: Subscribing

    def receive(message: Envelope) -> None:
        subscribing.receive(message)

    def look() -> None:
        spawn(subscribing.check_heads(list(hub.feeds.values())))

    hub = Hub()
    bus = Bus(receive, look)
    subscribing = Subscribing(hub, bus, get_log(), spawn)
    for task in bus.start():
        tasks.add(task)
    connection = Connection(hub, _Ear(tell), _Lines(), Viewer(), subscribing.need)
    place = Place(place_text(topic.key, Position(epoch, offset)), Position(epoch, offset), True)
    try:
        logged = topic.history is not None
        await subscribing.open(connection, [Request(topic, place if logged else None)])
        if logged and not connection.subscriptions:
            await get_log().aheads([topic])  # raises why
        while not connection.closed:
            await asyncio.sleep(CHECK)
            await subscribing.check_heads(list(hub.feeds.values()))
    finally:
        bus.stop()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Lines:
    """A JSON line for each."""

    name = "tail"

    def event(self, topic: Topic, event: Event) -> bytes:
        told = [event.offset, event.type, event.data, event.created]
        return json.dumps(told).encode() + b"\n"

    def snapshot(self, topic: str, data: str) -> bytes:
        return json.dumps([0, "stream-snapshot", data, 0.0]).encode() + b"\n"

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        return json.dumps(reason).encode() + b"\n"

    def error(self, topic: str, code: str, message: str) -> bytes:
        return json.dumps(code).encode() + b"\n"

    def end(self, cursor: str) -> bytes:
        return b""

    def moved(self, cursor: str) -> bytes:
        return b""

    def keep_alive(self) -> bytes:
        return b""

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        return b""

    def goodbye(self, retry: float) -> bytes:
        return b""


class _Ear(Sink):
    """The socket of whoever follows."""

    def __init__(self, tell: Callable[[Line], None]) -> None:
        self._tell = tell

    def put(self, prepared: bytes) -> bool:
        for line in prepared.splitlines():
            told = json.loads(line)
            if isinstance(told, str):
                self._tell(told)
            else:
                offset, type, text, created = told
                self._tell(Event(type=type, data=text, offset=offset, created=created))
        return True

    def end(self) -> None:
        pass
