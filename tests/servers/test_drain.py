"""SIGTERM on each server, with many streams, WebSockets and polls open: all are told to come back, one
after the other; what is under way is finished; the process ends in time and as the server itself would.

`make soak` (LIVE_TEST_LONG=1) opens ten times as many, and waits on every server for a client that takes nothing,
which costs seconds each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.servers.test_polling import HeldPoll, cursor_of
from tests.servers.test_streams import path_of
from tests.support.databases import ServerDatabase, run_python
from tests.support.http import Visitor
from tests.support.reader_pool import ReaderPool
from tests.support.servers import Server
from tests.support.socket_client import SocketClient
from tests.support.sse_reader import SSEReader

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]

IS_SOAK = bool(os.environ.get("LIVE_TEST_LONG"))
STREAMS, SOCKETS = (600, 300) if IS_SOAK else (60, 30)
DRAIN = 3.0 if IS_SOAK else 0.7
ACCEPT = {"Accept": "text/event-stream"}
QUIET = ("Traceback", "ERROR", "Exception")
# What each ends with by itself, with tests/support/bare_stream.py and nobody connected: uvicorn in one
# process raises the signal once more, all others end with 0.
SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn": ("uvicorn",),
    "uvicorn-workers": ("uvicorn", "--workers", "2"),
    "daphne": ("daphne",),
    # Without a limit it waits for ever for a client that takes nothing; no application can help it.
    "granian": ("granian", "--workers-kill-timeout", "10"),
    "hypercorn": ("hypercorn",),
    "gunicorn-uvicorn": ("gunicorn", "--workers", "2"),
    "gunicorn-asgi": ("gunicorn", "--worker-class", "asgi"),
}


@pytest.fixture
def start(start_server: StartServer, new_server_database: NewDatabase) -> Callable[..., Server]:
    def begin(name: str, **live: Any) -> Server:
        kind, *options = SERVERS[name]
        settings = {"DRAIN": DRAIN, **live}
        env = {
            **new_server_database("sqlite").env,
            "LIVE_TEST_DJANGO_LIVE": json.dumps(settings),
        }
        return start_server(kind, env=env, options=options, start_timeout=60)

    return begin


@contextlib.contextmanager
def sockets(server: Server, count: int) -> Any:
    """So many WebSockets on one topic."""

    def opened(_: int) -> SocketClient:
        client = SocketClient(server.url)
        client.subscribe("open/a")
        return client

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as executor:
        yield [stack.enter_context(client) for client in executor.map(opened, range(count))]


@pytest.mark.parametrize("name", SERVERS)
def test_everybody_is_told_to_come_back(
    name: str, start: Callable[..., Server], readers: ReaderPool
) -> None:
    server = start(name)
    for _ in range(STREAMS):
        readers.open(server.host, server.port, path_of("open/a"), ACCEPT)
    readers.wait_until_open()
    with sockets(server, SOCKETS) as clients, ThreadPoolExecutor(SOCKETS) as executor:
        ends = [executor.submit(closed, client) for client in clients]
        began = time.monotonic()
        code = server.terminate(timeout=DRAIN + 20)
        took = time.monotonic() - began
        readers.wait_until(lambda: all(reader.over for reader in readers.readers))
        assert {end.result()[0] for end in ends} == {4000}
        assert all(client.frames[-1].event == "stream-end" for client in clients)
        closings = [end.result()[1] for end in ends]
    assert {reader.over for reader in readers.readers} == {"ended"}
    last = [reader.frames[-1] for reader in readers.readers]
    assert {frame.fields for frame in last} == {(("retry", "2000"),)}
    closings += [frame.received_at for frame in last]
    assert max(closings) - min(closings) > DRAIN / 2, "all at once"
    assert took < DRAIN + 10
    assert code == (-signal.SIGTERM if name == "uvicorn" else 0), "not the server's own"
    log = server.log()
    assert not any(word in log for word in QUIET), server.log_tail()


def closed(client: SocketClient) -> tuple[int, float]:
    return client.close_code(40), time.monotonic()


@pytest.mark.parametrize("name", ["uvicorn", "daphne", "granian"])
def test_what_is_under_way_is_finished_and_newcomers_are_sent_away(
    name: str, start: Callable[..., Server]
) -> None:
    server = start(name)
    visitor = Visitor(server.url)
    visitor.get("/live/send/")  # for the CSRF cookie
    cursor = cursor_of(visitor, "rooms/a", "open/a")
    with SocketClient(server.url) as client, ThreadPoolExecutor(4) as executor:
        client.subscribe("open/a")
        late = {"topic": "rooms/a", "type": "say-late"}
        client.say(action="send", ref=77, **late, data={"seconds": 1.5, "n": 0})
        posted = executor.submit(post, server, visitor, {**late, "data": {"seconds": 1.6, "n": 1}})
        wait_until_sent(visitor, "rooms/a")
        stopping = executor.submit(server.terminate, 30)
        wait_until_draining(visitor)
        assert visitor.get("/live/health/alive/").status == 200
        with SSEReader(server.host, server.port, path_of("open/a")) as newcomer:
            assert newcomer.wait_until_ended().clean
            assert newcomer.status == 200, "another status would stop an EventSource for good"
            assert [frame.fields for frame in newcomer.frames] == [(("retry", "2000"),)]
        with SocketClient(server.url) as newcomer:
            assert newcomer.close_code() == 4000
        poll = HeldPoll(server, "/live/poll/?topic=open/a&wait=30")
        assert 0 <= poll.answer()["retry_after"] <= 2
        poll.close()
        reply = client.wait_for(lambda frame: frame.event == "stream-reply" and frame.ref == 77)
        assert not reply.error
        assert client.close_code() == 4000
        assert posted.result() == 200
        stopping.result()
    assert not any(word in server.log() for word in QUIET), server.log_tail()
    server.start()
    query = urlencode([("topic", "rooms/a"), ("topic", "open/a"), ("cursor", cursor)])
    frames = Visitor(server.url).get(f"/live/poll/?{query}").json()["frames"]
    assert sorted(frame["data"]["n"] for frame in frames) == [0, 1]


def post(server: Server, visitor: Visitor, message: dict[str, Any]) -> int:
    headers = {"Content-Type": "application/json", "X-CSRFToken": visitor.cookies["csrftoken"]}
    headers |= {**visitor.cookie_header, "Origin": server.url}
    return (
        Visitor(server.url)
        .request("POST", "/live/send/", json.dumps(message).encode(), headers)
        .status
    )


def wait_until_sent(visitor: Visitor, topic: str) -> None:
    """Until the server has had time to read what was sent before: it answers ten requests since."""
    for _ in range(10):
        visitor.get(f"/live/poll/?topic={topic}")


def wait_until_draining(visitor: Visitor) -> None:
    deadline = time.monotonic() + 20
    while (answer := visitor.get("/live/health/")).status != 503:
        assert time.monotonic() < deadline
    assert answer.json()["status"] == "draining"
    assert answer.json()["ready"] is False


EVENTS = 300
FILL = f"""
from django.db import transaction
from django_live import publish
with transaction.atomic():
    for n in range({EVENTS}):
        publish("open/large", "counted", {{"n": n, "filling": "x" * 32_000}})
