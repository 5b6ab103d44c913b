"""Opens and leaves connections of every kind in every way, and compares what was alive before and after."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.servers import Server
from tests.support.sse_reader import request_bytes, reset_on_close

AT_ONCE = 40
TOPICS = 50
WARM_UP = 400
"""Connections after which a process has what it keeps for good: pools, caches, compiled patterns."""
PATIENCE = 60.0
PATIENCE_FOR_OBJECTS = 10.0
"""On a busy machine what belonged to connections goes a little after them."""
FEW_OBJECTS = 2_500
"""What threads and caches that come late may add; each connection has dozens while it lives."""
PER_CONNECTION = 0.02
MEMORY_KB = 12_000
"""What the allocator may keep for itself, however many there were."""
# Threads: of pools that have a size, and fill as they are needed.
MOST_MORE = {"tasks": 2, "files": 3, "threads": 30, "connections": 0, "places": 0, "topics": 1}


@dataclass(frozen=True)
class Report:
    """What was alive before and after so many connections, and what of it is too much."""

    connections: int
    seconds: float
    before: Mapping[str, int]
    after: Mapping[str, int]

    @property
    def faults(self) -> dict[str, int]:
        grown = {name: self.after[name] - self.before[name] for name in self.before}
        most = {**MOST_MORE, "objects": most_objects(self.connections), "kB": MEMORY_KB}
        return {name: more for name, more in grown.items() if more > most[name]}


def most_objects(connections: int) -> int:
    """How many more there may be after so many connections."""
    return FEW_OBJECTS + int(connections * PER_CONNECTION)


def census(server: Server) -> dict[str, int]:
    with urllib.request.urlopen(f"{server.url}/census/") as answer:
        alive: dict[str, int] = json.load(answer)
    return {**alive, "kB": server.rss_kb()}


def settled(
    server: Server, like: Mapping[str, int] | None = None, connections: int = 0
) -> dict[str, int]:
    """What is alive once all that is still going on has ended, or will not: after so many connections
    it is to be like this again."""
    began = time.monotonic()
    while True:
        alive = census(server)
        took = time.monotonic() - began
        done = not alive["connections"] and not alive["places"]
        if like is not None:
            done = done and all(alive[n] <= like[n] + MOST_MORE[n] for n in MOST_MORE)
            few = alive["objects"] <= like["objects"] + most_objects(connections)
            done = done and (few or took > PATIENCE_FOR_OBJECTS)
        if done or took > PATIENCE:
            return alive
        time.sleep(0.2)


def churn(server: Server, count: int, seed: int = 1) -> Report:
    """`server` serves `census.py`."""
    asyncio.run(_come_and_go(server, WARM_UP, random.Random(seed)))
    before = settled(server)
    began = time.monotonic()
    asyncio.run(_come_and_go(server, count, random.Random(seed + 1)))
    took = time.monotonic() - began
    return Report(count, took, before, settled(server, before, count))


async def _come_and_go(server: Server, count: int, chance: random.Random) -> None:
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            kind = KINDS[number % len(KINDS)]
            # What the server does about it is its affair; that it does not is seen in the end.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(20):
                    await kind(server, f"open/t{number % TOPICS}", chance)

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


# -- kinds -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _connected(server: Server, first: bytes, chance: random.Random) -> Any:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(first)
        yield reader, writer
    finally:
        raw = writer.get_extra_info("socket")
        if raw is not None and chance.random() < 0.5:
            reset_on_close(raw)
        writer.transport.abort() if chance.random() < 0.5 else writer.close()


def _stream(server: Server, topic: str) -> bytes:
    return request_bytes(server.host, server.port, f"/live/events/?topic={topic}")


async def _open_and_leave(server: Server, topic: str, chance: random.Random) -> None:
    async with _connected(server, _stream(server, topic), chance) as (reader, _):
        await reader.readuntil(b"stream-open")


async def _leave_before_the_answer(server: Server, topic: str, chance: random.Random) -> None:
    async with _connected(server, _stream(server, topic), chance):
        await asyncio.sleep(chance.random() * 0.01)


async def _leave_within_the_request(server: Server, topic: str, chance: random.Random) -> None:
    request = _stream(server, topic)
    async with _connected(server, request[: chance.randrange(1, len(request))], chance):
        await asyncio.sleep(0)


async def _be_refused(server: Server, topic: str, chance: random.Random) -> None:
    del topic
    async with _connected(server, _stream(server, "orders/1"), chance) as (reader, _):
        await reader.readuntil(b"forbidden")


async def _poll_and_give_up(server: Server, topic: str, chance: random.Random) -> None:
    path = f"/live/poll/?topic={topic}&wait=30"
    request = request_bytes(server.host, server.port, path)
    async with _connected(server, request, chance) as (reader, writer):
        body = (await reader.readuntil(b"}")).rpartition(b"\r\n")[2]
        cursor = json.loads(body).get("cursor", "")
        writer.write(request_bytes(server.host, server.port, f"{path}&cursor={cursor}"))
        await asyncio.sleep(chance.random() * 0.05)


def _upgrade(server: Server) -> bytes:
    key = base64.b64encode(b"0123456789abcdef").decode()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": "live.1",
    }
    return request_bytes(server.host, server.port, "/live/ws/", upgrade)


def _frame(opcode: int, payload: bytes) -> bytes:
    """Masked with zeros, as a client has to."""
    length = bytes([0x80 | len(payload)])
    if len(payload) > 125:
        length = bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


async def _socket(server: Server, topic: str, chance: random.Random) -> None:
    async with _connected(server, _upgrade(server), chance) as (reader, writer):
        await reader.readuntil(b"stream-open")
        subscribe = {"action": "subscribe", "ref": 1, "topics": [topic]}
        writer.write(_frame(1, json.dumps(subscribe).encode()))
        if chance.random() < 0.5:
            await reader.readuntil(b"stream-reply")
        if chance.random() < 0.5:
            writer.write(_frame(8, b"\x03\xe8"))


async def _socket_left_at_once(server: Server, topic: str, chance: random.Random) -> None:
    del topic
    async with _connected(server, _upgrade(server), chance):
        await asyncio.sleep(chance.random() * 0.01)


Kind = Callable[[Server, str, random.Random], Awaitable[None]]
KINDS: list[Kind] = [
    _open_and_leave,
    _leave_before_the_answer,
    _leave_within_the_request,
    _be_refused,
    _poll_and_give_up,
    _socket,
    _socket_left_at_once,
]
