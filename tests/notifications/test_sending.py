"""`notify()`: who is told, when, and what a stranger's text cannot do."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_live.core.events import Draft
from django_live.core.outbox import Entry, get_outbox
from django_live.core.publishing import OwnTransaction
from django_live.core.sending import observed_by
from django_live.core.topics import Viewer, as_topic
from django_live.models import PendingEvent
from django_live.notifications import (
    EVERYBODY,
    anotify,
    declare_kind,
    inbox,
    mark_read,
    notify,
    unread_count,
)
from django_live.notifications.content import content, is_safe
from django_live.notifications.kinds import prefer
from django_live.notifications.models import Notification
from django_live.notifications.recipients import BATCH
from tests.notifications.conftest import Heard, NewUser
from tests.testapp.models import Order


def titles(user: User) -> list[str]:
    return [one.headline for one in Notification.objects.of(user)]


def told() -> set[str]:
    return set(Notification.objects.values_list("recipient__username", flat=True))


def test_it_is_told_after_the_commit_and_never_after_a_rollback(ann: User, heard: Heard) -> None:
    with transaction.atomic():
        notify(ann, "Paid", body="Order 42", url="/orders/42/", kind="paid")
        assert not Notification.objects.exists()
        with suppress(ZeroDivisionError), transaction.atomic():
            notify(ann, "Never")
            raise ZeroDivisionError
    assert titles(ann) == ["Paid"]
    ((type, data),) = heard(ann)
    assert type == "notified"
    assert (data["title"], data["body"], data["url"]) == ("Paid", "Order 42", "/orders/42/")
    assert (data["is_new"], data["is_quiet"]) == (True, False)


class TestWho:
    @pytest.fixture(autouse=True)
    def people(self, new_user: NewUser) -> dict[str, User]:
        self.users = {name: new_user(name) for name in ("ann", "bob", "cid")}
        self.users["gone"] = new_user("gone", is_active=False)
        return self.users

    def of(self, *names: str) -> Iterator[User]:
        return (self.users[name] for name in names)

    @pytest.mark.parametrize("kind", ["user", "list", "generator", "keys", "queryset", "sliced"])
    def test_users_in_any_form(self, kind: str) -> None:
        ann, bob = self.users["ann"], self.users["bob"]
        both = User.objects.filter(username__in=["ann", "bob", "gone"]).order_by("-username")
        given: dict[str, Any] = {
            "user": ann,
            "list": [ann, bob, self.users["gone"], ann],
            "generator": self.of("ann", "bob", "bob"),
            "keys": [ann.pk, bob.pk, 10**9],
            "queryset": both,
            "sliced": both[:3],
        }
        notify(given[kind], "hello")
        assert told() == ({"ann"} if kind == "user" else {"ann", "bob"})
        assert Notification.objects.count() == len(told()), "nobody twice"

    def test_a_group_a_permission_and_everybody(self) -> None:
        group = Group.objects.create(name="staff")
        self.users["ann"].groups.add(group)
        notify(group, "hello")
        assert told() == {"ann"}
        permission = Permission.objects.get(
            codename="view_order", content_type__app_label="testapp"
        )
        group.permissions.add(permission)
        self.users["bob"].user_permissions.add(permission)
        self.users["gone"].user_permissions.add(permission)
        User.objects.filter(username="cid").update(is_superuser=True)
        for given in (permission, "testapp.view_order", [group, "testapp.view_order"]):
            Notification.objects.all().delete()
            notify(given, "hello")
            assert Notification.objects.count() == 3, given
        Notification.objects.all().delete()
        notify(EVERYBODY, "hello")
        assert told() == {"ann", "bob", "cid"}

    def test_what_stands_for_nobody_is_logged_and_does_not_reach_the_caller(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        for wrong in ([object()], Order.objects.all(), "no-permission"):
            caplog.clear()
            with transaction.atomic():
                notify(wrong, "hello", kind="odd")
            assert "notify('odd')" in caplog.text
        notify(None, "hello")
        notify([], "hello")
        assert not Notification.objects.exists()

    def test_who_may_not_see_it_is_left_out_and_so_is_who_cannot_be_asked(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def can_see(user: User, notification: Notification) -> bool:
            assert notification.title == "secret"
            if user.username == "cid":
                raise ValueError("unknown")
            return user.username == "ann"

        notify(EVERYBODY, "secret", can_see=can_see)
        assert told() == {"ann"}
        assert "can_see() failed" in caplog.text

    def test_who_was_deleted_meanwhile_costs_the_others_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users = list(User.objects.filter(is_active=True))
        monkeypatch.setattr("django_live.notifications.sending.batches", lambda *_: iter([users]))
        actor = User.objects.create_user("actor")
        User.objects.filter(username__in=["bob"]).delete()
        with transaction.atomic():
            notify(EVERYBODY, "hello", actor=actor)
            User.objects.filter(username="actor").delete()
        assert told() == {"ann", "cid"}


class TestText:
    @pytest.mark.parametrize(
        "url",
        ["/orders/1/", "orders/1", "?page=2", "#top", "http://a.example/x", "https://ä.example"],
    )
    def test_addresses_of_the_web_are_kept(self, url: str) -> None:
        assert is_safe(url)

    @pytest.mark.parametrize(
        "url",
        [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "java\nscript:alert(1)",
            "\x01javascript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "http:",
            "https:///x",
            "mailto:a@b",
            "x:y",
            "http://[x",
        ],
    )
    def test_others_are_left_out_and_the_log_says_so(
        self, url: str, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert not is_safe(url)
        notify(ann, "look", url=url, kind="bad-link")
        assert Notification.objects.get().url == ""
        assert "notify('bad-link')" in caplog.text

    def test_huge_and_hostile_text_is_cut_and_stays_text(self, ann: User, heard: Heard) -> None:
        notify(
            ann,
            "<script>alert(1)</script>\x00\ud800\u202e" + "x" * 10_000,
            body="y" * 1_000_000,
            kind="k" * 500,
            group="g" * 500,
            data={"a": "z" * 100_000},
            url="/" + "u" * 5000,
        )
        one = Notification.objects.get()
        assert one.title.startswith("<script>alert(1)</script>?x")
        assert (len(one.title), len(one.body), one.data, one.url) == (200, 4000, {}, "")
        ((_, data),) = heard(ann)
        assert len(data["body"]) <= 300

    def test_nothing_is_no_title(self, ann: User) -> None:
        for title in ("", "  ", "\x00", None):
            with pytest.raises(ValueError, match="title"):
                notify(ann, title)  # type: ignore[arg-type]

    def test_data_that_is_no_json_is_left_out(
        self, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        for data in ({"a": object()}, {"a": "\x00"}, float):
            assert content("t", kind="k", data=data).data == {}
        assert caplog.text.count("no JSON") == 3


def test_unread_ones_of_a_group_become_one(ann: User, bob: User, heard: Heard) -> None:
    options: dict[str, Any] = {"kind": "comment", "group": "post-1", "summary": "{count} comments"}
    notify(ann, "Bob: first", **options)
    notify([ann, bob], "Cid: second", **options)
    notify(ann, "Dora: third", **{**options, "group": "post-2"})
    assert titles(ann) == ["Dora: third", "2 comments"]
    assert titles(bob) == ["Cid: second"]
    assert [(d["title"], d["is_new"]) for _, d in heard(ann)] == [
        ("Bob: first", True),
        ("2 comments", False),
        ("Dora: third", True),
    ]
    mark_read(ann)
    notify(ann, "Eve: fourth", **options)
    assert titles(ann)[0] == "Eve: fourth", "what was read is not counted on"
    assert unread_count(ann) == 1


def test_reading_is_told_to_all_pages_and_only_ones_own_are_read(
    ann: User, bob: User, heard: Heard
) -> None:
    notify([ann, bob], "one")
    notify([ann, bob], "two")
    heard(ann)
    own = [*Notification.objects.filter(recipient=ann).order_by("pk").values_list("pk", flat=True)]
    others = Notification.objects.filter(recipient=bob).values_list("pk", flat=True)
    assert mark_read(ann, [own[0], *others]) == 1
    assert unread_count(bob) == 2
    assert mark_read(ann, [own[0]]) == 0
    assert mark_read(ann) == 1
    told = heard(ann)
    assert [type for type, _ in told] == ["read", "read"], "and nothing where nothing was read"
    assert told[0][1] == {"ids": [own[0]], "newest": 0, "unread": 1}, "of others nothing is said"
    newest = Notification.objects.latest("pk").pk
    assert told[1][1] == {"ids": None, "newest": newest, "unread": 0}


def test_one_that_comes_while_all_are_being_read_is_not_read(
    ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify(ann, "one")
    newest = Notification.objects.latest("pk").pk

    def meanwhile(_: Any) -> None:
        Notification.objects.create(recipient=ann, kind="note", title="two")

    monkeypatch.setattr(inbox, "_when_read", [meanwhile])
    assert mark_read(ann) == 1
    assert unread_count(ann) == 1
    (told,) = [data for type, data in heard(ann) if type == "read"]
    assert told == {"ids": None, "newest": newest, "unread": 1}


def test_preferences_hold_by_kind_and_channel(ann: User, bob: User, heard: Heard) -> None:
    declare_kind("quiet", "Quiet things", site=False)
    declare_kind("loud", "Loud things")
    notify([ann, bob], "hush", kind="quiet")
    assert not Notification.objects.exists()
    prefer(ann, "quiet", site=True, email=False)
    prefer(bob, "loud", site=False, email=False)
    notify([ann, bob], "hush", kind="quiet")
    notify([ann, bob], "bang", kind="loud")
    assert (titles(ann), titles(bob)) == (["bang", "hush"], [])
    assert heard(bob) == []


def test_many_recipients_cost_few_statements_and_bounded_memory(
    transactional_db: None,  # noqa: ARG001
) -> None:
    users = [User(username=f"user{n}", password="x") for n in range(3 * BATCH)]
    User.objects.bulk_create(users, batch_size=500)

    def peak() -> int:
        tracemalloc.start()
        notify(EVERYBODY, "hello")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    with CaptureQueriesContext(connection) as queries:
        notify(User.objects.filter(username="user1"), "one")
    one = len(queries)
    User.objects.filter(pk__gt=User.objects.order_by("pk")[BATCH].pk).update(is_active=False)
    small = peak()
    User.objects.update(is_active=True)
    with CaptureQueriesContext(connection) as queries:
        notify(EVERYBODY, "all")
    # Each batch is a transaction; SQLite writes few rows at once.
    assert len(queries) < 3 * (one + BATCH // 2)
    assert peak() < small * 1.7, "three times as many people, not three times the memory"
    assert Notification.objects.filter(title="all").count() == 3 * BATCH


@pytest.mark.parametrize("owner", ["ann", "bob", "nobody"])
def test_an_inbox_is_its_owners_alone(owner: str, ann: User, bob: User) -> None:
    viewer = {"ann": Viewer(user=ann), "bob": Viewer(user=bob), "nobody": Viewer()}[owner]
    assert as_topic(f"live/inbox/{ann.pk}").can_subscribe(viewer) is (owner == "ann")


def test_a_coroutine_is_told_to_await(ann: User) -> None:
    async def wrong() -> None:
        with pytest.raises(RuntimeError, match="anotify"):
            notify(ann, "hello")
        await anotify(ann, "from a coroutine")

    asyncio.run(wrong())
    assert titles(ann) == ["from a coroutine"]


def test_a_batch_that_fails_costs_only_itself(
    new_user: NewUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = new_user("first"), new_user("second")
    monkeypatch.setattr(
        "django_live.notifications.sending.batches", lambda *_: iter([[first], [second]])
    )

    publish = OwnTransaction.publish_many

    def fail(own: OwnTransaction, items: list[Any]) -> None:
        if items[0][0].user == str(first.pk):
            raise OSError("no log")
        publish(own, items)

    monkeypatch.setattr(OwnTransaction, "publish_many", fail)
    with caplog.at_level(logging.ERROR):
        notify(EVERYBODY, "hello", kind="k")
    assert told() == {"second"}
    assert "notify('k'): 1 people were not notified" in caplog.text


def test_events_are_numbered_where_their_notifications_are_written(
    ann: User, bob: User, heard: Heard
) -> None:
    notify(bob, "the first event of a database")
    sent: list[tuple[str, bool]] = []
    with (
        observed_by(lambda topic, _: sent.append((topic.name, connection.in_atomic_block))),
        CaptureQueriesContext(connection) as queries,
    ):
        notify(ann, "hello")
    assert sent == [(inbox.inbox_of(ann.pk).name, False)], "sent after the commit"
    written = [q["sql"] for q in queries if "INSERT" in q["sql"] or "UPDATE" in q["sql"]]
    assert any(Notification._meta.db_table in sql for sql in written)
    assert not any(PendingEvent._meta.db_table in sql.split("SELECT")[0] for sql in written)
    assert [data["title"] for _, data in heard(ann)] == ["hello"]


def test_what_waits_in_an_inbox_is_told_before(ann: User, heard: Heard) -> None:
    with transaction.atomic():
        get_outbox().add(
            [Entry(inbox.inbox_of(ann.pk), Draft("notified", '{"title": "first"}'))], "default"
        )
    notify(ann, "second")
    assert [data["title"] for _, data in heard(ann)] == ["first", "second"]
    assert not PendingEvent.objects.exists()


class TestADeadlock:
    """Whatever ends the transaction, everybody is told once or not at all."""

    @pytest.fixture(autouse=True)
    def people(self, ann: User, bob: User, new_user: NewUser, heard: Heard) -> None:
        self.ann, self.bob, self.heard = ann, bob, heard
        notify(new_user("cid"), "the first event of a database")

    def heard_titles(self) -> list[list[str]]:
        return [[data["title"] for _, data in self.heard(one)] for one in (self.ann, self.bob)]

    def test_while_numbering_makes_rows_of_the_events(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def fail(entries: Any, *_: Any) -> None:
            asked.append(len(entries))
            raise OperationalError("deadlock")

        monkeypatch.setattr("django_live.core.publishing.number_here", fail)
        notify([self.ann, self.bob], "hello")
        assert asked == [2]
        assert self.heard_titles() == [["hello"], ["hello"]]
        assert (titles(self.ann), titles(self.bob)) == (["hello"], ["hello"])

    def test_while_committing_is_not_tried_again(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        wrapper_class: Any = type(connections["default"])
        commit = wrapper_class._commit
        failed: list[bool] = []

        def lost(wrapper: Any) -> None:
            commit(wrapper)
            if Notification.objects.filter(title="hello").exists() and not failed:
                failed.append(True)
                raise OperationalError("server closed the connection")

        monkeypatch.setattr(wrapper_class, "_commit", lost)
        with caplog.at_level(logging.ERROR):
            notify([self.ann, self.bob], "hello")
        assert failed
        assert (titles(self.ann), titles(self.bob)) == (["hello"], ["hello"]), "it had committed"
        assert self.heard_titles() == [["hello"], ["hello"]]
        assert "2 people were not notified" in caplog.text
