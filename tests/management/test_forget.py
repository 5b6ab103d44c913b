"""`live_forget`: who is meant, what it prints, how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from django_live import publish
from django_live.core.log import get_log
from django_live.core.topics import History, Topic, registry
from django_live.exceptions import StoreError

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


@pytest.fixture(autouse=True)
def inbox() -> Iterator[type[Topic]]:
    with registry.isolated():

        class Inbox(Topic):
            pattern = "inboxes/<int:pk>"
            history = History()
            pk: int

            def forget(self, user: Any, type: str, data: Any) -> Any:
                return None if self.pk == user.pk else data

        yield Inbox


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("live_forget", *arguments, stdout=out)
    return out.getvalue()


def data(topic: Topic) -> list[str]:
    return [event.data for event in get_log().read(topic, 0, 100, 10**6).events]


@pytest.mark.parametrize("how", ["{pk}", "ann", "id:{pk}", "name:ann"])
def test_a_user_is_forgotten_by_key_or_by_name(how: str, ann: User, inbox: type[Topic]) -> None:
    topic, who = inbox(pk=ann.pk), how.format(pk=ann.pk)
    publish(topic, "new", "hello Ann")
    publish("open/a", "said", "x")
    planned = json.loads(run("--user", who, "--dry-run", "--format", "json"))
    assert data(topic) == ['"hello Ann"']
    assert json.loads(run("--user", who, "--format", "json")) == planned
    assert planned["events"] == {"inboxes/<int:pk>": 1}
    assert "open/<slug:slug>" in planned["not_asked"]
    assert data(topic) == ["null"]


def test_it_tells_what_it_did_and_what_it_left(ann: User, inbox: type[Topic]) -> None:
    publish(inbox(pk=ann.pk), "new", "hello Ann")
    publish("open/a", "said", "x")
    assert run("--user", "ann", "--dry-run").splitlines()[0] == "1 events would be changed"
    told = run("--user", "ann")
    assert told.splitlines()[:2] == ["1 events changed", "  inboxes/<int:pk>: 1"]
    assert "Left as they are, for they have no forget(): open/<slug:slug>" in told


def test_nobody_is_taken_for_somebody_else(ann: User) -> None:
    User.objects.create_user(str(ann.pk))
    with pytest.raises(CommandError, match="another one's name") as caught:
        run("--user", str(ann.pk))
    assert caught.value.returncode == 2
    assert run("--user", f"id:{ann.pk}")
    for nobody in ("bob", "id:ann", "id:", "name:"):
        with pytest.raises(CommandError, match="no user") as caught:
            run("--user", nobody)
        assert caught.value.returncode == 2


def test_of_a_deleted_account_the_key_is_enough(ann: User, inbox: type[Topic]) -> None:
    topic, pk = inbox(pk=ann.pk), ann.pk
    publish(topic, "new", "hello Ann")
    ann.delete()
    with pytest.raises(CommandError, match="--deleted"):
        run("--user", str(pk))
    run("--user", str(pk), "--deleted")
    assert data(topic) == ["null"]
    with pytest.raises(CommandError, match="no primary key") as caught:
        run("--user", "ann", "--deleted")
    assert caught.value.returncode == 2


def test_what_could_not_be_done_is_told_and_is_an_error(
    ann: User, inbox: type[Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(inbox(pk=ann.pk), "new", "hello Ann")

    def fail(*_: Any) -> int:
        raise StoreError("others write to it for too long")

    monkeypatch.setattr(get_log(), "replace", fail)
    out = StringIO()
    with pytest.raises(CommandError, match="run it again") as caught:
        call_command("live_forget", user="ann", format="json", stdout=out)
    assert caught.value.returncode == 1
    assert json.loads(out.getvalue())["failed"] == [
        f"inboxes/{ann.pk}: others write to it for too long"
    ]
