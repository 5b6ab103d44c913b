"""The envelope as the release before wrote and read it, kept as it was.

Do not change it with the package: a deploy runs processes of both releases side by side. When the
envelope changes, add a fixture of the one before that change, and leave this one until nobody can
update from it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django_live.core.events import Event


def envelopes(
    key: str,
    epoch: str,
    events: Iterable[Event],
    trace: object = None,  # noqa: ARG001 - it knew none
) -> Iterator[dict[str, Any]]:
    """Version 1: one message for each 100 events."""
    rows = [
        [event.offset, event.type, event.data, event.exclude, event.created, event.conflate]
        for event in events
    ]
    for start in range(0, len(rows), 100):
        yield {
            "type": "live.events",
            "v": 1,
            "key": key,
            "epoch": epoch,
            "events": rows[start : start + 100],
        }


def read_envelope(message: dict[str, Any]) -> tuple[str, str, list[Event]] | None:
    """Version 1 knows these keys and these six fields, and ignores others."""
    if message.get("type") != "live.events" or message["v"] < 1:
        return None
    events = []
    for row in message["events"]:
        offset, type, data, exclude, created, conflate = row[:6]
        events.append(Event(type, data, offset, exclude, created, conflate))
    return message["key"], message["epoch"], events


def install() -> None:
    """Make this process speak as the release before did."""
    from django_live.core import bus, following

    bus.envelopes = envelopes
    setattr(following, "read_envelope", read_envelope)  # noqa: B010 -- it is not the module's to export
