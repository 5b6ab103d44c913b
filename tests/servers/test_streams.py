"""A saved order reaches real sockets, over real servers: received, resumed, fanned out, refused.

The readers are plain sockets that share no code with the package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from tests.support import prepared
from tests.support.databases import ServerDatabase
from tests.support.exactly_once import assert_exactly_once, judge
from tests.support.http import Visitor
from tests.support.reader_pool import PooledReader, ReaderPool
from tests.support.servers import PROJECT_ROOT, Server
from tests.support.sse_reader import SSEReader

StartServer = Callable[..., Server]

USERS = """
from django.contrib.auth.models import User
from tests.testapp.models import Order
User.objects.create_superuser("staff", password="staff")
anna = User.objects.create_user("anna", password="anna")
bert = User.objects.create_user("bert", password="bert")
print(Order.objects.create(customer=anna, status="new", total=10).pk, anna.pk)
"""
PUBLISH = """
import sys
from django.db import transaction
from django_live import publish
for n in range({first}, {first} + {count}):
    with transaction.atomic():
        publish("open/{topic}", "counted", {{"n": n}})
"""


def path_of(*topics: str, cursor: str = "") -> str:
    query = [("topic", topic) for topic in topics]
    if cursor:
        query.append(("lastEventId", cursor))
    return f"/live/events/?{urlencode(query)}"


def open_stream(
    server: Server, *topics: str, visitor: Visitor | None = None, last_id: str | None = None
) -> SSEReader:
    headers = {"Accept": "text/event-stream"}
    if visitor is not None:
        headers |= visitor.cookie_header
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    return SSEReader(server.host, server.port, path_of(*topics), headers)


@pytest.fixture(params=["uvicorn", "daphne"])
def server_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own_database(
    server_name: str, new_server_database: Callable[..., ServerDatabase]
) -> ServerDatabase:
    """Another one for each server. What depends on the database more than a server does runs on all of
    them (`tests/chaos/`)."""
    return new_server_database({"uvicorn": "postgresql", "daphne": "sqlite"}[server_name])


@pytest.fixture
def order(own_database: ServerDatabase) -> tuple[int, int]:
    """Primary keys of anna's order and of anna."""
    order_pk, anna_pk = own_database.python(USERS).split()[-2:]
    return int(order_pk), int(anna_pk)


class TestASavedOrder:
    def test_reaches_its_customer_and_staff_and_nobody_else(
        self,
        server_name: str,
        own_database: ServerDatabase,
        order: tuple[int, int],
        start_server: StartServer,
    ) -> None:
        order_pk, anna_pk = order
        server = start_server(server_name, env=own_database.env)
        anna, bert, staff = (Visitor(server.url) for _ in range(3))
        anna.log_in("anna", "anna")
        bert.log_in("bert", "bert")
        staff.log_in("staff", "staff")
        topic = f"orders/{order_pk}"
        with (
            open_stream(server, topic, visitor=anna) as hers,
            open_stream(server, topic, visitor=bert) as his,
            open_stream(server, topic) as strangers,
            open_stream(server, topic, f"customers/{anna_pk}/orders", visitor=staff) as theirs,
        ):
            hers.wait_for(lambda frame: frame.event == "stream-open")
            theirs.wait_for(lambda frame: frame.event == "stream-open")
            assert his.status == 403
            assert strangers.status == 403
            assert his.json()["errors"][0]["code"] == "forbidden"

            staff.get(f"/orders/{order_pk}/")  # for the CSRF cookie
            staff.post(f"/orders/{order_pk}/change/", {"status": "paid"})

            event = hers.next_event()
            assert (event.event, event.topic) == ("updated", topic)
            assert event.json() == {
                "pk": order_pk,
                "status": "paid",
                "total": "10.00",
                "changed": ["status"],
            }
            assert {frame.topic for frame in theirs.events(2)} == {
                topic,
                f"customers/{anna_pk}/orders",
            }

    def test_is_found_after_a_cut_and_after_the_server_was_killed(
        self,
        server_name: str,
        own_database: ServerDatabase,
        order: tuple[int, int],
        start_server: StartServer,
    ) -> None:
        topic = "open/cut"
        server = start_server(server_name, env=own_database.env)
        with open_stream(server, topic) as reader:
            reader.wait_for(lambda frame: frame.event == "stream-open")
            own_database.python(PUBLISH.format(topic="cut", first=0, count=3))
            received = [("open/cut", frame.json()["n"]) for frame in reader.events(3)]
            last_id = reader.last_id
            reader.cut()
        own_database.python(PUBLISH.format(topic="cut", first=3, count=2))
        with open_stream(server, topic, last_id=last_id) as reader:
            received += [("open/cut", frame.json()["n"]) for frame in reader.events(2)]
            last_id = reader.last_id
            server.kill()
        own_database.python(PUBLISH.format(topic="cut", first=5, count=2))
        server.start()
        with open_stream(server, topic, last_id=last_id) as reader:
            received += [("open/cut", frame.json()["n"]) for frame in reader.events(2)]
            assert not reader.frames_during(0.5)
        assert_exactly_once({"open/cut": range(7)}, {"reader": received})


