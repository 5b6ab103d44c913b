"""Writes that pass Django by: PostgreSQL's triggers note them, and they are told once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.state import ProjectState

from django_live.features.triggers import LiveTriggers, trigger_name
from tests.conftest import NewDatabase
from tests.support import prepared
from tests.support.databases import CommandFailedError, ServerDatabase
from tests.support.postgres_url import PostgresServer
from tests.support.requirements import require
from tests.support.servers import PROJECT_ROOT

INSERT = "INSERT INTO triggerapp_reading (sensor, \"Wert\", raw, extra) VALUES (%s, %s, '', '{}')"


class Site:
    """A database with triggers, and somebody who writes to it without Django."""

    def __init__(self, database: ServerDatabase) -> None:
        self.database = database
        url = PostgresServer.from_environment().url.rpartition("/")[0]
        self.psql = psycopg.connect(f"{url}/{database.name}", autocommit=True)
        self._read: dict[str, int] = {}

    def rows(self, sql: str, *params: Any) -> list[Any]:
        return self.psql.execute(sql.encode(), params).fetchall()

    def write(self, sql: str, *params: Any) -> None:
        self.psql.execute(sql.encode(), params)

    def notes(self) -> int:
        [(count,)] = self.rows("SELECT count(*) FROM django_live_pendingchange")
        return int(count)

    def sweep(self) -> None:
        self.database.manage("live_sweep")

    def heard(self, topic: str) -> list[tuple[str, Any]]:
        """What the topic has heard since it was last asked."""
        rows = self.rows(
            'SELECT e."offset", e.type, e.data FROM django_live_storedevent e '
            'JOIN django_live_head h ON h.id = e.head_id WHERE h.name = %s AND e."offset" > %s '
            'ORDER BY e."offset"',
            topic,
            self._read.get(topic, 0),
        )
        if rows:
            self._read[topic] = rows[-1][0]
        return [(type, json.loads(data)) for _, type, data in rows]

    def wait_for(self, topic: str, count: int = 1, seconds: float = 30) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        deadline = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < deadline:
            time.sleep(0.02)
            found += self.heard(topic)
        return found

    @contextmanager
    def listener(self) -> Iterator[subprocess.Popen[str]]:
        """`live_listen`, listening. It looks by itself only once in ten minutes."""
        process = prepared.Popen(
            [sys.executable, "-m", "django", "live_listen", "--every", "600"],
            cwd=PROJECT_ROOT,
            env={**_environment(), **self.database.env},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout
            assert process.stdout.readline() == "Listening to default.\n"
            yield process
        finally:
            process.kill()
            process.communicate()


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}


@pytest.fixture
def site(new_server_database: NewDatabase) -> Iterator[Site]:
    require("postgresql")
    one = Site(new_server_database("postgresql", "tests.settings_triggers"))
    yield one
    one.psql.close()


def test_writes_of_others_are_told_as_saves_are(site: Site) -> None:
    site.write(INSERT, "north", "1.5")
    site.sweep()
    [(_, created)] = told = site.heard("sensors/north")
    pk = created["pk"]
    assert told == [
        (
            "created",
            {"pk": pk, "value": "1.5000000000", "taken": None, "extra": {}, "token": None},
        )
    ]
    site.write(
        'UPDATE triggerapp_reading SET "Wert" = 12345678901234567890.0123456789, '
        "taken = '2026-01-31 12:00+01', raw = '\\x00ff', extra = '{\"ü\": [1.5, null]}', "
        "token = '12345678-1234-5678-1234-567812345678'"
    )
    site.sweep()
    [(type, data)] = site.heard("sensors/north")
    assert (type, data["value"]) == ("updated", "12345678901234567890.0123456789")
    assert data["taken"] == "2026-01-31T11:00:00Z"
    assert data["changed"] == ["value", "taken", "extra", "token"]

    site.write("UPDATE triggerapp_reading SET sensor = sensor")
    assert site.notes() == 0  # nothing is different

    with site.psql.transaction():
        site.write("UPDATE triggerapp_reading SET sensor = 'south'")
        site.write('UPDATE triggerapp_reading SET "Wert" = 2')
        site.write(INSERT, "west", 7)
        site.write("DELETE FROM triggerapp_reading WHERE sensor = 'west'")
    site.sweep()
    assert site.heard("sensors/north") == [("deleted", {"pk": pk})]
    assert [(t, d["value"]) for t, d in site.heard("sensors/south")] == [
        ("created", "2.0000000000")
    ]
    assert site.heard("sensors/west") == []

    site.write("UPDATE triggerapp_reading SET id = id + 1000")
    site.sweep()
    assert [(t, d["pk"]) for t, d in site.heard("sensors/south")] == [
        ("deleted", pk),
        ("created", pk + 1000),
    ]
    site.write("DELETE FROM triggerapp_reading")
    site.sweep()
    assert site.heard("sensors/south") == [("deleted", {"pk": pk + 1000})]
    assert site.notes() == 0


def test_what_is_rolled_back_is_not_told(site: Site) -> None:
    with site.psql.transaction(force_rollback=True):
        site.write(INSERT, "north", 1)
        assert site.notes() == 1
    assert site.notes() == 0
    site.sweep()
    assert site.heard("sensors/north") == []


ORM = """
from django.db import transaction
from tests.triggerapp.models import Reading
one = Reading.objects.create(sensor="north", value=1)
with transaction.atomic():
    one.value = 2
    one.save()
    one.value = 3
    one.save()
