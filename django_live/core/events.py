"""Station 0: the values that every other station speaks. Plain data, no behaviour but parsing.

A topic's log numbers its events 1, 2, 3 … without holes (the offset). An epoch names one life of
that log. Both together are a position; what a client resumes with is a cursor: the signed positions
of all topics of its stream.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder

from ..conf import live_settings
from ..exceptions import InvalidEvent, MalformedCursor

RESERVED_TYPES = frozenset({"keep-alive", "open", "error", "snapshot", "reset"})
"""Names of the stream's own frames, of EventSource's own events and of the client's own handlers."""
MAX_CURSOR_LENGTH = 16_384
MAX_CURSOR_ENTRIES = 512

_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", re.ASCII)
_CONNECTION = re.compile(r"[!-~]{1,64}", re.ASCII)
_PLACE = re.compile(
    r"(?P<key>[0-9a-f]{12})(?:\.(?P<epoch>[A-Za-z0-9_-]{1,16})\.(?P<offset>[0-9]{1,18}))?"
    r"\.(?P<seal>(?P<known>~)?[A-Za-z0-9_-]{8})",
    re.ASCII,
)
_ANYBODY, _SOMEBODY = b"live-cursor", b"live-cursor-own"
"""What seals are made for: places given to anybody, and those given to who has said who they are."""
_KNOWN = "~"
"""Begins the seals of the latter, so that it can be read when ``SECRET_KEY`` is another one now: then all
sessions have ended, too. Who puts it there by hand is refused where they would not have been."""


class Position(NamedTuple):
    """A place in one topic's log: everything up to and including ``offset`` has been seen."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before its topic's log has numbered it. ``data`` is JSON text."""

    type: str
    data: str
    exclude: str = ""
    """Id of a connection that is spared this event."""
    idempotency_key: str = ""
    """A second append with the same key is the first one."""
    conflate: str = ""
    """Without history: of two events with the same key that wait for a slow reader, the newer is
    enough (overflow "conflate")."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the log keeps it and the bus carries it. ``offset`` is 0 without history."""

    type: str
    data: str
    offset: int = 0
    exclude: str = ""
    created: float = 0.0
    """Seconds since 1970, when it was numbered; never earlier than the event before it."""
    conflate: str = ""


BYTES_KEY = "$bytes"
_BYTES_START = f'{{"{BYTES_KEY}":"'
_BYTES_END = '"}'


def encode_data(data: Any) -> str:
    """JSON text of an event's data, in one line.

    Takes what Django's own JSON encoder takes, or bytes (up to ``MESSAGE_BYTES``), which rest as
    ``{"$bytes": <base64>}``. Raises ``InvalidEvent`` for anything else, NaN and infinities included:
    a browser could not parse them.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return _encode_bytes(bytes(data))
    if isinstance(data, dict) and data.keys() == {BYTES_KEY}:
        raise InvalidEvent(f"A dict with {BYTES_KEY!r} alone stands for bytes. Pass the bytes.")
    try:
        return (
            json.dumps(
                data,
                cls=DjangoJSONEncoder,
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            )
            .encode("utf-8")
            .decode("utf-8")
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(
            f"This data cannot be sent as JSON: {error}. Pass dicts, lists, text, numbers, booleans, "
            "None, dates, decimals or UUIDs."
        ) from error


def _encode_bytes(data: bytes) -> str:
    limit = live_settings().MESSAGE_BYTES
    if len(data) > limit:
        raise InvalidEvent(
            f"{len(data)} bytes are more than MESSAGE_BYTES allows ({limit}). Publish an address to "
            "fetch them from."
        )
    return _BYTES_START + b64encode(data).decode() + _BYTES_END


def bytes_of(data: str) -> bytes | None:
    """The bytes that an event's data stands for; None when it is other JSON."""
    if not data.startswith(_BYTES_START) or not data.endswith(_BYTES_END):
        return None
    try:
        return b64decode(data[len(_BYTES_START) : -len(_BYTES_END)], validate=True)
    except ValueError:  # an object with that key and more
        return None


def check_type(type: str) -> str:
    """The type itself, or ``InvalidEvent`` when it is no name that every client could listen for."""
    if not isinstance(type, str) or not _TYPE.fullmatch(type):
        raise InvalidEvent(
            f"{type!r} is not an event type: use up to 64 letters, digits and _ . : - , beginning "
            "with a letter or _."
        )
    if type in RESERVED_TYPES or type.startswith("stream-"):
        raise InvalidEvent(f"The event type {type!r} is reserved for the stream itself.")
    return type


