"""The topic that the page listens to three times over."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django_live import History, Message, Rejected, Topic, Viewer, publish

WAYS = ("sse", "websocket", "polling", "form")
"""How a message may have come to the server."""


class BeatTopic(Topic):
    """For everybody who is logged in: what one of them says, all of them hear."""

    pattern = "side-by-side"
    history = History(events=500, age=timedelta(hours=1))

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_authenticated)

    def can_send(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_authenticated)

    def on_message(self, message: Message) -> Any:
        """The same whether it came over the WebSocket or by POST."""
        via = message.data.get("via") if isinstance(message.data, dict) else None
        if message.type != "beat" or via not in WAYS:
            raise Rejected("This page sends beats only.")
        return {"at": beat(via)}


def beat(via: str) -> int:
    """One event; the time that it bears, in milliseconds since 1970."""
    now = round(time.time() * 1000)
    publish(BeatTopic(), "beat", {"at": now, "via": via})
    return now
