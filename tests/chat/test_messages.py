"""Messages: sent once, in one order, by who may; edited, deleted, answered, reacted to."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_live import Rejected
from django_live.chat import (
    ban,
    create_room,
    delete,
    edit,
    join,
    leave,
    mute,
    react,
    send,
    set_role,
    unban,
    unmute,
)
from django_live.chat.models import Membership, Message, Reaction, Room
from django_live.notifications.models import Notification
from tests.chat.conftest import Ask, Heard, NewUser


def code_of(work: Any, *args: Any, **kwargs: Any) -> str:
    """What it is refused with."""
    try:
        work(*args, **kwargs)
    except Rejected as rejected:
        return rejected.code
    except PermissionDenied:
        return "forbidden"
    return ""


def test_a_message_is_kept_and_told(room: Room, ann: User, heard: Heard) -> None:
    message = send(room, ann, "  Hello\r\nall ", client_id="client-1")
    assert (message.number, message.text) == (1, "Hello\nall")
    ((type, data),) = heard(room)
    assert type == "message"
    assert data["author"] == {"id": str(ann.pk), "name": "Ann Lee"}
    assert (data["id"], data["number"], data["client_id"]) == (message.pk, 1, "client-1")
    assert (data["text"], data["reply_to"], data["files"]) == ("Hello\nall", None, [])


def test_the_same_message_again_is_the_same(room: Room, ann: User, bob: User, heard: Heard) -> None:
    first = send(room, ann, "one", client_id="client-1")
    again = send(room, ann, "one", client_id="client-1")
    others = send(room, bob, "mine", client_id="client-1")
    assert again.pk == first.pk
    assert others.number == 2, "the second one took no number"
    assert [data["text"] for _, data in heard(room)] == ["one", "mine"]


def test_sent_again_is_answered_as_before_whatever_happened_since(
    room: Room, ann: User, bob: User, ask: Ask, heard: Heard
) -> None:
    """The first answer may have been lost: "muted" would say of a message that is there that it is not."""
    question = send(room, ann, "Milk?")
    data = {"text": "Yes", "client_id": "client-1", "reply_to": question.pk}
    first = ask(bob, room, "send", **data)
    events = heard(room)
    delete(question.pk, ann)
    heard(room)

    def again() -> None:
        assert ask(bob, room, "send", **data) == first

    again()
    mute(room, bob, by=ann)
    again()
    other = {**data, "client_id": "client-2", "reply_to": None}
    assert code_of(ask, bob, room, "send", **other) == "muted", "what is new is refused"
    ban(room, bob, by=ann)
    again()
    unban(room, bob, by=ann)
    leave(room, bob)
    again()
    assert code_of(send, room, bob, **data, namespace="acme") == "forbidden", "not across tenants"
    assert len(events) == 2
    assert heard(room) == []
    assert Message.objects.filter(author=bob).count() == 1
    room.refresh_from_db()
    assert room.last_number == 2


def test_a_rollback_leaves_nothing(room: Room, ann: User, heard: Heard) -> None:
    with transaction.atomic():
        send(room, ann, "never")
        transaction.set_rollback(True)
    assert not Message.objects.exists()
    assert heard(room) == []
    assert send(room, ann, "first").number == 1


def test_queries_do_not_depend_on_the_room(room: Room, ann: User) -> None:
    send(room, ann, "warm")

    def statements() -> Counter[str]:
        with CaptureQueriesContext(connection) as captured:
            send(room, ann, "one more")
        sent = [one["sql"] for one in captured.captured_queries]
        return Counter(
            {
                "chat": sum("live_chat_" in one for one in sent),
                "outbox": sum(one.startswith("INSERT") and "pending" in one for one in sent),
                "all": len(sent),
            }
        )

    small = statements()
    Membership.objects.bulk_create(
        Membership(room=room, user=user)
        for user in User.objects.bulk_create(User(username=f"u{n}") for n in range(300))
    )
    assert statements() == small
    assert (small["chat"], small["outbox"]) == (3, 1)


def test_many_at_once_have_one_order(room: Room, ann: User, bob: User, heard: Heard) -> None:
    failed: list[BaseException] = []

    def write(user: User, name: str) -> None:
        try:
            for n in range(10):
                send(room, user, f"{name} {n}", client_id=f"{name}-{n:08}")
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    users = {"a": ann, "b": bob, "c": ann, "d": bob}
    threads = [threading.Thread(target=write, args=(user, name)) for name, user in users.items()]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    told = [(data["number"], data["text"]) for _, data in heard(room)]
    kept = list(Message.objects.order_by("number").values_list("number", "text"))
    assert [number for number, _ in kept] == list(range(1, 41)), "no hole, none twice"
    assert told == kept, "what is told has the order of what is kept"
    for name in users:
        own = [text for _, text in told if text.startswith(name)]
        assert own == [f"{name} {n}" for n in range(10)]


BAD_TEXTS: dict[str, Any] = {
    "empty": "",
    "only spaces": " \n\t ",
    "only invisible signs": "\u200b\u2060\ufeff",
    "huge": "x" * 5000,
    "far too huge": "x" * 1_000_000,
    "a control character": "bell\x07",
    "an escape": "\x1b[2Jgone",
    "a zero": "a\x00b",
    "half a pair": "a\ud800b",
    "no text": 5,
    "nothing": None,
    "a list": ["a"],
}


@pytest.mark.any_database
@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_what_is_no_message_is_refused(
    room: Room, ann: User, ask: Ask, heard: Heard, text: Any
) -> None:
    with pytest.raises(Rejected) as refused:
        ask(ann, room, "send", text=text, client_id="client-1")
    assert refused.value.code in ("empty", "too-long", "malformed")
    assert refused.value.message
    assert not Message.objects.exists()
    assert heard(room) == []
    room.refresh_from_db()
    assert room.last_number == 0


BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "a clock": {"text": "a", "at": "1970-01-01T00:00:00Z"},
    "a foreign author": {"text": "a", "author": 1},
    "a client id that is none": {"text": "a", "client_id": "x y"},
    "a huge client id": {"text": "a", "client_id": "a" * 65},
    "a number as client id": {"text": "a", "client_id": 12345678},
    "files that are none": {"text": "a", "files": "abc"},
    "files of no form": {"text": "a", "files": ["abc"]},
    "many files": {"text": "a", "files": ["0" * 32] * 11},
    "somebody's file": {"text": "a", "files": ["12345678123456781234567812345678"]},
    "an answer to nothing": {"text": "a", "reply_to": 99},
    "an answer to text": {"text": "a", "reply_to": "1"},
    "an answer to a truth": {"text": "a", "reply_to": True},
    "an answer to a huge number": {"text": "a", "reply_to": 2**80},
}


@pytest.mark.any_database
@pytest.mark.parametrize("data", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_what_cannot_be_read_is_refused(
    room: Room, ann: User, ask: Ask, heard: Heard, data: dict[str, Any]
) -> None:
    assert code_of(ask, ann, room, "send", **data) in (
        "malformed",
        "no-such-file",
        "no-such-message",
        "too-many-files",
    )
    assert not Message.objects.exists()
    assert heard(room) == []
    assert code_of(ask, ann, room, "no-such-word") == "malformed"


def test_who_may_not_write_is_told_so(
    room: Room, ann: User, bob: User, cat: User, ask: Ask, heard: Heard
) -> None:
    public = create_room("Hall", kind=Room.Kind.PUBLIC, by=ann)

    def code(user: User, where: Room) -> str:
        return code_of(ask, user, where, "send", text="x")

    assert code(cat, room) == "forbidden"
    assert code_of(ask, cat, Room(pk=9999), "send", text="x") == "forbidden", "as if it were not"
    assert code(cat, public) == "not-a-member"
    join(public, cat)
    assert code(cat, public) == ""
    mute(public, cat, by=ann)
    assert code(cat, public) == "muted"
    unmute(public, cat, by=ann)
    assert code(cat, public) == ""
    leave(public, cat)
    assert code(cat, public) == "not-a-member"
    join(public, cat)
    ban(public, cat, by=ann)
    assert code(cat, public) == "banned"
    assert code_of(join, public, cat) == "banned"
    leave(public, cat)
    assert code_of(join, public, cat) == "banned", "going out does not help"
    unban(public, cat, by=ann)
    assert code(cat, public) == ""
    leave(room, bob)
    assert code(bob, room) == "forbidden"
    assert heard(room) == []
    assert len(heard(public)) == 3


def test_a_room_of_another_tenant_is_none(ann: User, ask: Ask) -> None:
    room = create_room("Elsewhere", by=ann, namespace="acme")
    assert code_of(ask, ann, room, "send", text="x") == "forbidden"
    assert code_of(ask, ann, room, "read", number=1) == "forbidden"


@override_settings(DJANGO_LIVE={"CHAT_RATE": 1, "CHAT_BURST": 3})
def test_who_writes_too_fast_is_held_back(room: Room, new_user: NewUser, ask: Ask) -> None:
    fast, slow = new_user("fast"), new_user("slow")
    for user in (fast, slow):
        Membership.objects.create(room=room, user=user)
    codes = [code_of(ask, fast, room, "send", text="x") for _ in range(5)]
    assert codes == ["", "", "", "too-fast", "too-fast"]
    assert code_of(ask, slow, room, "send", text="x") == "", "nobody else is held back"


def test_only_its_author_edits_a_message(room: Room, ann: User, bob: User, heard: Heard) -> None:
    message = send(room, bob, "helo")
    edit(message.pk, bob, "hello")
    assert code_of(edit, message.pk, ann, "I said this") == "forbidden"
    assert code_of(edit, message.pk, bob, "") == "empty"
    (_, (type, data)) = heard(room)
    assert (type, data["text"], data["edited"]) == ("edited", "hello", True)
    mute(room, bob, by=ann)
    assert code_of(edit, message.pk, bob, "muted") == "muted"
    message.refresh_from_db()
    assert message.text == "hello"


def test_authors_and_moderators_delete(
    room: Room, ann: User, bob: User, new_user: NewUser, heard: Heard
) -> None:
    third = new_user("third")
    Membership.objects.create(room=room, user=third)
    own, others = send(room, bob, "own"), send(room, bob, "rude")
    react(others.pk, ann, "👍")
    assert code_of(delete, own.pk, third) == "forbidden"
    delete(own.pk, bob)
    assert not LogEntry.objects.exists()
    delete(others.pk, ann)
    entry = LogEntry.objects.get()
    assert (entry.user_id, entry.object_id) == (ann.pk, str(others.pk))
    assert "rude" in entry.change_message
    assert code_of(delete, others.pk, ann) == "forbidden", "once"
    for message in (own, others):
        message.refresh_from_db()
        assert (message.text, message.deleted_at is None) == ("", False)
    assert not Reaction.objects.exists()
    assert [type for type, _ in heard(room)][-2:] == ["deleted", "deleted"]
    assert code_of(edit, own.pk, bob, "back") == "forbidden"
    assert code_of(send, room, ann, "re", reply_to=own.pk) == "no-such-message"


def test_messages_of_other_rooms_are_out_of_reach(
    room: Room, ann: User, cat: User, ask: Ask
) -> None:
    elsewhere = create_room("Other", by=cat)
    message = send(elsewhere, cat, "secret")
    for type, data in (("edit", {"text": "x"}), ("delete", {}), ("react", {"code": "👍"})):
        assert code_of(ask, ann, room, type, id=message.pk, **data) == "forbidden"
        assert code_of(ask, cat, room, type, id=message.pk, **data) == "forbidden"
    assert code_of(send, room, ann, "re", reply_to=message.pk) == "no-such-message"


def test_an_answer_has_what_it_answers_to(room: Room, ann: User, bob: User, heard: Heard) -> None:
    first = send(room, ann, "Who brings\nmilk?")
    send(room, bob, "I do", reply_to=first.pk)
    _, (_, data) = heard(room)
    assert data["reply_to"]["id"] == first.pk
    assert data["reply_to"]["author"]["name"] == "Ann Lee"
    assert data["reply_to"]["text"] == "Who brings milk?"


def test_reactions_are_counted_once_for_each(
    room: Room, ann: User, bob: User, heard: Heard
) -> None:
    message = send(room, ann, "cake")
    heard(room)
    assert react(message.pk, ann, "👍") == {"1f44d": 1}
    assert react(message.pk, ann, "👍") == {"1f44d": 1}
    assert react(message.pk, bob, "👍") == {"1f44d": 2}
    assert react(message.pk, bob, "🎉") == {"1f389": 1, "1f44d": 2}, "signs are told apart"
    assert react(message.pk, bob, "👍", on=False) == {"1f389": 1, "1f44d": 1}
    assert [data["reactions"] for _, data in heard(room)][-1] == {"1f389": 1, "1f44d": 1}
    for bad in ("x", "", 5, "👍👍", "zz-zz"):
        assert code_of(react, message.pk, ann, bad) == "malformed"


def test_reactions_at_once_are_told_as_they_are_kept(
    room: Room, ann: User, bob: User, heard: Heard
) -> None:
    message = send(room, ann, "cake")
    heard(room)
    failed: list[BaseException] = []

    def toggle(user: User, sign: str) -> None:
        try:
            for n in range(7):
                react(message.pk, user, sign, on=n % 2 == 0)
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    work = [(ann, "👍"), (bob, "👍"), (ann, "🎉"), (bob, "🎉")]
    threads = [threading.Thread(target=toggle, args=one) for one in work]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    assert react(message.pk, ann, "👍") == {"1f389": 2, "1f44d": 2}
    counts: Counter[str] = Counter()
    told = heard(room)
    assert len(told) == 28, "each change once"
    for _, data in told:
        counts[data["code"]] += 1 if data["on"] else -1
        assert data["reactions"] == +counts, "each as it was then"
    with transaction.atomic():
        react(message.pk, ann, "👍", on=False)
        transaction.set_rollback(True)
    assert heard(room) == []
    assert Reaction.objects.filter(message=message).count() == 4


def test_a_mention_notifies_members_only(
    room: Room, ann: User, bob: User, new_user: NewUser
) -> None:
    new_user("cat")  # is not in the room
    send(room, ann, "@bob, and @cat. and @ann! mail@bob.example @bob")
    told = Notification.objects.get()
    assert (told.recipient_id, told.kind, told.actor_id) == (bob.pk, "chat_mention", ann.pk)
    assert told.url.startswith(f"/chat/{room.pk}/#live-chat-")
    send(room, ann, "again, @bob.")
    told.refresh_from_db()
    assert told.count == 2
    assert Notification.objects.count() == 1


def test_ranks(room: Room, ann: User, bob: User, new_user: NewUser) -> None:
    third = new_user("third")
    Membership.objects.create(room=room, user=third)
    assert code_of(mute, room, third, by=bob) == "forbidden"
    assert code_of(set_role, room, bob, "owner", by=bob) == "forbidden"
    set_role(room, bob, "moderator", by=ann)
    mute(room, third, by=bob)
    assert code_of(ban, room, ann, by=bob) == "forbidden", "not those above"
    assert code_of(ban, room, bob, by=bob) == "forbidden", "not oneself"
    assert code_of(set_role, room, third, "moderator", by=bob) == "forbidden", "owners do"
    set_role(room, third, "moderator", by=ann)
    assert code_of(ban, room, third, by=bob) == "forbidden", "not one's equals"
    assert LogEntry.objects.count() == 3
