"""Rows of model instances: what an object has of its columns, and what of that its table has.

Must keep true: nothing here changes an instance that the project holds; a value compares as the
database gives it back.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar, cast

from django.conf import settings
from django.db import connections
from django.db.backends.utils import format_number
from django.db.models import (
    BinaryField,
    DateTimeField,
    DecimalField,
    F,
    Field,
    FileField,
    JSONField,
    Model,
    QuerySet,
)
from django.utils.functional import cached_property

M = TypeVar("M", bound=Model)
Row = dict[str, Any]
"""Values of an object's columns by attribute name."""

COMPUTED = (cached_property, functools.cached_property)


def kin(model: type[Model]) -> list[type[Model]]:
    """The models whose objects are the model's, too: those of its table, and those that inherit."""
    found = [cast("type[Model]", model._meta.concrete_model)]
    for one in found:
        found += [child for child in one.__subclasses__() if child not in found]
    return [one for one in found if not one._meta.abstract]


def same_table(one: type[Model], other: type[Model]) -> bool:
    return one._meta.concrete_model is other._meta.concrete_model


def _parent_links(model: type[Model], path: str = "") -> Iterator[str]:
    """The paths to the tables that the model inherits, for ``select_for_update(of=…)``."""
    concrete = cast("type[Model]", model._meta.concrete_model)
    for field in concrete._meta.local_concrete_fields:
        if field.remote_field and getattr(field.remote_field, "parent_link", False):
            yield path + field.name
            yield from _parent_links(
                cast("type[Model]", field.related_model), f"{path}{field.name}__"
            )


def take_write_lock(model: type[Model], using: str) -> None:
    """On SQLite, whose transactions cannot go from reading to writing once another has written."""
    key = model._meta.pk_fields[0].attname
    if not connections[using].features.has_select_for_update:
        rows = model._base_manager.using(using).extra(where=["1 = 0"])
        rows.update(**{key: F(key)})


def locked(rows: QuerySet[M], *, skip: bool = False) -> QuerySet[M]:
    """With the locks that a save takes, those of inherited tables included. ``skip``: without the
    rows that somebody else has locked."""
    features = connections[rows.db].features
    tables = ("self", *_parent_links(rows.model))
    return rows.select_for_update(
        of=tables if features.has_select_for_update_of else (),
        no_key=features.has_select_for_no_key_update,
        skip_locked=skip,
    )


def as_model(instance: Model, model: type[M]) -> M:
    """The object as one of this model, with its methods: a proxy's, if that was declared."""
    if isinstance(instance, model):
        return instance
    if same_table(type(instance), model):
        other: Any = copy.copy(instance)
        other.__class__ = model
        return cast("M", other)
    names = [f.attname for f in model._meta.concrete_fields if f.attname in instance.__dict__]
    made = model.from_db(instance._state.db, names, [instance.__dict__[name] for name in names])
    made._state.adding = instance._state.adding
    return made


def changed_fields(instance: Model, before: Row, after: Row) -> list[Field[Any, Any]]:
    """The fields whose values differ. Of what the row before does not have nothing is said."""
    return [
        field
        for field in fields_of(instance)
        if field.attname in before
        and field.attname in after
        and as_loaded(field, before[field.attname]) != as_loaded(field, after[field.attname])
    ]


def row_of(instance: Model, *, created: bool) -> Row | None:
    """The row of an instance that was saved just now, if it knows it all."""
    columns = loaded_columns(instance)
    fields = fields_of(instance)
    if (
        len(columns) < len(fields)
        # F("stock") - 1 was computed by the database.
        or any(hasattr(value, "resolve_expression") for value in columns.values())
        or (not created and any(field.generated for field in fields))
    ):
        return None
    return {f.attname: as_loaded(f, columns[f.attname]) for f in fields}


def fields_of(instance: Model) -> list[Field[Any, Any]]:
    return list(instance._meta.concrete_fields)


def key_of(instance: Model, model: type[Model]) -> Any:
    """The model's primary key as the database has it: "42" was assigned, 42 is saved."""
    keys = [as_loaded(f, getattr(instance, f.attname)) for f in model._meta.pk_fields]
    return keys[0] if len(keys) == 1 else tuple(keys)


def loaded_columns(instance: Model) -> Row:
    """The values that the instance has of its own columns; deferred ones are missing."""
    loaded = instance.__dict__
    return {
        field.attname: kept(loaded[field.attname])
        for field in instance._meta.concrete_fields
        if field.attname in loaded
    }


def columns_of(instance: Model | None) -> Row | None:
    """The row of an instance as it was loaded."""
    return None if instance is None else loaded_columns(instance)


def kept(value: Any) -> Any:
    """The value as it is now: JSON and arrays are changed in place."""
    return copy.deepcopy(value) if isinstance(value, dict | list | set) else value


def with_row(instance: M, row: Row) -> M:
    """The instance as it is with these columns: without the related objects of other values, and
    without what it has computed."""
    changed: list[Any] = [
        field
        for field in instance._meta.concrete_fields
        if field.attname in row
        and not _is_same(instance.__dict__.get(field.attname), row[field.attname])
    ]
    if not changed:
        return instance
    other = copy.copy(instance)
    for field in changed:
        other.__dict__[field.attname] = row[field.attname]
        if field.is_relation and field.is_cached(other):
            field.delete_cached_value(other)
    for name in computed_names(type(other)) & other.__dict__.keys():
        del other.__dict__[name]
    return other


def computed_names(model: type[Model]) -> set[str]:
    """The names of what its objects compute once."""
    return {
        name
        for base in model.__mro__
        for name, value in vars(base).items()
        if isinstance(value, COMPUTED)
    }


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def as_loaded(field: Field[Any, Any], value: Any) -> Any:
    """The value as it would come from the database: "9.9" was assigned, Decimal("9.90") is saved."""
    if isinstance(field, FileField):
        return str(value)
    target: Any = getattr(field, "target_field", field)
    value = target.to_python(value)
    if isinstance(value, Decimal) and isinstance(target, DecimalField):
        places = target.decimal_places
        return Decimal(format_number(value, target.max_digits, places) or 0)
    return kept(value)


def row_from_json(model: type[Model], columns: dict[str, Any]) -> Row:
    """The row that a trigger has written down, by attribute name. Columns that the model does not
    have are left out."""
    by_column = {field.column: field for field in model._meta.concrete_fields}
    return {
        field.attname: _from_json(field, columns[name])
        for name, field in by_column.items()
        if name in columns
    }


def _from_json(field: Field[Any, Any], value: Any) -> Any:
    target: Any = getattr(field, "target_field", field)
    if isinstance(target, BinaryField) and isinstance(value, str):
        return bytes.fromhex(value.removeprefix("\\x"))
    if isinstance(target, DateTimeField) and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo or not settings.USE_TZ else moment.replace(tzinfo=UTC)
    return value if isinstance(target, JSONField | FileField) else target.to_python(value)
