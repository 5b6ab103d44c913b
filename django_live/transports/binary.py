"""The binary frame of docs/reference/protocol.md: bytes to values and back. Pure functions.

Must keep true: whatever bytes come, ``read_frame()`` answers or raises ``MalformedFrame``, and never
asks for more memory than came; what ``write_frames()`` writes, it reads back.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..core.topics import MAX_NAME_LENGTH

VERSION = 1
MORE_FOLLOWS = 1
CONTINUES = 2
WANTS_REPLY = 4

MAX_PAYLOAD = 65_536
"""Bytes in one part."""
HEADER = struct.Struct(">BBHBQQI")
"""Version, flags, length of topic, length of type, sequence, milliseconds, length of payload."""
MAX_TOPIC = 4 * MAX_NAME_LENGTH
"""Bytes: a character of UTF-8 has at most four."""

_TYPE = re.compile(rb"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")


class MalformedFrame(Exception):
    """These bytes are no frame."""


@dataclass(frozen=True, slots=True)
class BinaryFrame:
    """One frame. ``timestamp`` is in milliseconds since 1970; ``cursor`` only comes from servers."""

    topic: str
    type: str
    payload: bytes
    sequence: int = 0
    timestamp: int = 0
    flags: int = 0
    cursor: str = ""

    @property
    def more_follows(self) -> bool:
        return bool(self.flags & MORE_FOLLOWS)

    @property
    def continues(self) -> bool:
        return bool(self.flags & CONTINUES)

    @property
    def wants_reply(self) -> bool:
        return bool(self.flags & WANTS_REPLY)


def write_frames(
    topic: str, type: str, payload: bytes, *, sequence: int, timestamp: int, flags: int = 0
) -> Iterator[bytes]:
    """The frames of one message, without a cursor: as many parts as its payload needs. Every part
    has the flags that are given, and those that say where it stands."""
    name, kind = topic.encode(), type.encode("ascii")
    start = 0
    while True:
        part = payload[start : start + MAX_PAYLOAD]
        begun, start = start, start + MAX_PAYLOAD
        own = (MORE_FOLLOWS if start < len(payload) else 0) | (CONTINUES if begun else 0)
        header = HEADER.pack(
            VERSION, flags | own, len(name), len(kind), sequence, timestamp, len(part)
        )
        yield b"".join((header, name, kind, part))
        if start >= len(payload):
            return


def read_frame(data: bytes, max_payload: int = MAX_PAYLOAD) -> BinaryFrame:
    """One message of a WebSocket. Raises ``MalformedFrame``."""
    if len(data) < HEADER.size:
        raise MalformedFrame("shorter than its header")
    version, flags, topic_size, type_size, sequence, timestamp, size = HEADER.unpack_from(data)
    if version != VERSION:
        raise MalformedFrame("another version")
    if flags & ~(MORE_FOLLOWS | CONTINUES | WANTS_REPLY):
        raise MalformedFrame("flags that mean nothing")
    if not 0 < topic_size <= MAX_TOPIC or size > max_payload:
        raise MalformedFrame("larger than allowed")
    type_start = HEADER.size + topic_size
    start = type_start + type_size
    if len(data) < start + size:
        raise MalformedFrame("shorter than it says")
    kind = data[type_start:start]
    if not _TYPE.fullmatch(kind):
        raise MalformedFrame("no type")
    try:
        topic = data[HEADER.size : type_start].decode()
        cursor = data[start + size :].decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedFrame("not text") from error
    payload = data[start : start + size]
    return BinaryFrame(topic, kind.decode(), payload, sequence, timestamp, flags, cursor)
