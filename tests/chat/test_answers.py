"""When the author of a message is answered: as soon as it is kept, before anybody is told of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client

from django_live.chat.asking import do
from django_live.chat.live import RoomTopic
from django_live.chat.models import Message, Room
from django_live.core import hooks, sweeping
from django_live.core.sweeping import sweep
from django_live.core.topics import Message as Asked
from django_live.core.topics import Viewer
from django_live.notifications.models import Notification
from django_live.transports.inbound import Answer, handle
from tests.chat.conftest import Heard

PATIENCE = 20


class Numbering:
    """Stands in front of the numbering, and notes what happened in which order."""

    def __init__(self, numbers: Callable[..., None]) -> None:
        self.steps: list[str] = []
        self.may_go_on = threading.Event()
        self.is_over = threading.Event()
        self._numbers = numbers

    def __call__(self, *args: Any) -> None:
        assert self.may_go_on.wait(PATIENCE)
        self.steps.append("numbered")
        try:
            self._numbers(*args)
        finally:
            self.is_over.set()

    def answered(self) -> None:
        assert Message.objects.exists(), "answered, and not kept"
        self.steps.append("answered")
        self.may_go_on.set()


@pytest.fixture
def numbering(monkeypatch: pytest.MonkeyPatch) -> Numbering:
    one = Numbering(sweeping.number_now)
    monkeypatch.setattr(sweeping, "number_now", one)
    return one


def over_socket(numbering: Numbering, room: Room, user: User, text: str) -> Any:
    """As the event loop hands over what a WebSocket brought."""
    answers: list[Answer] = []

    async def ask() -> None:
        answered = asyncio.Event()

        def tell(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        asked = Asked("send", {"text": text, "client_id": "client-1"}, Viewer(user=user))
        handling = asyncio.ensure_future(handle(RoomTopic(room=room.pk), asked, tell))
        await answered.wait()
        await hooks.in_thread(hooks.hook_threads(), numbering.answered)
        await handling

    asyncio.run(asyncio.wait_for(ask(), PATIENCE))
    (answer,) = answers
    assert not answer.code, answer
    return json.loads(answer.data)


def by_post(numbering: Numbering, room: Room, user: User, text: str) -> Any:
    client = Client()
    client.force_login(user)
    data = {"text": text, "client_id": "client-1"}
    body = {"topic": f"live/chat/{room.pk}", "type": "send", "data": data}
    answer = client.post("/live/send/", json.dumps(body), "application/json")
    assert answer.status_code == 200, answer.text
    numbering.answered()
    return answer.json()["data"]


Send = Callable[[Numbering, Room, User, str], Any]


@pytest.fixture(params=[over_socket, by_post])
def say(request: pytest.FixtureRequest) -> Send:
    send: Send = request.param
    return send


def test_the_author_is_answered_before_anybody_is_told(
    numbering: Numbering, say: Send, room: Room, ann: User, heard: Heard
) -> None:
    answer = say(numbering, room, ann, "hello")
    assert numbering.is_over.wait(PATIENCE)
    assert numbering.steps == ["answered", "numbered"]
    sweep()  # waits for the one that numbers
    ((type, data),) = heard(room)
    assert (type, data["id"], data["number"]) == ("message", answer["id"], answer["number"])


def test_other_topics_answer_when_all_is_told(
    numbering: Numbering, say: Send, room: Room, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the topic's wish it is the other way round."""
    monkeypatch.setattr(RoomTopic, "replies_first", False)
    numbering.may_go_on.set()
    say(numbering, room, ann, "hello")
    assert numbering.steps == ["numbered", "answered"]


def test_a_coroutine_answers_first_as_well(
    numbering: Numbering, room: Room, ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def on_message(self: RoomTopic, asked: Asked) -> Any:
        return await sync_to_async(do)(self, asked)

    monkeypatch.setattr(RoomTopic, "on_message", on_message)
    over_socket(numbering, room, ann, "hello")
    assert numbering.steps == ["answered", "numbered"]
    assert [data["text"] for _, data in heard(room)] == ["hello"]


def test_a_mention_is_told_of_after_the_answer(
    numbering: Numbering, room: Room, ann: User, bob: User
) -> None:
    over_socket(numbering, room, ann, "hello @bob")
    assert Notification.objects.get().recipient == bob


def test_numbering_that_fails_is_left_to_the_sweep(
    numbering: Numbering,
    room: Room,
    ann: User,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: Any) -> None:
        raise OSError("the database is gone")

    monkeypatch.setattr(numbering, "_numbers", fail)
    answer = over_socket(numbering, room, ann, "hello")
    assert answer["number"] == 1
    assert heard(room) == []
    assert "left to the sweep" in caplog.text
    sweep()
    assert [data["text"] for _, data in heard(room)] == ["hello"]
