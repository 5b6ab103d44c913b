"""What a message costs whoever wrote it, and when the others have it: one uvicorn process, one room, 500 members
over WebSockets. And how long it takes to open a room in which 100,000 messages were said.

* ``acknowledged``: from the moment the message is written to the socket until the server's reply is read.
* ``seen``: from the same moment until a member's socket has it, for every member and message.
* ``opened``: a request for the room's page over HTTP, of a server that does nothing else.

Connections to the database last (`CONN_MAX_AGE` 60); with `--reconnect 1` each piece of work makes one of its own, as
Django does where nothing is set.

`python benchmarks/chat.py --members 500 --messages 300 --rate 10 --old 100000`
"""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from common import arguments, in_children, report, seconds

SETTINGS = {
    "CHAT_RATE": 100_000,
    "CHAT_BURST": 100_000,
    "OPENING_RATE": 100_000,
    "OPENING_BURST": 100_000,
    "MESSAGE_RATE": 100_000,
    "MESSAGE_BURST": 100_000,
}
NUMBER = re.compile(rb'"client_id":"bench-(\d+)"')
PING = re.compile(rb"\x89\x04(.{4})", re.DOTALL)


def quantile(times: list[float], percent: int) -> float:
    return round(statistics.quantiles(times, n=100)[percent - 1] * 1000, 1)


def measure(database: str, options: Any) -> list[dict[str, Any]]:
    """In a child: people, rooms and messages; then a server."""
    import django

    django.setup()
    from tests.support.servers import Server

    topic, old_room, sessions = _furnish(options.members, options.old)
    with Server("uvicorn", log_path=Path(os.environ["BENCH_LOG"])) as server:
        opened = _open_room(server.url, old_room, sessions[0])
        acknowledged, seen = _talk(server, topic, sessions, options)
        used = server.cpu_seconds()
    expected = options.members * options.messages
    return [
        {
            "database": database,
            "members": options.members,
            "messages_per_s": options.rate,
            "acknowledged_p50_ms": quantile(acknowledged, 50),
            "acknowledged_p95_ms": quantile(acknowledged, 95),
            "seen_p50_ms": quantile(seen, 50),
            "seen_p99_ms": quantile(seen, 99),
            "seen": f"{len(seen)} of {expected}",
            "opened_p50_ms": quantile(opened, 50),
            "opened_p95_ms": quantile(opened, 95),
            "server_cpu_s": round(used, 1),
        }
    ]


def _furnish(members: int, old: int) -> tuple[str, int, list[str]]:
    """A topic to talk in, a room in which much was said, and sessions of its members."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore

    from django_live.chat import create_room
    from django_live.chat.models import Message, Room

    names = [f"m{n}" for n in range(members)]
    User.objects.bulk_create(User(username=name, password="!x") for name in names)
    users = list(User.objects.filter(username__in=names).order_by("pk"))
    sessions = []
    for user in users:
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        assert session.session_key is not None
        sessions.append(session.session_key)
    room = create_room("Hall", by=users[0], members=users)
    full = create_room("Archive", by=users[0], members=users)
    rows = (
        Message(
            room=full, author=users[n % members], number=n, client_id=f"o{n:09}", text=f"{n} " * 20
        )
        for n in range(1, old + 1)
    )
    Message.objects.bulk_create(rows, batch_size=2000)
    Room.objects.filter(pk=full.pk).update(last_number=old)
    return f"live/chat/{room.pk}", full.pk, sessions


def _open_room(url: str, room: int, session: str) -> list[float]:
    from tests.support.http import Visitor

    visitor = Visitor(url)
    visitor.cookies["sessionid"] = session

    def open_it() -> None:
        answer = visitor.get(f"/chat/{room}/")
        assert answer.status == 200
        assert answer.text.count('class="live-chat-message"') == 51  # and the template

    for _ in range(5):
        open_it()
    return [seconds(open_it) for _ in range(60)]


def _talk(
    server: Any, topic: str, sessions: list[str], options: Any
) -> tuple[list[float], list[float]]:
    from tests.support.socket_client import SocketClient

    ours, theirs = multiprocessing.Pipe()
    listeners = multiprocessing.get_context("spawn").Process(
        target=listen, args=(theirs, server.host, server.port, topic, sessions)
    )
    listeners.start()
    assert ours.recv() == "ready"
    said: list[float] = []
    acknowledged: list[float] = []
    with SocketClient(server.url, {"Cookie": f"sessionid={sessions[0]}"}) as writer:
        warm = 20
        began = time.monotonic()
        for n in range(warm + options.messages):
            time.sleep(max(0.0, began + n / options.rate - time.monotonic()))
            data = {"text": f"This is what somebody says, {n}", "client_id": f"bench-{n:06}"}
            at = time.monotonic()
            reply = writer.call("send", topic=topic, type="send", data=data)
            took = time.monotonic() - at
            assert not reply.error, reply.error
            said.append(at)
            if n >= warm:
                acknowledged.append(took)
    time.sleep(1)
    ours.send("enough")
    heard = ours.recv()
    listeners.join()
    seen = [at - said[n] for n, at in heard if n >= warm]
    return acknowledged, seen


def listen(pipe: Any, host: str, port: int, topic: str, sessions: list[str]) -> None:
    """In a process of its own: everybody's socket, and when it had which message."""
    asyncio.run(_listen(pipe, host, port, topic, sessions))


