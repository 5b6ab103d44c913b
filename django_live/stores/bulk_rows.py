"""Many rows in one statement, in the form that each database takes fastest.

Must keep true: rows get their ids in the order in which they were given; a failing statement breaks
the transaction that it is part of, as Django's own would.

Django's ``bulk_create()`` compiles an expression per value, and on SQLite splits 1,000 rows into ten
statements: numbering 20,000 events took four times as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .blocks import BLOCK_CHARACTERS, Block, block_of

FEW = 50
"""Rows whose values are given one by one: SQLite takes 999."""

Values = Sequence[Any]


def insert_rows(
    using: str,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
    *,
    ignore_conflicts: bool = False,
    block: Block | None = None,
) -> None:
    """Insert rows whose values stand in the order of these attribute names."""
    if not rows:
        return
    insert = _INSERTS.get(connections[using].vendor)
    if insert is None:
        objects = [model(**dict(zip(columns, row, strict=True))) for row in rows]
        model._base_manager.using(using).bulk_create(objects, ignore_conflicts=ignore_conflicts)
        return
    in_transaction = connections[using].in_atomic_block
    # SQLite would commit each row of its own.
    whole = transaction.mark_for_rollback_on_error if in_transaction else _all_or_nothing
    with whole(using):
        for part in parts_by_size(rows):
            with block_of(using, block) as own:
                insert(own, model, columns, part, ignore_conflicts)


def _all_or_nothing(using: str) -> AbstractContextManager[Any]:
    return transaction.atomic(using=using, savepoint=False)


def insert_and_number(
    using: str, model: type[models.Model], columns: Sequence[str], rows: Sequence[Values]
) -> list[int]:
    """Insert rows into a table whose database numbers them; their ids, in order."""
    if not rows:
        return []
    connection = connections[using]
    if (
        not connection.features.can_return_rows_from_bulk_insert
        or connection.vendor not in _INSERTS
    ):
        objects = [model(**dict(zip(columns, row, strict=True))) for row in rows]
        for one in objects:
            one.save(using=using, force_insert=True)
        return [one.pk for one in objects]
    key = connection.ops.quote_name(str(model._meta.pk.column))
    make = {"sqlite": _from_json, "postgresql": _from_records}.get(connection.vendor, _from_values)
    if len(rows) < FEW:
        make = _from_values
    ids: list[int] = []
    with transaction.mark_for_rollback_on_error(using), connection.cursor() as cursor:
        for part in parts_by_size(rows):
            statement, values = make(connection, model, columns, part)
            cursor.execute(f"{statement} RETURNING {key}", values)
            # SQLite promises no order of what it returns.
            ids += sorted(id for (id,) in cursor.fetchall())
    return ids


def parts_by_size(rows: Sequence[Values]) -> Iterator[list[Values]]:
    """The rows in parts that a statement may carry."""
    part: list[Values] = []
    size = 0
    for row in rows:
        length = sum(len(value) for value in row if isinstance(value, str))
        if part and size + length > BLOCK_CHARACTERS:
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part


def update_rows(
    using: str,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
    *,
    block: Block | None = None,
) -> None:
    """Set these columns of the rows whose primary keys come last in ``rows``."""
    if not rows:
        return
    connection = connections[using]
    table, (*names, key) = _quoted(connection, model, (*columns, "pk"))
    with transaction.mark_for_rollback_on_error(using), block_of(using, block) as own:
        if len(rows) == 1:
            sets = ", ".join(f"{name} = %s" for name in names)
            own.execute(f"UPDATE {table} SET {sets} WHERE {key} = %s", rows[0])  # noqa: S608
        elif connection.vendor == "sqlite":
            sets = ", ".join(f"{name} = %s" for name in names)
            with connection.cursor() as cursor:
                cursor.executemany(f"UPDATE {table} SET {sets} WHERE {key} = %s", list(rows))  # noqa: S608
        elif connection.vendor == "postgresql":
            sets = ", ".join(f"{name} = given.{name}" for name in names)
            own.execute(
                f"UPDATE {table} SET {sets} FROM unnest({_arrays(connection, model, [*columns, 'pk'])})"  # noqa: S608
                f" AS given ({', '.join(names)}, given_key) WHERE {table}.{key} = given.given_key",
                _turned(rows),
            )
        else:
            whens = " ".join(["WHEN %s THEN %s"] * len(rows))
            sets = ", ".join(f"{name} = CASE {key} {whens} END" for name in names)
            values = [
                value
                for place in range(len(columns))
                for row in rows
                for value in (row[-1], row[place])
            ]
            marks = ", ".join(["%s"] * len(rows))
            own.execute(
                f"UPDATE {table} SET {sets} WHERE {key} IN ({marks})",  # noqa: S608
                [*values, *(row[-1] for row in rows)],
            )


# -- what each database takes fastest --------------------------------------------------------------

_Statement = tuple[str, list[Any]]


def _into(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    columns: Sequence[str],
    how: str = "INSERT",
) -> str:
    table, names = _quoted(connection, model, tuple(columns))
    return f"{how} INTO {table} ({', '.join(names)})"


_quoted_names: dict[tuple[str, type[models.Model], tuple[str, ...]], tuple[str, list[str]]] = {}


def _quoted(
    connection: BaseDatabaseWrapper, model: type[models.Model], columns: tuple[str, ...]
) -> tuple[str, list[str]]:
    """The table, and these columns. Looked up once: it was a tenth of what numbering an event takes."""
    asked = (connection.vendor, model, columns)
    known = _quoted_names.get(asked)
    if known is None:
        quote = connection.ops.quote_name
        names = [quote(_column(model, name)) for name in columns]
        known = _quoted_names[asked] = (quote(model._meta.db_table), names)
    return known


def _column(model: type[models.Model], name: str) -> str:
    return str(_field(model, name).column)


def _field(model: type[models.Model], name: str) -> Any:
    if name == "pk":
        return model._meta.pk
    return next(field for field in model._meta.concrete_fields if field.attname == name)


def _marks(columns: Sequence[str]) -> str:
    return f"({', '.join(['%s'] * len(columns))})"


def _turned(rows: Sequence[Values]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _arrays(
    connection: BaseDatabaseWrapper, model: type[models.Model], columns: Sequence[str]
) -> str:
    # Without the length: a cast to varchar(64) would cut in silence.
    types = [_field(model, name).rel_db_type(connection) for name in columns]
    return ", ".join(f"%s::{type.partition('(')[0]}[]" for type in types)


def _from_records(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
) -> _Statement:
    """PostgreSQL: one text, parsed there. (Quoting arrays of texts takes longer here than all else.)"""
    quote = connection.ops.quote_name
    names = [_column(model, name) for name in columns]
    typed = ", ".join(
        f"{quote(name)} {_field(model, column).rel_db_type(connection).partition('(')[0]}"
        for name, column in zip(names, columns, strict=True)
    )
    into = _into(connection, model, columns)
    records = [dict(zip(names, row, strict=True)) for row in rows]
    chosen = ", ".join(map(quote, names))
    statement = f"{into} SELECT {chosen} FROM json_to_recordset(%s::json) AS given ({typed})"  # noqa: S608
    return statement, [json.dumps(records)]


def _from_json(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
) -> _Statement:
    """SQLite: ``executemany`` is faster, but tells no ids."""
    values = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(columns)))
    into = _into(connection, model, columns)
    return f"{into} SELECT {values} FROM json_each(%s)", [json.dumps(rows)]  # noqa: S608


def _from_values(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
    how: str = "INSERT",
) -> _Statement:
    """Any database. (The ``executemany`` of MariaDB's drivers cuts at 64 kB.)"""
    marks = ", ".join([_marks(columns)] * len(rows))
    into = _into(connection, model, columns, how)
    return f"{into} VALUES {marks}", [value for row in rows for value in row]


def _insert_sqlite(
    block: Block,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
    ignore: bool,
) -> None:
    into = _into(block.connection, model, columns, "INSERT OR IGNORE" if ignore else "INSERT")
    with block.connection.cursor() as cursor:
        cursor.executemany(f"{into} VALUES {_marks(columns)}", list(rows))


def _insert_postgresql(
    block: Block,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
    ignore: bool,
) -> None:
    statement, values = _from_records(block.connection, model, columns, rows)
    block.execute(statement + (" ON CONFLICT DO NOTHING" if ignore else ""), values)


def _insert_mysql(
    block: Block,
    model: type[models.Model],
    columns: Sequence[str],
    rows: Sequence[Values],
    ignore: bool,
) -> None:
    how = "INSERT IGNORE" if ignore else "INSERT"
    block.execute(*_from_values(block.connection, model, columns, rows, how))


_INSERTS: dict[str, Callable[..., None]] = {
    "sqlite": _insert_sqlite,
    "postgresql": _insert_postgresql,
    "mysql": _insert_mysql,
}
