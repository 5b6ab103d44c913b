"""Databases made, copied and removed, on each engine. Nothing of Django: it is not set up everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args

from tests.support.mariadb_url import MariadbServer
from tests.support.postgres_url import PostgresServer

Engine = Literal["sqlite", "sqlite-journal", "postgresql", "mariadb"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

# Names are letters, digits and underscores of ours: nothing in them needs quoting.


def create(engine: Engine, name: str, like: str | None = None) -> None:
    """A new database, empty or with all that the one named `like` has. On SQLite names are paths. To one
    that is copied nobody may be connected."""
    if engine == "postgresql":
        with _postgresql() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {like or 'template1'}")
    elif engine == "mariadb":
        with MariadbServer.from_environment().cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            if like:
                _copy_tables(cursor, like, name)
    elif like:
        shutil.copyfile(like, name)


def drop(engine: Engine, name: str) -> None:
    """Remove it if it is there. Whoever is still connected is cut."""
    if engine == "postgresql":
        with _postgresql() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    elif engine == "mariadb":
        with MariadbServer.from_environment().cursor() as cursor:
            # DROP would wait for the transactions of a process that was only just killed.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
            for (id,) in cursor.fetchall():
                with suppress(Exception):  # it went by itself
                    cursor.execute(f"KILL {int(id)}")
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
    else:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _postgresql() -> Iterator[Any]:
    import psycopg

    url = PostgresServer.from_environment().url
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _copy_tables(cursor: Any, like: str, name: str) -> None:
    """MariaDB has no templates. `CREATE TABLE … LIKE` would leave the foreign keys out."""
    cursor.execute(f"SHOW TABLES FROM {like}")
    tables = [table for (table,) in cursor.fetchall()]
    cursor.execute(f"USE {name}")
    cursor.execute("SET foreign_key_checks = 0")
    for table in tables:
        cursor.execute(f"SHOW CREATE TABLE {like}.{table}")
        cursor.execute(cursor.fetchone()[1])
    cursor.execute("BEGIN")
    for table in tables:
        cursor.execute(f"INSERT INTO {table} SELECT * FROM {like}.{table}")
    cursor.execute("COMMIT")
