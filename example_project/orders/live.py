"""Everything that makes this site live: who may listen to what, and which saves are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django_live import History, Topic, Viewer
from django_live.features.changes import Changes
from example_project.orders.models import Order
from example_project.orders.permissions import may_see_all_orders

ONE_DAY = History(events=1000, age=timedelta(days=1))


class OrderTopic(Topic):
    """One order: for its customer and for staff."""

    pattern = "orders/<int:pk>"
    history = ONE_DAY
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return Order.objects.visible_to(viewer.user).filter(pk=self.pk).exists()

    def snapshot(self) -> dict[str, Any] | None:
        order = Order.objects.filter(pk=self.pk).first()
        if order is None:
            return None
        return {"pk": order.pk, "status": order.status, "total": str(order.total)}


class CustomerTopic(Topic):
    """All orders of one customer: for that customer and for staff."""

    pattern = "customers/<int:pk>/orders"
    history = ONE_DAY
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return viewer.user.pk == self.pk or may_see_all_orders(viewer.user)


class BoardTopic(Topic):
    """Every order of the shop: for staff."""

    pattern = "board"
    history = ONE_DAY

    def can_subscribe(self, viewer: Viewer) -> bool:
        return may_see_all_orders(viewer.user)


class OrderChanges(Changes[Order]):
    model = Order
    fields = ("status", "total")

    def topics(self, order: Order) -> list[Topic]:
        return [OrderTopic(pk=order.pk), CustomerTopic(pk=order.customer_id), BoardTopic()]
