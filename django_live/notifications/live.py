"""The inbox: what one user is told, in every tab and on every device."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..core.topics import History, Topic, Viewer


class InboxTopic(Topic):
    """For its owner alone. Events: ``notified`` (``{"id", "kind", "title", "body", "url", "is_new",
    "is_quiet"}``) and ``read`` (``{"ids", "newest", "unread"}``; ``ids`` is None where it is all of
    them, up to ``newest``). Snapshot: ``{"unread_ids"}``, a hundred at most."""

    pattern = "live/inbox/<str:user>"
    history = History(events=50, age=timedelta(days=1))
    user: str

    def can_subscribe(self, viewer: Viewer) -> bool:
        return viewer.user_id is not None and viewer.user_id == self.user

    def snapshot(self) -> dict[str, Any]:
        from .inbox import unread_of

        return {"unread_ids": unread_of(self.user)}

    def forget(self, user: Any, type: str, data: Any) -> Any:
        return None if str(user.pk) == self.user else data
