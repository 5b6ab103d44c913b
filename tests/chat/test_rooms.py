"""Rooms: found and listed; how far each has read; pages of what was said; what is searched and forgotten."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_live import Rejected, Viewer
from django_live.chat import (
    ban,
    create_room,
    delete,
    direct_room,
    join,
    leave,
    mark_read,
    react,
    remove_member,
    rooms_of,
    search,
    send,
)
from django_live.chat.live import NowTopic, ReaderTopic, RoomTopic
from django_live.chat.models import Membership, Message, Reaction, Room
from django_live.chat.reading import RECEIPTS, page_of, receipts
from django_live.chat.rooms import open_rooms, title_of
from django_live.chat.searching import is_possible
from django_live.core.forgetting import forget
from tests.chat.conftest import Ask, NewUser


def fill(room: Room, author: User, count: int) -> None:
    rows = (
        Message(room=room, author=author, number=n, client_id=f"fill-{n:08}", text=f"number {n}")
        for n in range(1, count + 1)
    )
    Message.objects.bulk_create(rows, batch_size=500)
    Room.objects.filter(pk=room.pk).update(last_number=count)


def test_one_conversation_for_two(ann: User, bob: User, cat: User) -> None:
    room = direct_room(ann, bob)
    assert direct_room(bob, ann).pk == room.pk
    assert direct_room(ann, cat).pk != room.pk
    assert direct_room(ann, bob, namespace="acme").pk != room.pk
    assert (title_of(room, ann), title_of(room, bob)) == ("bob", "Ann Lee")
    with pytest.raises(Rejected):
        direct_room(ann, ann)
    with pytest.raises(Rejected):
        leave(room, ann)
    send(room, bob, "hello")
    assert [(one.title, one.unread) for one in rooms_of(ann)] == [("bob", 1), ("cat", 0)]


@pytest.mark.parametrize("name", ["", "  ", "x" * 121, "a\x00b"])
def test_a_room_needs_a_name(ann: User, name: str) -> None:
    with pytest.raises(Rejected):
        create_room(name, by=ann)
    assert not Room.objects.exists()


def test_unread_is_counted_from_two_numbers(
    room: Room, ann: User, bob: User, ask: Ask, new_user: NewUser
) -> None:
    for n in range(3):
        send(room, ann, f"{n}")

    def unread(user: User) -> list[int]:
        return [one.unread for one in rooms_of(user)]

    assert unread(bob) == [3]
    assert ask(bob, room, "read", number=2) == {"number": 2}
    assert ask(bob, room, "read", number=1) == {"number": 2}, "never back"
    assert unread(bob) == [1]
    assert ask(bob, room, "read", number=10**9) == {"number": 3}, "not beyond the end"
    assert unread(bob) == [0]
    late = new_user("late")
    hall = create_room("Hall", kind=Room.Kind.PUBLIC, by=ann)
    send(hall, ann, "before")
    assert [one.pk for one in open_rooms(late)] == [hall.pk]
    join(hall, late)
    assert unread(late) == [0], "what was said before is not unread"
    assert open_rooms(late) == []
    with pytest.raises(PermissionDenied):
        mark_read(room, late, 1)


def test_small_rooms_tell_how_far_each_has_read(room: Room, ann: User, bob: User, ask: Ask) -> None:
    send(room, ann, "x")
    ask(bob, room, "read", number=1)
    assert {one["name"]: one["number"] for one in receipts(room.pk)} == {"Ann Lee": 0, "bob": 1}
    assert NowTopic(room=room.pk).snapshot()["read"] == receipts(room.pk)
    users = User.objects.bulk_create(User(username=f"u{n}") for n in range(RECEIPTS))
    Membership.objects.bulk_create(Membership(room=room, user=user) for user in users)
    assert receipts(room.pk) == []
    snapshot = ReaderTopic(user=str(bob.pk)).snapshot()
    assert snapshot == {"read": {str(room.pk): {"number": 1, "last": 1}}}


def test_pages_of_what_was_said(room: Room, ann: User) -> None:
    fill(room, ann, 120)

    def numbers(**options: Any) -> list[int]:
        return [one.number for one in page_of(room, **options)]

    assert numbers() == list(range(71, 121))
    assert numbers(before=71) == list(range(21, 71))
    assert numbers(before=21) == list(range(1, 21))
    assert numbers(before=1) == []
    assert numbers(after=100) == list(range(101, 121))
    with CaptureQueriesContext(connection) as captured:
        page_of(room)
    plan = captured.captured_queries[0]["sql"]
    assert "LIMIT 50" in plan


def test_who_may_listen(room: Room, ann: User, bob: User, cat: User) -> None:
    def may(user: User | None, topic: Any) -> bool:
        return bool(topic.can_subscribe(Viewer(user=user)))

    hall = create_room("Hall", kind=Room.Kind.PUBLIC, by=ann)
    topics = [RoomTopic(room=room.pk), NowTopic(room=room.pk)]
    for topic in topics:
        assert [may(user, topic) for user in (ann, bob, cat, None)] == [True, True, False, False]
    assert may(cat, RoomTopic(room=hall.pk))
    assert not may(None, RoomTopic(room=hall.pk))
    assert not may(ann, RoomTopic(room=99999))
    assert not may(ann, RoomTopic(room=room.pk, namespace="acme"))
    ban(hall, cat, by=ann)
    assert not may(cat, RoomTopic(room=hall.pk))
    remove_member(room, bob, by=ann)
    assert not may(bob, topics[0])
    assert may(ann, ReaderTopic(user=str(ann.pk)))
    assert not may(bob, ReaderTopic(user=str(ann.pk)))


def test_search(room: Room, ann: User, bob: User, cat: User) -> None:
    if not is_possible():
        with pytest.raises(Rejected) as refused:
            search(room, ann, "kettle")
        assert refused.value.code == "no-search"
        assert connection.vendor == "sqlite"
        return
    send(room, ann, "The kettle is hot")
    second = send(room, bob, "Which kettle, please?")
    gone = send(room, bob, "kettle kettle")
    delete(gone.pk, bob)
    elsewhere = create_room("Other", by=cat)
    send(elsewhere, cat, "a kettle of my own")
    assert [one.text for one in search(room, ann, "kettle")] == [
        "Which kettle, please?",
        "The kettle is hot",
    ]
    assert [one.pk for one in search(room, ann, "please kettle")] == [second.pk]
    for odd in ("", "'", '"', "+-*()~<>@", "%", "\x00", "kettle'); DROP TABLE x; --", "x" * 5000):
        search(room, ann, odd)
    with pytest.raises(PermissionDenied):
        search(room, cat, "kettle")


def test_the_search_page(room: Room, ann: User) -> None:
    message = send(room, ann, "The <b>kettle</b> is hot")
    client = Client()
    client.force_login(ann)
    link = f'href="/chat/{room.pk}/search/"'
    assert (link in client.get(f"/chat/{room.pk}/").text) is is_possible(), "it leads nowhere"
    page = client.get(f"/chat/{room.pk}/search/", {"q": "kettle"}).text
    if not is_possible():
        assert "There is no search here" in page
        assert 'type="search"' not in page
        return
    assert "The &lt;b&gt;kettle&lt;/b&gt; is hot" in page
    assert f'href="/chat/{room.pk}/?before={message.number + 1}#live-chat-{message.pk}"' in page
    assert "Nothing was found." in client.get(f"/chat/{room.pk}/search/", {"q": "teapot"}).text


def test_a_person_is_forgotten(room: Room, ann: User, bob: User) -> None:
    first = send(room, bob, "my secret")
    send(room, ann, "I quote", reply_to=first.pk)
    react(first.pk, bob, "👍")
    assert forget(bob, dry_run=True).others["django_live.chat.erasing.forget_person"] == 2
    forget(bob)
    first.refresh_from_db()
    assert (first.text, first.number) == ("", 1)
    assert not Reaction.objects.exists()
    from django_live.core.log import get_log

    page = get_log().read(RoomTopic(room=room.pk), 0, 100, 10**9)
    assert "secret" not in json.dumps([str(event.data) for event in page.events])
    assert len(page.events) == 3
    bob.delete()
    first.refresh_from_db()
    assert first.author is None


def test_a_user_who_is_deleted_leaves_what_they_said(room: Room, ann: User, bob: User) -> None:
    send(room, bob, "I was here")
    bob.delete()
    (message,) = page_of(room)
    assert (message.author, message.text) == (None, "I was here")
    assert message.created <= timezone.now()
    assert send(room, ann, "who?", reply_to=message.pk).number == 2
