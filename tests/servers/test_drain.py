"""SIGTERM on each server, with many streams, WebSockets and polls open: all are told to come back, one
after the other; what is under way is finished; the process ends in time and as the server itself would."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.servers.test_polling import HeldPoll, cursor_of
from tests.servers.test_streams import PUBLISH, path_of
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.reader_pool import ReaderPool
from tests.support.servers import Server
from tests.support.socket_client import SocketClient
from tests.support.sse_reader import SSEReader

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]

STREAMS, SOCKETS = 100, 50
DRAIN = 1.0
ACCEPT = {"Accept": "text/event-stream"}
QUIET = ("Traceback", "ERROR", "Exception")
SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn": ("uvicorn",),
    "uvicorn-workers": ("uvicorn", "--workers", "2"),
    "daphne": ("daphne",),
    "granian": ("granian",),
    "hypercorn": ("hypercorn",),
    "hypercorn-uvloop": ("hypercorn", "--worker-class", "uvloop"),
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


def exit_code_of(name: str, start_server: StartServer) -> int:
    """What the server itself ends with when nobody is connected and it serves something else."""
    kind, *options = SERVERS[name]
    application = "tests.support.bare_stream:application"
    return start_server(kind, application, options=options, start_timeout=60).terminate()


@pytest.mark.parametrize("name", SERVERS)
def test_everybody_is_told_to_come_back(
    name: str, start: Callable[..., Server], start_server: StartServer, readers: ReaderPool
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
    assert code == exit_code_of(name, start_server)
    log = server.log()
    assert not any(word in log for word in QUIET), server.log_tail()


def closed(client: SocketClient) -> tuple[int, float]:
    return client.close_code(40), time.monotonic()
