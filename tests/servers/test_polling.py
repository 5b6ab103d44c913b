"""Polls over real servers: held without a thread, exactly once, revoked, drained."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import environ
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.servers.test_streams import PUBLISH, USERS
from tests.support import prepared
from tests.support.databases import ServerDatabase
from tests.support.exactly_once import assert_exactly_once
from tests.support.http import Visitor
from tests.support.servers import PROJECT_ROOT, Server

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]

LEAVE = """
from django.contrib.auth.models import User
anna = User.objects.get(username="anna")
anna.is_active = False
anna.save()
"""
PUBLISHER = """
import django; django.setup()
import time
from django.db import transaction
from django_live import publish
for n in range({count}):
    with transaction.atomic():
        publish("open/busy", "counted", {{"n": f"{index}:{{n}}"}})
    time.sleep(0.01)
"""


@pytest.fixture(params=["uvicorn", "daphne"])
def server_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own_database(server_name: str, new_server_database: NewDatabase) -> ServerDatabase:
    """Another one for each server. What depends on the database more than a server does runs on all of
    them (`tests/chaos/`)."""
    return new_server_database({"uvicorn": "postgresql", "daphne": "sqlite"}[server_name])


def path_of(*topics: str, **query: Any) -> str:
    pairs = [*(("topic", topic) for topic in topics), *query.items()]
    return f"/live/poll/?{urlencode(pairs)}"


def cursor_of(visitor: Visitor, *topics: str) -> str:
    return str(visitor.get(path_of(*topics)).json()["cursor"])


class HeldPoll:
    """A request that was sent, whose answer is read when it is there."""

    def __init__(self, server: Server, path: str, headers: dict[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=40)
        self._connection.request("GET", path, headers=headers or {})

    def is_answered(self) -> bool:
        assert self._connection.sock is not None
        self._connection.sock.setblocking(False)
        try:
            return bool(self._connection.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._connection.sock.settimeout(40)

    def answer(self) -> Any:
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return json.loads(body)

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def held_polls(server: Server, count: int, path: str) -> Iterator[list[HeldPoll]]:
    polls = [HeldPoll(server, path) for _ in range(count)]
    try:
        yield polls
    finally:
        for poll in polls:
            poll.close()


def publish(database: ServerDatabase, topic: str, first: int, count: int = 1) -> None:
    database.python(PUBLISH.format(topic=topic, first=first, count=count))


class TestTwoHundredHeldPolls:
    POLLS = 200

    def test_need_no_thread_and_no_database_connection(
        self, new_server_database: NewDatabase, start_server: StartServer
    ) -> None:
        """They are held as streams are, and those are counted on Daphne, too."""
        database = new_server_database("postgresql")
        server = start_server("uvicorn", env=database.env)
        visitor = Visitor(server.url)
        cursor = cursor_of(visitor, "open/many")
        path = path_of("open/many", cursor=cursor, wait=45)
        with held_polls(server, 10, path) as few:
            publish(database, "many", 0)
            cursors = {poll.answer()["cursor"] for poll in few}
        (cursor,) = cursors
        threads, connections = server.threads(), database.connection_count()
        with held_polls(server, self.POLLS, path_of("open/many", cursor=cursor, wait=45)) as polls:
            # The last one is held when a page that came after it is answered, and a little later.
            visitor.get(path_of("open/many"))
            deadline = time.monotonic() + 20
            while server.open_files() < self.POLLS and time.monotonic() < deadline:
                time.sleep(0.05)
            settled = _lowest(server.threads, 3)
            held_connections = database.connection_count()
            assert not any(poll.is_answered() for poll in polls)
            publish(database, "many", 1)
            answers = [poll.answer() for poll in polls]
        assert all([f["data"]["n"] for f in a["frames"]] == [1] for a in answers)
        # The threads that serve requests, hooks and the store are bounded.
        assert settled <= threads + 44
        assert held_connections <= connections + 12
        print(f"{threads}->{settled} threads, {connections}->{held_connections}")  # noqa: T201

    def test_would_be_short_polls_without_the_hold(
        self, new_server_database: NewDatabase, start_server: StartServer
    ) -> None:
        """The negative control."""
        database = new_server_database("sqlite")
        server = start_server(
            "uvicorn",
            application="tests.servers.broken:application",
            env={**database.env, "LIVE_TEST_BROKEN": "hold"},
        )
        cursor = cursor_of(Visitor(server.url), "open/many")
        began = time.monotonic()
        with held_polls(server, 10, path_of("open/many", cursor=cursor, wait=45)) as polls:
            assert all(poll.answer()["frames"] == [] for poll in polls)
        assert time.monotonic() - began < 20


def _lowest(measure: Callable[[], int], seconds: float) -> int:
    """The lowest of what is measured: request threads that just ended go away by and by."""
    lowest, until = measure(), time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        lowest = min(lowest, measure())
    return lowest


class Poller:
    """Polls until it has everything; gives up now and then, and repeats with its old cursor."""

    def __init__(self, server: Server, seed: int, total: int, cursor: str) -> None:
        self.server = server
        self.received: list[tuple[str, Any]] = []
        self.cursor = cursor
        self.given_up = 0
        self._random = random.Random(seed)
        self._seed = seed
        self._total = total

    def run(self) -> None:
        until = time.monotonic() + 60
        while len(self.received) < self._total and time.monotonic() < until:
            wait = 0 if self._seed == 0 else 10
            poll = HeldPoll(self.server, path_of("open/busy", cursor=self.cursor, wait=wait))
            try:
                if self._random.random() < 0.3:
                    # In the middle of the wait, of the answer's writing, or after it was written.
                    time.sleep(self._random.choice([0, 0.002, 0.02]))
                    self.given_up += 1
                    continue
                answer = poll.answer()
            finally:
                poll.close()
            for frame in answer["frames"]:
                assert frame["event"] == "counted", frame
                self.received.append((frame["topic"], frame["data"]["n"]))
            self.cursor = answer["cursor"]
            if wait == 0:
                time.sleep(0.02)


class TestTwoPublishingProcesses:
    PROCESSES, EACH, POLLERS = 2, 250, 6
    """With 100 the pollers gave up 20 times in a quick run, and that proves too little."""

    def test_lose_double_and_reorder_nothing_while_pollers_give_up(
        self,
        server_name: str,
        own_database: ServerDatabase,
        start_server: StartServer,
    ) -> None:
        server = start_server(server_name, env=own_database.env)
        total = self.PROCESSES * self.EACH
        cursor = cursor_of(Visitor(server.url), "open/busy")
        pollers = [Poller(server, seed, total, cursor) for seed in range(self.POLLERS)]
        with ThreadPoolExecutor(self.POLLERS) as threads:
            running: list[Future[None]] = [threads.submit(poller.run) for poller in pollers]
            publishers = [
                prepared.Popen(
                    [sys.executable, "-c", PUBLISHER.format(count=self.EACH, index=index)],
                    env={**environ, **own_database.env, "PYTHONPATH": str(PROJECT_ROOT)},
                    cwd=PROJECT_ROOT,
                )
                for index in range(self.PROCESSES)
            ]
            assert all(publisher.wait(60) == 0 for publisher in publishers)
            for future in running:
                future.result(70)
        assert sum(poller.given_up for poller in pollers) > 20, "this run proves nothing"
        order = self._order(Visitor(server.url), cursor)
        for index in range(self.PROCESSES):
            mine = [n for n in order if n.startswith(f"{index}:")]
            assert mine == [f"{index}:{number}" for number in range(self.EACH)]
        received = {f"poller {index}": poller.received for index, poller in enumerate(pollers)}
        assert_exactly_once({"open/busy": order}, received)

    def _order(self, visitor: Visitor, cursor: str) -> list[str]:
        answer = visitor.get(path_of("open/busy", cursor=cursor)).json()
        assert not answer["more"]
        return [frame["data"]["n"] for frame in answer["frames"]]


def test_a_permission_that_is_revoked_ends_the_wait(
    server_name: str, new_server_database: NewDatabase, start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    order_pk = database.python(USERS).split()[-2]
    server = start_server(server_name, env=database.env)
    anna = Visitor(server.url)
    anna.log_in("anna", "anna")
    topic = f"orders/{order_pk}"
    cursor = cursor_of(anna, topic)
    poll = HeldPoll(server, path_of(topic, cursor=cursor, wait=30), anna.cookie_header)
    _wait_until_held(server)
    began = time.monotonic()
    database.python(LEAVE)
    answer = poll.answer()
    assert time.monotonic() - began < 10
    assert [frame["event"] for frame in answer["frames"]] == ["stream-error"]
    assert answer["frames"][0]["data"]["code"] == "signed-out"
    poll.close()


def _wait_until_held(server: Server) -> None:
    """Until requests that came after it have been answered."""
    visitor = Visitor(server.url)
    for _ in range(10):
        visitor.get(path_of("open/other"))


def test_a_server_that_is_told_to_stop_answers_its_polls(
    server_name: str, new_server_database: NewDatabase, start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    server = start_server(server_name, env=database.env)
    cursor = cursor_of(Visitor(server.url), "open/stop")
    with held_polls(server, 20, path_of("open/stop", cursor=cursor, wait=45)) as polls:
        _wait_until_held(server)
        stopping = threading.Thread(target=server.terminate)
        began = time.monotonic()
        stopping.start()
        answers = [poll.answer() for poll in polls]
        stopping.join()
        assert time.monotonic() - began < 10
    assert all(a["frames"] == [] and a["cursor"] == cursor for a in answers)
    assert all(0 <= a["retry_after"] <= 2 for a in answers)
    assert len({a["retry_after"] for a in answers}) > 10, "they come back spread"
