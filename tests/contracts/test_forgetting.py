"""What is told of a person is taken out of every store, and readers notice nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from django_live.core import forgetting
from django_live.core.events import Draft
from django_live.core.forgetting import forget, forgets
from django_live.core.log import EventLog, get_log
from django_live.core.outbox import Entry, get_outbox
from django_live.core.state import SharedState
from django_live.core.topics import History, Topic, registry
from django_live.exceptions import StoreError
from django_live.stores.memory import MemoryLog
from tests.contracts.conftest import in_threads

PLENTY = 10_000_000


class Topics:
    """The topics of a site: an inbox of one person, a room of many, one that says nothing."""

    def __init__(self) -> None:
        class Inbox(Topic):
            pattern = "users/<int:pk>/inbox"
            history = History(events=5000)
            outbox = True
            pk: int

            def forget(self, user: Any, type: str, data: Any) -> Any:
                return None if self.pk == user.pk else data

        class Room(Topic):
            pattern = "talks/<str:title>"
            history = History(events=5000)

            async def forget(self, user: Any, type: str, data: Any) -> Any:
                if data == "broken":
                    raise KeyError(data)
                return {**data, "by": None, "text": ""} if data["by"] == user.pk else data

        class Prices(Topic):
            pattern = "prices"
            history = History()

        self.inbox, self.room, self.prices = Inbox, Room, Prices


@pytest.fixture
def topics() -> Iterator[Topics]:
    with registry.isolated():
        yield Topics()


@pytest.fixture
def ann() -> User:
    return User(pk=1, username="ann")


def said(by: int, text: str) -> Draft:
    return Draft("said", json.dumps({"by": by, "text": text}))


def kept(topic: Topic) -> list[Any]:
    return [json.loads(event.data) for event in get_log().read(topic, 0, PLENTY, PLENTY).events]


def test_only_what_the_topics_say_is_taken_out(log: EventLog, topics: Topics, ann: User) -> None:
    own, others = topics.inbox(pk=1), topics.inbox(pk=2)
    room = topics.room(title="lobby")
    log.append(own, [Draft("new", '{"n": 1}'), Draft("new", '{"n": 2}')])
    log.append(others, [Draft("new", '{"n": 3}')])
    log.append(room, [said(1, "I am Ann"), said(2, "hello"), said(1, "bye")])
    log.append(topics.prices(), [Draft("new", "1")])
    epoch = log.heads([room])[room.key]

    planned = forget(ann, dry_run=True)
    assert kept(own) == [{"n": 1}, {"n": 2}]
    done = forget(ann)
    assert done == planned
    assert done.events == {"users/<int:pk>/inbox": 2, "talks/<str:title>": 2}
    assert done.not_asked == {"prices"}
    assert not done.failed
    assert kept(own) == [None, None]
    assert kept(others) == [{"n": 3}]
    assert kept(room) == [
        {"by": None, "text": ""},
        {"by": 2, "text": "hello"},
        {"by": None, "text": ""},
    ]
    assert log.heads([room])[room.key] == epoch
    # What was taken out is not found again.
    assert forget(ann).events.total() == 0


def test_a_long_topic_is_worked_off_in_pages(log: EventLog, topics: Topics, ann: User) -> None:
    room = topics.room(title="lobby")
    for _ in range(3):
        log.append(room, [said(number % 2, "x") for number in range(500)])
    assert forget(ann).events["talks/<str:title>"] == 750
    assert [one["text"] for one in kept(room)] == ["x", ""] * 750


def test_events_that_wait_in_the_outbox_are_taken_along(
    log_behind_outbox: EventLog, topics: Topics, ann: User
) -> None:
    own = topics.inbox(pk=1)
    with transaction.atomic():
        get_outbox().add([Entry(own, Draft("new", '{"n": 1}'))], "default")
    assert forget(ann).events == {"users/<int:pk>/inbox": 1}
    assert kept(own) == [None]
    assert log_behind_outbox.heads([own])[own.key].last == 1


def test_an_event_whose_method_fails_is_named_and_the_others_are_done(
    log: EventLog, topics: Topics, ann: User
) -> None:
    room = topics.room(title="lobby")
    log.append(room, [said(1, "a"), Draft("said", '"broken"'), said(1, "b")])
    done = forget(ann)
    assert done.events["talks/<str:title>"] == 2
    assert done.failed == ["talks/lobby, event 2: KeyError"]
    assert kept(room) == [{"by": None, "text": ""}, "broken", {"by": None, "text": ""}]


def test_topics_that_nobody_declares_are_counted(log: EventLog, ann: User) -> None:
    with registry.isolated():

        class Old(Topic):
            pattern = "old"
            history = History()

        log.append(Old(), [Draft("said", "1")])
    assert forget(ann).undeclared == 1


def test_while_others_write_nothing_of_the_person_is_left_that_was_there(
    log: EventLog, topics: Topics, ann: User
) -> None:
    room = topics.room(title="lobby")
    log.append(room, [said(1, "before")] * 600)

    def work(number: int) -> None:
        if number == 0:
            forget(ann)
        else:
            for _ in range(20):
                log.append(room, [said(2, "others")])

    in_threads(3, work)
    found = kept(room)
    assert len(found) == 640
    assert sum(one["text"] == "others" for one in found) == 40
    assert not [one for one in found if one["text"] == "before"]


def test_what_is_in_the_state_is_taken_out_by_whoever_put_it_there(
    state: SharedState, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_forgetters", {})
    state.set("presence", {"1": '{"name": "Ann"}', "2": '{"name": "Bob"}'})

    @forgets
    def leave(user: Any, dry_run: bool) -> int:
        if dry_run:
            return len(state.items("presence", [str(user.pk)]).entries)
        return len(state.delete("presence", [str(user.pk)]).removed)

    @forgets
    def fail(user: Any, dry_run: bool) -> int:  # noqa: ARG001
        raise OSError("away")

    for dry_run in (True, False):
        done = forget(ann, dry_run=dry_run)
        assert [count for name, count in done.others.items() if name.endswith("leave")] == [1]
        assert [failure.rpartition(": ")[2] for failure in done.failed] == ["OSError"]
        assert ("1" in state.items("presence").entries) is dry_run
    assert state.items("presence").entries.keys() == {"2"}


def test_a_store_that_cannot_change_what_it_keeps_says_so() -> None:
    class Own(MemoryLog):
        """Like a store of somebody's own, from before."""

        names = EventLog.names
        replace = EventLog.replace

    with registry.isolated():
        room = Topics().room(title="lobby")
        with pytest.raises(StoreError, match="Own"):
            Own().names()
        with pytest.raises(StoreError, match="Own"):
            Own().replace(room, {})
