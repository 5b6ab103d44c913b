"""django-eventstream's ids, ``channel:N``, made of our positions.

N is one number, as its own code and its GRIP proxies want it: six digits that stand for the epoch, then
ten digits of offset. So an id of another life of the log, or one that another storage gave out before the
project moved, is known for what it is; and it is less than 2**53, which JavaScript can still count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from ...core.events import Place, Position, place_text
from ...core.log import Head
from ...core.topics import Topic

OFFSETS = 10**10
FIRST_TAG, TAGS = 100_000, 800_000


@lru_cache(maxsize=4096)
def _tag(epoch: str) -> int:
    digest = hashlib.blake2b(epoch.encode(), digest_size=8).digest()
    return FIRST_TAG + int.from_bytes(digest) % TAGS


def number_of(position: Position) -> int:
    """A position as one number."""
    return _tag(position.epoch) * OFFSETS + position.offset


def position_of(number: int, head: Head) -> Position | None:
    """The position that a number stands for; None where this log never was there. 0 is the beginning, as
    long as the log still has it."""
    if number == 0:
        return Position(head.epoch, 0) if head.floor == 0 else None
    tag, offset = divmod(number, OFFSETS)
    if tag != _tag(head.epoch) or offset > head.last:
        return None
    return Position(head.epoch, offset)


def place_of(text: str | None, topic: Topic, head: Head) -> Place | None:
    """Where a client was in a topic, by its own word; None for a newcomer. What cannot be is told of a
    reset; never is it taken for a sign that the log was set back, because anybody can make it up."""
    if text is None:
        return None
    position = position_of(int(text), head) if text.isascii() and text.isdigit() else None
    if position is None:
        return Place("", None, genuine=False)
    return Place(place_text(topic.key, position), position, genuine=True)


def id_of(cursor: str, channels: Mapping[str, str]) -> str:
    """A cursor of ours in their words. ``channels`` has the channel by the first 12 digits of its topic's
    key; topics without a position are left out."""
    parts = []
    for entry in cursor.split(","):
        key, *position = entry.split(".")
        if len(position) == 3 and key in channels:
            epoch, offset, _ = position
            number = number_of(Position(epoch, int(offset)))
            parts.append(f"{quote(channels[key])}:{number}")
    return ",".join(parts)
