# ruff: noqa: ARG001 - methods of rules are functions here, and take what methods take
"""`NotificationRule`: when it tells, whom, and what it cannot break."""

from __future__ import annotations

from contextlib import suppress as nothing_but
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Q

from django_live.exceptions import StoreError
from django_live.features.bulk import LiveQuerySet
from django_live.features.changes import suppress
from django_live.notifications import changed, created, deleted, mark_read
from django_live.notifications.models import Notification
from tests.notifications.conftest import Heard, NewUser, ruled
from tests.testapp.models import Order


def customer_of(self: Any, order: Order) -> User:
    return order.customer


def message_of(self: Any, order: Order) -> str:
    return f"{order.pk} is {order.status}"


RULE: dict[str, Any] = {"model": Order, "recipients": customer_of, "message": message_of}


def told() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("title", flat=True))


def orders() -> LiveQuerySet[Order]:
    """What a site's `Order.objects` would be with ``LiveManager``."""
    return LiveQuerySet(Order)


@pytest.fixture
def order(ann: User) -> Order:
    return Order.objects.create(customer=ann, status="new")


def save(order: Order, status: str) -> None:
    order.status = status
    order.save()


class TestWhen:
    def test_a_field_has_changed_to_a_value(self, order: Order) -> None:
        with ruled(**RULE, when=changed("status", to="paid")):
            save(order, "packed")
            save(order, "paid")
            save(order, "paid")
            Order.objects.create(customer=order.customer, status="paid")
            save(Order.objects.get(pk=order.pk), "paid")
        assert len(told()) == 2

    def test_a_field_has_changed_from_a_value(self, order: Order) -> None:
        with ruled(**RULE, when=changed("status", was="new", to="paid")):
            save(order, "packed")
            save(order, "paid")
            assert told() == []
            save(order, "new")
            save(order, "paid")
        assert len(told()) == 1

    def test_created_and_deleted(self, order: Order) -> None:
        with ruled("Came", **RULE, when=created), ruled("Went", **RULE, when=deleted):
            save(order, "paid")
            assert told() == []
            other = Order.objects.create(customer=order.customer, status="new")
            pk = other.pk
            other.delete()
        assert told() == [f"{pk} is new"] * 2

    def test_a_condition_of_its_columns_comes_true(self, order: Order) -> None:
        with ruled(**RULE, when=Q(status="paid") | Q(total__gte=100)):
            save(order, "paid")
            order.total = 200
            order.save()
            assert len(told()) == 1, "it held before"
            order.total = 1
            save(order, "new")
            order.total = 100
            order.save()
        assert len(told()) == 2

    def test_a_method_sees_the_object_before_and_after(self, order: Order) -> None:
        def when(self: Any, before: Order | None, after: Order | None) -> bool:
            return bool(before and after and (before.status, after.status) == ("new", "paid"))

        when.__qualname__ = "Ruled.when"
        with ruled(**RULE, when=when):
            save(order, "paid")
            save(order, "new")
        assert told() == [f"{order.pk} is paid"]


class TestTransactions:
    def test_what_counts_is_the_transaction_as_a_whole(self, order: Order) -> None:
        with ruled(**RULE, when=changed("status", to="paid")):
            with transaction.atomic():
                save(order, "paid")
                save(order, "new")
            assert told() == []
            with transaction.atomic():
                save(order, "packed")
                save(order, "paid")
                assert told() == []
            assert told() == [f"{order.pk} is paid"]

    def test_what_is_rolled_back_has_not_happened(self, order: Order) -> None:
        with ruled(**RULE, when=changed("status")):
            with nothing_but(ZeroDivisionError), transaction.atomic():
                save(order, "paid")
                raise ZeroDivisionError
            order.refresh_from_db()
            with transaction.atomic():
                save(order, "packed")
                with nothing_but(ZeroDivisionError), transaction.atomic():
                    save(order, "paid")
                    raise ZeroDivisionError
        assert told() == [f"{order.pk} is packed"]

    def test_a_rule_may_be_silenced(self, order: Order) -> None:
        with ruled(**RULE, when=changed("status")) as rule:
            with suppress(type(rule)):
                save(order, "paid")
            save(order, "packed")
        assert told() == [f"{order.pk} is packed"]


