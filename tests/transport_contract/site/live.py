"""Topics of each kind that a transport meets, and who listens to them."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from django_live import History, Topic, Viewer

subscribed: Counter[str] = Counter()
unsubscribed: Counter[str] = Counter()
"""How often each topic's hooks were called, in this process."""


class OpenToAll(Topic):
    def can_subscribe(self, viewer: Viewer) -> bool:
        return True

    def on_subscribe(self, viewer: Viewer) -> None:
        subscribed[self.name] += 1

    def on_unsubscribe(self, viewer: Viewer) -> None:
        unsubscribed[self.name] += 1


class KeptTopic(OpenToAll):
    pattern = "kept/<slug:slug>"
    history = History(events=100_000, age=timedelta(days=1))


class StrictTopic(OpenToAll):
    """With history, but slow readers are disconnected."""

    pattern = "strict/<slug:slug>"
    history = History(events=100_000, age=timedelta(days=1))
    overflow = "disconnect"


class ShortTopic(OpenToAll):
    """Keeps ten events."""

    pattern = "short/<slug:slug>"
    history = History(events=10, age=timedelta(days=1))


class PicturedTopic(OpenToAll):
    """Keeps ten events, and a newcomer starts from a snapshot."""

    pattern = "pictured/<slug:slug>"
    history = History(events=10, age=timedelta(days=1))

    def snapshot(self) -> dict[str, str]:
        return {"picture": self.kwargs["slug"]}


class DroppingTopic(OpenToAll):
    """Keeps nothing; of what waits, the oldest is dropped."""

    pattern = "dropping/<slug:slug>"
    overflow = "drop"


class ConflatingTopic(OpenToAll):
    """Keeps nothing; of what waits, the newest of each key stays."""

    pattern = "conflating/<slug:slug>"
    overflow = "conflate"


class HurriedTopic(OpenToAll):
    """Keeps nothing; slow readers are disconnected."""

    pattern = "hurried/<slug:slug>"
    overflow = "disconnect"
