"""What a job may say: bad numbers, huge texts and what is no JSON are made harmless.

Must keep true: nothing that a job reports stops it, and nothing of it is too large to be sent a few
times a second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from ...core.events import encode_data
from ...exceptions import InvalidEvent

TITLE = 200
MESSAGE = 500
LINE = 500
LINES = 100
"""Lines of a log that are kept."""
FIELDS = 50
FIELDS_BYTES = 8_000
RESULT_BYTES = 32_000
LINK = 2_000
TRACEBACK = 20_000
LARGEST = 1e15
"""JavaScript counts exactly so far."""


def number(value: Any) -> float | int | None:
    """A finite number that is not negative; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, Decimal):
        value = float(value) if value.is_finite() else math.nan
    return value if 0 <= value <= LARGEST else None


def text(value: Any, most: int) -> str:
    """Text of at most so many characters that every store can keep."""
    try:
        found = str(value)
    except Exception:  # an object of the site's own
        return ""
    found = found.replace("\0", "").encode("utf-8", "replace").decode()
    return found if len(found) <= most else found[: most - 1] + "…"


def fields(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What of these can be sent, as it is now, and the names of what cannot: too much of it, or no JSON."""
    kept: dict[str, Any] = {}
    refused: list[str] = []
    room = FIELDS_BYTES
    for name, value in values.items():
        try:
            found = encode_data({name: value})
        except (InvalidEvent, RuntimeError):  # no JSON, or it is changed while it is looked at
            found = ""
        if not found or len(found) > room or len(kept) >= FIELDS:
            refused.append(text(name, TITLE))
        else:
            kept.update(json.loads(found))
            room -= len(found)
    return kept, refused


def result(value: Any) -> Any:
    """The result, where it can be sent; else None."""
    try:
        # As it is now: it is sent later, and may be changed by then.
        found = encode_data(value)
        return json.loads(found) if len(found) <= RESULT_BYTES else None
    except (InvalidEvent, RuntimeError):
        return None


def link(value: Any) -> str:
    """An address that a browser may be sent to; empty for what would run as a script there."""
    found = text(value, LINK)
    try:
        scheme = urlsplit(found).scheme
    except ValueError:
        return ""
    return found if scheme in ("", "http", "https") and len(found) < LINK else ""
