"""What ``send_event()`` was given, as an event of ours, and back.

Must keep true: what comes out is what went in, byte for byte; JSON rests as JSON, so that clients of ours
read it as they read any event.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.core.serializers.json import DjangoJSONEncoder

from ...core.events import Draft, Event, check_type, encode_data
from ...exceptions import InvalidEvent

WRAPPED = "eventstream"
"""Type of an event that says more than an event of ours can."""
KEY = "$eventstream"


class Said(NamedTuple):
    """One event, in their words."""

    type: str
    text: str
    skip: tuple[str, ...] = ()
    """Users whom a GRIP proxy spares."""


def draft_of(said: Said) -> Draft:
    """The event that carries it."""
    data = _value_of(said.text)
    try:
        type = check_type(said.type)
    except InvalidEvent:
        type = WRAPPED
    if said.skip or type == WRAPPED:
        more = {"type": said.type, "skip": list(said.skip), "data": data}
        return Draft(WRAPPED, encode_data({KEY: more}))
    return Draft(type, encode_data(data))


def said_of(event: Event) -> Said:
    """What an event says; one that ``publish()`` sent, too."""
    data = json.loads(event.data)
    if event.type == WRAPPED and isinstance(data, dict) and data.keys() == {KEY}:
        more = data[KEY]
        return Said(more["type"], _text_of(more["data"]), tuple(more["skip"]))
    return Said(event.type, _text_of(data))


def _value_of(text: str) -> Any:
    """JSON where the same text can be made of it again; else the text."""
    try:
        value = json.loads(text)
        if not isinstance(value, str) and _text_of(value) == text:
            encode_data(value)  # raises for what is no JSON: NaN
            return value
    except (ValueError, RecursionError, InvalidEvent):
        pass
    return text


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, cls=DjangoJSONEncoder)


def as_text(data: Any, *, json_encode: bool) -> str:
    """What ``send_event(…, json_encode=…)`` makes of its data."""
    return json.dumps(data, cls=DjangoJSONEncoder) if json_encode else str(data)


def skipped(user_ids: Sequence[Any] | None) -> tuple[str, ...]:
    return tuple(str(one) for one in user_ids or ())
