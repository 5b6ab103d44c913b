"""A bound on how often an object that changes all the time is told of, whoever changes it.

The first update is told at once; of those that follow within the interval the last one is, when it is
over. What waits is a note in the database, so a process that dies takes nothing along; that the
interval runs is a counter of the shared state, which all processes see.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from django.db import DatabaseError

from ..core.state import get_state
from ..exceptions import StoreError
from .declared import DECLARED

logger = logging.getLogger("django_live.changes")

REMEMBERED = 10_000
"""Objects of which a process remembers that they have to wait."""

_cooling: dict[str, float] = {}
"""By object the time at which it may be told of again, as far as this process knows."""


def cooling_until(key: str) -> float:
    """When an update of this object may be told at the earliest; 0 for at once."""
    until = _cooling.get(key, 0.0)
    return until if until > time.time() else 0.0


class Turn(NamedTuple):
    """What notes say of when an object may be told of. ``interval``: in seconds, between two of its
    updates; ``due``: not before; ``moved``: it may have come to a topic or have left one, which does
    not wait."""

    interval: float
    due: float
    moved: bool

    def along_with(self, other: Turn | None) -> Turn:
        """What two notes of one object say together."""
        if other is None:
            return self
        return Turn(self.interval, min(self.due, other.due), self.moved or other.moved)


class Slots:
    """The turns of objects, for one round of presenting. ``wake`` is called with the seconds that an
    object has to wait."""

    def __init__(self, wake: Callable[[float], None]) -> None:
        self.wake = wake
        self._left: dict[str, float] = {}

    @staticmethod
    def are_needed() -> bool:
        """Whether any declaration has a throttle."""
        return any(one.throttle is not None for one in DECLARED.values())

    def left(self, key: str, interval: float) -> float:
        """Seconds until this object may be told of; 0: now, and not again before ``interval``."""
        if key not in self._left:
            self._left[key] = _take(key, interval)
        return self._left[key]


class NoTurns(Slots):
    """Everything is told at once, whatever was declared."""

    def __init__(self) -> None:
        super().__init__(lambda delay: None)

    @staticmethod
    def are_needed() -> bool:
        return False

    def left(self, key: str, interval: float) -> float:
        return 0.0


def _take(key: str, interval: float) -> float:
    try:
        count = get_state().count(f"throttle {key}", ttl=interval)
    except (StoreError, DatabaseError, OSError) as error:
        # Told too often is better than told too late.
        logger.warning("The throttle does not hold for now: the state cannot be asked (%s).", error)
        return 0.0
    if len(_cooling) >= REMEMBERED:
        _cooling.clear()
    _cooling[key] = time.time() + count.left
    return 0.0 if count.value == 1 else max(count.left, 0.01)
