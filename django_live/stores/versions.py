"""Versions and fencing tokens of the shared state, and how long its names are remembered."""

from __future__ import annotations

from hashlib import blake2b

from ..exceptions import MapFull
from .clock import microseconds

REMEMBERED = 86_400.0
"""Seconds that maps and leases outlive what they held: within them no clock is needed to make their
next version or token greater."""


def next_version(last: int, now: float) -> int:
    """Greater than the last, and than any that was given out before this moment and forgotten."""
    return max(last + 1, microseconds(now))


def digest(*parts: str) -> str:
    """32 hexadecimal digits in place of names that may be long or folded by a collation."""
    return blake2b("\0".join(_escaped(part) for part in parts).encode(), digest_size=16).hexdigest()


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace("\0", "\\0")


def map_full(name: str, most: int) -> MapFull:
    return MapFull(
        f"{name!r} holds {most} entries and may not hold more. Let entries expire, or allow more "
        "with most=…."
    )
