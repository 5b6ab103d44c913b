"""The chat over real connections: one process is killed while fifty write; a ban cuts in every process; the
same room over every transport; and what is no message costs nobody but its sender anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.servers.chatters import KEPT, MAKE, Chatter, all_at_once, judge, read_json
from tests.servers.test_streams import open_stream
from tests.support.databases import Engine, ServerDatabase, server_database
from tests.support.http import Visitor
from tests.support.other_process import OtherProcess
from tests.support.requirements import requires
from tests.support.servers import Server
from tests.support.socket_client import SocketClient, SocketFrame
from tests.support.sse_reader import SSEReader

MEMBERS = 50
EACH = 5
AT_ONCE = 1.0
"""Seconds within which a ban cuts: without a channel layer a process hears of it at its next look."""


class Site:
    """Two processes on one database, and a room with members."""

    def __init__(
        self, engine: Engine, folder: Path, stack: ExitStack, members: int, *, broken: str = ""
    ) -> None:
        """``broken``: what the first process does not do (``broken.py``)."""
        self.database: ServerDatabase = stack.enter_context(server_database(engine, folder))
        room, self.sessions = read_json(self.database.python(MAKE.replace("COUNT", str(members))))
        self.room: int = room
        self.topic = f"live/chat/{room}"
        self.servers = [
            stack.enter_context(
                Server(
                    "uvicorn",
                    f"tests.{'servers.broken' if off else 'asgi'}:application",
                    env={**self.database.env, "LIVE_TEST_BROKEN": off},
                    log_path=folder / f"{n}.log",
                )
            )
            for n, off in enumerate([broken, ""])
        ]
        self._stack = stack

    def socket(self, user: str, process: int = 0) -> SocketClient:
        """Their WebSocket, which listens to the room."""
        cookie = {"Cookie": f"sessionid={self.sessions[user]}"}
        client = self._stack.enter_context(SocketClient(self.servers[process].url, cookie))
        assert client.subscribe(self.topic).data["topics"] == [self.topic]
        return client

    def visitor(self, user: str, process: int = 0) -> Visitor:
        visitor = Visitor(self.servers[process].url)
        visitor.cookies["sessionid"] = self.sessions[user]
        return visitor

    def stream(self, user: str, process: int = 0) -> SSEReader:
        reader = open_stream(self.servers[process], self.topic, visitor=self.visitor(user, process))
        self._stack.callback(reader.close)
        reader.wait_for(lambda frame: frame.event == "stream-open")
        return reader

    def kept(self) -> list[tuple[int, str]]:
        found = read_json(self.database.python(KEPT.replace("ROOM", str(self.room))))
        return [(number, text) for number, text in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site("sqlite", tmp_path_factory.mktemp("chat"), stack, 7)


def said_to(client: SocketClient, count: int) -> list[str]:
    """What a client has heard, once it is so much; also what came before an answer."""

    def texts() -> list[str]:
        return [frame.data["text"] for frame in client.frames if frame.event == "message"]

    while len(texts()) < count:
        client.wait_for(lambda frame: frame.event == "message")
    return texts()


def send(client: SocketClient, topic: str, **data: Any) -> SocketFrame:
    return client.call("send", topic=topic, type="send", data=data)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"text": " "}, "empty"),
    "huge": ({"text": "x" * 5000}, "too-long"),
    "control characters": ({"text": "a\x00b\x1b"}, "malformed"),
    "a clock far off": ({"text": "a", "at": 1e12}, "malformed"),
    "no text": ({"text": {"a": []}}, "malformed"),
    "another's file": ({"text": "a", "files": ["0" * 32]}, "no-such-file"),
    "an answer to nothing": ({"text": "a", "reply_to": 10**9}, "no-such-message"),
    "no client id": ({"text": "a", "client_id": "\u202e" * 20}, "malformed"),
}

UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "enormous": ({"text": "x" * 2_000_000}, "too-large"),
    "half a pair": ({"text": "\ud800"}, "malformed-message"),
}


def test_what_is_no_message_is_refused_and_disturbs_nobody(site: Site) -> None:
    before = site.kept()
    sender, other = site.socket("m0"), site.socket("m1", process=1)
    for name, (data, code) in BAD.items():
        answer = send(sender, site.topic, **data)
        assert (answer.error or {}).get("code") == code, (name, answer)
        assert answer.error["message"], name
    for name, (data, code) in UNREADABLE.items():
        sender.say(action="send", ref=0, topic=site.topic, type="send", data=data)
        told = sender.wait_for(lambda frame: frame.event == "stream-error")
        assert told.data["code"] == code, (name, told)
    foreign = send(sender, "live/chat/99999", text="a")
    assert foreign.error["code"] == "forbidden"
    good = send(sender, site.topic, text="still here", client_id="good-one")
    again = send(sender, site.topic, text="still here", client_id="good-one")
    assert good.data == again.data
    assert said_to(other, 1) == ["still here"]
    assert site.kept() == [*before, (good.data["number"], "still here")]


def test_the_same_room_over_every_transport(site: Site) -> None:
    path = f"/live/poll/?topic={site.topic}"
    poller = site.visitor("m3")
    cursor = poller.get(path).json()["cursor"]
    socket, stream = site.socket("m1"), site.stream("m2", process=1)

    uplink = site.visitor("m4")
    token = uplink.get("/live/send/").json()["csrfToken"]
    body = {
        "topic": site.topic,
        "type": "send",
        "data": {"text": "by POST", "client_id": "post-001"},
    }
    headers = {"Content-Type": "application/json", "X-CSRFToken": token, "Origin": uplink.url}
    answers = [
        uplink.request("POST", "/live/send/", json.dumps(body).encode(), headers) for _ in "12"
    ]
    assert [one.status for one in answers] == [200, 200]
    sent = answers[0].json()["data"]
    assert answers[1].json()["data"] == sent

    answer = send(socket, site.topic, text="by socket")
    texts = ["by POST", "by socket"]
    assert said_to(socket, 2) == texts
    assert [stream.next_event().json()["text"] for _ in texts] == texts
    polled = poller.get(f"{path}&cursor={cursor}&wait=5").json()
    assert [frame["data"]["text"] for frame in polled["frames"]] == texts
    assert [frame["data"]["number"] for frame in polled["frames"]] == [
        sent["number"],
        answer.data["number"],
    ]


MODERATE = """
from django.contrib.auth.models import User
from django_live.chat import {what}
{what}({room}, User.objects.get(username="{user}"), **({{"by": None}} if "{what}" != "leave" else {{}}))
answer = None
"""


def test_who_may_no_longer_write_is_told_so_and_nobody_else_is_disturbed(site: Site) -> None:
    quiet, other = site.socket("m6"), site.socket("m1", process=1)
    first = send(quiet, site.topic, text="before", client_id="quiet-001")
    before = site.kept()
    with OtherProcess(site.database.env) as moderator:
        moderator.run(MODERATE.format(what="mute", room=site.room, user="m6"))
        assert send(quiet, site.topic, text="muted").error["code"] == "muted"
        again = send(quiet, site.topic, text="before", client_id="quiet-001")
        assert again.data == first.data, "what was kept is acknowledged again"
        moderator.run(MODERATE.format(what="leave", room=site.room, user="m6"))
        cut = quiet.wait_for(lambda frame: frame.event == "stream-error")
        assert cut.data["code"] == "revoked"
        gone = send(quiet, site.topic, text="after leaving")
        foreign = send(quiet, "live/chat/99999", text="after leaving")
        assert gone.error["code"] == foreign.error["code"] == "forbidden"
    assert not send(other, site.topic, text="undisturbed").error
    assert said_to(other, 2) == ["before", "undisturbed"]
    assert [text for _, text in site.kept()[len(before) :]] == ["undisturbed"]


BAN = """
from django.contrib.auth.models import User
from django_live.chat import ban
from django_live.chat.models import Room
ban(Room.objects.get(pk={room}), User.objects.get(username="{user}"), by=User.objects.get(username="m0"))
"""


def test_a_ban_cuts_at_once_in_every_process(site: Site) -> None:
    with OtherProcess(site.database.env) as moderator:
        moderator.run("answer = None")  # it is awake
        there = [site.socket("m5", 0), site.socket("m5", 1)]
        streams = [site.stream("m5", 0), site.stream("m5", 1)]
        member = site.socket("m1", 1)
        moderator.run(BAN.format(room=site.room, user="m5") + "\nanswer = None")
        began = time.monotonic()
        for client in there:
            frame = client.wait_for(lambda frame: frame.event == "stream-error")
            assert (frame.topic or frame.data["topic"], frame.data["code"]) == (
                site.topic,
                "revoked",
            )
        for stream in streams:
            cut = stream.wait_for(lambda frame: frame.event == "stream-error")
            assert cut.json()["code"] == "revoked"
        took = time.monotonic() - began
        assert took < AT_ONCE + 2, "the rest is for a busy machine"
    assert send(there[0], site.topic, text="but I").error["code"] == "banned"
    assert not send(member, site.topic, text="he is gone").error
    assert said_to(member, 1) == ["he is gone"]
    for client in there:
        assert client.subscribe(site.topic).data["errors"][0]["code"] == "forbidden"
        assert not [
            frame
            for frame in client.frames
            if frame.is_event and frame.data["text"] == "he is gone"
        ]
    assert "but I" not in [text for _, text in site.kept()]


def run_with_a_kill(site: Site, **wrong: Any) -> list[str]:
    """Everybody writes; in the middle one process is killed. What is wrong afterwards."""
    first = len(site.kept())
    chatters = []
    for n, (name, session) in enumerate(site.sessions.items()):
        servers = site.servers if n % 2 else site.servers[::-1]
        chatters.append(Chatter(name, session, site.topic, servers, EACH, **wrong))
    for one in chatters:
        one._connected()
    threads = all_at_once([one.write for one in chatters])
    deadline = time.monotonic() + 60
    while sum(len(one.acknowledged) for one in chatters) < len(chatters) * EACH / 4:
        assert time.monotonic() < deadline, "too slow to be killed in the middle"
        time.sleep(0.005)
    killed = site.servers[0]
    killed.kill()
    assert sum(len(one.acknowledged) for one in chatters) < len(chatters) * EACH, (
        "nobody wrote any more"
    )
    for thread in threads:
        thread.join(90)
    kept = site.kept()[first:]
    last = first + len(kept)
    patience = 3 if wrong else 30  # who forgets may never hear the last one
    for thread in all_at_once([lambda one=one: one.hear(last, patience) for one in chatters]):
        thread.join(60)
    killed.start()
    assert sum(one.cuts > 0 for one in chatters) >= len(chatters) // 2, "half of them were cut off"
    return judge(chatters, kept)


@pytest.mark.parametrize(
    "engine",
    ["sqlite", pytest.param("postgresql", marks=[requires("postgresql"), pytest.mark.long])],
)
def test_a_process_is_killed_while_fifty_write(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:
        site = Site(engine, tmp_path_factory.mktemp("killed"), stack, MEMBERS)
        assert run_with_a_kill(site) == []


@pytest.mark.parametrize(
    "engine", ["sqlite", pytest.param("postgresql", marks=[requires("postgresql")])]
)
def test_who_was_answered_is_heard_though_the_process_died_before_it_told_anybody(
    engine: Engine, tmp_path: Path
) -> None:
    """The answer comes before the numbering: a process that is killed in between leaves its rows in the
    outbox, to the others. This one never numbers anything."""
    with ExitStack() as stack:
        site = Site(engine, tmp_path, stack, 3, broken="numbering")
        writer, other = site.socket("m0"), site.socket("m1", process=1)
        said = [send(writer, site.topic, text=f"last words {n}").data for n in range(3)]
        sign = {"id": said[0]["id"], "code": "👍"}
        reacted = writer.call("send", topic=site.topic, type="react", data=sign)
        assert reacted.data["reactions"] == {"1f44d": 1}
        site.servers[0].kill()
        other.wait_for(lambda frame: frame.event == "reacted")
        told = [(f.event, f.data["number"]) for f in other.frames if f.is_event]
        assert told == [("message", 1), ("message", 2), ("message", 3), ("reacted", 1)]

        back = site.socket("m0", process=1)
        again = back.call("send", topic=site.topic, type="react", data=sign)
        assert again.data == reacted.data, "sent again it counts once"
        theirs = other.call("send", topic=site.topic, type="react", data=sign)
        assert theirs.data["reactions"] == {"1f44d": 2}
        assert back.wait_for(lambda frame: frame.event == "reacted").data["reactions"] == {
            "1f44d": 2
        }


def test_the_judge_finds_what_is_wrong(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The control: without the client's own id what is sent again is there twice, and without a cursor
    what was said meanwhile is missed."""
    with ExitStack() as stack:
        site = Site("sqlite", tmp_path_factory.mktemp("control"), stack, 20)
        wrong = run_with_a_kill(site, is_new_each_time=True, forgets=True)
    for found in ("doubled", "did not hear"):
        assert any(found in one for one in wrong)
