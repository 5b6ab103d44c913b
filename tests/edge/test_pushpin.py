"""Streams that a real GRIP proxy holds: ours, and those of django-eventstream's clients."""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from tests.edge.settings import RECHECK, SECRET_KEY
from tests.integrations.eventstream.conftest import session_cookie
from tests.support.databases import ServerDatabase, server_database
from tests.support.pushpin import Pushpin
from tests.support.requirements import requires
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader, StreamEndedError

pytestmark = [pytest.mark.any_database, requires("pushpin")]

ASKED_AGAIN = RECHECK + 0.6
"""Seconds after which the proxy has used the link that it was given."""
WSGI = {"Host": "localhost"}
"""Leads to the same site under WSGI."""


@dataclasses.dataclass
class Edge:
    proxy: Pushpin
    asgi: Server
    database: ServerDatabase
    quiet: ServerDatabase
    """Of a process that knows of no proxy: what it publishes the proxy is not told."""

    def open(self, path: str, last_id: str = "", **headers: str) -> SSEReader:
        if last_id:
            headers["Last-Event-ID"] = last_id
        return SSEReader(self.proxy.host, self.proxy.port, path, headers)

    def publish(self, topic: str, *numbers: int, quietly: bool = False) -> None:
        database = self.quiet if quietly else self.database
        database.python(
            "from django_live import publish\n"
            f"for n in {numbers!r}: publish({topic!r}, 'counted', {{'n': n}})"
        )

    def ask(self, path: str, cookie: str = "") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.asgi.host, self.asgi.port, timeout=20)
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response

    def sign_in(self, name: str) -> tuple[str, str]:
        """The primary key, and the cookie."""
        response = self.ask(f"/sign-in/?name={name}")
        pk: str = response.body.decode()  # type: ignore[attr-defined]
        return pk, session_cookie(response)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    with server_database("sqlite", folder, "tests.edge.settings") as database, Pushpin() as proxy:
        told = dataclasses.replace(
            database, env={**database.env, "TEST_GRIP_PROXIES": proxy.proxies}
        )
        asgi = Server("uvicorn", "tests.asgi:application", env=told.env)
        options = ["--worker-class", "gthread", "--threads", "4"]
        wsgi = Server("gunicorn", "tests.edge.wsgi:application", env=told.env, options=options)
        with asgi, wsgi:
            proxy.start({"*": f"127.0.0.1:{asgi.port}", "localhost": f"127.0.0.1:{wsgi.port}"})
            yield Edge(proxy, asgi, told, database)


def numbers(reader: SSEReader, count: int) -> list[int]:
    return [json.loads(frame.data or "")["n"] for frame in reader.events(count, 20)]


def ends_within(reader: SSEReader, seconds: float) -> list[str]:
    """The data of what came before the end."""
    until, got = time.monotonic() + seconds, []
    while True:
        try:
            got.append(reader.next_frame(until - time.monotonic()).data or "")
        except StreamEndedError:
            return got


@pytest.mark.parametrize("host", [{}, WSGI], ids=["asgi", "wsgi"])
def test_events_arrive_once_and_streams_resume(edge: Edge, host: dict[str, str]) -> None:
    topic = f"open/edge-{len(host)}"
    path = f"/live/events/?topic={topic}&topic=ephemeral/edge&topic=secret/none"
    edge.publish(topic, 0)
    with edge.open(path, **host) as reader:
        opened = reader.wait_for(lambda frame: frame.event == "stream-open")
        assert json.loads(opened.data or "")["topics"] == [topic, "ephemeral/edge"]
        assert reader.next_frame().event == "stream-error"
        edge.publish(topic, 1, 2, 3)
        edge.publish("ephemeral/edge", 99)
        assert numbers(reader, 4) == [1, 2, 3, 99]
        here = reader.last_id or ""
    edge.publish(topic, 4, 5)
    with edge.open(path, here, **host) as reader:
        assert numbers(reader, 2) == [4, 5]
        edge.publish(topic, 6)
        assert numbers(reader, 1) == [6]
        # By its link it has asked again meanwhile: nothing is told twice.
        assert not [f for f in reader.frames_during(ASKED_AGAIN) if f.event == "counted"]