"""
PATIENCE = 4.0
"""Seconds; those that a client gets to read what it was sent, and to be told that this is the end, are 7."""


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("uvicorn", None),
        ("uvicorn", signal.SIGTERM),
        *((name, None) for name in ("daphne", "hypercorn", "granian") if IS_SOAK),
    ],
)
def test_a_client_that_takes_nothing_is_waited_for_a_moment_unless_the_signal_comes_twice(
    name: str, second: signal.Signals | None, start: Callable[..., Server]
) -> None:
    """What it was sent fills all buffers. On uvicorn that was an exit that never came."""
    server = start(name)
    visitor = Visitor(server.url)
    place = server.host, server.port, path_of("open/large")
    with SSEReader(*place, receive_buffer=4096) as stopped, SSEReader(*place) as reading:
        stopped.wait_for(lambda frame: frame.event == "stream-open")
        reading.wait_for(lambda frame: frame.event == "stream-open")
        run_python(["-"], server.env, stdin=f"import django\ndjango.setup()\n{FILL}")
        reading.events(EVENTS, timeout=60)
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        if second is not None:
            wait_until_draining(visitor)
            began = time.monotonic()
            os.kill(server.pid, second)
        assert server.process is not None
        server.process.wait(60)
        took = time.monotonic() - began
        assert reading.wait_until_ended().clean
    assert took < (PATIENCE if second is not None else 25)
    if second is None and name == "uvicorn":  # the control of the others
        assert took > PATIENCE
    if name != "hypercorn":  # it cancels what is left, and tells of that with a traceback
        assert not any(word in server.log() for word in QUIET), server.log_tail()
