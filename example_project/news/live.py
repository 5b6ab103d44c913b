"""The feed of all orders' steps. Whoever is signed in may hear that there is something new; what it is,
each page asks for itself."""

from __future__ import annotations

from django.db.models import QuerySet

from django_live import Viewer
from django_live.features.feeds import Feed
from example_project.orders.models import Order, StatusChange


class OrderNews(Feed):
    pattern = "news"
    model = StatusChange
    newest_by = "changed_at"
    size = 12

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_authenticated)

    def items(self, viewer: Viewer) -> QuerySet[StatusChange]:
        orders = Order.objects.visible_to(viewer.user)
        return StatusChange.objects.filter(order__in=orders).select_related("order__customer")
