"""What a user has been told: read, counted, marked as read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypedDict

from django.db import router, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from ..core.publishing import publish
from .live import InboxTopic
from .models import Notification

MOST_COUNTED = 100
"""Unread notifications that are counted; nobody cares how many more they are."""


def unread_count(user: Any) -> int:
    """How many notifications the user has not read, up to ``MOST_COUNTED``."""
    return len(unread_of(user.pk))


def unread_of(user_id: Any) -> list[int]:
    """Their keys, the newest first."""
    return list(unread_rows(user_id))


def unread_rows(user_id: Any) -> QuerySet[Notification, int]:
    """The query for their keys, which reads ``MOST_COUNTED`` at most, however many there
    are. (In the order of an index's columns. In any other, or none, PostgreSQL may think that there are
    many, and read all that was ever told to find the few.)"""
    rows = Notification.objects.filter(recipient_id=user_id, read_at=None, on_site=True)
    ordered = rows.order_by("read_at", "on_site", "-pk")
    return ordered.values_list("pk", flat=True)[:MOST_COUNTED]


class Read(TypedDict):
    """What pages are told, and apply to the unread ones that they know: however often, and however late."""

    ids: list[int] | None
    """None: all of them."""
    newest: int
    """The last of all of them."""
    unread: int
    """How many are left, up to ``MOST_COUNTED``."""


def mark_read(user: Any, ids: Collection[int] | None = None, *, namespace: str = "") -> int:
    """Mark the user's notifications with these keys as read, or all of them; how many it were. All
    their pages follow. ``namespace``: the tenant, where the site has any."""
    return mark(user, ids, namespace)[0]


def mark(user: Any, keys: Collection[int] | None, namespace: str) -> tuple[int, Read]:
    """``mark_read()``, with what pages are told of it."""
    ids: list[int] | None = None
    using = router.db_for_write(Notification)
    with transaction.atomic(using=using):
        rows = Notification.objects.using(using).filter(recipient_id=user.pk, read_at=None)
        newest = 0
        if keys is not None:
            ids = sorted(rows.filter(pk__in=keys).values_list("pk", flat=True))
            rows = rows.filter(pk__in=ids)
        else:
            # What is told meanwhile is not among them. The newest of anybody's is one look into the index.
            newest = Notification.objects.using(using).aggregate(newest=Max("pk"))["newest"] or 0
            rows = rows.filter(pk__lte=newest)
        for work in _when_read:
            work(rows)
        count = rows.update(read_at=timezone.now(), open_group=None)
        told: Read = {
            "ids": ids,
            "newest": newest,
            "unread": unread_count(user),
        }
        if count:
            publish(inbox_of(user.pk, namespace), "read", told, using=using)
    return int(count), told


_when_read: list[Callable[[Any], None]] = []


def when_read(work: Callable[[Any], None]) -> None:
    """Have ``work(rows)`` called with the queryset of notifications that are going to be read, in the
    same transaction."""
    if work not in _when_read:
        _when_read.append(work)


def inbox_of(user_id: Any, namespace: str = "") -> InboxTopic:
    return InboxTopic(user=str(user_id), namespace=namespace)
