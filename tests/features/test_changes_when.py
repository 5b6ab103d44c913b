"""Which fields an update has changed, and which updates are worth telling."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from tests.testapp.live import CustomerTopic, OrderChanges, OrderTopic
from tests.testapp.models import Order

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)

SetWhen = Callable[[Callable[[Order, frozenset[str]], bool]], None]


@pytest.fixture
def order(ann: User, heard: Heard, heard_whole: Heard) -> Order:
    pk = Order.objects.create(customer=ann, total=5).pk
    for listener in (heard, heard_whole):
        listener(OrderTopic(pk=pk))
        listener(CustomerTopic(pk=ann.pk))
    return Order.objects.get(pk=pk)


@pytest.fixture
def changed(order: Order, heard_whole: Heard) -> Callable[[], list[list[str]]]:
    """The names of changed fields in each event of the order's topic since it was last asked."""
    return lambda: [data["changed"] for _, data in heard_whole(OrderTopic(pk=order.pk))]


@pytest.fixture
def only_when(monkeypatch: pytest.MonkeyPatch) -> SetWhen:
    """Replace the condition of OrderChanges."""

    def replace(condition: Callable[[Order, frozenset[str]], bool]) -> None:
        monkeypatch.setattr(
            OrderChanges, "when", lambda self, order, names: condition(order, names)
        )

    return replace


# -- changed ---------------------------------------------------------------------------------------


def test_an_update_names_the_fields_that_changed(
    order: Order, changed: Callable[[], list[list[str]]]
) -> None:
    order.status = "paid"
    order.save()
    order.total = "7"
    order.save()
    order.save()
    order.total = F("total") + 1
    order.save(update_fields=["total"])
    order.status, order.total = "late", 1
    order.save()
    assert changed() == [["status"], ["total"], [], ["total"], ["status", "total"]]


def test_only_updates_name_changed_fields(order: Order, bob: User, heard_whole: Heard) -> None:
    order.customer = bob
    order.save()
    assert heard_whole(CustomerTopic(pk=bob.pk)) == [
        ("created", {"pk": order.pk, "status": "new", "total": "5.00"})
    ]


def test_a_field_that_is_not_shown_is_not_named(
    order: Order, bob: User, changed: Callable[[], list[list[str]]]
) -> None:
    order.customer = bob
    order.save()
    assert changed() == [[]]


def test_changed_is_what_the_transaction_has_changed_whoever_saved(
    order: Order, changed: Callable[[], list[list[str]]]
) -> None:
    with transaction.atomic():
        order.status = "paid"
        order.save()
        other = Order.objects.get(pk=order.pk)
        other.total = 6
        other.save()
    assert changed() == [["status", "total"]]
    with transaction.atomic():
        for status in ("lost", "paid"):  # there and back
            other = Order.objects.get(pk=order.pk)
            other.status = status
            other.save()
    assert changed() == [[]]


def test_what_a_savepoint_took_back_is_not_changed(
    order: Order, changed: Callable[[], list[list[str]]]
) -> None:
    with transaction.atomic():
        with suppress(ZeroDivisionError), transaction.atomic():
            other = Order.objects.get(pk=order.pk)
            other.status = "lost"
            other.save()
            _ = 1 / 0
        other = Order.objects.get(pk=order.pk)
        other.total = 6
        other.save()
    assert changed() == [["total"]]


def test_a_field_that_was_not_loaded_is_named_when_another_instance_changes_it(
    order: Order, changed: Callable[[], list[list[str]]]
) -> None:
    with transaction.atomic():
        partly = Order.objects.defer("total").get(pk=order.pk)
        partly.status = "paid"
        partly.save()
        whole = Order.objects.get(pk=order.pk)
        whole.total = 9
        whole.save()
    assert changed() == [["status", "total"]]


def test_deleted_and_created_again_names_what_is_different(
    order: Order, changed: Callable[[], list[list[str]]]
) -> None:
    pk = order.pk
    with transaction.atomic():
        Order.objects.get(pk=pk).delete()
        Order.objects.create(pk=pk, customer_id=order.customer_id, status="again", total=5)
    assert changed() == [["status"]]


def test_data_that_is_no_dict_is_left_alone(
    order: Order, heard_whole: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrderChanges, "data", lambda self, instance: [instance.pk])
    order.save()
    assert heard_whole(OrderTopic(pk=order.pk)) == [("updated", [order.pk])]


