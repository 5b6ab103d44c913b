"""The WebSocket over real servers: delivered once and in order, resumed after a kill, refused, taken
away; and what a hostile or unlucky client does to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.databases import ServerDatabase
from tests.support.exactly_once import assert_exactly_once
from tests.support.http import Visitor
from tests.support.servers import Server
from tests.support.socket_client import SocketClient, binary

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]

USERS = """
from django.contrib.auth.models import User
from tests.testapp.models import Order
User.objects.create_superuser("staff", password="staff")
anna = User.objects.create_user("anna", password="anna")
print(Order.objects.create(customer=anna, status="new", total=10).pk, anna.pk)
"""
PUBLISH = """
from django.db import transaction
from django_live import publish
for n in range({first}, {first} + {count}):
    with transaction.atomic():
        publish("{topic}", "counted", {{"n": n}})
"""


@pytest.fixture(params=["uvicorn", "daphne"])
def server_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(new_server_database: NewDatabase) -> ServerDatabase:
    return new_server_database("sqlite")


def counted(client: SocketClient, count: int) -> list[tuple[str, int]]:
    return [(event.topic, event.data["n"]) for event in client.events(count)]


def assert_quiet(server: Server) -> None:
    """Nothing of what clients did is in the server's log."""
    for word in ("Traceback", "ERROR", "Exception", "Internal Server Error"):
        assert word not in server.log(), server.log_tail()


class TestDelivery:
    def test_a_saved_order_reaches_those_who_may_see_it(
        self, server_name: str, database: ServerDatabase, start_server: StartServer
    ) -> None:
        order, anna_pk = database.python(USERS).split()[-2:]
        server = start_server(server_name, env=database.env)
        anna = Visitor(server.url)
        anna.log_in("anna", "anna")
        topics = [f"orders/{order}", f"customers/{anna_pk}/orders"]
        with (
            SocketClient(server.url, anna.cookie_header, origin=server.url) as hers,
            SocketClient(server.url) as strangers,
        ):
            assert hers.subscribe(*topics).data["topics"] == topics
            refused = strangers.subscribe(*topics).data
            assert refused["topics"] == []
            assert [error["code"] for error in refused["errors"]] == ["forbidden"] * 2
            database.python(
                "from tests.testapp.models import Order\n"
                "order = Order.objects.get()\norder.status = 'paid'\norder.save()"
            )
            heard = hers.events(2)
            assert {event.topic for event in heard} == set(topics)
            assert {event.data["status"] for event in heard} == {"paid"}
        assert_quiet(server)

    def test_exactly_once_over_cuts_and_a_killed_server(
        self, server_name: str, new_server_database: NewDatabase, start_server: StartServer
    ) -> None:
        database = new_server_database("postgresql")
        server = start_server(server_name, env=database.env)
        topics = ["open/a", "open/b"]
        received: list[tuple[str, int]] = []
        with SocketClient(server.url) as client:
            client.subscribe(*topics)
            database.python(
                "".join(PUBLISH.format(topic=topic, first=0, count=5) for topic in topics)
            )
            received += counted(client, 10)
            cursor = client.cursor
        for round_ in range(1, 3):
            if round_ == 2:
                server.kill()
            for topic in topics:
                database.python(PUBLISH.format(topic=topic, first=5 * round_, count=5))
            if round_ == 2:
                server.start()
            with SocketClient(server.url) as client:
                client.subscribe(*topics, cursor=cursor)
                received += counted(client, 10)
                cursor = client.cursor
        with SocketClient(server.url) as client:
            client.subscribe(*topics, cursor=cursor)
            assert not [frame for frame in client.heard_within(0.5) if frame.is_event]
        assert_exactly_once({topic: range(15) for topic in topics}, {"reader": received})

    def test_bytes_arrive_as_they_were(
        self, server_name: str, database: ServerDatabase, start_server: StartServer
    ) -> None:
        server = start_server(server_name, env=database.env)
        with SocketClient(server.url) as client:
            client.subscribe("open/a")
            before = time.time() * 1000
            database.python(
                "from django_live import publish\n"
                "publish('open/a', 'bytes', bytes(range(256)))\n"
                "publish('open/a', 'said', {'n': 1})\n"
                "publish('open/a', 'bytes', b'\\x07' * 200_000)\n"
                "publish('open/a', 'bytes', b'')"
            )
            small, said, large, empty = client.events(4)
            assert (small.data, small.flags, small.sequence) == (bytes(range(256)), 0, 1)
            assert before - 5000 < small.timestamp < time.time() * 1000 + 5000
            assert said.data == {"n": 1}
            assert (large.data, large.sequence) == (b"\x07" * 200_000, 3)
            assert empty.data == b""
            cursor = small.id
        with SocketClient(server.url) as client:  # and so they do from the log
            client.subscribe("open/a", cursor=cursor)
            assert [e.data for e in client.events(3)] == [{"n": 1}, b"\x07" * 200_000, b""]


