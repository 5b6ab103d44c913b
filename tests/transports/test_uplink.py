"""The uplink: a message by POST, what becomes of it, and who may not."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import Client, override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_live.core import hooks
from django_live.core.events import mark_of_somebody
from django_live.core.topics import as_topic
from django_live.testing import assert_published
from django_live.transports import inbound
from django_live.transports import uplink as uplink_module
from django_live.transports.inbound import Senders
from tests.support.socket_client import binary
from tests.testapp.live import RoomTopic

pytestmark = pytest.mark.django_db

URL = "/live/send/"


@pytest.fixture(autouse=True)
def fresh_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "senders", Senders())


def sent(client: Client, body: Any, content_type: str = "application/json", **more: Any) -> Any:
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return client.post(URL, data, content_type, **more)


def say(topic: str = "rooms/a", type: str = "describe", **fields: Any) -> dict[str, Any]:
    return {"topic": topic, "type": type, **fields}


def code(answer: Any) -> tuple[int, str]:
    (error,) = answer.json()["errors"]
    assert error["message"]
    assert answer["Cache-Control"] == "no-store, private"
    return answer.status_code, error["code"]


# -- what becomes of a message ---------------------------------------------------------------------


def test_a_message_is_handled_and_answered() -> None:
    answer = sent(Client(), say(data={"a": ["ü"]}, connection="c1"))
    assert answer.status_code == 200
    assert answer.json() == {"data": [False, {"a": ["ü"]}, 0, None, "c1"]}
    assert answer["Cache-Control"] == "no-store, private"
    assert sent(Client(), say("async-rooms/open", "hello")).json() == {"data": "hello"}


def test_a_binary_message_is_handled_and_answered() -> None:
    frame = binary("rooms/a", "describe", b"x" * 100_000, sequence=5, timestamp=1500)
    answer = sent(Client(), frame, "application/octet-stream")
    assert answer.json() == {"data": [True, 100_000, 5, 1.5, ""]}


def test_it_speaks_for_the_user_and_is_told_to_others() -> None:
    client = Client()
    client.force_login(User.objects.create_user("anna"))
    with assert_published(as_topic("rooms/a"), "said", {"n": 1}):
        answer = sent(client, say(type="say", data={"n": 1}))
    assert answer.json() == {"data": {"by": "anna"}}


def test_a_page_that_was_somebodys_does_not_speak_as_a_visitor() -> None:
    """Its session has ended, and nobody has told it yet."""
    url = f"{URL}?known={mark_of_somebody()}"
    client = Client()
    client.force_login(User.objects.create_user("anna"))
    body = json.dumps(say())
    assert client.post(url, body, "application/json").status_code == 200
    Session.objects.all().delete()
    assert client.post(URL, body, "application/json").status_code == 200, (
        "the control: visitors may"
    )
    assert code(client.post(url, body, "application/json")) == (401, "signed-out")


@pytest.mark.parametrize("connection", [None, 5, "", "x" * 100, "\n", ["c"]])
def test_what_is_no_connection_is_nobody(connection: Any) -> None:
    answer = sent(Client(), say(connection=connection))
    assert answer.json()["data"][-1] == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (say("rooms/closed"), (403, "forbidden")),
        (say("nothing/here"), (403, "forbidden")),
        (say("open/a"), (403, "forbidden")),
        (say("async-rooms/closed"), (403, "forbidden")),
        (say("\n"), (400, "malformed-topic")),
        (say(type="reject"), (422, "closed-today")),
        (say(type="invalidate"), (422, "rejected")),
        (say(type="break"), (503, "unavailable")),
        (say(type="no type"), (400, "malformed-message")),
        (say(type="stream-open"), (400, "malformed-message")),
        ({}, (400, "malformed-message")),
        ([], (400, "malformed-message")),
        ("{", (400, "malformed-message")),
        ("", (400, "malformed-message")),
        (b"\xff\xfe", (400, "malformed-message")),
        ('{"topic":"rooms/a","type":"say","data":"\\ud800"}', (400, "malformed-message")),
        ('{"topic":"rooms/a","type":"say","data":NaN}', (400, "malformed-message")),
    ],
)
def test_a_message_that_is_not_taken(
    message: Any, expected: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = sent(Client(), message)
    assert code(answer) == expected
    assert bool(caplog.records) == (expected[0] == 503), "only the site's own faults"
    if expected[0] == 503:
        assert answer["Retry-After"] == "2"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        binary("rooms/a", "say", b"abc")[:-1],
        binary("rooms/a", "say", b"abc", flags=1),
        binary("rooms/a", "say", b"abc", flags=2),
        binary("rooms/a", "open", b"abc"),
        b'{"topic":"rooms/a","type":"say"}',
    ],
)
def test_bytes_that_are_no_whole_frame(body: bytes) -> None:
    answer = sent(Client(), body, "application/octet-stream")
    assert code(answer) == (400, "malformed-message")


@override_settings(DJANGO_LIVE={"MESSAGE_BYTES": 1000}, DATA_UPLOAD_MAX_MEMORY_SIZE=10)
def test_what_is_too_large() -> None:
    assert sent(Client(), say(data="x" * 900)).status_code == 200, "Django's limit is about forms"
    assert code(sent(Client(), say(data="x" * 1000))) == (413, "too-large")
    assert code(sent(Client(), b"x" * 200_000)) == (413, "too-large")
    frame = binary("rooms/a", "describe", b"x" * 1000)
    assert sent(Client(), frame, "application/octet-stream").status_code == 200
    frame = binary("rooms/a", "describe", b"x" * 1001)
    assert code(sent(Client(), frame, "application/octet-stream"))[0] in (400, 413)


@override_settings(DJANGO_LIVE={"MESSAGE_BURST": 3, "MESSAGE_RATE": 1})
def test_too_many_messages_of_one_sender() -> None:
    anna, bert = Client(), Client()
    anna.force_login(User.objects.create_user("anna"))
    bert.force_login(User.objects.create_user("bert"))
    statuses = [sent(anna, say()).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    answer = sent(anna, say())
    assert code(answer) == (429, "too-many-messages")
    assert answer["Retry-After"] == "1"
    assert sent(bert, say()).status_code == 200


def test_other_methods() -> None:
    answer = Client().put(URL)
    assert code(answer) == (405, "method-not-allowed")
    assert answer["Allow"] == "GET, POST"


def test_settings_that_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("no such store")

    monkeypatch.setattr(uplink_module, "check_setup", broken)
    assert code(sent(Client(), say())) == (503, "unavailable")


# -- in time ---------------------------------------------------------------------------------------


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    event = threading.Event()
    monkeypatch.setattr(RoomTopic, "on_message", lambda self, message: event.wait(10))
    yield event
    event.set()


@pytest.mark.django_db(transaction=True)
@override_settings(DJANGO_LIVE={"CALL_TIMEOUT": 0.2})
@pytest.mark.usefixtures("release")
def test_a_hook_that_hangs() -> None:
    assert code(sent(Client(), say())) == (504, "timeout")


@override_settings(DJANGO_LIVE={"CALL_TIMEOUT": 0.2})
def test_a_coroutine_that_hangs() -> None:
    answer = sent(Client(), say("async-rooms/open", "hang", data=5))
    assert code(answer) == (504, "timeout")


@pytest.mark.django_db(transaction=True)
@override_settings(DJANGO_LIVE={"CALL_TIMEOUT": 0.5})
def test_more_hanging_hooks_than_threads(release: threading.Event) -> None:
    waiting = [
        hooks.submit(hooks.message_threads(), lambda: release.wait(10))
        for _ in range(hooks.MESSAGE_THREADS)
    ]
    assert code(sent(Client(), say())) == (503, "busy")
    release.set()
    for one in waiting:
        one.result(10)
    assert sent(Client(), say()).status_code == 200


# -- whose page it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"CSRF_USE_SESSIONS": True},
        {"CSRF_COOKIE_HTTPONLY": True},
        {"CSRF_HEADER_NAME": "HTTP_X_XSRF_TOKEN"},
    ],
)
def test_csrf(settings: dict[str, Any]) -> None:
    with override_settings(**settings):
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.create_user("anna"))
        assert code(sent(client, say())) == (403, "csrf-failed")
        given_token = client.get(URL)
        token = given_token.json()["csrfToken"]
        assert given_token["Cache-Control"] == "no-store, private"
        headers = {"X-CSRFToken": token}
        assert sent(client, say(), headers=headers).status_code == 200
        wrong = {"X-CSRFToken": token[::-1]}
        assert code(sent(client, say(), headers=wrong)) == (403, "csrf-failed")
        assert code(sent(Client(enforce_csrf_checks=True), say(), headers=headers)) == (
            403,
            "csrf-failed",
        )


def test_csrf_where_the_site_has_no_middleware_for_it(settings: Any) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name.lower()]
    client = Client(enforce_csrf_checks=True)
    assert code(sent(client, say())) == (403, "csrf-failed")
    token = client.get(URL).json()["csrfToken"]
    assert sent(client, say(), headers={"X-CSRFToken": token}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
    ],
)
def test_pages_of_other_sites_get_neither_token_nor_answer(headers: dict[str, str]) -> None:
    assert code(Client().get(URL, headers=headers)) == (403, "cross-site")
    assert code(sent(Client(), say(), headers=headers)) == (403, "cross-site")


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=50),
        st.fixed_dictionaries(
            {},
            optional={
                "topic": st.sampled_from(["rooms/a", "open/a", "nothing", "\0", ""])
                | st.integers(),
                "type": st.sampled_from(["describe", "reject", "hello", "open", "ü"]) | st.none(),
                "data": st.none() | st.integers() | st.text(max_size=5),
                "connection": st.text(max_size=70) | st.integers(),
            },
        ).map(lambda body: json.dumps(body).encode()),
    ),
    st.sampled_from(["application/json", "application/octet-stream", "text/plain", "multipart/x"]),
)
def test_whatever_is_posted_is_never_a_fault_of_ours(
    caplog: pytest.LogCaptureFixture, body: bytes, content_type: str
) -> None:
    caplog.set_level(logging.INFO)
    answer: HttpResponse = sent(Client(), body, content_type)
    assert answer.status_code in (200, 400, 403, 422, 429)
    assert not caplog.records
