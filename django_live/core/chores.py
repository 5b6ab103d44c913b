"""What an event loop does now and then, for those on any floor.

There are two ways to have a chore done, and the ``runtime`` runs both: ``declare()`` when the apps are
ready, for every loop that starts; and ``Runtime.take_up()``, for the loop that runs, once it has a
reason to.

Must keep true: a chore keeps nothing of a loop but what that loop's runtime gives it; one that fails is
logged when it begins to, and tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple


class Chore(NamedTuple):
    name: str
    """What it does, as in "failed to <name>"."""
    seconds: float
    """Between two times, give or take a tenth."""
    work: Callable[[], Awaitable[None]]
    """Called in the loop; ``runtime()`` is its runtime."""
    soon: bool = False
    """Whether the first time comes at once."""


_declared: dict[str, Chore] = {}


def declare(chore: Chore) -> None:
    """Have it done in every loop that starts from now on; once by its name."""
    _declared[chore.name] = chore


def declared() -> list[Chore]:
    return list(_declared.values())