class TestWritesOfMany:
    """Through ``LiveManager``; Django sends no signals for them."""

    def test_each_of_many_new_ones_is_told(self, ann: User) -> None:
        with ruled(**RULE, when=created):
            made = orders().bulk_create([Order(customer=ann, status=f"s{n}") for n in range(3)])
        assert told() == [f"{one.pk} is s{n}" for n, one in enumerate(made)]

    def test_very_many_new_ones_too(self, ann: User) -> None:
        with ruled(**RULE, when=Q(total__gte=198)):
            orders().bulk_create([Order(customer=ann, status="x", total=n) for n in range(200)])
        assert len(told()) == 2

    def test_an_update_tells_those_that_changed(self, order: Order, ann: User) -> None:
        paid = Order.objects.create(customer=ann, status="paid")
        with ruled(**RULE, when=changed("status", to="paid")):
            orders().filter(pk__in=[order.pk, paid.pk]).update(status="paid")
            order.refresh_from_db()
            order.status = "new"
            orders().bulk_update([order], ["status"])
            order.status = "paid"
            orders().bulk_update([order], ["status"])
        assert told() == [f"{order.pk} is paid"] * 2

    def test_what_counts_is_the_transaction_here_too(self, order: Order) -> None:
        with ruled(**RULE, when=changed("status", to="paid")):
            with transaction.atomic():
                orders().update(status="paid")
                orders().update(status="new")
            with nothing_but(ZeroDivisionError), transaction.atomic():
                orders().update(status="paid")
                raise ZeroDivisionError
            with transaction.atomic():
                with nothing_but(ZeroDivisionError), transaction.atomic():
                    orders().update(status="paid")
                    raise ZeroDivisionError
                orders().update(status="packed")
        assert told() == []

    def test_a_deletion_is_told_once(self, order: Order) -> None:
        with ruled(**RULE, when=deleted):
            orders().delete()
        assert told() == [f"{order.pk} is new"]

    def test_a_silent_rule_is_silent_and_another_is_not(self, order: Order) -> None:
        with (
            ruled("Silent", **RULE, when=changed("status")) as rule,
            ruled("Loud", **RULE, when=changed("status")),
            suppress(type(rule)),
        ):
            orders().update(status="paid")
        assert told() == [f"{order.pk} is paid"]

    def test_one_that_fails_costs_neither_the_statement_nor_the_others(
        self, order: Order, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        def recipients(self: Any, order: Order) -> User:
            if order.total:
                raise KeyError("the rule's own fault")
            return order.customer

        Order.objects.create(customer=ann, total=1)
        with ruled("Broken", **{**RULE, "recipients": recipients}, when=changed("status")):
            assert orders().update(status="paid") == 2
        assert told() == [f"{order.pk} is paid"]
        assert "Broken" in caplog.text


class TestFaults:
    @pytest.mark.parametrize("method", ["recipients", "message", "group", "actor", "can_see"])
    @pytest.mark.parametrize("in_transaction", [True, False])
    def test_a_rule_that_raises_is_named_and_costs_neither_the_save_nor_other_rules(
        self,
        method: str,
        in_transaction: bool,
        order: Order,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(self: Any, *args: Any) -> Any:
            raise KeyError("the rule's own fault")

        bad = {**RULE, method: fail, "when": changed("status")}
        good = {**RULE, "when": changed("status")}
        with ruled("Broken", **bad), ruled("Sound", **good):
            if in_transaction:
                with transaction.atomic():
                    save(order, "paid")
            else:
                save(order, "paid")
        assert Order.objects.get().status == "paid"
        assert told() == [f"{order.pk} is paid"]
        assert "Broken" in caplog.text
        assert "Sound" not in caplog.text

    def test_a_condition_that_raises_is_named_too(
        self, order: Order, caplog: pytest.LogCaptureFixture
    ) -> None:
        with ruled("Broken", **RULE, when=changed("no_such_field")):
            save(order, "paid")
        assert Order.objects.get().status == "paid"
        assert "Broken" in caplog.text

    @pytest.mark.parametrize(
        "attributes",
        [
            {"model": Order, "message": message_of},
            {"model": Order, "recipients": customer_of},
            {**RULE, "when": "paid"},
            {**RULE, "when": Q(customer__username="ann")},
            {**RULE, "throttle": timedelta(0)},
        ],
    )
    def test_a_wrong_declaration_says_so_at_once(self, attributes: dict[str, Any]) -> None:
        with pytest.raises(ImproperlyConfigured, match="Wrong"), ruled("Wrong", **attributes):
            pass


def test_a_message_may_say_more_and_the_target_is_the_object(order: Order) -> None:
    def message(self: Any, order: Order) -> dict[str, Any]:
        return {"title": "Paid", "url": f"/orders/{order.pk}/", "data": {"pk": order.pk}}

    with ruled(**{**RULE, "message": message}, when=changed("status")):
        save(order, "paid")
    one = Notification.objects.get()
    assert (one.target, one.url, one.data) == (order, f"/orders/{order.pk}/", {"pk": order.pk})
    order.delete()
    assert Notification.objects.get().target is None, "a deleted target takes nothing along"


def test_who_did_it_is_not_told(order: Order, ann: User, bob: User) -> None:
    rule = {**RULE, "recipients": lambda self, order: [ann, bob], "actor": lambda self, order: ann}
    with ruled(**rule, when=changed("status")):
        save(order, "paid")
    assert [one.recipient for one in Notification.objects.all()] == [bob]
    with ruled(**rule, when=changed("status"), tells_actor=True):
        save(order, "packed")
    assert Notification.objects.filter(recipient=ann).count() == 1


def test_a_throttled_rule_tells_each_object_once_in_its_time(order: Order, ann: User) -> None:
    other = Order.objects.create(customer=ann, status="new")
    with ruled(**RULE, when=changed("status"), throttle=timedelta(hours=1)):
        for status in ("paid", "packed", "shipped"):
            save(order, status)
        save(other, "paid")
    assert told() == [f"{order.pk} is paid", f"{other.pk} is paid"]


def test_a_throttle_that_cannot_be_asked_costs_no_notification(
    order: Order, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Any:
        raise StoreError("away")

    monkeypatch.setattr("django_live.notifications.rules.get_state", away)
    with ruled(**RULE, when=changed("status"), throttle=timedelta(hours=1)):
        save(order, "paid")
    assert told() == [f"{order.pk} is paid"]
    assert "throttle could not be asked" in caplog.text


def test_a_throttled_group_is_counted_silently(order: Order, ann: User, heard: Heard) -> None:
    rule = {
        **RULE,
        "message": lambda self, order: {"title": order.status, "summary": "{count} changes"},
        "group": lambda self, order: f"order-{order.pk}",
    }
    with ruled(**rule, when=changed("status"), throttle=timedelta(hours=1), email=True):
        for status in ("paid", "packed", "shipped"):
            save(order, status)
        assert Notification.objects.get().headline == "3 changes"
        assert [data["is_quiet"] for _, data in heard(ann)] == [False, True, True]
        mark_read(ann)
        save(order, "delivered")
        assert Notification.objects.count() == 2, "what was read is not added to"


def test_recipients_who_may_not_see_it_are_left_out(order: Order, new_user: NewUser) -> None:
    users = [new_user(f"u{n}") for n in range(4)]
    rule = {
        **RULE,
        "recipients": lambda self, order: users,
        "can_see": lambda self, user, notification: user.username in ("u1", "u3"),
    }
    with ruled(**rule, when=changed("status")):
        save(order, "paid")
    assert {one.recipient.username for one in Notification.objects.all()} == {"u1", "u3"}
