# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""The WebSocket: who is let in, what is delivered, what a client may say."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.asgi import get_asgi_application
from django.test import Client, override_settings
from django.urls import path

from django_live.asgi import get_live_application
from django_live.core import hooks
from django_live.core.connections import Connection
from django_live.core.control import Control
from django_live.core.runtime import runtime
from django_live.routing import websocket_urlpatterns
from django_live.transports import conversation
from django_live.transports.handshake import Handshake
from tests.core.fakes import until
from tests.support.socket_client import binary
from tests.testapp.live import AsyncRoomTopic, OpenTopic, RoomTopic
from tests.transports.driver import tell
from tests.transports.socket_driver import Peer, SteppedPeer

pytestmark = pytest.mark.asyncio

Site = Callable[..., Any]
OURS = "tests.transports.middleware."


@pytest.fixture(params=[Peer, SteppedPeer], ids=["awaited", "stepped"])
def kind(request: pytest.FixtureRequest) -> type[Peer]:
    """A server whose ``send`` is awaited, and one whose is stepped."""
    peer: type[Peer] = request.param
    return peer


def the_connection() -> Connection:
    (connection,) = runtime().hub.connections.values()
    return connection


def codes(peer: Peer) -> list[str]:
    return [frame.data["code"] for frame in peer.events("stream-error")]


# -- who is let in ---------------------------------------------------------------------------------


async def test_it_opens_and_says_who_it_is(site: Site) -> None:
    async with Peer(site()) as peer:
        await peer.opened()
        assert peer.messages[0] == {"type": "websocket.accept", "subprotocol": "live.1"}
        (opened,) = peer.frames
        assert opened.data == {
            "connection": the_connection().id,
            "heartbeat": 20.0,
            "retry": 2000,
            "version": 1,
            "topics": [],
        }


async def test_a_client_without_a_subprotocol_gets_version_1(site: Site) -> None:
    async with Peer(site(), subprotocols=()) as peer:
        await peer.opened()
        assert peer.messages[0]["subprotocol"] is None


@pytest.mark.parametrize("offered", [("live.2",), ("other", "live.7", "live.8")])
async def test_an_unknown_version_is_told(site: Site, offered: tuple[str, ...]) -> None:
    async with Peer(site(), subprotocols=offered) as peer:
        assert await peer.closed() == 4203
        assert peer.messages[0]["subprotocol"] in offered
        assert codes(peer) == ["unknown-version"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"origin": "http://testserver"}, None),
        ({}, None),
        ({"sec-fetch-site": "same-origin", "origin": "http://testserver"}, None),
        ({"origin": "https://elsewhere.example"}, 4202),
        ({"origin": "null"}, 4202),
        ({"origin": "http://["}, 4202),
        ({"sec-fetch-site": "cross-site"}, 4202),
    ],
)
async def test_pages_of_other_sites_are_refused(
    site: Site, headers: dict[str, str], code: int | None
) -> None:
    async with Peer(site(), headers=headers) as peer:
        if code is None:
            await peer.opened()
        else:
            assert await peer.closed() == code
            assert codes(peer) == ["cross-site"]


async def test_a_host_that_is_not_the_sites_is_refused(site: Site) -> None:
    headers = {"host": "elsewhere.example", "origin": "http://elsewhere.example"}
    async with Peer(site(), headers=headers) as peer:
        assert await peer.closed() == 4204
        assert codes(peer) == ["refused"]


@pytest.mark.parametrize(
    ("middleware", "code", "said"),
    [("replaces", 4204, "refused"), ("fails", 4003, "unavailable"), ("adds_a_header", None, "")],
)
async def test_nobody_is_let_in_whom_middleware_did_not_let_through(
    site: Site, middleware: str, code: int | None, said: str
) -> None:
    application = site(MIDDLEWARE=[OURS + middleware, *settings.MIDDLEWARE])
    async with Peer(application) as peer:
        if code is None:
            await peer.opened()
        else:
            assert await peer.closed() == code
            assert codes(peer) == [said]


