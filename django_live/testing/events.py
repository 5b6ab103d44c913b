"""What was published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, transaction
from django.test import TestCase

from ..core.commits import settle
from ..core.events import Event, encode_data
from ..core.sending import observed_by
from ..core.topics import Topic, as_topic

ANYTHING = object()


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event that was published, its data as it went in (after JSON)."""

    topic: str
    type: str
    data: Any


def observer(captured: list[PublishedEvent]) -> Callable[[Topic, Sequence[Event]], None]:
    """What writes down what is sent."""

    def note(topic: Topic, events: Sequence[Event]) -> None:
        captured.extend(PublishedEvent(topic.name, e.type, json.loads(e.data)) for e in events)

    return note


@contextmanager
def capture_events(using: str = DEFAULT_DB_ALIAS) -> Iterator[list[PublishedEvent]]:
    """What the block publishes, each topic's events in order. The list is complete when the block is
    left.

    Inside a ``TestCase`` nothing commits; so the block's commit hooks are run at its end, as those of
    ``captureOnCommitCallbacks(execute=True)`` are, and what was published before the block counts as
    committed. A savepoint that is rolled back publishes nothing. Raises ``RuntimeError`` inside a
    transaction that is not a ``TestCase``'s: put the block around the transaction.
    """
    captured: list[PublishedEvent] = []
    note = observer(captured)
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block:
        with observed_by(note):
            yield captured
        return
    if not any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        raise RuntimeError(
            "Nothing is published before the transaction commits that is open here. Put "
            "capture_events() or assert_published() around transaction.atomic(), not into it."
        )
    settle(using)
    with observed_by(note), TestCase.captureOnCommitCallbacks(using=using, execute=True):
        yield captured


@contextmanager
def assert_published(
    topic: Topic | str,
    type: str | None = None,
    data: Any = ANYTHING,
    *,
    count: int | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> Iterator[list[PublishedEvent]]:
    """Fails unless the block publishes such an event: at least one, or exactly ``count``.

    ``count=0`` asserts that none is. What the block published is in the message. Raises
    ``UnknownTopic`` for a name that no Topic declares, which a misspelled one is.
    """
    name = as_topic(topic).name
    expected = data if data is ANYTHING else json.loads(encode_data(data))
    with capture_events(using) as captured:
        yield captured
    matching = [
        event
        for event in captured
        if event.topic == name
        and (type is None or event.type == type)
        and (data is ANYTHING or event.data == expected)
    ]
    if len(matching) != count if count is not None else not matching:
        wanted = f"{type or 'an event'} on {name}" + (
            "" if data is ANYTHING else f" with {expected!r}"
        )
        times = "at least once" if count is None else f"{count} times"
        published = "\n".join(f"  {event}" for event in captured) or "  nothing"
        raise AssertionError(f"Expected {wanted}, {times}; published were:\n{published}")
