"""Changes: a saved object tells the topics that show it, once, and only what was committed."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from django.db.models.signals import post_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.functional import cached_property

from django_live import publish
from django_live.core import outbox
from django_live.features import hearing
from django_live.features.changes import Changes
from django_live.models import PendingEvent
from tests.testapp.live import CustomerTopic, OrderChanges, OrderTopic
from tests.testapp.models import Document, Note, Order

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries, Settings

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


class Undo(Exception):
    """Rolls a block back."""


@contextmanager
def undone() -> Iterator[None]:
    """A transaction, or a savepoint inside one, that is rolled back."""
    try:
        with transaction.atomic():
            yield
            raise Undo
    except Undo:
        pass


def orders_of(user: User) -> CustomerTopic:
    return CustomerTopic(pk=user.pk)


@pytest.fixture
def order(ann: User, heard: Heard) -> Order:
    """Ann's order, loaded as a view loads it; its topics were heard up to here."""
    pk = Order.objects.create(customer=ann, total=5).pk
    heard(OrderTopic(pk=pk))
    heard(orders_of(ann))
    return Order.objects.get(pk=pk)


# -- what is told ----------------------------------------------------------------------------------


def test_a_new_object_is_created_on_each_of_its_topics(ann: User, heard: Heard) -> None:
    order = Order.objects.create(customer=ann, total="9.90")
    expected = [("created", {"pk": order.pk, "status": "new", "total": "9.90"})]
    assert heard(OrderTopic(pk=order.pk)) == expected
    assert heard(orders_of(ann)) == expected


def test_a_saved_object_is_updated(order: Order, heard: Heard) -> None:
    order.status = "paid"
    order.save()
    assert heard(OrderTopic(pk=order.pk)) == [
        ("updated", {"pk": order.pk, "status": "paid", "total": "5.00"})
    ]


def test_a_deleted_object_leaves_its_key(order: Order, ann: User, heard: Heard) -> None:
    pk = order.pk
    order.delete()
    assert heard(OrderTopic(pk=pk)) == [("deleted", {"pk": pk})]
    assert heard(orders_of(ann)) == [("deleted", {"pk": pk})]


def test_objects_deleted_by_a_queryset_or_a_cascade_are_told(ann: User, heard: Heard) -> None:
    orders = [Order.objects.create(customer=ann) for _ in range(3)]
    heard(orders_of(ann))
    Order.objects.filter(pk=orders[0].pk).delete()
    ann_topic = orders_of(ann)
    ann.delete()
    assert sorted(heard(ann_topic), key=str) == [
        ("deleted", {"pk": order.pk}) for order in sorted(orders, key=lambda o: str(o.pk))
    ]


def test_an_async_save_is_told(order: Order, heard: Heard) -> None:
    order.status = "paid"
    async_to_sync(order.asave)()
    assert [type for type, _ in heard(OrderTopic(pk=order.pk))] == ["updated"]


def test_a_save_in_the_admin_is_told(order: Order, bob: User, heard: Heard) -> None:
    User.objects.create_superuser("root", password="pw")
    client = Client()
    client.login(username="root", password="pw")
    answer = client.post(
        f"/admin/testapp/order/{order.pk}/change/",
        {"customer": bob.pk, "status": "paid", "total": "7.5"},
    )
    assert answer.status_code == 302
    expected = {"pk": order.pk, "status": "paid", "total": "7.50"}
    assert heard(OrderTopic(pk=order.pk)) == [("updated", expected)]
    assert heard(orders_of(order.customer)) == [("deleted", {"pk": order.pk})]
    assert heard(orders_of(bob)) == [("created", expected)]