Reading.objects.filter(pk=one.pk).update(value=4)
Reading.objects.bulk_create([Reading(sensor="north", value=n) for n in (5, 6)])
from django_live.core.sweeping import sweep
sweep()
one.delete()
"""


def test_what_django_writes_is_told_once(site: Site) -> None:
    """The trigger notes it; the signals only say that there is something to tell."""
    site.database.python(ORM)
    assert site.notes() == 0
    told = [(type, data.get("value")) for type, data in site.heard("sensors/north")]
    assert sorted(told, key=str) == sorted(
        [
            ("created", "1.0000000000"),
            ("updated", "3.0000000000"),
            ("updated", "4.0000000000"),
            ("created", "5.0000000000"),
            ("created", "6.0000000000"),
            ("deleted", None),
        ],
        key=str,
    )
    assert told[0][0] == "created"
    assert told[-1][0] == "deleted"


def test_a_listener_tells_at_once_and_what_it_missed_while_it_was_dead(site: Site) -> None:
    with site.listener() as first:
        site.write(INSERT, "north", 1)
        assert [t for t, _ in site.wait_for("sensors/north")] == ["created"]
        with site.listener():  # a second one changes nothing
            site.write('UPDATE triggerapp_reading SET "Wert" = 2')
            assert [t for t, _ in site.wait_for("sensors/north")] == ["updated"]
        first.kill()
        first.wait()
        site.write('UPDATE triggerapp_reading SET "Wert" = 3')
    assert site.heard("sensors/north") == []
    assert site.notes() == 1
    with site.listener() as third:
        told = site.wait_for("sensors/north")
        assert [(t, d["value"]) for t, d in told] == [("updated", "3.0000000000")]
        # Its connection is cut, as by a failover; it comes back by itself.
        site.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        site.write('UPDATE triggerapp_reading SET "Wert" = 4')
        told = site.wait_for("sensors/north")
        assert [(t, d["value"]) for t, d in told] == [("updated", "4.0000000000")]
        third.terminate()
        assert third.wait(timeout=30) == 0
    assert site.heard("sensors/north") == []


def test_the_operation_can_be_undone(site: Site) -> None:
    triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"
    functions = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'django_live%%'"
    assert (site.rows(triggers), site.rows(functions)) == ([(2,)], [(1,)])
    site.database.manage("migrate", "triggerapp", "0001", "--verbosity", "0")
    assert (site.rows(triggers), site.rows(functions)) == ([(0,)], [(0,)])
    site.write(INSERT, "north", 1)
    assert site.notes() == 0
    site.database.manage("migrate", "triggerapp", "--verbosity", "0")
    # From a program with another search path, as psql in a schema of its own.
    site.write("SET search_path TO pg_catalog")
    site.write(INSERT.replace("triggerapp", "public.triggerapp"), "north", 2)
    site.write("SET search_path TO public")
    assert site.notes() == 1


@pytest.mark.django_db
def test_on_other_databases_the_operation_does_nothing() -> None:
    operation = LiveTriggers("testapp.Order")
    assert operation.deconstruct() == ("LiveTriggers", ["testapp.Order"], {})
    assert "testapp.Order" in operation.describe()
    assert LiveTriggers.reversible
    if connection.vendor == "postgresql":
        return
    state = ProjectState.from_apps(apps)
    # It does not touch an editor that has no connection to write to.
    editor: Any = SimpleNamespace(connection=connection)
    operation.database_forwards("testapp", editor, state, state)
    operation.database_backwards("testapp", editor, state, state)


def test_the_check_finds_a_table_without_triggers(site: Site) -> None:
    check = ["check", "--database", "default", "--fail-level", "WARNING"]
    assert "no issues" in site.database.manage(*check)
    site.database.manage("migrate", "triggerapp", "0001", "--verbosity", "0")
    with pytest.raises(CommandFailedError, match=r"django_live\.W003.*triggerapp\.Reading"):
        site.database.manage(*check)


def test_names_of_triggers_fit_whatever_the_table_is_called() -> None:
    names: Callable[[str], str] = trigger_name
    assert len(names("x" * 63) + "_w") <= 63
    assert names("x" * 62) != names("x" * 63)
