"""Beside all stations: lines in the log that a program may read.

Each has a name that stays, and its facts as attributes of the log record: ``live_event`` is the name,
``live_topic``, ``live_connection`` and so on the facts. So a JSON formatter writes them without knowing
us, and a filter can count them.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger("django_live.records")

RECORDS = {
    "connection.opened": "A connection was opened (DEBUG).",
    "connection.closed": "A connection ended; `live_ending` says why, empty: the client left (DEBUG).",
    "reader.too_slow": "A reader was too slow for a topic that must not wait, and was cut.",
    "gap": "The bus lost something, and the log is read for it (DEBUG).",
    "reset": "A reader was told to start anew; `live_reason` says why (DEBUG).",
    "command": "A command to every process was carried out here: disconnect, sign_out, recheck.",
    "broadcast": "Somebody sent a broadcast by the admin or by a command.",
    "process.missing": "A process that is registered did not answer in time.",
}
"""Every name; docs/reference/metrics.md says the same."""


def record(name: str, message: str = "", *, level: int = logging.INFO, **facts: Any) -> None:
    """Write such a line. ``message`` may name the facts, ``%(topic)s``."""
    if not logger.isEnabledFor(level):
        return
    text = message or " ".join([name, *(f"{fact}=%({fact})s" for fact in facts)])
    extra = {f"live_{fact}": value for fact, value in facts.items()}
    logger.log(level, text, facts, extra={"live_event": name, **extra})