def test_with_atomic_requests_a_view_that_fails_tells_nothing(
    order: Order, ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client = Client(raise_request_exception=False)
    client.force_login(ann)
    with pytest.MonkeyPatch.context() as patch:
        # The view has saved by then.
        patch.setattr("tests.testapp.views.HttpResponse", lambda **_: 1 / 0)
        assert client.post(f"/orders/{order.pk}/change/", {"status": "paid"}).status_code == 500
    assert heard(OrderTopic(pk=order.pk)) == []
    assert client.post(f"/orders/{order.pk}/change/", {"status": "paid"}).status_code == 204
    assert [data["status"] for _, data in heard(OrderTopic(pk=order.pk))] == ["paid"]


def test_fixtures_are_loaded_in_silence(order: Order, heard: Heard, tmp_path: Path) -> None:
    rows = [
        {
            "model": "testapp.order",
            "pk": pk,
            "fields": {"customer": order.customer_id, "status": "loaded", "total": "1"},
        }
        for pk in (order.pk, order.pk + 1)
    ]
    fixture = tmp_path / "orders.json"
    fixture.write_text(json.dumps(rows))
    call_command("loaddata", fixture, verbosity=0)
    assert Order.objects.filter(status="loaded").count() == 2
    assert heard(orders_of(order.customer)) == []


# -- one event per object, topic and transaction ----------------------------------------------------


def test_two_saves_are_one_event_with_the_final_state(order: Order, heard: Heard) -> None:
    with transaction.atomic():
        order.status = "paid"
        order.save()
        order.status = "shipped"
        order.save()
    assert heard(OrderTopic(pk=order.pk)) == [
        ("updated", {"pk": order.pk, "status": "shipped", "total": "5.00"})
    ]


def test_two_python_instances_of_one_row_are_one_object(order: Order, heard: Heard) -> None:
    with transaction.atomic():
        order.status = "paid"
        order.save()
        same = Order.objects.get(pk=order.pk)
        same.total = 6
        same.save()
    assert heard(OrderTopic(pk=order.pk)) == [
        ("updated", {"pk": order.pk, "status": "paid", "total": "6.00"})
    ]


def test_a_key_that_was_assigned_as_text_is_the_same_key(order: Order, heard: Heard) -> None:
    with transaction.atomic():
        order.save()
        Order(pk=str(order.pk), customer_id=order.customer_id, status="paid").save()
    assert heard(OrderTopic(pk=order.pk)) == [
        ("updated", {"pk": order.pk, "status": "paid", "total": "0.00"})
    ]


def test_created_then_updated_is_created(ann: User, heard: Heard) -> None:
    with transaction.atomic():
        order = Order.objects.create(customer=ann)
        order.status = "paid"
        order.save()
    assert [(type, data["status"]) for type, data in heard(orders_of(ann))] == [("created", "paid")]


def test_created_then_deleted_is_nothing(ann: User, heard: Heard) -> None:
    with transaction.atomic():
        Order.objects.create(customer=ann).delete()
    assert heard(orders_of(ann)) == []


def test_updated_then_deleted_is_deleted(order: Order, ann: User, heard: Heard) -> None:
    pk = order.pk
    with transaction.atomic():
        order.status = "paid"
        order.save()
        order.delete()
    assert heard(orders_of(ann)) == [("deleted", {"pk": pk})]


def test_deleted_then_created_again_is_updated(order: Order, ann: User, heard: Heard) -> None:
    pk = order.pk
    with transaction.atomic():
        order.delete()
        Order.objects.create(pk=pk, customer=ann, status="again")
    assert [(type, data["status"]) for type, data in heard(orders_of(ann))] == [
        ("updated", "again")
    ]


def test_each_object_has_its_own_event(ann: User, heard: Heard) -> None:
    with transaction.atomic():
        orders = [Order.objects.create(customer=ann) for _ in range(5)]
        for order in orders:
            order.save()
    assert [data["pk"] for _, data in heard(orders_of(ann))] == [order.pk for order in orders]


def test_each_transaction_has_its_own_event(order: Order, heard: Heard) -> None:
    for status in ("paid", "shipped"):
        with transaction.atomic():
            order.status = status
            order.save()
    assert [data["status"] for _, data in heard(OrderTopic(pk=order.pk))] == ["paid", "shipped"]


# -- rollbacks -------------------------------------------------------------------------------------


def test_nothing_is_told_after_a_rollback(order: Order, heard: Heard) -> None:
    with undone():
        order.status = "paid"
        order.save()
    assert heard(OrderTopic(pk=order.pk)) == []


def test_a_rolled_back_savepoint_leaves_what_was_told_before_it(order: Order, heard: Heard) -> None:
    with transaction.atomic():
        order.status = "paid"
        order.save()
        with undone():
            order.status = "shipped"
            order.save()
    assert [data["status"] for _, data in heard(OrderTopic(pk=order.pk))] == ["paid"]


def test_a_save_after_a_rolled_back_savepoint_is_still_one_event(
    order: Order, heard: Heard
) -> None:
    with transaction.atomic():
        order.status = "paid"
        order.save()
        with undone():
            order.status = "shipped"
            order.save()
        order.status = "sent back"
        order.save()
    assert [data["status"] for _, data in heard(OrderTopic(pk=order.pk))] == ["sent back"]


def test_a_row_that_takes_the_place_of_a_rolled_back_one_is_left_alone(
    order: Order, ann: User, heard: Heard
) -> None:
    # SQLite gives the ids of rolled-back rows out again.
    with transaction.atomic():
        publish("open/b", "said", "first")
        with undone():
            order.save()
        publish("open/a", "said", "hello")
        other = Order.objects.create(customer=ann, status="other")
        order.status = "paid"
        order.save()
    assert heard("open/a") == [("said", "hello")]
    assert [(type, data["status"]) for type, data in heard(orders_of(ann))] == [
        ("created", "other"),
        ("updated", "paid"),
    ]
    assert len(heard(OrderTopic(pk=other.pk))) == 1


def test_many_saves_in_savepoints_cost_the_same(order: Order) -> None:
    """The 40th save in a transaction asks for no more than the second."""

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured, transaction.atomic():
            order.save()
        return sum(len(query["sql"]) for query in captured.captured_queries)

    with transaction.atomic():
        order.save()
        second, *_, last = [queries() for _ in range(40)]
    assert last <= second * 1.1


def test_a_savepoint_by_hand_that_is_rolled_back_tells_the_final_state(
    order: Order, heard: Heard
) -> None:
    with transaction.atomic():
        order.status = "paid"
        order.save()
        savepoint = connection.savepoint()  # transaction.savepoint() goes in Django 7
        assert savepoint is not None
        order.status = "shipped"
        order.save()
        connection.savepoint_rollback(savepoint)
    assert [data["status"] for _, data in heard(OrderTopic(pk=order.pk))] == ["paid"]


def test_an_instance_may_be_saved_again_after_a_rollback(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    with undone():
        order.customer = bob
        order.save()
    order.status = "paid"
    order.save()  # bob is its customer still, in memory
    assert [type for type, _ in heard(orders_of(ann))] == ["deleted"]
    assert [type for type, _ in heard(orders_of(bob))] == ["created"]


def test_an_instance_created_in_a_rolled_back_transaction_is_created_by_the_next(
    ann: User, heard: Heard
) -> None:
    with undone():
        order = Order.objects.create(customer=ann)
        order.save()
    order.save()
    assert [type for type, _ in heard(orders_of(ann))] == ["created"]


# -- from topic to topic ---------------------------------------------------------------------------


def assert_moved(order: Order, source: User, target: User, heard: Heard) -> None:
    assert heard(orders_of(source)) == [("deleted", {"pk": order.pk})]
    moved = Order.objects.get(pk=order.pk)
    assert heard(orders_of(target)) == [
        ("created", {"pk": moved.pk, "status": moved.status, "total": str(moved.total)})
    ]
    assert [type for type, _ in heard(OrderTopic(pk=order.pk))] == ["updated"]


def test_a_topic_that_was_left_is_told_and_the_new_one_too(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    order.customer = bob
    order.save()
    assert_moved(order, ann, bob, heard)


def test_a_move_by_id(order: Order, ann: User, bob: User, heard: Heard) -> None:
    order.customer_id = bob.pk
    order.save()
    assert_moved(order, ann, bob, heard)


def test_a_move_there_and_back_is_an_update(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    with transaction.atomic():
        for customer in (bob, ann):
            order.customer = customer
            order.save()
    assert [type for type, _ in heard(orders_of(ann))] == ["updated"]
    assert heard(orders_of(bob)) == []


def test_a_move_right_after_the_creation(ann: User, bob: User, heard: Heard) -> None:
    with transaction.atomic():
        order = Order.objects.create(customer=ann)
        order.customer = bob
        order.save()
    assert heard(orders_of(ann)) == []
    assert [type for type, _ in heard(orders_of(bob))] == ["created"]


def test_a_second_move_by_the_same_instance(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    order.customer = bob
    order.save()
    heard(orders_of(ann))
    heard(orders_of(bob))
    heard(OrderTopic(pk=order.pk))
    order.customer = ann
    order.save()
    assert_moved(order, bob, ann, heard)


def test_a_move_of_an_object_that_was_created_by_the_same_instance(
    ann: User, bob: User, heard: Heard
) -> None:
    order = Order.objects.create(customer=ann)
    heard(orders_of(ann))
    heard(OrderTopic(pk=order.pk))
    order.customer = bob
    order.save()
    assert_moved(order, ann, bob, heard)


@pytest.mark.parametrize("load", ["only", "defer"])
def test_a_move_of_an_object_that_was_loaded_in_part(
    load: str, order: Order, ann: User, bob: User, heard: Heard
) -> None:
    part = getattr(Order.objects, load)("status" if load == "only" else "customer").get(pk=order.pk)
    part.customer = bob
    part.save()
    assert_moved(order, ann, bob, heard)


def test_a_deferred_field_that_is_read_after_the_change(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    part = Order.objects.defer("total").get(pk=order.pk)
    part.customer = bob
    assert part.total == 5  # loads it, with refresh_from_db()
    part.save()
    assert_moved(order, ann, bob, heard)


def test_a_move_after_refresh_from_db(order: Order, ann: User, bob: User, heard: Heard) -> None:
    stale = Order.objects.get(pk=order.pk)
    order.customer = bob
    order.save()
    heard(orders_of(ann))
    heard(orders_of(bob))
    heard(OrderTopic(pk=order.pk))
    stale.refresh_from_db()
    stale.customer = ann
    stale.save()
    assert_moved(order, bob, ann, heard)


def test_a_move_after_one_field_was_refreshed(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    order.customer = bob
    order.refresh_from_db(fields=["status"])
    order.save()
    assert_moved(order, ann, bob, heard)


def test_update_fields_move_only_what_they_save(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    order.customer = bob
    order.status = "paid"
    order.save(update_fields=["status"])
    assert [data["status"] for _, data in heard(orders_of(ann))] == ["paid"]
    assert heard(orders_of(bob)) == []
    order.save(update_fields=["customer"])
    assert [type for type, _ in heard(orders_of(ann))] == ["deleted"]
    assert [type for type, _ in heard(orders_of(bob))] == ["created"]


def test_update_fields_tell_the_row_as_it_is_now_not_as_it_was_loaded(
    order: Order, bob: User, heard: Heard
) -> None:
    """A worker that keeps one instance must not repeat what others have changed since."""
    Order.objects.filter(pk=order.pk).update(status="cancelled", customer=bob)
    order.total = 6
    order.save(update_fields=["total"])
    assert heard(OrderTopic(pk=order.pk)) == [
        ("updated", {"pk": order.pk, "status": "cancelled", "total": "6.00"})
    ]
    assert [data["status"] for _, data in heard(orders_of(bob))] == ["cancelled"]


@pytest.mark.parametrize("exists", [True, False])
def test_an_object_that_is_saved_without_being_loaded(
    exists: bool, order: Order, ann: User, bob: User, heard: Heard
) -> None:
    pk = order.pk
    if not exists:
        order.delete()
        heard(orders_of(ann))
    Order(pk=pk, customer=bob, status="paid").save()
    assert [type for type, _ in heard(orders_of(ann))] == (["deleted"] if exists else [])
    assert [type for type, _ in heard(orders_of(bob))] == ["created"]


def test_an_object_that_is_deleted_without_being_loaded(
    order: Order, ann: User, heard: Heard
) -> None:
    pk = order.pk
    Order(pk=pk).delete()
    assert heard(orders_of(ann)) == [("deleted", {"pk": pk})]
    assert heard(OrderTopic(pk=pk)) == [("deleted", {"pk": pk})]


def test_an_object_that_was_loaded_in_part_is_deleted(
    order: Order, ann: User, heard: Heard
) -> None:
    pk = order.pk
    Order.objects.only("pk").get(pk=pk).delete()
    assert heard(orders_of(ann)) == [("deleted", {"pk": pk})]


def test_an_object_that_is_deleted_with_unsaved_changes(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    order.customer = bob
    order.delete()
    assert [type for type, _ in heard(orders_of(ann))] == ["deleted"]
    assert heard(orders_of(bob)) == []


def test_a_copy_made_by_taking_the_key_away(order: Order, ann: User, heard: Heard) -> None:
    original = order.pk
    order.pk = None
    order._state.adding = True
    order.save()
    assert [(type, data["pk"]) for type, data in heard(orders_of(ann))] == [("created", order.pk)]
    order.save()
    assert heard(OrderTopic(pk=original)) == []


def test_an_instance_that_takes_another_objects_key(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    of_bob = Order.objects.create(customer=bob)
    heard(orders_of(bob))
    original, order.pk = order.pk, of_bob.pk
    order.save()
    assert heard(OrderTopic(pk=original)) == []
    assert heard(orders_of(bob)) == [("deleted", {"pk": of_bob.pk})]
    assert [type for type, _ in heard(orders_of(ann))] == ["created"]


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", ["9.9", 9.9, Decimal("9.9"), Decimal("9.90")])
def test_a_decimal_is_told_as_the_database_has_it(total: Any, ann: User, heard: Heard) -> None:
    order = Order.objects.create(customer=ann, total=total)
    [(_, data)] = heard(OrderTopic(pk=order.pk))
    assert data["total"] == str(Order.objects.get(pk=order.pk).total) == "9.90"


def test_the_result_of_an_expression_is_told(order: Order, heard: Heard) -> None:
    order.total = F("total") + 1
    order.save()
    assert heard(OrderTopic(pk=order.pk)) == [
        ("updated", {"pk": order.pk, "status": "new", "total": "6.00"})
    ]


def test_the_result_of_an_expression_is_told_with_update_fields(order: Order, heard: Heard) -> None:
    with transaction.atomic():
        order.total = F("total") + 1
        order.save(update_fields=["total"])
        order.save(update_fields=["total"])
    [(_, data)] = heard(OrderTopic(pk=order.pk))
    assert data["total"] == str(Order.objects.get(pk=order.pk).total)


def test_columns_of_every_kind_and_a_key_that_is_text(
    ann: User, heard: Heard, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path
    document = Document(
        code="a-1",
        owner_id=str(ann.pk),
        token="12345678-1234-5678-1234-567812345678",
        day="2026-01-31",
        extra={"tags": ["x"], "ü": [1.5, None]},
        size="7",
    )
    document.file.save("a.txt", ContentFile("text"), save=False)
    document.save()
    expected = {
        "pk": "a-1",
        "owner": ann.pk,
        "token": "12345678-1234-5678-1234-567812345678",
        "day": "2026-01-31",
        "file": "documents/a.txt",
        "extra": {"tags": ["x"], "ü": [1.5, None]},
        "size": 7,
    }
    assert heard("documents/a-1") == [("created", expected)]
    loaded = Document.objects.get(pk="a-1")
    assert (loaded.day, str(loaded.token)) == (date(2026, 1, 31), expected["token"])
    loaded.save()
    assert heard("documents/a-1") == [("updated", expected)]


def test_a_value_that_was_changed_in_place_still_moves_the_object(heard: Heard) -> None:
    Document.objects.create(code="a", extra={"tags": ["x", "y"]})
    heard("tags/x")
    document = Document.objects.get(code="a")
    document.extra["tags"].remove("x")
    document.save()
    document.extra["tags"].append("z")
    document.save()
    assert [type for type, _ in heard("tags/x")] == ["deleted"]
    assert [type for type, _ in heard("tags/y")] == ["created", "updated", "updated"]
    assert [type for type, _ in heard("tags/z")] == ["created"]


def test_a_key_that_python_makes(heard: Heard, django_assert_num_queries: Any) -> None:
    note = Note(text="first")
    with transaction.atomic():
        with django_assert_num_queries(2):  # the note and its event, no look for a row before
            note.save()
        note.text = "second"
        note.save()
    assert heard(f"notes/{note.pk}") == [("created", {"pk": str(note.pk), "text": "second"})]
    assert isinstance(note.pk, uuid.UUID)


# -- faults ----------------------------------------------------------------------------------------


def topics_that_raise(*args: Any) -> Any:
    raise ZeroDivisionError("topics() is broken")


@pytest.mark.parametrize(
    "topics",
    [
        pytest.param(topics_that_raise, id="raises"),
        pytest.param(lambda self, instance: None, id="none"),
        pytest.param(lambda self, instance: [42], id="nonsense"),
        pytest.param(lambda self, instance: ["nobody/declares/this"], id="undeclared"),
    ],
)
@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_fault_in_topics_is_logged_and_the_save_succeeds(
    topics: Callable[..., Any],
    in_transaction: bool,
    order: Order,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OrderChanges, "topics", topics)
    order.status = "paid"
    if in_transaction:
        with transaction.atomic():
            order.save()
    else:
        order.save()
    assert Order.objects.get(pk=order.pk).status == "paid"
    [record] = [r for r in caplog.records if r.name == "django_live.changes"]
    assert record.levelno == logging.ERROR
    assert f"testapp.Order {order.pk!r}" in record.getMessage()
    assert "OrderChanges" in record.getMessage()
    assert heard(OrderTopic(pk=order.pk)) == []


def test_a_deletion_succeeds_when_topics_fails(
    order: Order, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrderChanges, "topics", topics_that_raise)
    order.delete()
    assert "topics() is broken" in caplog.text


def test_data_that_is_no_json_is_logged_and_the_save_succeeds(
    order: Order, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrderChanges, "data", lambda self, instance: {"file": object()})
    order.save()
    assert "cannot be sent as JSON" in caplog.text


def test_a_fault_on_one_object_leaves_the_others_alone(
    order: Order,
    ann: User,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = OrderChanges.topics

    def topics(self: OrderChanges, instance: Order) -> Any:
        return 1 / 0 if instance.status == "bad" else right(self, instance)

    monkeypatch.setattr(OrderChanges, "topics", topics)
    with transaction.atomic():
        Order.objects.create(customer=ann, status="bad")
        order.status = "good"
        order.save()
    assert [data["status"] for _, data in heard(orders_of(ann))] == ["good"]
    assert "could not tell" in caplog.text


def test_a_store_that_fails_outside_a_transaction_is_logged(
    order: Order, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the store is down")

    monkeypatch.setattr(type(outbox.get_outbox()), "number", fail)
    order.status = "paid"
    order.save()
    assert Order.objects.get(pk=order.pk).status == "paid"
    assert "the store is down" in caplog.text


def test_manual_transactions_save_and_tell_after_the_commit(
    order: Order, heard: Heard, swept: Callable[[], int]
) -> None:
    """Django has no hook for such a commit: the rows wait for the sweep."""
    transaction.set_autocommit(False)
    try:
        order.status = "lost"
        order.save()
        transaction.rollback()
        order.status = "paid"
        order.save()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    swept()
    assert [data["status"] for _, data in heard(OrderTopic(pk=order.pk))] == ["paid"]


def test_what_an_object_computed_of_itself_is_computed_anew_for_the_row_before(
    order: Order, bob: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    slug = cached_property(lambda self: f"of-{self.customer.username}")
    slug.__set_name__(Order, "slug")
    monkeypatch.setattr(Order, "slug", slug, raising=False)
    monkeypatch.setattr(OrderChanges, "topics", lambda self, order: [f"open/{order.slug}"])
    order.customer = bob
    order.save()
    assert heard("open/of-ann") == [("deleted", {"pk": order.pk})]
    assert [type for type, _ in heard("open/of-bob")] == ["created"]


def test_two_declarations_for_one_model_do_not_disturb_each_other(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    class AlsoChanges(Changes[Order]):
        model = Order

        def topics(self, instance: Order) -> list[str]:
            return [f"open/also-{instance.customer_id}"]

    try:
        order.customer = bob
        order.save()
    finally:
        Changes._declared.pop(f"{__name__}.{AlsoChanges.__qualname__}").disconnect()
    assert_moved(order, ann, bob, heard)
    assert heard(f"open/also-{ann.pk}") == [("deleted", {"pk": order.pk})]
    assert heard(f"open/also-{bob.pk}") == [("created", {"pk": order.pk})]


# -- order -----------------------------------------------------------------------------------------


def told_of_two_savers(order: Order, heard: Heard) -> list[str]:
    """What is told of two saves in autocommit. The first saver is held up between its save and its
    event; the second one's status is in the row at the end."""
    first_has_saved = threading.Event()
    second_is_done = threading.Event()

    def hold_up(instance: Order, **kwargs: Any) -> None:
        if instance.status == "first":
            first_has_saved.set()
            assert second_is_done.wait(10)

    def save_first() -> None:
        try:
            mine = Order.objects.get(pk=order.pk)
            mine.status = "first"
            mine.save()
        finally:
            connection.close()

    declared = Changes._declared["tests.testapp.live.OrderChanges"]
    declared.disconnect()  # so that the receiver below comes before it
    post_save.connect(hold_up, sender=Order)
    declared.connect()
    try:
        thread = threading.Thread(target=save_first)
        thread.start()
        assert first_has_saved.wait(10)
        order.status = "second"
        order.save()
        second_is_done.set()
        thread.join(10)
    finally:
        post_save.disconnect(hold_up, sender=Order)
    assert Order.objects.get(pk=order.pk).status == "second"
    return [data["status"] for _, data in heard(OrderTopic(pk=order.pk))]


def test_the_last_event_of_two_savers_without_a_transaction_tells_the_truth(
    order: Order, heard: Heard
) -> None:
    assert told_of_two_savers(order, heard) == ["second", "second"]


def test_without_the_lock_the_last_event_would_tell_what_was_overwritten(
    order: Order, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""
    monkeypatch.setattr(hearing, "commits_by_itself", lambda connection: False)
    assert told_of_two_savers(order, heard) == ["second", "first"]


# -- what it costs ---------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[Callable[[], None]]:
    """Switches OrderChanges off."""
    declared = Changes._declared["tests.testapp.live.OrderChanges"]
    yield declared.disconnect
    declared.connect()


def test_a_save_of_a_loaded_object_costs_one_query_in_the_callers_transaction(
    order: Order, django_assert_num_queries: DjangoAssertNumQueries, silent: Callable[[], None]
) -> None:
    with transaction.atomic(), django_assert_num_queries(2):
        order.save()
    silent()
    with transaction.atomic(), django_assert_num_queries(1):
        order.save()


def test_many_topics_cost_no_more(
    order: Order,
    django_assert_num_queries: DjangoAssertNumQueries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        OrderChanges, "topics", lambda self, instance: [f"open/{n}" for n in range(20)]
    )
    with transaction.atomic(), django_assert_num_queries(2):
        order.save()


def test_a_second_save_in_a_transaction_costs_three(
    order: Order, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with transaction.atomic():
        order.save()
        with django_assert_num_queries(4):  # the order; read, delete, insert
            order.save()


def test_related_objects_that_are_loaded_are_not_loaded_again(
    order: Order,
    django_assert_num_queries: DjangoAssertNumQueries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        OrderChanges,
        "topics",
        lambda self, instance: [f"open/{instance.customer.username}"],
    )
    loaded = Order.objects.select_related("customer").get(pk=order.pk)
    loaded.status = "paid"
    with transaction.atomic(), django_assert_num_queries(2):
        loaded.save()


def test_no_row_stays_in_the_outbox(order: Order, heard: Heard) -> None:
    with transaction.atomic():
        order.save()
        assert PendingEvent.objects.exists()
    assert not PendingEvent.objects.exists()
    assert len(heard(OrderTopic(pk=order.pk))) == 1


def test_a_row_made_anew_in_a_savepoint_that_is_rolled_back_was_there_all_the_time(
    order: Order, ann: User, bob: User, heard: Heard
) -> None:
    """Found by the state machine: the save after it was told as a creation."""
    held = Order.objects.get(pk=order.pk)
    with transaction.atomic():
        with undone():
            Order.objects.filter(pk=order.pk).delete()
            held.status = "anew"
            held.save()
        held.status = "paid"
        held.customer = bob
        held.save()
    assert [type for type, _ in heard(OrderTopic(pk=order.pk))] == ["updated"]
    assert [type for type, _ in heard(orders_of(ann))] == ["deleted"]
    assert [type for type, _ in heard(orders_of(bob))] == ["created"]


# -- negative controls -----------------------------------------------------------------------------


def test_without_looking_back_one_transaction_would_tell_twice(
    order: Order, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(outbox.get_outbox()), "pending", lambda self, ids, using: {})
    with transaction.atomic():
        order.save()
        order.save()
    assert len(heard(OrderTopic(pk=order.pk))) == 2


def test_without_the_row_as_it_was_a_topic_that_was_left_would_hear_nothing(
    order: Order, ann: User, bob: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Order.objects.get(pk=order.pk)
    monkeypatch.setattr(Changes, "_row_before", lambda *args, **kwargs: None)
    loaded.customer = bob
    loaded.save()
    assert heard(orders_of(ann)) == []
