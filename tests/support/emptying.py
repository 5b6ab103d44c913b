"""How a test that commits leaves an empty database behind.

Django's own way, the command `flush`, empties each table there is and makes all content types and
permissions anew: on a server most of the time of a short test. Here only the tables that have rows are
emptied, and what the migrations have made stays.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase

MADE_BY_MIGRATING = {"django_content_type", "auth_permission"}

_django_teardown: Any = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]
_made: dict[tuple[str, str], int] = {}
"""By database and table the last row that migrating has made."""


def install() -> None:
    """Have it done after each test that commits."""
    setattr(TransactionTestCase, "_fixture_teardown", _teardown)  # noqa: B010 - a private name


def note_what_migrating_made() -> None:
    """Once a test database is made: its rows stay."""
    for connection in connections.all(initialized_only=True):
        for table in MADE_BY_MIGRATING:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT MAX(id) FROM {table}")
                _made[connection.settings_dict["NAME"], table] = cursor.fetchone()[0] or 0


def _teardown(self: Any) -> None:
    wants_more = self.reset_sequences or self.serialized_rollback or self.available_apps is not None
    for alias in self._databases_names(include_mirrors=False):
        if wants_more or not _emptied(connections[alias]):
            _django_teardown(self)
            return


def _emptied(connection: BaseDatabaseWrapper) -> bool:
    """Whether it is empty now. Not where a table is missing, or the database is not as we know it."""
    made = {
        table: _made.get((connection.settings_dict["NAME"], table)) for table in MADE_BY_MIGRATING
    }
    if None in made.values():
        return False
    tables = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
    }
    rows = {name: f"id > {made[name]}" if name in made else "1 = 1" for name in sorted(tables)}
    quote = connection.ops.quote_name
    look = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {quote(name)} WHERE {which})"
        for name, which in rows.items()
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(look)
            full = [name for (name,) in cursor.fetchall()]
        if full:
            _delete(connection, [f"DELETE FROM {quote(n)} WHERE {rows[n]}" for n in full])
    except DatabaseError:
        return False
    return True


def _delete(connection: BaseDatabaseWrapper, statements: list[str]) -> None:
    """In any order: foreign keys are looked at when it is over, or not at all."""
    with (
        connection.constraint_checks_disabled(),
        transaction.atomic(using=connection.alias),
        connection.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement)
