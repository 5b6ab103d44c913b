"""Clients that are gone without a word: their socket looks open, and nobody reads it or speaks. Nothing
tells the server; so it finds out, and nothing of them is left."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.test_polling import cursor_of
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.other_process import OtherProcess
from tests.support.servers import Server
from tests.support.socket_client import SocketClient
from tests.support.sse_reader import request_bytes

StartServer = Callable[..., Server]

EACH = 10
ROUNDS = 10
"""On a busy machine the first ones have been dropped before the last ones are open."""
SETTINGS = {"HEARTBEAT": 0.5, "STREAM_LIFETIME": 1.5}
FILL = """
from django.db import transaction
from django_live import publish
with transaction.atomic():
    for n in range(200):
        publish("open/large", "counted", {"n": n, "filling": "x" * 32_000})
"""

NO_WAY_TO_CUT_OFF = {"granian"}
"""Who takes nothing stays in their own buffers: docs/howto/deploy.md."""


def gone(server: Server, path: str) -> socket.socket:
    """Asks for this address, and is not heard of again.

    Nothing more would be asked on this connection: how long a server keeps one on which nothing is under
    way is its own affair.
    """
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((server.host, server.port))
    head = request_bytes(server.host, server.port, path, {"Connection": "close"})
    connection.sendall(head)
    return connection


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "granian", "daphne"])
def test_they_are_found_and_dropped_whatever_they_had_open(
    name: str,
    new_server_database: Callable[..., ServerDatabase],
    start_server: StartServer,
) -> None:
    database = new_server_database("sqlite")
    env = {**database.env, "LIVE_TEST_DJANGO_LIVE": json.dumps(SETTINGS)}
    server = start_server(name, env=env)
    quiet, large = (cursor_of(Visitor(server.url), topic) for topic in ("open/quiet", "open/large"))
    paths = [
        "/live/events/?topic=open/quiet",
        f"/live/poll/?topic=open/quiet&cursor={quiet}&wait=3",
    ]
    if name not in NO_WAY_TO_CUT_OFF:
        paths.append(f"/live/events/?topic=open/large&cursor={large}")
    with ExitStack() as stack, OtherProcess(env) as elsewhere:
        elsewhere.run(FILL)  # of one topic more than the sockets take
        before, everybody = server.open_files(), (len(paths) + 1) * EACH
        for _ in range(ROUNDS):
            for _ in range(EACH):
                for path in paths:
                    stack.enter_context(gone(server, path))
                stack.enter_context(SocketClient(server.url, mute=True))
            if becomes_true(lambda: server.open_files() >= before + everybody, 1):
                break
        else:
            raise AssertionError("they are not open")
        assert becomes_true(lambda: server.open_files() < before + EACH / 2, 20), "still there"
    assert "Traceback" not in server.log(), server.log_tail()


PLACES = 3


@pytest.mark.parametrize("name", sorted(NO_WAY_TO_CUT_OFF))
def test_who_cannot_be_cut_off_takes_nobodys_place(
    name: str, new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    limited = {**SETTINGS, "MAX_CONNECTIONS": PLACES, "STREAM_LIFETIME": 4.0}
    env = {**database.env, "LIVE_TEST_DJANGO_LIVE": json.dumps(limited)}
    server = start_server(name, env=env)
    visitor = Visitor(server.url)
    large = cursor_of(visitor, "open/large")

    def is_let_in() -> bool:
        with gone(server, "/live/events/?topic=open/quiet") as newcomer:
            newcomer.settimeout(10)
            return newcomer.recv(4096).startswith(b"HTTP/1.1 200")

    clients: list[socket.socket] = []

    def hold_all_places() -> bool:
        """Not so while a newcomer that was let in, and is about to go, has one of them."""
        ports = {client.getsockname()[1] for client in clients}
        return len(ports & held_by(server.port)) >= PLACES

    with ExitStack() as stack, OtherProcess(env) as elsewhere:
        elsewhere.run(FILL)
        for _ in range(ROUNDS):
            for _ in range(PLACES):
                path = f"/live/events/?topic=open/large&cursor={large}"
                clients.append(stack.enter_context(gone(server, path)))
            if becomes_true(lambda: not is_let_in() and hold_all_places(), 1):
                break
        else:
            raise AssertionError("there is no limit")
        assert becomes_true(is_let_in, 20), "their places are not given back"
        assert hold_all_places(), "it does cut them off: say so"


def held_by(port: int) -> set[int]:
    """The clients' ports of connections that the server on this one has neither closed nor cut off."""
    held = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == "01" and local.endswith(f":{port:04X}"):
            held.add(int(remote.rpartition(":")[2], 16))
    return held


def becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
