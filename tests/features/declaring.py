"""Declarations that hold for one test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_live.features.changes import Changes


@contextmanager
def declared(name: str = "Declared", **attributes: Any) -> Iterator[Changes[Any]]:
    """`declared(model=Ticket, topics=…)`: the Changes of this class, until the block ends."""
    changes_class = type(name, (Changes,), attributes)
    uid = f"{changes_class.__module__}.{changes_class.__qualname__}"
    try:
        yield Changes._declared[uid]
    finally:
        Changes._declared.pop(uid).disconnect()