def test_without_fields_nothing_is_named(
    order: Order, heard_whole: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrderChanges, "fields", ())
    order.save()
    assert heard_whole(OrderTopic(pk=order.pk)) == [("updated", {"pk": order.pk})]


# -- when ------------------------------------------------------------------------------------------


def test_an_update_that_nobody_wants_is_not_told(
    order: Order, heard: Heard, only_when: SetWhen
) -> None:
    only_when(lambda _, names: "status" in names)
    order.total = 6
    order.save()
    assert heard(OrderTopic(pk=order.pk)) == []
    order.status = "paid"
    order.save()
    assert [data["status"] for _, data in heard(OrderTopic(pk=order.pk))] == ["paid"]


def test_the_condition_sees_the_object_as_saved_and_fields_that_are_not_shown(
    order: Order, bob: User, only_when: SetWhen
) -> None:
    seen: list[Any] = []

    def look(order: Order, names: frozenset[str]) -> bool:
        seen.append((order.status, order.customer, names))
        return False

    only_when(look)
    order.customer, order.status = bob, "paid"
    order.save()
    assert seen == [("paid", bob, {"customer", "status"})]


def test_a_creation_a_move_and_a_deletion_are_told_whatever_the_condition(
    ann: User, bob: User, heard: Heard, only_when: SetWhen
) -> None:
    only_when(lambda *_: False)
    order = Order.objects.create(customer=ann)
    pk = order.pk
    assert [type for type, _ in heard(CustomerTopic(pk=ann.pk))] == ["created"]
    order.customer = bob
    order.save()
    assert [type for type, _ in heard(CustomerTopic(pk=ann.pk))] == ["deleted"]
    assert [type for type, _ in heard(CustomerTopic(pk=bob.pk))] == ["created"]
    order.delete()
    assert [type for type, _ in heard(CustomerTopic(pk=bob.pk))] == ["deleted"]
    assert [type for type, _ in heard(OrderTopic(pk=pk))] == ["created", "deleted"]


def test_two_saves_that_are_wanted_only_together(
    order: Order, heard: Heard, only_when: SetWhen
) -> None:
    only_when(lambda _, names: names >= {"status", "total"})
    with transaction.atomic():
        order.status = "paid"
        order.save()
        other = Order.objects.get(pk=order.pk)
        other.total = 6
        other.save()
    assert [type for type, _ in heard(OrderTopic(pk=order.pk))] == ["updated"]


def test_what_was_told_is_taken_back_when_the_transaction_undoes_it(
    order: Order, heard: Heard, only_when: SetWhen
) -> None:
    only_when(lambda _, names: bool(names))
    with transaction.atomic():
        for status in ("paid", "new"):
            order.status = status
            order.save()
    assert heard(OrderTopic(pk=order.pk)) == []


def test_a_stale_instance_moves_an_object_that_came_back_unwanted(
    order: Order, ann: User, bob: User, heard: Heard, only_when: SetWhen, new_user: Any
) -> None:
    """The update that is not told must not take along that the object was there."""
    only_when(lambda _, names: bool(names))
    cid = new_user("cid")
    with transaction.atomic():
        order.customer = bob
        order.save()
        stale = Order.objects.get(pk=order.pk)
        back = Order.objects.get(pk=order.pk)
        back.customer = ann
        back.save()
        stale.customer = cid
        stale.save()
    assert heard(CustomerTopic(pk=ann.pk)) == [("deleted", {"pk": order.pk})]
    assert heard(CustomerTopic(pk=bob.pk)) == []
    assert [type for type, _ in heard(CustomerTopic(pk=cid.pk))] == ["created"]


def test_a_condition_that_raises_is_logged_and_the_update_told(
    order: Order, heard: Heard, only_when: SetWhen, caplog: pytest.LogCaptureFixture
) -> None:
    only_when(lambda *_: bool(1 / 0))
    order.save()
    assert [type for type, _ in heard(OrderTopic(pk=order.pk))] == ["updated"]
    assert "OrderChanges.when() failed" in caplog.text


def test_an_unwanted_update_costs_no_query(
    order: Order, only_when: SetWhen, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    only_when(lambda *_: False)
    with transaction.atomic(), django_assert_num_queries(1):
        order.save()
