"""The topics of the chat, the same over every transport.

Must keep true: what a room tells is the same for all who may read it, and nobody else hears it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import router

from ..core.topics import History, Message, Topic, Viewer


def _may_read(room: int, viewer: Viewer, namespace: str) -> bool:
    from .access import access_of
    from .models import Membership

    if viewer.user_id is None:
        return False
    try:
        using = router.db_for_write(Membership)  # a ban must not wait for a copy of the database
        return access_of(room, viewer.user_id, namespace=namespace, using=using).may_read
    except PermissionDenied:
        return False


class RoomTopic(Topic):
    """What is said in a room. Events: ``message`` and ``edited`` (the whole message), ``deleted``
    (``{"id", "number"}``) and ``reacted`` (``{"id", "number", "reactions", "by", "code", "on"}``)."""

    pattern = "live/chat/<int:room>"
    history = History(events=1000, age=timedelta(days=1))
    interactive = True
    outbox = True
    replies_first = (
        True  # their own message stands on their screen; what they wait for is that it is kept
    )
    room: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return _may_read(self.room, viewer, self.namespace)

    def can_send(self, viewer: Viewer) -> bool:
        # Whether they may do what they ask for is asked where it is done, in the same query.
        return viewer.user_id is not None

    def on_message(self, message: Message) -> Any:
        from .asking import do

        return do(self, message)

    def forget(self, user: Any, type: str, data: Any) -> Any:
        from .erasing import without

        return without(str(user.pk), data)


class NowTopic(Topic):
    """What is only so now: ``typing`` (``{"id", "name"}``) and ``read`` (``{"id", "name", "number"}``).
    The snapshot has how far each member has read, in rooms that are small enough to tell."""

    pattern = "live/chat/<int:room>/now"
    overflow = "conflate"
    interactive = True
    room: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return _may_read(self.room, viewer, self.namespace)

    def snapshot(self) -> dict[str, Any]:
        from .reading import receipts

        return {"read": receipts(self.room)}


class ReaderTopic(Topic):
    """What one user's rooms are to them, for all their tabs: ``read`` (``{"room", "number"}``) and
    ``standing`` (``{"room", "member", "muted", "banned"}``)."""

    pattern = "live/chat/of/<str:user>"
    history = History(events=100, age=timedelta(hours=1))
    user: str

    def can_subscribe(self, viewer: Viewer) -> bool:
        return viewer.user_id is not None and viewer.user_id == self.user

    def snapshot(self) -> dict[str, Any]:
        from .reading import read_numbers

        return {"read": read_numbers(self.user)}

    def forget(self, user: Any, type: str, data: Any) -> Any:
        return None if str(user.pk) == self.user else data


def room_topics(room_id: int, namespace: str) -> tuple[RoomTopic, NowTopic]:
    return RoomTopic(room=room_id, namespace=namespace), NowTopic(room=room_id, namespace=namespace)
