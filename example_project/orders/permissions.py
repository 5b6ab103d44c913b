"""Who may see what: asked by the pages and by the live topics alike, so that they cannot disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


def may_see_all_orders(user: User | AnonymousUser) -> bool:
    """Staff who were given the permission; superusers have every permission."""
    return user.has_perm("orders.view_order")


def may_change_orders(user: User | AnonymousUser) -> bool:
    return user.has_perm("orders.change_order")
