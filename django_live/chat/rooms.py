"""Rooms: made, found, and listed with what is unread in each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import IntegrityError, router, transaction
from django.utils.translation import gettext as _

from ..exceptions import Rejected
from .models import Membership, Room
from .rows import name_of

LONGEST_NAME = 120


def create_room(
    name: str,
    *,
    kind: str = Room.Kind.PRIVATE,
    by: Any = None,
    members: Iterable[Any] = (),
    namespace: str = "",
) -> Room:
    """A new room, which ``by`` owns. Raises ``Rejected`` for a name that is none."""
    name = " ".join(str(name).split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        sentence = _("A room has a name of at most %(most)d characters.") % {"most": LONGEST_NAME}
        raise Rejected(sentence)
    using = router.db_for_write(Room)
    with transaction.atomic(using=using):
        room = Room.objects.using(using).create(
            name=name, kind=kind, namespace=namespace, created_by=by
        )
        roles = {one.pk: (one, Membership.Role.MEMBER) for one in members}
        if by is not None:
            roles[by.pk] = (by, Membership.Role.OWNER)
        Membership.objects.using(using).bulk_create(
            Membership(room=room, user=user, role=role) for user, role in roles.values()
        )
    return room


def direct_room(one: Any, other: Any, *, namespace: str = "") -> Room:
    """The room of these two; made where there is none yet."""
    if one.pk == other.pk:
        raise Rejected(_("Nobody talks with themselves here."))
    using = router.db_for_write(Room)
    pair = ":".join([namespace, *sorted([str(one.pk), str(other.pk)])])
    rows = Room.objects.using(using)
    if found := rows.filter(pair=pair).first():
        return found
    try:
        with transaction.atomic(using=using):
            kind = Room.Kind.DIRECT
            room = rows.create(kind=kind, pair=pair, namespace=namespace, created_by=one)
            Membership.objects.using(using).bulk_create(
                Membership(room=room, user=user) for user in (one, other)
            )
    except IntegrityError:  # the other one was faster
        return rows.get(pair=pair)
    return room


class RoomOf(NamedTuple):
    """A room as one of its members sees it."""

    room: Room
    title: str
    unread: int
    read_number: int


def rooms_of(user: Any, *, namespace: str = "") -> list[RoomOf]:
    """The rooms that a user is in, by name."""
    rows = Membership.objects.filter(user=user, banned=False, room__namespace=namespace)
    mine = list(rows.select_related("room").order_by("room__name", "room_id"))
    titles = _titles([one.room for one in mine if one.room.is_direct], user)
    return [
        RoomOf(
            one.room,
            titles.get(one.room_id) or str(one.room),
            max(0, one.room.last_number - one.read_number),
            one.read_number,
        )
        for one in mine
    ]


def open_rooms(user: Any, *, namespace: str = "") -> list[Room]:
    """Public rooms that a user is not in, and was not banned from."""
    own = Membership.objects.filter(user=user).values("room_id")
    rows = Room.objects.filter(kind=Room.Kind.PUBLIC, namespace=namespace)
    return list(rows.exclude(pk__in=own).order_by("name", "pk"))


def title_of(room: Room, user: Any) -> str:
    """What a room is called to this user: the conversation of two after the other one."""
    return (_titles([room], user).get(room.pk) if room.is_direct else "") or str(room)


def _titles(rooms: Iterable[Room], user: Any) -> dict[int, str]:
    others = Membership.objects.filter(room__in=list(rooms)).exclude(user_id=user.pk)
    return {one.room_id: name_of(one.user) for one in others.select_related("user")}
