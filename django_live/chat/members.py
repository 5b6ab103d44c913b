"""Who is in a room: they join and leave, are let in, muted, banned, and given roles.

Must keep true: whoever may no longer read a room is cut off in every process as soon as that is
committed; nobody moderates somebody of their own rank or above.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.db.models.signals import post_delete, post_save
from django.utils.translation import gettext as _

from ..core.control import recheck
from ..core.publishing import publish
from ..exceptions import Rejected
from ..revocation import safely
from . import audit
from .access import MODERATE, RANKS, Access, access_of
from .live import ReaderTopic, room_topics
from .models import Membership, Room


def join(room: Room | int, user: Any, *, namespace: str | None = None) -> Membership:
    """Come into a public room. Once more changes nothing. Raises ``PermissionDenied`` where they may
    not know of the room, ``Rejected`` where they were banned."""
    using = router.db_for_write(Membership)
    with transaction.atomic(using=using):
        access = access_of(_key(room), user.pk, namespace=namespace, using=using)
        if access.is_banned:
            raise Rejected(_("You were banned from this room."), code="banned")
        if not access.may_read:
            raise PermissionDenied
        return _enter(access, user, using)


def add_member(room: Room | int, user: Any, *, by: Any, namespace: str | None = None) -> Membership:
    """Let somebody in, as a moderator. Raises ``Rejected`` and ``PermissionDenied``."""
    using = router.db_for_write(Membership)
    with transaction.atomic(using=using):
        own = _moderating(_key(room), by, namespace, using)
        if own.room.is_direct:
            raise Rejected(_("A conversation of two stays one of two."))
        access = access_of(own.room.pk, user.pk, using=using)
        if access.is_banned:
            raise Rejected(_("They were banned from this room."), code="banned")
        return _enter(access, user, using)


def leave(room: Room | int, user: Any, *, namespace: str | None = None) -> None:
    """Go out of a room; whoever is not in it stays out."""
    using = router.db_for_write(Membership)
    with transaction.atomic(using=using):
        access = access_of(_key(room), user.pk, namespace=namespace, using=using)
        if access.room.is_direct:
            raise Rejected(_("A conversation of two cannot be left."))
        _go(access, user, using)


def remove_member(room: Room | int, user: Any, *, by: Any, namespace: str | None = None) -> None:
    """Take somebody out, as a moderator; they may be let in again."""
    using = router.db_for_write(Membership)
    with transaction.atomic(using=using):
        access = _above(_key(room), user, by, namespace, using)
        _go(access, user, using)
        audit.note(by, access.room, audit.CHANGED, _("Removed %s.") % user)


def mute(room: Room | int, user: Any, *, by: Any, namespace: str | None = None) -> None:
    """Let somebody read and no longer write."""
    _set(room, user, by, namespace, {"muted": True}, _("Muted %s."))


def unmute(room: Room | int, user: Any, *, by: Any, namespace: str | None = None) -> None:
    """Let somebody write again."""
    _set(room, user, by, namespace, {"muted": False}, _("Unmuted %s."))


def ban(room: Room | int, user: Any, *, by: Any, namespace: str | None = None) -> None:
    """Shut somebody out for good: their open pages are cut off in every process."""
    _set(room, user, by, namespace, {"banned": True}, _("Banned %s."))


def unban(room: Room | int, user: Any, *, by: Any, namespace: str | None = None) -> None:
    """Let somebody in again who was banned."""
    _set(room, user, by, namespace, {"banned": False}, _("Unbanned %s."))


def set_role(
    room: Room | int, user: Any, role: str, *, by: Any, namespace: str | None = None
) -> None:
    """Make a member an owner, a moderator or a plain member; owners do that. ``by=None``: the site."""
    role = Membership.Role(role)
    using = router.db_for_write(Membership)
    own = None if by is None else access_of(_key(room), by.pk, namespace=namespace, using=using)
    if own is not None and own.rank < RANKS[Membership.Role.OWNER]:
        raise PermissionDenied
    _set(room, user, by, namespace, {"role": role}, _("Made %s: ") + str(role.label))


def _set(
    room: Room | int,
    user: Any,
    by: Any,
    namespace: str | None,
    values: dict[str, Any],
    sentence: str,
) -> None:
    """``by=None``: the site itself. Somebody who is in no room yet can be muted and banned, too."""
    using = router.db_for_write(Membership)
    with transaction.atomic(using=using):
        access = _above(_key(room), user, by, namespace, using)
        if access.membership is None and "role" in values:
            raise PermissionDenied
        if access.membership is None and not any(values.values()):
            return
        rows = Membership.objects.using(using)
        rows.update_or_create(room_id=access.room.pk, user_id=user.pk, defaults=values)
        audit.note(by, access.room, audit.CHANGED, sentence % user)
        _tell(access.room, user, using)


def _above(room_id: int, user: Any, by: Any, namespace: str | None, using: str) -> Access:
    """What the other one is, if ``by`` may moderate them. Raises ``PermissionDenied``."""
    access = access_of(room_id, user.pk, namespace=namespace, using=using)
    if by is None:
        return access
    own = _moderating(room_id, by, namespace, using)
    rank = RANKS[Membership.Role(access.membership.role)] if access.membership else -1
    if user.pk == by.pk or (own.rank <= rank and not by.has_perm(MODERATE)):
        raise PermissionDenied
    return access


def _moderating(room_id: int, by: Any, namespace: str | None, using: str) -> Access:
    access = access_of(room_id, by.pk, namespace=namespace, using=using)
    if not access.may_moderate(by):
        raise PermissionDenied
    return access


def _enter(access: Access, user: Any, using: str) -> Membership:
    room = access.room
    # What was said before they came is not unread to them.
    values = {"read_number": room.last_number}
    rows = Membership.objects.using(using)
    membership, is_new = rows.get_or_create(room=room, user=user, defaults=values)
    if is_new:
        _tell(room, user, using)
    return membership


def _go(access: Access, user: Any, using: str) -> None:
    if access.membership is None or access.is_banned:
        return
    access.membership.delete(using=using)
    _tell(access.room, user, using)


def _tell(room: Room, user: Any, using: str) -> None:
    """Tell their tabs what they are in this room now, and every process to ask again."""
    access = access_of(room.pk, user.pk, using=using)
    standing = {
        "room": room.pk,
        "member": access.is_member,
        "muted": access.is_muted,
        "banned": access.is_banned,
    }
    topic = ReaderTopic(user=str(user.pk), namespace=room.namespace)
    publish(topic, "standing", standing, using=using)
    if not access.may_read:
        for one in room_topics(room.pk, room.namespace):
            recheck(user=user, topic=one, using=using)


def _room_changed(instance: Room, using: str, created: bool = False, **kwargs: Any) -> None:
    """A public room became private, or is gone: whoever has it open is asked about again."""
    if created:
        return
    for one in room_topics(instance.pk, instance.namespace):
        safely(lambda one=one: recheck(topic=one, using=using), using)  # type: ignore[misc]


def listen() -> None:
    """Called when the app is ready."""
    post_save.connect(_room_changed, Room, dispatch_uid=f"{__name__}.saved")
    post_delete.connect(_room_changed, Room, dispatch_uid=f"{__name__}.deleted")


def members_of(room: Room) -> list[Membership]:
    """Everybody who has a row, who was banned included, by name."""
    rows = Membership.objects.filter(room=room).select_related("user")
    return sorted(rows, key=lambda one: (one.banned, str(one.user).casefold()))


def _key(room: Room | int) -> int:
    return room if isinstance(room, int) else int(room.pk)
