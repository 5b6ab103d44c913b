"""What a client says on a WebSocket, read without trust: text and binary messages to actions.

Must keep true: whatever comes, there is an action or a ``BadAction`` with a code of the protocol; what
is kept of a message in parts is bounded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..core.events import check_type
from ..exceptions import InvalidEvent
from .binary import BinaryFrame, MalformedFrame, read_frame

Ref = int | float | str

MAX_REF = 64
"""Characters of a ref that is text."""
SMALLEST_PART = 1024
"""Bytes that a part has on average at least: each costs memory, however small."""
MAX_NAMES = 1000
"""Topics that one action may name."""


class BadAction(Exception):
    """Nothing can be done for this message; ``ref`` if it could be read."""

    def __init__(self, code: str, ref: Ref | None = None, topic: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.ref = ref
        self.topic = topic


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a keep-alive."""


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a keep-alive."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Asks for topics."""

    ref: Ref | None
    topics: list[str]
    cursor: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Gives topics back."""

    ref: Ref | None
    topics: list[str]


@dataclass(frozen=True, slots=True)
class Sent:
    """A message to a topic. ``size``: what it takes while it waits."""

    ref: Ref | None
    topic: str
    type: str
    data: Any
    size: int
    sequence: int = 0
    sent: float | None = None


Action = Ping | Pong | Subscribe | Unsubscribe | Sent


def read_text(text: str) -> Action:
    """The action of a text message. Raises ``BadAction``."""
    body = read_object(text)
    ref = _ref_of(body)
    action = body.get("action")
    if action == "ping":
        return Ping()
    if action == "pong":
        return Pong()
    if action == "subscribe":
        cursor = body.get("cursor") or ""
        if not isinstance(cursor, str):
            raise BadAction("malformed-message", ref)
        return Subscribe(ref, _names_of(body, ref), cursor)
    if action == "unsubscribe":
        return Unsubscribe(ref, _names_of(body, ref))
    if action == "send":
        topic, type = topic_and_type(body, ref)
        return Sent(ref, topic, type, body.get("data"), len(text))
    raise BadAction("malformed-message", ref)


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object whose texts can be kept anywhere. Raises ``BadAction``."""
    try:
        body = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        # Half of a surrogate pair can be written in JSON, and in no encoding.
        escape = b"\\ud" if isinstance(text, bytes) else "\\ud"
        if escape in text.lower():  # type: ignore[operator]
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadAction("malformed-message") from error
    if not isinstance(body, dict):
        raise BadAction("malformed-message")
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return number


def _ref_of(body: dict[str, Any]) -> Ref | None:
    ref = body.get("ref")
    if ref is None:
        return None
    if isinstance(ref, bool) or not isinstance(ref, int | float | str):
        raise BadAction("malformed-message")
    if len(str(ref)) > MAX_REF:
        raise BadAction("malformed-message")
    return ref


def _names_of(body: dict[str, Any], ref: Ref | None) -> list[str]:
    names = body.get("topics")
    if not isinstance(names, list) or not 0 < len(names) <= MAX_NAMES:
        raise BadAction("malformed-message", ref)
    if not all(isinstance(name, str) for name in names):
        raise BadAction("malformed-message", ref)
    return list(dict.fromkeys(names))


def topic_and_type(body: dict[str, Any], ref: Ref | None = None) -> tuple[str, str]:
    """Where a message goes and what it is called. Raises ``BadAction``."""
    topic, type = body.get("topic"), body.get("type")
    if not isinstance(topic, str) or not isinstance(type, str):
        raise BadAction("malformed-message", ref)
    try:
        return topic, check_type(type)
    except InvalidEvent as error:
        raise BadAction("malformed-message", ref, topic) from error


def sent_in(frame: BinaryFrame, payload: bytes) -> Sent:
    """The message of a binary frame. Raises ``BadAction``."""
    ref = frame.sequence if frame.wants_reply else None
    try:
        type = check_type(frame.type)
    except InvalidEvent as error:
        raise BadAction("malformed-message", ref, frame.topic) from error
    sent = frame.timestamp / 1000 or None
    return Sent(ref, frame.topic, type, payload, len(payload), frame.sequence, sent)


@dataclass(slots=True)
class Parts:
    """Binary messages that are not complete yet, by topic."""

    begun: dict[str, list[BinaryFrame]] = field(default_factory=dict)
    size: int = 0

    def read(self, data: bytes, limit: int) -> Sent | None:
        """The message that this frame completes, if it does. ``limit``: bytes of one message; of all
        that are not complete it is twice as much. Raises ``BadAction``; what had come of the message is forgotten then."""
        try:
            frame = read_frame(data)
        except MalformedFrame as error:
            raise BadAction("malformed-message") from error
        ref = frame.sequence if frame.wants_reply else None
        parts = self._forget(frame.topic)
        if frame.continues != bool(parts) or (parts and not _go_together(parts[0], frame)):
            raise BadAction("malformed-message", ref, frame.topic)
        size = len(frame.payload) + sum(len(part.payload) for part in parts)
        too_many = len(parts) >= max(2, limit // SMALLEST_PART)
        if too_many or size > limit or self.size + size > 2 * limit:
            raise BadAction("too-large", ref, frame.topic)
        parts.append(frame)
        if frame.more_follows:
            if not frame.payload:  # else a message could go on for ever
                raise BadAction("malformed-message", ref, frame.topic)
            self.begun[frame.topic] = parts
            self.size += size
            return None
        return sent_in(frame, b"".join(part.payload for part in parts))

    def _forget(self, topic: str) -> list[BinaryFrame]:
        parts = self.begun.pop(topic, [])
        self.size -= sum(len(part.payload) for part in parts)
        return parts


def _go_together(first: BinaryFrame, frame: BinaryFrame) -> bool:
    return (first.type, first.sequence) == (frame.type, frame.sequence)
