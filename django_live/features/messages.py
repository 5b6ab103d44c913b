"""Messages to people rather than to subjects: ``everyone``, and ``user/<primary key>`` for one user.

These two topics need no declaration. ``{% live_messages %}`` shows what is published to them as
``message``; anything else that is published there is for the page's own handlers.

Must keep true: nobody hears what is for another user; a project that has topics of these names keeps
them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..core.topics import History, Topic, Viewer, registry
from ..exceptions import InvalidEvent

MESSAGE = "message"
"""The type that is shown."""
LEVELS = ("info", "success", "warning", "error")
LONGEST_TEXT = 2000
KEPT = History(events=100, age=timedelta(hours=1))

with registry.isolated():  # declare() registers them, behind those of the project

    class EveryoneTopic(Topic):
        """Whoever has the site open."""

        pattern = "everyone"
        history = KEPT

        def can_subscribe(self, viewer: Viewer) -> bool:
            return True

    class UserTopic(Topic):
        """One user, on all their pages."""

        pattern = "user/<str:pk>"
        history = KEPT
        pk: str

        def can_subscribe(self, viewer: Viewer) -> bool:
            return viewer.user_id is not None and viewer.user_id == self.pk

        def forget(self, user: Any, type: str, data: Any) -> Any:
            return None if str(user.pk) == self.pk else data


def declare() -> None:
    """Declare both, where no topic of the project has the pattern. Called when the apps are ready."""
    taken = {topic_class.pattern for topic_class in registry.classes()}
    for topic_class in (EveryoneTopic, UserTopic):
        if topic_class.pattern not in taken:
            registry.register(topic_class)


def message(text: str, level: str = "info", url: str = "") -> dict[str, str]:
    """The data of a ``message``: plain text that is shown as it is, and an address on this site that it
    leads to. Raises ``InvalidEvent``."""
    if level not in LEVELS:
        raise InvalidEvent(f"{level!r} is not a level of a message: {', '.join(LEVELS)}.")
    if not 0 < len(text.strip()) <= LONGEST_TEXT:
        raise InvalidEvent(f"The text of a message has 1 to {LONGEST_TEXT} characters.")
    if url and (not url.startswith("/") or url.startswith(("//", "/\\"))):
        raise InvalidEvent('A message leads to an address on this site, "/orders/42/".')
    return {"text": text, "level": level, **({"url": url} if url else {})}
