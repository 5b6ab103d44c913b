"""Who is at the counter, and what customers are told of their orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_live import Topic, Viewer
from django_live.features.presence import Presence
from django_live.notifications import NotificationRule, changed, declare_kind
from example_project.orders.models import Order

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class CounterTopic(Topic):
    """Everybody who is signed in may come to the counter, and is seen there."""

    pattern = "counter"
    presence = Presence(grace=6)

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_authenticated)


class OrderOnItsWay(NotificationRule[Order]):
    """The customer hears that an order was shipped."""

    model = Order
    when = changed("status", to="shipped")
    label = gettext_lazy("Your order is on its way")

    def recipients(self, order: Order) -> User:
        return order.customer

    def message(self, order: Order) -> dict[str, Any]:
        return {
            "title": _("Order %(number)s is on its way") % {"number": order.number},
            "url": order.get_absolute_url(),
        }


declare_kind("note", gettext_lazy("Notes from others at the counter"))
