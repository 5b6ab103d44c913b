"""What every event loop of the site does now and then for those above ``core``: declared when the apps
are ready, run by the ``runtime``.

Must keep true: a chore is told the hub of its loop and keeps nothing of it; one that fails is logged
when it begins to, and tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .hub import Hub


class Chore(NamedTuple):
    name: str
    """What it does, as in "failed to <name>"."""
    seconds: float
    work: Callable[[Hub, str], Awaitable[None]]
    """Gets the hub, and what the process is known by."""


_chores: dict[str, Chore] = {}


def declare(chore: Chore) -> None:
    """Have it done in every loop that starts from now on; once by its name."""
    _chores[chore.name] = chore


def declared() -> list[Chore]:
    return list(_chores.values())