def test_what_the_proxy_was_not_told_it_asks_for(edge: Edge) -> None:
    """A publisher that dies between the log and the proxy."""
    with edge.open("/live/events/?topic=open/edge-gap") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        edge.publish("open/edge-gap", 1, 2, quietly=True)
        edge.publish("open/edge-gap", 3)  # does not follow what the proxy knows
        assert numbers(reader, 3) == [1, 2, 3]
        edge.publish("open/edge-gap", 4, quietly=True)  # and nothing comes after it
        assert numbers(reader, 1) == [4]


def test_data_may_hold_percent_signs(edge: Edge) -> None:
    """The proxy fills in ids where it finds them, in what is published and in what is answered."""
    topic, text = "open/edge-percent", "50% off, %I, %(x)s, %%, a%20b"
    say = f"from django_live import publish\npublish({topic!r}, 'said', {{'text': {text!r}}})"
    path = f"/live/events/?topic={topic}"

    def hears(reader: SSEReader) -> None:
        assert [json.loads(frame.data or "") for frame in reader.events(1, 20)] == [{"text": text}]

    with edge.open(path) as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        edge.database.python(say)
        hears(reader)
        here = reader.last_id or ""
    edge.database.python(say)
    with edge.open(path, here) as reader:
        hears(reader)
        edge.quiet.python(say)  # it comes by the link
        hears(reader)
        edge.database.python(say)
        hears(reader)


def test_a_snapshot_begins_a_stream_and_is_not_repeated(edge: Edge) -> None:
    with edge.open("/live/events/?topic=snapshot/edge") as reader:
        frame = reader.wait_for(lambda frame: frame.event == "stream-snapshot")
        assert "orders" in json.loads(frame.data or "")
        assert not [f for f in reader.frames_during(ASKED_AGAIN) if f.event == "stream-snapshot"]


def test_streams_outlive_the_servers(edge: Edge) -> None:
    """Nothing of a stream is in Python."""
    with edge.open("/live/events/?topic=open/edge-outlives") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        edge.asgi.terminate()
        edge.publish("open/edge-outlives", 1)
        assert numbers(reader, 1) == [1]
        edge.asgi.start()
        edge.publish("open/edge-outlives", 2)
        assert numbers(reader, 1) == [2]


def test_who_may_no_longer_see_it_is_cut_off(edge: Edge) -> None:
    (ann, cookie), (bob, his) = edge.sign_in("edge-ann"), edge.sign_in("edge-bob")
    with (
        edge.open(f"/live/events/?topic=customers/{ann}/orders", Cookie=cookie) as hers,
        edge.open(f"/live/events/?topic=customers/{bob}/orders", Cookie=his) as stays,
    ):
        for reader in (hers, stays):
            reader.wait_for(lambda frame: frame.event == "stream-open")
        edge.ask("/sign-out/", cookie)
        ends_within(hers, 3)
        edge.publish(f"customers/{bob}/orders", 1)
        assert numbers(stays, 1) == [1]
        # Nobody is told of this; the proxy asks now and then.
        edge.database.python(
            "from django.contrib.auth.models import User\n"
            f"User.objects.filter(pk={bob}).update(is_active=False)"
        )
        assert "signed-out" in "".join(ends_within(stays, 8))
    for pk, old in ((ann, cookie), (bob, his)):
        with edge.open(f"/live/events/?topic=customers/{pk}/orders", Cookie=old) as refused:
            assert refused.status == 403


# -- channels of django-eventstream ----------------------------------------------------------------


def send(edge: Edge, *numbers: int, channel: str, skip: tuple[str, ...] = ()) -> None:
    edge.database.python(
        "from django_eventstream import send_event\n"
        f"for n in {numbers!r}: send_event({channel!r}, 'counted', {{'n': n}}, "
        f"skip_user_ids={list(skip)!r})"
    )


@pytest.mark.parametrize("host", [{}, WSGI], ids=["asgi", "wsgi"])
def test_channels_are_held_and_resumed(edge: Edge, host: dict[str, str]) -> None:
    channel = f"shelf-{len(host)}"
    path = f"/one/{channel}/"
    with edge.open(path, **host) as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        send(edge, 1, 2, channel=channel)
        assert numbers(reader, 2) == [1, 2]
        here = reader.last_id or ""
    send(edge, 3, channel=channel)
    with edge.open(path, here, **host) as reader:
        assert numbers(reader, 1) == [3]
        send(edge, 4, channel=channel)
        assert numbers(reader, 1) == [4]
        assert not [f for f in reader.frames_during(ASKED_AGAIN) if f.event == "counted"]


