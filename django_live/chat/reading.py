"""What was said: a page of it at a time; how far each has read; what is unread.

Must keep true: opening a room reads one page, whatever was said there before; what is unread is
counted from two numbers.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import F

from ..core.publishing import publish
from .access import access_of
from .live import NowTopic, ReaderTopic
from .models import Membership, Message, Room
from .rows import name_of

PAGE = 50
RECEIPTS = 50
"""Rooms with more members do not tell how far each has read."""


def page_of(
    room: Room, *, before: int | None = None, after: int | None = None, limit: int = PAGE
) -> list[Message]:
    """At most so many messages in their order: the newest, those before a number, or the first ones
    after a number."""
    rows = Message.objects.filter(room=room).select_related("author", "reply_to__author")
    if after is not None:
        return list(rows.filter(number__gt=after).order_by("number")[:limit])
    if before is not None:
        rows = rows.filter(number__lt=before)
    return list(rows.order_by("-number")[:limit])[::-1]


def mark_read(room: Room | int, user: Any, number: int, *, namespace: str | None = None) -> int:
    """Remember that a member has read up to this message, and tell their other tabs, and the others
    where the room is small. How far they have read: never less than before."""
    using = router.db_for_write(Membership)
    room_id = room if isinstance(room, int) else room.pk
    access = access_of(room_id, user.pk, namespace=namespace, using=using)
    if access.membership is None or not access.is_member:
        if access.may_read:
            return 0
        raise PermissionDenied
    number = min(number, access.room.last_number)
    rows = Membership.objects.using(using).filter(pk=access.membership.pk, read_number__lt=number)
    if not rows.update(read_number=number):
        return int(access.membership.read_number)
    told: dict[str, Any] = {"room": room_id, "number": number}
    topic = ReaderTopic(user=str(user.pk), namespace=access.room.namespace)
    publish(topic, "read", told, using=using)
    if is_small(room_id):
        told = {"id": str(user.pk), "name": name_of(user), "number": number}
        now = NowTopic(room=room_id, namespace=access.room.namespace)
        publish(now, "read", told, conflate=f"read {user.pk}", using=using)
    return number


def is_small(room_id: int) -> bool:
    """Whether it is told here how far each has read."""
    rows = Membership.objects.filter(room=room_id).values("pk")[: RECEIPTS + 1]
    return len(rows) <= RECEIPTS


def receipts(room_id: int) -> list[dict[str, Any]]:
    """How far each member has read; empty for a large room."""
    rows = Membership.objects.filter(room=room_id).select_related("user").order_by("pk")
    found = list(rows[: RECEIPTS + 1])
    if len(found) > RECEIPTS:
        return []
    return [
        {"id": str(one.user_id), "name": name_of(one.user), "number": one.read_number}
        for one in found
        if not one.banned
    ]


def read_numbers(user_id: Any) -> dict[str, dict[str, int]]:
    """By room how far the user has read, and its newest number."""
    rows = Membership.objects.filter(user_id=user_id, banned=False)
    found = rows.annotate(last=F("room__last_number")).values_list("room_id", "read_number", "last")
    return {str(room): {"number": number, "last": last} for room, number, last in found}
