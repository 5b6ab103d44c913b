"""When a rule tells: what has to happen to an object between the row before and the row after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Model, Q

from ..features.conditions import matches

Condition = Callable[[Model | None, Model | None], bool]
"""Of the object before and after; None stands for no row."""

_ANY: Any = object()


def changed(field: str, *, to: Any = _ANY, was: Any = _ANY) -> Condition:
    """The field has another value than before; ``to`` and ``was`` say which. A new object counts as one
    that had no value: ``changed("status", to="paid")`` holds for an order that is created as paid."""

    def holds(before: Model | None, after: Model | None) -> bool:
        if after is None or (before is None and was is not _ANY):
            return False
        new = getattr(after, field)
        old = getattr(before, field) if before is not None else _ANY
        return new != old and (to is _ANY or new == to) and (was is _ANY or old == was)

    return holds


def created(before: Model | None, after: Model | None) -> bool:
    """The object is new."""
    return before is None and after is not None


def deleted(before: Model | None, after: Model | None) -> bool:
    """The object is gone."""
    return before is not None and after is None


def comes_true(condition: Q) -> Condition:
    """A comparison of the object's own columns that holds now and did not before."""

    def holds(before: Model | None, after: Model | None) -> bool:
        return (
            after is not None
            and matches(condition, after)
            and (before is None or not matches(condition, before))
        )

    return holds
