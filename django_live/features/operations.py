"""What keeps the admin's own pages live: a tick, as long as somebody looks at them.

Must keep true: where nobody looks nothing is published and nothing is asked of the store; whoever may
not see the pages hears no tick.
"""

from __future__ import annotations

from ..core import bus
from ..core.chores import Chore
from ..core.chores import declare as declare_chore
from ..core.publishing import apublish
from ..core.runtime import runtime
from ..core.state import get_state
from ..core.topics import Topic, Viewer, registry

EVERY = 3.0
"""Seconds between two ticks."""
LEASE = "django_live.operations"
PERMISSIONS = (
    "django_live.view_connection",
    "django_live.view_livetopic",
    "django_live.view_process",
)

with registry.isolated():  # declare() registers it

    class OperationsTopic(Topic):
        """Ticks while somebody who may see the admin's live pages has one open."""

        pattern = "django_live/operations"

        def can_subscribe(self, viewer: Viewer) -> bool:
            user = viewer.user
            return bool(user and user.is_staff and any(map(user.has_perm, PERMISSIONS)))


async def tick() -> None:
    """Let the pages that are open look again; of many processes one says so."""
    topic, live = OperationsTopic(), runtime()
    if topic.key not in live.hub.feeds:
        return
    together = bus.reaches_other_processes()
    if not together or await get_state().aacquire(LEASE, live.process, EVERY * 0.8) is not None:
        await apublish(topic, "tick")


def declare() -> None:
    """Called when the apps are ready."""
    registry.register(OperationsTopic)
    declare_chore(Chore("let the admin's pages look again", EVERY, tick))
