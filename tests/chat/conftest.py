"""What the tests of the chat ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_live.chat import create_room
from django_live.chat.live import RoomTopic
from django_live.chat.models import Room
from django_live.core.log import get_log
from django_live.core.topics import Message, Topic, Viewer

NewUser = Callable[..., User]
Heard = Callable[[Room], list[tuple[str, Any]]]
Ask = Callable[..., Any]


@pytest.fixture
def new_user(transactional_db: None) -> NewUser:  # noqa: ARG001 - hooks run at a real commit
    def make(name: str, **kwargs: Any) -> User:
        return User.objects.create_user(name, f"{name}@example.com", "pw", **kwargs)

    return make


@pytest.fixture
def ann(new_user: NewUser) -> User:
    return new_user("ann", first_name="Ann", last_name="Lee")


@pytest.fixture
def bob(new_user: NewUser) -> User:
    return new_user("bob")


@pytest.fixture
def cat(new_user: NewUser) -> User:
    return new_user("cat")


@pytest.fixture
def room(ann: User, bob: User) -> Room:
    """Ann's, with Bob in it."""
    return create_room("Kitchen", by=ann, members=[bob])


@pytest.fixture
def heard() -> Heard:
    """`heard(room)`: what the room has told since it was last asked, as (type, data)."""
    read: dict[Any, int] = {}

    def since(room: Room) -> list[tuple[str, Any]]:
        page = get_log().read(RoomTopic(room=room.pk), read.get(room.pk, 0), 1000, 10**9)
        read[room.pk] = page.head.last
        return [(event.type, json.loads(event.data)) for event in page.events]

    return since


@pytest.fixture
def ask() -> Ask:
    """`ask(user, room, "send", text="…")`: what a client says to the room, as every transport hands it
    over; what the client is answered."""

    def do(user: User, room: Room, type: str, **data: Any) -> Any:
        topic: Topic = RoomTopic(room=room.pk)
        return topic.on_message(Message(type, data, Viewer(user=user)))

    return do
