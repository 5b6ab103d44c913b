"""What is live in the test app."""

from __future__ import annotations

from datetime import timedelta

from django_live import History, Topic, Viewer
from django_live.features.changes import Changes
from tests.testapp.models import Order


class OrderTopic(Topic):
    """One order, for those who may see it."""

    pattern = "orders/<int:pk>"
    history = History(events=1000, age=timedelta(days=1))
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return Order.objects.visible_to(viewer.user).filter(pk=self.pk).exists()


class CustomerTopic(Topic):
    """All orders of one customer."""

    pattern = "customers/<int:pk>/orders"
    history = History(events=1000, age=timedelta(days=1))
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_staff or viewer.user.pk == self.pk)


class OrderChanges(Changes[Order]):
    model = Order
    fields = ["status", "total"]

    def topics(self, instance: Order) -> list[Topic]:
        return [OrderTopic(pk=instance.pk), CustomerTopic(pk=instance.customer_id)]


class OpenTopic(Topic):
    """For the tests of delivery: anybody may read it, and it is written to by name."""

    pattern = "open/<slug:slug>"
    history = History(events=100_000, age=timedelta(days=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


class SmallTopic(Topic):
    """Keeps little, so that a reader who was away long is reset."""

    pattern = "small/<slug:slug>"
    history = History(events=10, age=timedelta(days=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


class EphemeralTopic(Topic):
    """Keeps nothing."""

    pattern = "ephemeral/<slug:slug>"

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


class SnapshotTopic(Topic):
    """Newcomers start from a snapshot."""

    pattern = "snapshot/<slug:slug>"
    history = History(events=10, age=timedelta(days=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return True

    def snapshot(self) -> dict[str, int]:
        return {"orders": Order.objects.count()}
