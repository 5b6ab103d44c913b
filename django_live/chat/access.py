"""Who may do what in a room: one query, and the answers to every question about it.

Must keep true: a room that somebody may not read and one that does not exist look alike; whoever was
banned may nothing, whatever else they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _

from ..exceptions import Rejected
from .models import Membership, Room

RANKS = {Membership.Role.MEMBER: 0, Membership.Role.MODERATOR: 1, Membership.Role.OWNER: 2}
MODERATE = "live_chat.moderate_room"


@dataclass(frozen=True)
class Access:
    """What one user is in one room."""

    room: Room
    membership: Membership | None

    @property
    def is_member(self) -> bool:
        return self.membership is not None and not self.membership.banned

    @property
    def is_banned(self) -> bool:
        return self.membership is not None and self.membership.banned

    @property
    def is_muted(self) -> bool:
        return self.membership is not None and self.membership.muted

    @property
    def may_read(self) -> bool:
        return self.is_member or (self.room.kind == Room.Kind.PUBLIC and not self.is_banned)

    @property
    def may_write(self) -> bool:
        return self.is_member and not self.is_muted

    @property
    def rank(self) -> int:
        if self.membership is None or not self.is_member:
            return -1
        return RANKS[Membership.Role(self.membership.role)]

    def may_moderate(self, user: Any) -> bool:
        """Whether they may moderate here: by their role, or by a permission of the site's."""
        return self.may_read and (self.rank > 0 or bool(user.has_perm(MODERATE)))

    def require_write(self) -> None:
        """Raise what is told to who may not write: ``PermissionDenied`` where they may not even know
        that there is such a room, else ``Rejected`` with a code."""
        if self.is_banned:
            raise Rejected(_("You were banned from this room."), code="banned")
        if not self.may_read:
            raise PermissionDenied
        if not self.is_member:
            raise Rejected(_("Join this room to write in it."), code="not-a-member")
        if self.is_muted:
            raise Rejected(_("You were muted in this room."), code="muted")


def access_of(room_id: int, user_id: Any, *, namespace: str | None = None, using: str) -> Access:
    """What this user is in this room. Raises ``PermissionDenied`` where there is no such room. One query
    for members."""
    rows = Membership.objects.using(using).select_related("room")
    membership = next(iter(rows.filter(room_id=room_id, user_id=user_id)), None)
    room = membership.room if membership else Room.objects.using(using).filter(pk=room_id).first()
    if room is None or (namespace is not None and room.namespace != namespace):
        raise PermissionDenied
    return Access(room, membership)
