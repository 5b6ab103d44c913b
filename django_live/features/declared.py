"""What an app's ``live.py`` has declared: the ``Changes`` of this process, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .changes import Changes

DECLARED: dict[str, Changes[Any]] = {}
TABLE = "table:"
"""Begins the source of what a trigger has noted."""


def by_source(source: str) -> list[Changes[Any]]:
    """Who tells of what this source has noted: a declaration's name, or a table with a trigger."""
    if source.startswith(TABLE):
        table = source.removeprefix(TABLE)
        return [
            c for c in DECLARED.values() if c.hears_triggers() and c.model._meta.db_table == table
        ]
    return [c for c in DECLARED.values() if c.uid == source]