class Member(asyncio.Protocol):
    """A WebSocket, as little of one as will do: it reads no frames and looks for what it waits for. Also
    for pings and keep-alives: who answers none is ended within a minute."""

    def __init__(self, host: str, topic: str, session: str, heard: list[tuple[int, float]]) -> None:
        self.host, self.topic, self.session, self.heard = host, topic, session, heard
        self.subscribed = asyncio.get_running_loop().create_future()
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /live/ws/ HTTP/1.1",
            f"Host: {self.host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: live.1",
            f"Cookie: sessionid={self.session}",
        ]
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self.rest + data
        if b"stream-open" in data:
            asked = {"action": "subscribe", "ref": 1, "topics": [self.topic], "cursor": ""}
            self._say(json.dumps(asked).encode())
        if b"stream-reply" in data and not self.subscribed.done():
            self.subscribed.set_result(None)
        for ping in PING.finditer(data):
            self._say(ping[1], kind=0x8A)
        if b"keep-alive" in data:
            self._say(b'{"action":"pong"}')
        found = list(NUMBER.finditer(data))
        self.heard.extend((int(one[1]), now) for one in found)
        end = found[-1].end() if found else 0
        self.rest = data[max(end, len(data) - 30) :]

    def _say(self, text: bytes, kind: int = 0x81) -> None:
        assert len(text) < 126
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(text))
        self.transport.write(bytes([kind, 0x80 | len(text)]) + mask + masked)


async def _listen(pipe: Any, host: str, port: int, topic: str, sessions: list[str]) -> None:
    loop = asyncio.get_running_loop()
    heard: list[tuple[int, float]] = []
    for session in sessions:
        _, member = await loop.create_connection(
            lambda session=session: Member(host, topic, session, heard),  # type: ignore[misc]
            host,
            port,
        )
        await asyncio.wait_for(member.subscribed, 30)
    pipe.send("ready")
    await loop.run_in_executor(None, pipe.recv)
    pipe.send(heard)


def main() -> None:
    """Measure in a child for each database, and print."""
    options = arguments("chat", members=500, messages=300, rate=10, old=100_000, reconnect=0)
    if options.in_child:
        print(json.dumps(measure(options.in_child, options)))
        sys.stdout.flush()
        os._exit(0)
    env = {"BENCH_LOG": "/dev/null", "LIVE_TEST_DJANGO_LIVE": json.dumps(SETTINGS)}
    if not options.reconnect:
        env |= {"DJANGO_SETTINGS_MODULE": "benchmarks.chat_settings"}
    report("chat", in_children(__file__, options.databases, env))


if __name__ == "__main__":
    main()