class TestMessages:
    def test_of_a_user_reach_the_others(
        self, server_name: str, database: ServerDatabase, start_server: StartServer
    ) -> None:
        database.python(USERS)
        server = start_server(server_name, env=database.env)
        anna = Visitor(server.url)
        anna.log_in("anna", "anna")
        with (
            SocketClient(server.url, anna.cookie_header) as hers,
            SocketClient(server.url) as his,
        ):
            hers.subscribe("rooms/a")
            his.subscribe("rooms/a")
            reply = hers.call("send", topic="rooms/a", type="say", data={"n": 1})
            assert reply.data == {"by": "anna"}
            assert his.next_event().data == {"n": 1}
            his.socket.send(binary("rooms/a", "say", b"\0\1", flags=4, sequence=9))
            assert hers.next_event().data == b"\0\1"
            assert not [f for f in hers.heard_within(0.3) if f.data == {"n": 1}], "it is spared"
            refused = his.call("send", topic="rooms/closed", type="say")
            assert refused.error["code"] == "forbidden"
        assert_quiet(server)

    def test_that_are_hostile_harm_nothing_and_leave_nothing_in_the_log(
        self, server_name: str, database: ServerDatabase, start_server: StartServer
    ) -> None:
        server = start_server(
            server_name,
            env={
                **database.env,
                "LIVE_TEST_DJANGO_LIVE": json.dumps(
                    {"MESSAGE_BYTES": 10_000, "MESSAGE_BURST": 30, "CALL_TIMEOUT": 0.5}
                ),
            },
        )
        with SocketClient(server.url) as good, SocketClient(server.url) as bad:
            good.subscribe("open/a")
            bad.subscribe("open/a")
            bad.socket.send("x" * 20_000)
            bad.socket.send(binary("rooms/a", "say", b"x" * 20_000))
            bad.socket.send(binary("rooms/a", "say", b"abc")[:-2])
            bad.socket.send("{" * 1000)
            bad.socket.send("")
            heard = [
                bad.wait_for(lambda f: f.event == "stream-error").data["code"] for _ in range(5)
            ]
            assert heard == ["too-large"] * 2 + ["malformed-message"] * 3
            assert (
                bad.call("send", topic="rooms/a", type="hang", data=1.5).error["code"] == "timeout"
            )
            assert bad.call("send", topic="rooms/b", type="hello").error is None
            for _ in range(300):
                bad.say(action="send", topic="rooms/b", type="hello")
            flood = bad.wait_for(lambda f: f.event == "stream-error")
            assert flood.data["code"] == "too-many-messages"
            database.python(PUBLISH.format(topic="open/a", first=0, count=1))
            assert good.next_event().data == {"n": 0}
            assert bad.next_event().data == {"n": 0}
            for _ in range(20):
                bad.socket.send("{")
            assert bad.close_code() == 4201
            database.python(PUBLISH.format(topic="open/a", first=1, count=1))
            assert good.next_event().data == {"n": 1}
        with SocketClient(server.url, origin="https://elsewhere.example") as stranger:
            assert stranger.close_code() == 4202
            assert stranger.frames[0].data["code"] == "cross-site"
        with SocketClient(server.url, subprotocols=("live.9",)) as newer:
            assert newer.close_code() == 4203
        with SocketClient(server.url, subprotocols=()) as plain:
            assert plain.subscribe("open/a").data["topics"] == ["open/a"]
        assert Visitor(server.url).get("/live/ws/").status == 426
        assert_quiet(server)


