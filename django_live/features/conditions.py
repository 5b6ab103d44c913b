"""A ``Q`` asked of one object in Python, without a query.

For ``deleted_when``: it is asked of the row before and of the row after, which a query could not see.
Own columns and plain comparisons only; a check refuses the others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, Q

from .rows import as_loaded

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "exact": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def matches(condition: Q, instance: Model) -> bool:
    """Whether the object fulfils the condition. As in SQL a comparison with NULL holds for nothing."""
    children: list[Any] = condition.children
    answers = (
        matches(child, instance) if isinstance(child, Q) else _holds(instance, *child)
        for child in children
    )
    if condition.connector == Q.OR:
        holds = any(answers)
    elif condition.connector == Q.XOR:
        holds = sum(answers) % 2 == 1
    else:
        holds = all(answers)
    return holds != condition.negated


def fault(condition: Any, model: type[Model]) -> str:
    """Why such a condition cannot be asked; empty when it can."""
    if not isinstance(condition, Q):
        return f"{condition!r} is no condition on the object's own columns."
    for child in condition.children:
        if isinstance(child, Q):
            if found := fault(child, model):
                return found
            continue
        if not isinstance(child, tuple):
            return f"{child!r} is no comparison of a column with a value."
        name, _, lookup = child[0].partition("__")
        try:
            field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        except FieldDoesNotExist:
            return f"{model._meta.label} has no field {name!r}."
        if not getattr(field, "concrete", False) or getattr(field, "many_to_many", False):
            return f"{name!r} is no column of {model._meta.label}."
        if (lookup or "exact") not in {*COMPARISONS, "isnull", "in"}:
            return f"The comparison {child[0]!r} is not one of those that Python is asked for."
        if hasattr(child[1], "resolve_expression"):
            return f"{child[0]!r} is compared with what only the database can compute."
    return ""


def _holds(instance: Model, lookup: str, wanted: Any) -> bool:
    name, _, comparison = lookup.partition("__")
    field: Any = instance._meta.pk if name == "pk" else instance._meta.get_field(name)
    value = as_loaded(field, getattr(instance, field.attname))
    if comparison == "isnull" or wanted is None:
        return (value is None) == (wanted is None or bool(wanted))
    if comparison == "in":
        return value is not None and value in [_plain(field, one) for one in wanted]
    return value is not None and COMPARISONS[comparison or "exact"](value, _plain(field, wanted))


def _plain(field: Any, value: Any) -> Any:
    return as_loaded(field, value.pk if isinstance(value, Model) else value)
