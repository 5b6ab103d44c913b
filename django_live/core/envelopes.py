"""Beside station 4: what a message between processes looks like.

Must keep true: two releases live side by side during a deploy. A later version may add keys; a receiver
ignores those that it does not know.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .events import Event

VERSION = 1
MESSAGE_TYPE = "live.events"
MAX_MESSAGE_EVENTS = 100
MAX_MESSAGE_BYTES = 256 * 1024
PARCEL_TYPE = "live.parcel"
PARCEL_FROM = 50
"""Messages that are sent together, from which they go to every process in parcels. Fewer go to those
that listen to their topics, one by one."""
PARCEL_BYTES = 1024
"""Data in a message, on average, up to which that is worth while: a process reads what others need."""

Envelope = dict[str, Any]


def envelopes(
    key: str, epoch: str, events: Iterable[Event], trace: Mapping[str, str] | None = None
) -> Iterable[Envelope]:
    """Messages that carry these events, each small enough for any layer.

    ``{"type", "v": 1, "key": topic key, "epoch", "events": [[offset, type, data, exclude, created,
    conflate], …]}``, and ``"trace"`` where a tracer gave something to go along.
    """
    batch: list[list[Any]] = []
    size = 0
    for event in events:
        if batch and (
            len(batch) >= MAX_MESSAGE_EVENTS or size + len(event.data) > MAX_MESSAGE_BYTES
        ):
            yield _envelope(key, epoch, batch, trace)
            batch, size = [], 0
        batch.append(
            [event.offset, event.type, event.data, event.exclude, event.created, event.conflate]
        )
        size += len(event.data)
    if batch:
        yield _envelope(key, epoch, batch, trace)


def size_of(message: Envelope) -> int:
    """How much data a message carries, in characters."""
    return sum(len(data) for _, _, data, *_ in message["events"])


def is_logged(message: Envelope) -> bool:
    """Whether a log has these events, so that their offsets show what is lost or comes twice."""
    if message.get("type") == PARCEL_TYPE:
        return all(map(is_logged, message["messages"]))
    return any(offset for offset, *_ in message["events"])


def parcels(messages: Sequence[Envelope]) -> list[Envelope]:
    """The same in a few messages for every process, ``{"type", "v": 1, "messages": [envelope, …]}``;
    none where each had better go to its own topic's listeners."""
    size = sum(map(size_of, messages))
    if len(messages) < PARCEL_FROM or size > PARCEL_BYTES * len(messages):
        return []
    packed: list[list[Envelope]] = [[]]
    room = MAX_MESSAGE_BYTES
    for message in messages:
        room -= size_of(message)
        if room < 0 and packed[-1]:
            packed.append([])
            room = MAX_MESSAGE_BYTES - size_of(message)
        packed[-1].append(message)
    return [{"type": PARCEL_TYPE, "v": VERSION, "messages": one} for one in packed]


def unpacked(message: Envelope, keys: Container[str]) -> Iterator[Envelope]:
    """What is in a parcel for the topics with these keys, in order; of any other message itself."""
    if message.get("type") != PARCEL_TYPE:
        yield message
    else:
        yield from (one for one in message["messages"] if one["key"] in keys)


def trace_of(message: Envelope) -> Mapping[str, str]:
    """What a tracer gave to go along; from another release it may be anything."""
    trace = message.get("trace")
    return trace if isinstance(trace, dict) else {}


def _envelope(
    key: str, epoch: str, batch: list[list[Any]], trace: Mapping[str, str] | None
) -> Envelope:
    message = {
        "type": MESSAGE_TYPE,
        "v": VERSION,
        "key": key,
        "epoch": epoch,
        "events": batch,
    }
    if trace:
        message["trace"] = dict(trace)
    return message


def read_envelope(message: Envelope) -> tuple[str, str, list[Event]] | None:
    """Key, epoch and events of a message; None for one that this release cannot read."""
    try:
        if message["type"] != MESSAGE_TYPE or message["v"] < 1:
            return None
        events = [
            Event(
                offset=offset,
                type=type,
                data=data,
                exclude=exclude,
                created=created,
                conflate=conflate,
            )
            for offset, type, data, exclude, created, conflate in (
                row[:6] for row in message["events"]
            )
        ]
        return str(message["key"]), str(message["epoch"]), events
    except (KeyError, TypeError, ValueError):
        return None
