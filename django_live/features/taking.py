"""Taking the notes of objects that are to be presented, and putting back those whose turn it is not.

Must keep true: a note is taken by one transaction, which waits for no lock; one that is put back is the
note it was, in its old place.

One statement where the database can return what it deletes and skip what is locked; elsewhere the notes
are read and locked, and have to be deleted afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import PendingChange
from .rows import take_write_lock

_COLUMNS = [field.attname for field in PendingChange._meta.concrete_fields]


class TakenNotes(NamedTuple):
    """Notes, oldest first. ``are_there``: they have to be deleted."""

    notes: list[PendingChange]
    are_there: bool


def take_notes(keys: Sequence[str], using: str) -> TakenNotes:
    """The notes of these objects that nobody else has taken, for the open transaction."""
    connection = connections[using]
    rows = PendingChange.objects.using(using).filter(object_key__in=keys).order_by("id")
    marks = ", ".join(["%s"] * len(keys))
    if connection.vendor == "sqlite" and connection.features.can_return_columns_from_insert:
        found = _deleted(connection, f'"object_key" IN ({marks})', keys)
        return TakenNotes(found, are_there=False)
    if connection.vendor == "postgresql":
        mine = (
            f'"id" IN (SELECT "id" FROM {_table(connection)} WHERE "object_key" IN ({marks}) '  # noqa: S608
            'ORDER BY "id" FOR UPDATE SKIP LOCKED)'
        )
        return TakenNotes(_deleted(connection, mine, keys), are_there=False)
    take_write_lock(PendingChange, using)
    if connection.features.has_select_for_update:
        skip = connection.features.has_select_for_update_skip_locked
        rows = rows.select_for_update(skip_locked=skip)
    return TakenNotes(list(rows), are_there=True)


def _deleted(
    connection: BaseDatabaseWrapper, which: str, values: Sequence[str]
) -> list[PendingChange]:
    columns = ", ".join(f'"{name}"' for name in _COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {_table(connection)} WHERE {which} RETURNING {columns}",  # noqa: S608
            list(values),
        )
        found = [PendingChange.from_db(connection.alias, _COLUMNS, row) for row in cursor]
    return sorted(found, key=lambda note: note.id)


def _table(connection: BaseDatabaseWrapper) -> str:
    return str(connection.ops.quote_name(PendingChange._meta.db_table))


def put_back(notes: Sequence[PendingChange], using: str) -> None:
    """Notes that were deleted in the open transaction are there again."""
    if notes:
        PendingChange.objects.using(using).bulk_create(notes)


def delete_notes(ids: Sequence[int], using: str) -> None:
    """In a transaction that has them locked."""
    rows = PendingChange.objects.using(using)
    # MariaDB would scan the table for a list of ids, and wait for the writers of other rows.
    size = 1 if connections[using].vendor == "mysql" else 500
    for start in range(0, len(ids), size):
        # Not delete(): receivers that listen to every model would make it two statements and more.
        rows.filter(pk__in=ids[start : start + size])._raw_delete(using)  # noqa: SLF001
