"""PostgreSQL triggers for writes that pass Django by: raw SQL, other programs, ``psql``.

The trigger writes a note into the outbox of changes in the writer's own transaction, so the note
commits or vanishes with the row and nothing is lost while nobody listens. ``NOTIFY`` only wakes
``live_listen`` up. Whoever presents notes (``deferred.py``) has their rows locked; that is the lease,
and it ends with its holder.

Must keep true: the function is a fixed text with quoted names, and runs with the search path that the
migration had, not the writer's.
"""

from __future__ import annotations

import hashlib
import select
from typing import Any

from django.db import connections, router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Model

from ..models import PendingChange
from .declared import TABLE

WAKE = "django_live_changes"
"""What NOTIFY and LISTEN name it."""

_FUNCTION = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $live$
DECLARE
    was json := NULL;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        was := row_to_json(OLD);
        INSERT INTO {notes} (source, object_key, facts, due, created) VALUES (
            {source}, md5({source} || ' ' || json_build_array({old_keys})::text),
            json_build_object('pk', json_build_array({old_keys}), 'old', was)::text,
            0, extract(epoch FROM clock_timestamp()));
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND ({keys_differ})) THEN
        INSERT INTO {notes} (source, object_key, facts, due, created) VALUES (
            {source}, md5({source} || ' ' || json_build_array({new_keys})::text),
            json_build_object('pk', json_build_array({new_keys}), 'old', NULL)::text,
            0, extract(epoch FROM clock_timestamp()));
    END IF;
    PERFORM pg_notify({wake}, '');
    RETURN NULL;
END
$live$
"""


class LiveTriggers(Operation):
    """A migration operation: ``LiveTriggers("orders.Order")`` notes every row that is inserted,
    changed or deleted, for the ``Changes`` of the model that say ``triggers = True``.

    Does nothing on databases other than PostgreSQL. Put it after the migration that makes the table,
    and name ``("django_live", "0003_pending_changes")`` among the dependencies.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, model: str) -> None:
        self.model = model

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (type(self).__name__, [self.model], {})

    def describe(self) -> str:
        return f"Note what is written to the table of {self.model}"

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """The models stay as they are."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = self._model(app_label, to_state)
        if _can(schema_editor, model):
            install(schema_editor, model)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = self._model(app_label, from_state)
        if _can(schema_editor, model):
            uninstall(schema_editor, model)

    def _model(self, app_label: str, state: ProjectState) -> type[Model]:
        label, _, name = self.model.rpartition(".")
        return state.apps.get_model(label or app_label, name)


def _can(schema_editor: BaseDatabaseSchemaEditor, model: type[Model]) -> bool:
    """Whether there are triggers here: the model's table and that of the notes have to be."""
    connection = schema_editor.connection
    tables = (model, PendingChange)
    return connection.vendor == "postgresql" and all(
        router.allow_migrate_model(connection.alias, one) for one in tables
    )


def install(schema_editor: BaseDatabaseSchemaEditor, model: type[Model]) -> None:
    """Make the function and the trigger of the model's table, or replace them."""
    quote = schema_editor.quote_name
    columns = [quote(str(field.column)) for field in model._meta.pk_fields]
    table = model._meta.db_table
    name = quote(trigger_name(table))
    function = _FUNCTION.format(
        function=name,
        notes=quote(PendingChange._meta.db_table),
        source=schema_editor.quote_value(TABLE + table),
        wake=schema_editor.quote_value(WAKE),
        old_keys=", ".join(f"OLD.{column}" for column in columns),
        new_keys=", ".join(f"NEW.{column}" for column in columns),
        keys_differ=" OR ".join(f"OLD.{c} IS DISTINCT FROM NEW.{c}" for c in columns),
    )
    schema_editor.execute(function, params=None)
    for suffix, when in (("w", "INSERT OR DELETE"), ("u", "UPDATE")):
        trigger = quote(f"{trigger_name(table)}_{suffix}")
        # An update that leaves the row as it was is none.
        unless = "WHEN (OLD.* IS DISTINCT FROM NEW.*)" if when == "UPDATE" else ""
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {quote(table)}", params=None)
        schema_editor.execute(
            f"CREATE TRIGGER {trigger} AFTER {when} ON {quote(table)} "
            f"FOR EACH ROW {unless} EXECUTE FUNCTION {name}()",
            params=None,
        )


def uninstall(schema_editor: BaseDatabaseSchemaEditor, model: type[Model]) -> None:
    """Take the triggers and the function away."""
    quote = schema_editor.quote_name
    table = model._meta.db_table
    for suffix in ("w", "u"):
        trigger = quote(f"{trigger_name(table)}_{suffix}")
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {quote(table)}", params=None)
    schema_editor.execute(f"DROP FUNCTION IF EXISTS {quote(trigger_name(table))}()", params=None)


def trigger_name(table: str) -> str:
    """Fits into PostgreSQL's 63 characters, whatever the table is called."""
    digest = hashlib.blake2b(table.encode(), digest_size=6).hexdigest()
    return f"django_live_{table[:30]}_{digest}"


def are_missing(using: str, model: type[Model]) -> bool:
    """Whether the model's table is in this database, and has no triggers."""
    connection = connections[using]
    if connection.vendor != "postgresql" or not router.allow_migrate_model(using, model):
        return False
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return False
        cursor.execute(
            "SELECT count(*) FROM pg_trigger WHERE tgname = ANY(%s)",
            [[f"{trigger_name(table)}_{suffix}" for suffix in ("w", "u")]],
        )
        return int(cursor.fetchone()[0]) < 2


class Ear:
    """A connection of its own that hears of each commit in which a trigger has noted something. On one
    that also asks other things, the driver takes what it hears for itself."""

    def __init__(self, using: str) -> None:
        self._connection = connections[using].copy()
        with self._connection.cursor() as cursor:
            cursor.execute(f"LISTEN {self._connection.ops.quote_name(WAKE)}")
        driver: Any = self._connection.connection
        if hasattr(driver, "add_notify_handler"):  # psycopg 3 would keep what nobody takes
            driver.add_notify_handler(lambda notice: None)

    def wait(self, seconds: float) -> bool:
        """Whether something was heard within this time. Raises a ``DatabaseError`` where nobody is
        there any more."""
        driver: Any = self._connection.connection
        if not select.select([driver.fileno()], [], [], seconds)[0]:
            return False
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")  # reads what has come
        if hasattr(driver, "poll"):  # psycopg 2 keeps it
            driver.notifies.clear()
        return True

    def close(self) -> None:
        self._connection.close()
