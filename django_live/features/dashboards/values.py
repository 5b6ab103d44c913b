"""What a board can hold, as JSON: what comes in from sensors, sums and logs is not always a number."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ...core.events import encode_data, is_utf8
from ...exceptions import InvalidEvent

brief = reprlib.repr
"""A value as a message of an error shows it: bounded, however large or deep it is."""

LONGEST_KEY = 200
LONGEST_LINE = 8_000
"""Characters of a log line that are kept."""


def clean(value: Any) -> Any:
    """The same value with None for each NaN and infinity, at any depth: no JSON can say those, and a
    chart shows a gap where nothing was measured. Raises ``InvalidEvent`` for one without an end."""
    try:
        return _cleaned(value)
    except RecursionError as error:
        raise InvalidEvent(
            "This value is nested too deeply to be sent as JSON, or contains itself."
        ) from error


def _cleaned(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return _cleaned(float(value)) if value.is_finite() else None
    if isinstance(value, Mapping):
        return {str(key): _cleaned(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(one) for one in value]
    return value


def encode(value: Any) -> str:
    """JSON text that stores and databases can hold. Raises ``InvalidEvent``."""
    # PostgreSQL's text has no NUL; as JSON writes it, it would pass, and be refused by jsonb.
    return encode_data(clean(value)).replace("\\u0000", "\\ufffd")


def checked_key(key: Any) -> str:
    """The key of a row as text. Raises ``InvalidEvent``."""
    text = str(key)
    if not 0 < len(text) <= LONGEST_KEY or "\0" in text or not is_utf8(text):
        raise InvalidEvent(f"A row's key is 1 to {LONGEST_KEY} characters, not {text[:40]!r}.")
    return text


def checked_number(name: str, value: Any) -> float | None:
    """A point of a series; None where nothing could be measured. Raises ``InvalidEvent``."""
    value = clean(value)
    if value is not None and not isinstance(value, int | float):
        raise InvalidEvent(f"The point of {name!r} is {brief(value)}, which is no number.")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return None  # no browser could draw it
    return value


def line_text(text: Any) -> str:
    line = str(text).replace("\0", "\N{REPLACEMENT CHARACTER}")
    # A lone surrogate, from a file in another encoding, is no UTF-8.
    line = line.encode("utf-8", "replace").decode("utf-8")
    return (
        line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