def check_key(name: str, key: str) -> str:
    """A key that the caller chose, or ``InvalidEvent`` when not every store could keep it."""
    if not isinstance(key, str) or "\0" in key or not is_utf8(key):
        raise InvalidEvent(f"{name}={key!r} is no text that can be kept.")
    return key


def known_connection(id: str | None) -> str:
    """The id of a connection, as text; empty for None and for what cannot be one. It comes from the
    browser, so it is no reason to fail, and a column must be able to take it."""
    return id if id and _CONNECTION.fullmatch(id) else ""


def is_utf8(text: str) -> bool:
    """Whether a store can keep it: half of a surrogate pair cannot be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def topic_key(namespace: str, name: str) -> str:
    """32 hexadecimal digits that stand for a topic wherever its name would be too long, not ASCII,
    or folded by a database's collation."""
    return hashlib.blake2b(f"{namespace}\0{name}".encode(), digest_size=16).hexdigest()


# -- cursors ---------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _seal_key(secret: str | bytes, purpose: bytes) -> bytes:
    raw = secret.encode() if isinstance(secret, str) else secret
    return hashlib.blake2b(raw, person=purpose, digest_size=32).digest()


def _seal(body: str, secret: str | bytes, purpose: bytes) -> str:
    # Only this site gives out places, so a place ahead of the log proves that the log lost events,
    # and nobody can provoke a new epoch with a made-up one. 48 bits: a guess costs a request.
    digest = hashlib.blake2b(body.encode(), key=_seal_key(secret, purpose), digest_size=6).digest()
    return (_KNOWN if purpose is _SOMEBODY else "") + urlsafe_b64encode(digest).decode()


def place_text(key: str, position: Position | None, *, known: bool = False) -> str:
    """A cursor's entry for one topic. ``None`` stands for "was subscribed; has no position". With
    ``known`` it is for somebody who has said who they are, and remembers that."""
    short = key[:12]
    body = short if position is None else f"{short}.{position.epoch}.{position.offset}"
    return f"{body}.{_seal(body, settings.SECRET_KEY, _SOMEBODY if known else _ANYBODY)}"


def mark_of_somebody() -> str:
    """A place of no topic, given to somebody who has said who they are: for pages that have no other
    yet."""
    return place_text(topic_key("", ""), None, known=True)


def _is_sealed(body: str, seal: str, purpose: bytes) -> bool:
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return any(hmac.compare_digest(_seal(body, secret, purpose), seal) for secret in secrets)


class Place(NamedTuple):
    """What a cursor says about one topic."""

    text: str
    position: Position | None
    genuine: bool
    """False: this site never gave it out."""
    known: bool = False
    """Whether it says that it was given to somebody who had said who they are."""

    def as_known(self, key: str) -> Place:
        """The same place as somebody gets it who has said who they are."""
        if self.known or not self.genuine:
            return self
        return Place(place_text(key, self.position, known=True), self.position, True, True)


class Cursor:
    """The places a client resumes with, by topic."""

    __slots__ = ("_places",)

    def __init__(self, places: dict[str, Place] | None = None) -> None:
        self._places = places or {}

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what a client sent; where a topic occurs twice the first counts.

        Raises ``MalformedCursor`` when the text is no cursor at all.
        """
        if len(text) > MAX_CURSOR_LENGTH:
            raise MalformedCursor(f"A cursor has at most {MAX_CURSOR_LENGTH} characters.")
        entries = [entry for entry in text.split(",") if entry]
        if len(entries) > MAX_CURSOR_ENTRIES:
            raise MalformedCursor(f"A cursor has at most {MAX_CURSOR_ENTRIES} entries.")
        places: dict[str, Place] = {}
        for entry in entries:
            match = _PLACE.fullmatch(entry)
            if match is None:
                raise MalformedCursor("This is not a cursor that this site gave out.")
            body, seal = entry[: match.start("seal") - 1], match["seal"]
            position = Position(match["epoch"], int(match["offset"])) if match["epoch"] else None
            known = match["known"] is not None
            genuine = _is_sealed(body, seal, _SOMEBODY if known else _ANYBODY)
            places.setdefault(match["key"], Place(entry, position, genuine, known))
        return cls(places)

    @property
    def known(self) -> bool:
        """Whether any of it says that it was given to somebody who had said who they are."""
        return any(place.known for place in self._places.values())

    def get(self, key: str) -> Place | None:
        """The place for the topic with this key, or None when the cursor does not speak of it."""
        return self._places.get(key[:12])

    def __bool__(self) -> bool:
        return bool(self._places)

    def __str__(self) -> str:
        return ",".join(place.text for place in self._places.values())


def join_places(places: Iterable[str]) -> str:
    """The text of a cursor made of these entries."""
    return ",".join(place for place in places if place)