class TestRights:
    @pytest.mark.parametrize("change", ["logout", "right"])
    def test_what_is_taken_away_stops_within_a_second(
        self, change: str, new_server_database: NewDatabase, start_server: StartServer
    ) -> None:
        database = new_server_database("postgresql")
        database.python(USERS)
        anna_py = (
            "from django.contrib.auth.models import Permission, User\n"
            "anna = User.objects.get(username='anna')\n"
        )
        database.python(
            f"{anna_py}anna.user_permissions.add(Permission.objects.get("
            "codename='view_order', content_type__app_label='testapp'))"
        )
        server = start_server("uvicorn", env=database.env)
        anna = Visitor(server.url)
        anna.log_in("anna", "anna")
        with SocketClient(server.url, anna.cookie_header) as hers:
            assert hers.subscribe("readers/all", "open/a").data["errors"] == []
            if change == "logout":
                anna.log_out()
            else:
                database.python(f"{anna_py}anna.user_permissions.clear()")
            changed = time.monotonic()
            error = hers.wait_for(lambda frame: frame.event == "stream-error", timeout=5)
            # 1 s for the head check where no layer reaches the other process, and a busy machine.
            assert time.monotonic() - changed < 3
            database.python("from django_live import publish; publish('readers/all', 'secret')")
            if change == "logout":
                assert error.data["code"] == "signed-out"
                assert hers.close_code() == 4100
            else:
                assert (error.data["code"], error.data["topic"]) == ("revoked", "readers/all")
                database.python(PUBLISH.format(topic="open/a", first=0, count=1))
                assert hers.next_event().data == {"n": 0}, "the other topic goes on"
            assert not [frame for frame in hers.frames if frame.event == "secret"]


class TestManyAndLong:
    def test_a_hundred_sockets_cost_no_threads_and_no_database_connections(
        self, server_name: str, new_server_database: NewDatabase, start_server: StartServer
    ) -> None:
        database = new_server_database("postgresql")
        server = start_server(server_name, env=database.env)

        def connections() -> int:
            return int(
                database.python(
                    "from django.db import connection as c\n"
                    "cursor = c.cursor()\n"
                    "cursor.execute('SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()')\n"
                    "print(cursor.fetchone()[0])"
                ).split()[-1]
            )

        clients = []
        try:
            for _ in range(10):
                clients.append(SocketClient(server.url))
                clients[-1].subscribe("open/a")
            threads, before = server.threads(), connections()
            for _ in range(90):
                clients.append(SocketClient(server.url))
                clients[-1].subscribe("open/a")
            # Pools of a fixed size may have been filled meanwhile: 8 for hooks and 4 for the log.
            assert server.threads() <= threads + 12
            assert connections() <= before + 12
            database.python(PUBLISH.format(topic="open/a", first=0, count=1))
            assert all(client.next_event().data == {"n": 0} for client in clients)
        finally:
            for client in clients:
                client.cut()

    def test_a_silent_client_is_dropped_and_one_that_answers_stays(
        self, server_name: str, database: ServerDatabase, start_server: StartServer
    ) -> None:
        env = {**database.env, "LIVE_TEST_DJANGO_LIVE": '{"HEARTBEAT": 1}'}
        server = start_server(server_name, env=env)
        with SocketClient(server.url, mute=True) as silent, SocketClient(server.url) as alive:
            alive.subscribe("open/a")
            answering = threading.Thread(target=alive.heard_within, args=(4,))
            answering.start()
            assert silent.close_code() == 4001
            answering.join()
            # It answers while it waits: to begin another process may take longer than it has.
            publish = PUBLISH.format(topic="open/a", first=0, count=1)
            publishing = threading.Thread(target=database.python, args=(publish,))
            publishing.start()
            assert alive.next_event().data == {"n": 0}
            publishing.join()

    def test_a_server_that_is_told_to_stop_says_good_bye(
        self, server_name: str, database: ServerDatabase, start_server: StartServer
    ) -> None:
        server = start_server(server_name, env=database.env)
        with SocketClient(server.url) as client:
            client.subscribe("open/a")
            server.terminate()
            client.wait_for(lambda frame: frame.event == "stream-end")
            assert client.close_code() == 4000
        assert_quiet(server)