NAMES = ["two words", "50%", "100%25", "a+b&c=d", 'ü, ;"quoted"', "a:1,b:2", "why?#1", "%I %(x)s"]


@pytest.mark.parametrize("channel", NAMES)
def test_a_channel_may_be_called_anything(edge: Edge, channel: str) -> None:
    """Its name is in headers, in ids and in the link, where some signs mean something else."""
    path = f"/one/{quote(channel)}/"
    with edge.open(path) as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        send(edge, 1, channel=channel)
        assert numbers(reader, 1) == [1]
        here = reader.last_id or ""
    send(edge, 2, 3, channel=channel)
    with edge.open(path, here) as reader:
        assert numbers(reader, 2) == [2, 3]
        send(edge, 4, channel=channel)
        assert numbers(reader, 1) == [4]
        # The link that the proxy was given works: nothing is told twice, and no error.
        assert not [f for f in reader.frames_during(ASKED_AGAIN) if f.event != "keep-alive"]
    with edge.open(path, f"{quote(channel, safe='')}:5") as reader:  # an id of another life
        reset = reader.wait_for(lambda frame: frame.event == "stream-reset")
        assert json.loads(reset.data or "") == {"channels": [channel]}
        send(edge, 5, channel=channel)
        assert numbers(reader, 1) == [5]


def test_users_are_skipped_and_cut_off(edge: Edge) -> None:
    ann, cookie = edge.sign_in("edge-eve")
    with edge.open("/one/secret-edge/", Cookie=cookie) as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        send(edge, 1, channel="secret-edge", skip=(ann,))
        send(edge, 2, channel="secret-edge")
        assert numbers(reader, 1) == [2]
        edge.database.python(
            "from django.contrib.auth.models import User\n"
            "from django_eventstream import channel_permission_changed\n"
            f"user = User.objects.get(pk={ann})\n"
            "user.last_name = ''\n"
            "User.objects.filter(pk=user.pk).update(last_name='')\n"
            "channel_permission_changed(user, 'secret-edge')"
        )
        told = ends_within(reader, 4)
        assert json.loads(told[-1])["condition"] == "forbidden"


def test_tokens_are_taken_from_the_proxy_alone(edge: Edge) -> None:
    """A token of its own making, as a proxy's log would show it."""
    pk, _ = edge.sign_in("edge-mallory")
    claims = {"iss": "es", "exp": int(time.time()) + 600, "channels": ["secret-x"], "user": pk}
    token = jwt.encode(claims, SECRET_KEY)
    # What its own code makes of it: whoever has it, is that user.
    said = edge.database.python(
        "from django.test import RequestFactory\n"
        "from django_eventstream import EventRequest\n"
        f"asked = EventRequest(RequestFactory().get('/', {{'es-meta': {token!r}}}))\n"
        "print(asked.user.pk, *asked.channels)"
    )
    assert said.split() == [pk, "secret-x"], "it does not fail there: this proves nothing"
    for signature in ("", "forged"):
        body = _body(edge, f"/one/open/?es-meta={token}&link=next", signature)
        assert "es-meta is taken from a GRIP proxy" in body
    # Through the proxy, but not by the link that it was given: it signs what anybody sends it.
    with edge.open(f"/one/open/?es-meta={token}&link=next") as reader:
        assert reader.status == 200
        assert ends_within(reader, 5) == []
    old = jwt.encode({**claims, "exp": 1}, SECRET_KEY)
    with edge.open(f"/one/open/?es-meta={old}") as reader:
        assert "es-meta cannot be read" in (reader.next_frame().data or "")


def _body(edge: Edge, path: str, signature: str) -> str:
    connection = http.client.HTTPConnection(edge.asgi.host, edge.asgi.port, timeout=20)
    headers: dict[str, Any] = {"Grip-Sig": signature} if signature else {}
    connection.request("GET", path, headers=headers)
    body = connection.getresponse().read().decode()
    connection.close()
    return body