async def test_settings_that_do_not_work_refuse_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ValueError("no such store")

    application = site()
    monkeypatch.setattr("django_live.transports.websocket.check_setup", broken)
    async with Peer(application) as peer:
        assert await peer.closed() == 4003
        assert codes(peer) == ["unavailable"]


async def test_what_cannot_be_decided_is_told_to_come_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: Handshake, scope: Any) -> Any:
        raise ValueError("no database")

    application = site()
    monkeypatch.setattr(Handshake, "decide", broken)
    async with Peer(application) as peer:
        assert await peer.closed() == 4003
        assert codes(peer) == ["unavailable"]
    assert "could not be decided" in caplog.text


async def test_a_site_under_a_prefix(site: Site) -> None:
    async with Peer(site(), path="/shop/live/ws/", root_path="/shop") as peer:
        await peer.opened()


async def test_another_path_is_nobodys(site: Site) -> None:
    async with Peer(site(), path="/live/events/") as peer:
        assert await peer.closed() == 4404
        assert len(peer.messages) == 1


async def test_other_paths_are_the_wrapped_applications(settings_in_force: Any) -> None:
    seen = []

    async def theirs(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await send({"type": "websocket.close", "code": 4999})

    router = ProtocolTypeRouter(
        {
            "http": get_asgi_application(),
            "websocket": URLRouter([path("chat/", cast("Any", theirs))]),
        }
    )
    application = get_live_application(router)
    async with Peer(application, path="/chat/") as peer:
        assert await peer.closed() == 4999
    async with Peer(application) as peer:
        await peer.opened()
    assert seen == ["/chat/"]
    await runtime().stop()


async def test_in_a_channels_stack_of_the_projects_own(
    settings_in_force: Any, kind: type[Peer]
) -> None:
    """Its middleware says who it is, and wraps the ``send``; events go through the server's own."""
    wrapped = []

    def stack(inner: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            async def wrapping(message: Any) -> None:
                wrapped.append(message["type"])
                await send(message)

            await inner({**scope, "user": AnonymousUser()}, receive, wrapping)

        return middleware

    application = get_live_application(
        ProtocolTypeRouter(
            {"http": get_asgi_application(), "websocket": stack(URLRouter(websocket_urlpatterns))}
        )
    )
    with override_settings(ROOT_URLCONF="tests.transports.no_addresses"):
        async with kind(application) as peer:
            await peer.opened()
            await peer.subscribe("open/a")
            await tell("open/a", "said", 1)
            await peer.until(lambda: peer.said() == [1])
            assert wrapped == ["websocket.accept"]
        async with Peer(application, headers={"origin": "https://elsewhere.example"}) as peer:
            assert await peer.closed() == 4202
    await runtime().stop()


async def test_a_request_that_is_no_websocket_is_told_so(settings_in_force: Any) -> None:
    answer = await asyncio.to_thread(Client().get, "/live/ws/")
    assert answer.status_code == 426
    assert "Upgrade" not in answer, "under WSGI that is the server's own business"
    assert answer.json()["errors"][0]["code"] == "upgrade-required"


async def test_while_the_process_leaves_it_says_good_bye(site: Site) -> None:
    application = site()
    runtime().draining = True
    async with Peer(application) as peer:
        assert await peer.closed() == 4000
        assert [frame.event for frame in peer.frames] == ["stream-end"]


async def test_one_task_for_an_idle_connection(site: Site) -> None:
    application = site()
    async with Peer(application) as first:
        await first.opened()
        await first.subscribe("open/a")
        await until(lambda: not [t for t in asyncio.all_tasks() if "Lanes" in repr(t.get_coro())])
        before = len(asyncio.all_tasks())
        async with SteppedPeer(application) as second:
            await second.opened()
            await second.subscribe("open/a")
            await until(lambda: len(asyncio.all_tasks()) <= before + 1)
            names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
            assert not any("ASGIHandler" in name for name in names)


# -- topics ----------------------------------------------------------------------------------------


async def test_topics_come_and_go(site: Site, kind: type[Peer]) -> None:
    async with kind(site()) as peer:
        await peer.opened()
        reply = await peer.subscribe("open/a", "nothing/here", "orders/x", "\n", "open/a")
        assert reply.data["topics"] == ["open/a"]
        assert [(e["code"], e["topic"]) for e in reply.data["errors"]] == [
            ("forbidden", "nothing/here"),
            ("forbidden", "orders/x"),
            ("malformed-topic", "\n"),
        ]
        await tell("open/a", "said", 1)
        reply = await peer.subscribe("open/b", "open/a")  # again is no harm
        assert reply.data == {"topics": ["open/b", "open/a"], "errors": []}
        await tell("open/a", "said", 2)
        await tell("open/b", "said", "b")
        await peer.until(lambda: peer.said() == [1, 2, "b"])
        reply = await peer.call("unsubscribe", topics=["open/a", "open/c", "\n"])
        assert reply.data == {"topics": ["open/a"]}
        await tell("open/a", "said", 3)
        await tell("open/b", "said", "c")
        await peer.until(lambda: len(peer.said()) == 4)
        assert peer.said() == [1, 2, "b", "c"]
        reply = await peer.call("unsubscribe", topics=["open/b"])
        assert not the_connection().subscriptions
        assert not the_connection().closed, "it may go on without a topic"


async def test_the_reply_comes_before_what_was_missed(site: Site, kind: type[Peer]) -> None:
    application = site()
    async with kind(application) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        await tell("open/a", "said", 0)
        await peer.until(lambda: peer.said() == [0])
        cursor = peer.cursor
    for number in range(1, 4):
        await tell("open/a", "said", number)
    async with kind(application) as peer:
        await peer.opened()
        reply = await peer.subscribe("open/a", "snapshot/a", cursor=cursor)
        place = peer.frames.index(reply)
        await peer.until(lambda: peer.said() == [1, 2, 3])
        assert not [frame for frame in peer.frames[:place] if frame.topic]


async def test_more_topics_later_lose_nothing_of_those_before(site: Site) -> None:
    async with SteppedPeer(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        for number in range(20):
            await tell("open/a", "said", number)
            await peer.subscribe(f"open/{number}")
        await peer.until(lambda: len(peer.said()) == 20)
        assert peer.said() == list(range(20))
        assert peer.cursor.count(",") == 20


async def test_a_cursor_that_cannot_be_read(site: Site) -> None:
    async with Peer(site()) as peer:
        await peer.opened()
        reply = await peer.subscribe("open/a", cursor="not a cursor")
        assert reply.data["topics"] == ["open/a"]
        assert [e["code"] for e in reply.data["errors"]] == ["malformed-cursor"]
        await peer.until(lambda: peer.events("stream-reset"))
        assert peer.events("stream-reset")[0].data["reason"] == "unknown-cursor"


async def test_only_so_many_topics(site: Site) -> None:
    async with Peer(site(DJANGO_LIVE={"MAX_TOPICS": 2})) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        reply = await peer.subscribe("open/a", "open/b", "open/c")
        assert reply.data["topics"] == ["open/a", "open/b"]
        assert [e["code"] for e in reply.data["errors"]] == ["too-many-topics"]
        await peer.call("unsubscribe", topics=["open/a"])
        assert (await peer.subscribe("open/c")).data["topics"] == ["open/c"]


async def test_without_a_ref_only_refusals_are_told(site: Site) -> None:
    async with Peer(site()) as peer:
        await peer.opened()
        peer.say(action="subscribe", topics=["open/a", "nothing/here"])
        await peer.until(lambda: peer.events("stream-error"))
        (error,) = (frame for frame in peer.frames if frame.event == "stream-error")
        assert error.data["topic"] == "nothing/here"
        assert not peer.events("stream-reply")
        assert list(the_connection().subscriptions) == [OpenTopic(slug="a").key]


async def test_a_permission_that_cannot_be_asked_keeps_the_place(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    application = site()
    async with Peer(application) as peer:
        await peer.opened()
        await peer.subscribe("open/a", "open/b")
        await tell("open/a", "said", 1)
        await tell("open/b", "said", 2)
        await peer.until(lambda: len(peer.said()) == 2)
        cursor = peer.cursor
    is_away = True

    def can_subscribe(self: Any, viewer: Any) -> Any:
        if is_away and self.name == "open/b":
            raise ValueError("no database")
        return True

    monkeypatch.setattr(OpenTopic, "can_subscribe", can_subscribe)
    async with Peer(application) as peer:
        await peer.opened()
        reply = await peer.subscribe("open/a", cursor=cursor)
        for _ in range(2):
            reply = await peer.subscribe("open/b", cursor=cursor)
            assert [e["code"] for e in reply.data["errors"]] == ["unavailable"]
        await tell("open/a", "said", 3)
        await peer.until(lambda: peer.said() == [3])
        assert sorted(place[:20] for place in peer.cursor.split(",")) == sorted(
            place[:20] for place in cursor.split(",")
        )
        is_away = False
        assert (await peer.subscribe("open/b", cursor=peer.cursor)).data["topics"] == ["open/b"]
        await tell("open/b", "said", 4)
        await peer.until(lambda: peer.said() == [3, 4])
        assert peer.cursor.count(",") == 1
    assert "could not be decided" in caplog.text


async def test_what_is_taken_away_while_it_is_decided_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command came after the permission was asked for, and before the subscription was there."""
    commanded = threading.Event()
    asked = threading.Event()
    allowed = True

    def can_subscribe(self: Any, viewer: Any) -> bool:
        answer = allowed
        asked.set()
        assert commanded.wait(10)
        return answer

    async with Peer(site()) as peer:
        await peer.opened()
        monkeypatch.setattr(OpenTopic, "can_subscribe", can_subscribe)
        subscribing = asyncio.ensure_future(peer.subscribe("open/a"))
        await until(asked.is_set)
        allowed = False
        runtime().control.carry_out("recheck", {"topic": OpenTopic(slug="a").key})
        commanded.set()
        await subscribing
        await peer.until(lambda: codes(peer) == ["revoked"])
        assert not the_connection().subscriptions


async def test_it_would_not_be_without_looking_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Control, "catch_up", lambda *args: None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await test_what_is_taken_away_while_it_is_decided_is_found(site, monkeypatch)


async def test_a_session_that_ends_while_it_opens_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = site()
    decide = Handshake.decide

    async def slowly(self: Handshake, scope: Any) -> Any:
        plan = await decide(self, scope)
        plan.viewer.session_key = "hers"
        runtime().control.carry_out("sign_out", {"session": "hers"})
        return plan

    monkeypatch.setattr(Handshake, "decide", slowly)
    async with Peer(application) as peer:
        assert await peer.closed() == 4100
        assert not runtime().hub.connections


class Person:
    """A user: ``may`` is what the database says of them."""

    pk = None

    def __init__(self, may: bool) -> None:
        self.may = may


@pytest.fixture
def person_who_may_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let in while they still might; whoever loads them now learns that they may not."""
    decide = Handshake.decide

    async def with_person(self: Handshake, scope: Any) -> Any:
        plan = await decide(self, scope)
        plan.viewer._user = Person(may=True)  # type: ignore[assignment]
        plan.viewer.source = lambda viewer: Person(may=False)
        return plan

    monkeypatch.setattr(Handshake, "decide", with_person)
    monkeypatch.setattr(OpenTopic, "can_subscribe", lambda topic, viewer: viewer.user.may)


@pytest.mark.usefixtures("person_who_may_no_more")
async def test_first_topics_are_decided_with_the_user_as_they_were_let_in(site: Site) -> None:
    """It saves a second look into the database, and whatever was commanded since is carried out."""
    async with Peer(site()) as peer:
        await peer.opened()
        runtime().control.carry_out("recheck", {})
        assert (await peer.subscribe("open/a")).data["topics"] == ["open/a"]
        await peer.until(lambda: codes(peer) == ["revoked"])
        assert not the_connection().viewer.has_loaded_user
        assert (await peer.subscribe("open/b")).data["topics"] == []


@pytest.mark.usefixtures("person_who_may_no_more")
async def test_who_waits_with_the_first_topics_is_looked_at_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "FIRST_WORD", 0.0)
    async with Peer(site()) as peer:
        await peer.opened()
        await until(lambda: not the_connection().viewer.has_loaded_user)
        assert (await peer.subscribe("open/a")).data["topics"] == []


# -- delivery --------------------------------------------------------------------------------------


async def test_heartbeat_event_and_close_never_write_at_once(site: Site, kind: type[Peer]) -> None:
    async with kind(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        connection = the_connection()
        for number in range(50):
            peer.stuck = number % 3 != 0
            await tell("open/a", "said", number if number % 4 else {"$": number})
            connection.heard = False
            connection.silent_beats = 0
            connection.keep_alive()
            peer.say(action="ping")
            await asyncio.sleep(0)
            peer.let_go()
        await peer.until(lambda: len(peer.said()) == 50)
        assert peer.said() == [n if n % 4 else {"$": n} for n in range(50)]
        peer.stuck = True
        await tell("open/a", "said", "last")
        connection.close(2.0)
        await asyncio.sleep(0)
        peer.let_go()
        assert await peer.closed() == 4000
        assert peer.said()[-1] == "last"


async def test_text_and_binary_leave_in_order_from_a_blocked_socket(
    site: Site, kind: type[Peer]
) -> None:
    async with kind(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a", "ephemeral/a")
        expected: list[Any] = []
        for turn in range(6):
            peer.stuck = True
            for number in range(5):
                data = bytes([turn, number]) if number % 2 else [turn, number]
                await tell("open/a", "said", data)
                expected.append(data)
            await asyncio.sleep(0)
            peer.let_go()
            await peer.until(lambda: len(peer.said()) == len(expected))
        assert peer.said() == expected
        cursors = [frame.id for frame in peer.events("said")]
        assert len(set(cursors)) == len(cursors)
        large = bytes(200_000)
        await tell("open/a", "said", large)
        await peer.until(lambda: len(b"".join(f.data for f in peer.frames[-4:] if f.flags)) >= 1)
        await peer.until(lambda: sum(len(f.data) for f in peer.events("said")[30:]) == 200_000)
        assert [bool(f.id) for f in peer.events("said")[30:]] == [False, False, False, True]


async def test_frames_that_wait_leave_in_one_message(site: Site) -> None:
    async with SteppedPeer(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        peer.stuck = True
        for number in range(40):
            await tell("open/a", "said", number)
        before = len(peer.messages)
        peer.let_go()
        await peer.until(lambda: len(peer.said()) == 40)
        assert len(peer.messages) - before == 2, "the one that was stuck, and all others"


async def test_a_client_that_answers_no_keep_alive_is_dropped(site: Site, kind: type[Peer]) -> None:
    async with kind(site()) as peer:
        await peer.opened()
        connection = the_connection()
        connection.next_beat = float("inf")  # the beats of this test are all there are
        connection.keep_alive()
        for number in range(1, 5):
            connection.keep_alive()
            await until(partial(lambda count: len(peer.events("keep-alive")) == count, number))
        peer.say(action="pong")
        await until(lambda: connection.heard)
        for _ in range(5):
            connection.keep_alive()
            assert not connection.closed, "it spoke"
        connection.keep_alive()
        assert await peer.closed() == 4001


async def test_a_client_that_speaks_needs_no_keep_alive_while_events_come(site: Site) -> None:
    async with SteppedPeer(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        for number in range(10):
            await tell("open/a", "said", number)
            peer.say(action="pong")
            await until(lambda: the_connection().heard)
            the_connection().keep_alive()
        assert not peer.events("keep-alive")


async def test_a_ping_is_answered(site: Site) -> None:
    async with Peer(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        peer.say(action="ping")
        await peer.until(lambda: peer.events("keep-alive"))
        assert peer.events("keep-alive")[0].id


@pytest.mark.parametrize(
    ("command", "said", "code"),
    [("disconnect", "disconnected", 4200), ("sign_out", "signed-out", 4100)],
)
async def test_commands_end_it_with_their_code(
    site: Site, kind: type[Peer], command: str, said: str, code: int
) -> None:
    async with kind(site()) as peer:
        await peer.opened()
        runtime().control.carry_out(command, {"connection": the_connection().id})
        assert await peer.closed() == code
        assert codes(peer) == [said]
        assert not peer.events("stream-end")


async def test_a_reader_that_is_too_slow_for_its_topic_is_cut(
    site: Site, kind: type[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenTopic, "overflow", "disconnect")
    monkeypatch.setattr("django_live.transports.sockets.LAST_WRITE", 0.05)
    async with kind(site(DJANGO_LIVE={"QUEUE_BYTES": 1000})) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        peer.stuck = True
        for number in range(20):
            await tell("open/a", "said", number)
        assert await peer.closed() is None, "it does not read, so it cannot be told"
        assert not runtime().hub.connections


async def test_one_that_reads_in_time_is_told(
    site: Site, kind: type[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenTopic, "overflow", "disconnect")
    async with kind(site(DJANGO_LIVE={"QUEUE_BYTES": 1000})) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        peer.stuck = True
        for number in range(20):
            await tell("open/a", "said", number)
        peer.let_go()
        assert await peer.closed() == 4002


async def test_a_client_that_asks_and_reads_no_answers_is_cut(
    site: Site, kind: type[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_live.transports.sockets.LAST_WRITE", 0.05)
    options = {"QUEUE_BYTES": 2000, "MESSAGE_BURST": 100_000}
    async with kind(site(DJANGO_LIVE=options)) as peer:
        await peer.opened()
        peer.stuck = True
        for _ in range(500):
            peer.say(action="ping")
        assert await peer.closed() is None
        assert not runtime().hub.connections


async def test_a_send_that_fails_ends_it_quietly(
    site: Site, kind: type[Peer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    class Breaking(kind):  # type: ignore[valid-type, misc]
        breaks = False

        async def _send(self, message: Any) -> None:
            if self.breaks:
                raise ConnectionResetError("the client is gone")
            await super()._send(message)

    async with Breaking(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        peer.breaks = True
        await tell("open/a", "said", 1)
        await peer.closed()
        assert not runtime().hub.connections
    assert not caplog.records


# -- what a client may say -------------------------------------------------------------------------


async def test_a_message_is_handled_and_answered(site: Site) -> None:
    async with Peer(site()) as peer:
        await peer.opened()
        reply = await peer.call("send", topic="rooms/a", type="describe", data={"a": ["ü"]})
        assert reply.data == [False, {"a": ["ü"]}, 0, None, the_connection().id]
        assert reply.error is None
        reply = await peer.call("send", topic="async-rooms/open", type="hello")
        assert reply.data == "hello"


async def test_a_binary_message_is_handled_and_answered(site: Site) -> None:
    async with Peer(site()) as peer:
        await peer.opened()
        frame = binary("rooms/a", "describe", b"\0\1\2", flags=4, sequence=77, timestamp=5500)
        peer.say_bytes(frame)
        reply = await peer.reply(77)
        assert reply.data == [True, 3, 77, 5.5, the_connection().id]
        peer.say_bytes(binary("rooms/a", "describe", b"x" * 65_536, flags=5, sequence=78))
        peer.say_bytes(binary("rooms/a", "describe", b"x" * 10, flags=6, sequence=78))
        assert (await peer.reply(78)).data[1] == 65_546


@pytest.mark.parametrize(
    ("topic", "type", "code"),
    [
        ("rooms/a", "reject", "closed-today"),
        ("rooms/a", "invalidate", "rejected"),
        ("rooms/a", "break", "unavailable"),
        ("rooms/closed", "say", "forbidden"),
        ("async-rooms/closed", "say", "forbidden"),
        ("open/a", "say", "forbidden"),
        ("nothing/here", "say", "forbidden"),
        ("\n", "say", "malformed-topic"),
    ],
)
async def test_a_message_that_is_not_taken(
    site: Site, topic: str, type: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Peer(site()) as peer:
        await peer.opened()
        reply = await peer.call("send", topic=topic, type=type, data=1)
        assert reply.error["code"] == code
        assert reply.error["topic"] == topic
        assert reply.error["message"]
        if type == "invalidate":
            assert reply.error["message"] == "Too short. Too dull."
        peer.say(action="send", topic=topic, type=type, data=1)
        await peer.until(lambda: peer.events("stream-error"))
        assert peer.frames[-1].data["action"] == "send"
        assert codes(peer) == [code]
    assert ("could not be handled" in caplog.text) == (type == "break")


BAD = [
    "{",
    "[]",
    '{"action":"dance"}',
    '{"action":"send","ref":5}',
    b"\x01",
    b"half a frame",
    binary("rooms/a", "say", b"abc")[:-1],
]


@pytest.mark.parametrize("bad", BAD)
async def test_what_cannot_be_read_harms_nothing(
    site: Site, bad: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Peer(site()) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        for _ in range(19):
            peer.say_bytes(bad) if isinstance(bad, bytes) else peer.say_text(bad)
        await tell("open/a", "said", 1)
        await peer.until(lambda: peer.said() == [1])
        assert (await peer.call("send", topic="rooms/a", type="hello")).error is None
        told = codes(peer) + [f.error["code"] for f in peer.events("stream-reply") if f.error]
        assert told == ["malformed-message"] * 19
        for _ in range(20):
            peer.say_bytes(bad) if isinstance(bad, bytes) else peer.say_text(bad)
        assert await peer.closed() == 4201
    assert not caplog.records


async def test_a_message_that_is_too_large(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Peer(site(DJANGO_LIVE={"MESSAGE_BYTES": 1000})) as peer:
        await peer.opened()
        peer.say(action="send", topic="rooms/a", type="say", data="ü" * 2000)
        peer.say_bytes(binary("rooms/a", "say", b"x" * 1001))
        await peer.until(lambda: codes(peer) == ["too-large"] * 2)
        reply = await peer.call("send", topic="rooms/a", type="describe", data="x" * 800)
        assert reply.data[1] == "x" * 800
    assert not caplog.records


async def test_a_flood_is_held_back_and_harms_nobody(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Peer(site(DJANGO_LIVE={"MESSAGE_BURST": 10, "MESSAGE_RATE": 1})) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        for _ in range(500):
            peer.say(action="send", topic="rooms/a", type="describe")
        reply = await peer.call("send", topic="rooms/a", type="describe")
        assert reply.error["code"] == "too-many-messages"
        assert len(codes(peer)) < 20, "a flood is not answered one by one"
        await tell("open/a", "said", 1)
        await peer.until(lambda: peer.said() == [1])
        peer.say(action="pong")  # answers to keep-alives are no messages
        assert not the_connection().closed
    assert not caplog.records


async def test_messages_of_a_topic_keep_their_order_and_topics_do_not_wait(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    handled: list[tuple[str, Any]] = []

    def on_message(self: Any, message: Any) -> Any:
        if message.type == "wait":
            assert release.wait(10)
        handled.append((self.name, message.data))
        return message.data

    monkeypatch.setattr(RoomTopic, "on_message", on_message)
    async with Peer(site()) as peer:
        await peer.opened()
        peer.say(action="send", ref="first", topic="rooms/a", type="wait", data=0)
        for number in range(1, 10):
            peer.say(action="send", topic="rooms/a", type="say", data=number)
        reply = await peer.call("send", topic="rooms/b", type="say", data="b")
        assert reply.data == "b"
        assert handled == [("rooms/b", "b")]
        release.set()
        await peer.reply("first")
        reply = await peer.call("send", topic="rooms/a", type="say", data=10)
        assert handled[1:] == [("rooms/a", number) for number in range(11)]


@pytest.mark.parametrize("topic", ["rooms/a", "async-rooms/open"])
async def test_a_hook_that_hangs_is_answered_in_time(site: Site, topic: str) -> None:
    async with Peer(site(DJANGO_LIVE={"CALL_TIMEOUT": 0.2})) as peer:
        await peer.opened()
        await peer.subscribe("open/a")
        began = time.monotonic()
        reply = await peer.call("send", topic=topic, type="hang", data=1.0)
        assert reply.error["code"] == "timeout"
        assert time.monotonic() - began < 0.9
        assert (await peer.call("send", topic="rooms/b", type="hello")).error is None
        await tell("open/a", "said", 1)
        await peer.until(lambda: peer.said() == [1])
        assert (await peer.call("send", topic=topic, type="hello")).error is None


async def test_what_waits_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(RoomTopic, "on_message", lambda self, message: release.wait(10))
    async with Peer(site()) as peer:
        await peer.opened()
        for number in range(70):
            peer.say(action="send", ref=f"r{number}", topic="rooms/a", type="say")
        reply = await peer.reply("r69")
        assert reply.error["code"] == "busy"
        refused = [f.ref for f in peer.events("stream-reply") if f.error]
        assert refused == [f"r{number}" for number in range(64, 70)]
        release.set()
        await peer.reply("r63")
        assert (await peer.call("send", topic="rooms/a", type="say")).error is None


async def test_a_message_that_never_got_a_thread_is_told_that_all_are_busy(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    handled = []

    def on_message(self: Any, message: Any) -> None:
        handled.append(self.name)
        release.wait(10)

    monkeypatch.setattr(RoomTopic, "on_message", on_message)
    threads = hooks.MESSAGE_THREADS
    try:
        async with Peer(site(DJANGO_LIVE={"CALL_TIMEOUT": 0.3})) as peer:
            await peer.opened()
            for number in range(threads + 1):
                peer.say(action="send", ref=f"m{number}", topic=f"rooms/{number}", type="say")
            replies = [await peer.reply(f"m{number}") for number in range(threads + 1)]
            assert [r.error["code"] for r in replies] == ["timeout"] * threads + ["busy"]
            assert (await peer.subscribe("open/a")).data["topics"] == ["open/a"]
            release.set()
            assert f"rooms/{threads}" not in handled, "who was told so is not handled later"
    finally:
        release.set()


async def test_what_was_said_before_a_client_left_is_still_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = []

    async def on_message(self: Any, message: Any) -> None:
        handled.append(message.data)

    monkeypatch.setattr(AsyncRoomTopic, "on_message", on_message)
    async with Peer(site()) as peer:
        await peer.opened()
        for number in range(5):
            peer.say(action="send", topic="async-rooms/open", type="say", data=number)
        peer.hang_up()
        await peer.closed()
        await until(lambda: handled == list(range(5)))
