"""How fast one person may write, in one process: ``CHAT_RATE`` and ``CHAT_BURST``.

Must keep true: who writes too fast is refused before the database is asked anything.
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from ..conf import live_settings
from ..exceptions import Rejected
from ..transports.limits import Buckets

_writers = Buckets()


def take_turn(user_id: Any) -> None:
    """Raise ``Rejected`` (``too-fast``) where this user has no turn left."""
    settings = live_settings()
    if not _writers.take(str(user_id), settings.CHAT_RATE, settings.CHAT_BURST):
        raise Rejected(_("That was too fast. Wait a moment."), code="too-fast")
