"""What the log in Redis says and is told: words of its commands, and what their replies mean."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..core.events import Draft, Event
from ..core.log import Appended, Head
from ..core.topics import History, registry
from ..exceptions import InvalidTopic
from .clock import microseconds

UNDECLARED = History(events=2**53, age=timedelta(days=1))
"""What is kept of topics that this process does not know; another one may, during a deploy."""
LONGEST = timedelta(days=3650)
"""Redis refuses to keep a key for thousands of years."""

# -- words -----------------------------------------------------------------------------------------


def bounded(age: timedelta) -> timedelta:
    return min(age, LONGEST)


def milliseconds(time: timedelta) -> int:
    return int(time / timedelta(milliseconds=1)) + 1000


def microseconds_until(at: float) -> int:
    """The last whole microsecond that is not after this time."""
    found = microseconds(at)
    return found - 1 if found / 1_000_000 > at else found


def with_marks(drafts: Sequence[Draft]) -> list[tuple[Draft, str]]:
    """Each with what it is known by: the digest of its idempotency key, or else a name that only a
    second try of the same append has."""
    attempt = secrets.token_hex(5)
    return [
        (draft, _digest(draft.idempotency_key) if draft.idempotency_key else f"~{attempt}{place}")
        for place, draft in enumerate(drafts)
    ]


def _digest(key: str) -> str:
    return urlsafe_b64encode(hashlib.blake2b(key.encode(), digest_size=15).digest()).decode()


def digest_in(stream: bytes) -> str:
    name = stream.decode()
    return name[name.rindex("{") + 1 : name.rindex("}")]


def history_of(namespace: str, name: str) -> History:
    try:
        return registry.resolve(name, namespace).history or UNDECLARED
    except InvalidTopic:
        return UNDECLARED


# -- replies ---------------------------------------------------------------------------------------


def head_in(reply: Sequence[Any]) -> Head:
    return Head(reply[0].decode(), int(reply[1]), int(reply[2]))


def event_in(header: bytes, data: bytes) -> Event:
    id, type, exclude = header.decode().split(" ", 2)
    offset, _, created = id.partition("-")
    return Event(type, data.decode(), int(offset), exclude, int(created) / 1_000_000)


def appended_in(marked: Sequence[tuple[Draft, str]], reply: Sequence[Any]) -> Appended:
    created = int(reply[3]) / 1_000_000
    events = [
        Event(draft.type, draft.data, found, draft.exclude, created)
        if isinstance(found, int)
        else event_in(*found)
        for (draft, _), found in zip(marked, reply[4:], strict=True)
    ]
    return Appended(reply[1].decode(), events)