class TestFourPublishingProcesses:
    PROCESSES = 4
    EACH = 60

    def test_lose_double_and_reorder_nothing_while_readers_are_cut(
        self,
        server_name: str,
        own_database: ServerDatabase,
        start_server: StartServer,
        readers: ReaderPool,
    ) -> None:
        server = start_server(server_name, env=own_database.env)
        headers = {"Accept": "text/event-stream"}
        pool = [
            readers.open(server.host, server.port, path_of("open/busy"), headers) for _ in range(20)
        ]
        readers.wait_until_open()
        publishers = [
            prepared.Popen(
                [sys.executable, "-c", self._source(index)],
                env={**os.environ, **own_database.env, "PYTHONPATH": str(PROJECT_ROOT)},
                cwd=PROJECT_ROOT,
            )
            for index in range(self.PROCESSES)
        ]
        cuts = self._cut_until_done(readers, pool, publishers)
        assert all(publisher.wait(60) == 0 for publisher in publishers)
        total = self.PROCESSES * self.EACH
        readers.wait_until(lambda: all(len(reader.events) >= total for reader in pool), 30)
        assert cuts > 0, "no connection was cut: this run proves nothing"

        received = readers.received()
        order = [n for _, n in received[next(iter(received))]]
        assert len(set(order)) == total
        for index in range(self.PROCESSES):
            mine = [n for n in order if str(n).startswith(f"{index}:")]
            assert mine == [f"{index}:{number}" for number in range(self.EACH)]
        assert_exactly_once({"open/busy": order}, received)

        # The checker sees a loss, a repetition and a step back when there is one.
        some = next(iter(received))
        for tampered in (
            received[some][1:],
            [received[some][0], *received[some]],
            [received[some][1], received[some][0], *received[some][2:]],
        ):
            assert not judge({"open/busy": order}, {"reader": tampered}).kept

    def _source(self, index: int) -> str:
        return (
            "import django; django.setup()\n"
            "from django.db import transaction\n"
            "from django_live import publish\n"
            f"for n in range({self.EACH}):\n"
            "    with transaction.atomic():\n"
            f"        publish('open/busy', 'counted', {{'n': f'{index}:{{n}}'}})\n"
        )

    def _cut_until_done(
        self,
        readers: ReaderPool,
        pool: list[PooledReader],
        publishers: list[subprocess.Popen[bytes]],
    ) -> int:
        cuts = 0
        pause = threading.Event()
        while any(publisher.poll() is None for publisher in publishers):
            victim = pool[cuts % (len(pool) - 1)]  # the last one is never cut
            if victim.open:
                readers.cut(victim)
                readers.reopen(victim)
                cuts += 1
            pause.wait(0.05)
        return cuts


class TestHundredsOfStreams:
    STREAMS = {"uvicorn": 500, "daphne": 200}

    def test_need_no_thread_and_no_database_connection(
        self,
        server_name: str,
        new_server_database: Callable[..., ServerDatabase],
        start_server: StartServer,
        readers: ReaderPool,
    ) -> None:
        database = new_server_database("postgresql")
        database.python(USERS)
        server = start_server(server_name, env=database.env)
        visitor = Visitor(server.url)
        visitor.log_in("anna", "anna")
        headers = {"Accept": "text/event-stream"} | visitor.cookie_header
        few = [
            readers.open(server.host, server.port, path_of("open/many"), headers) for _ in range(10)
        ]
        readers.wait_until_open()
        database.python(PUBLISH.format(topic="many", first=0, count=1))
        readers.wait_until(lambda: all(reader.events for reader in few))
        threads, connections = server.threads(), database.connection_count()

        for _ in range(self.STREAMS[server_name] - len(few)):
            readers.open(server.host, server.port, path_of("open/many"), headers)
        readers.wait_until_open()
        database.python(PUBLISH.format(topic="many", first=1, count=1))
        readers.wait_until(
            lambda: all(("open/many", 1) in pairs for pairs in readers.received().values())
        )
        # The threads that serve openings, hooks and the store are bounded; give them their bounds.
        assert server.threads() <= threads + 44
        assert database.connection_count() <= connections + 12

    def test_would_need_one_each_without_the_hold(
        self,
        new_server_database: Callable[..., ServerDatabase],
        start_server: StartServer,
        readers: ReaderPool,
    ) -> None:
        """The negative control: the same streams, each in Django's own thread."""
        database = new_server_database("sqlite")
        server = start_server(
            "uvicorn",
            application="tests.servers.broken:application",
            env={**database.env, "LIVE_TEST_BROKEN": "hold"},
        )
        threads = server.threads()
        headers = {"Accept": "text/event-stream"}
        for _ in range(100):
            readers.open(server.host, server.port, path_of("open/many"), headers)
        readers.wait_until_open()
        assert server.threads() >= threads + 100
