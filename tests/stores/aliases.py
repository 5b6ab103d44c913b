"""A second database alias for a test, with django_live's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_live.core.sweeping import errands
from tests.support.databases import Engine, migrated, new_database
from tests.support.engines import create
from tests.support.mariadb_url import MariadbServer
from tests.support.postgres_url import PostgresServer

ELSEWHERE = "elsewhere"


class _WithOneMore(dict[str, dict[str, object]]):
    """`settings.DATABASES` with one more, which whoever lists them does not see: pytest-django would
    neither create nor allow it."""

    more: dict[str, object]

    def __contains__(self, alias: object) -> bool:
        return alias == ELSEWHERE or super().__contains__(alias)

    def __missing__(self, alias: str) -> dict[str, object]:
        if alias == ELSEWHERE:
            return self.more
        raise KeyError(alias)


@contextmanager
def alias_elsewhere(database: Mapping[str, object]) -> Iterator[str]:
    """The alias "elsewhere" for this database; its name. At the end no thread has a connection to it: who
    goes through all connections, to close them, does not see it."""
    before = connections.settings
    made: list[BaseDatabaseWrapper] = []

    def create(alias: str) -> BaseDatabaseWrapper:
        wrapper: BaseDatabaseWrapper = type(connections).create_connection(connections, alias)
        if alias == ELSEWHERE:
            made.append(wrapper)
        return wrapper

    settings = _WithOneMore(before)
    settings.more = connections.configure_settings({"default": dict(database)})["default"]
    connections.settings = settings
    connections.create_connection = create  # type: ignore[method-assign]
    try:
        # Later, once it is listed, Django's tests would forbid it.
        connections[ELSEWHERE].ensure_connection()
        yield ELSEWHERE
    finally:
        try:
            errands.flush()
            for wrapper in made:
                wrapper.inc_thread_sharing()
                wrapper.close()
            with suppress(AttributeError):  # a task of its own had its own connection
                del connections[ELSEWHERE]
        finally:
            del connections.create_connection
            connections.settings = before


def _migrated(engine: Engine) -> str:
    return migrated(engine, "tests.settings", only=["django_live"])


def sqlite_at(path: Path) -> dict[str, object]:
    """A new database there."""
    create("sqlite", str(path), _migrated("sqlite-journal"))
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }


@contextmanager
def postgresql_elsewhere(**options: object) -> Iterator[str]:
    """The alias "elsewhere" for a new PostgreSQL database."""
    server = PostgresServer.from_environment()
    with (
        new_database("postgresql", _migrated("postgresql")) as name,
        alias_elsewhere(
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": name,
                "USER": server.user,
                "PASSWORD": server.password,
                "HOST": server.host,
                "PORT": server.port,
                "OPTIONS": options,
            }
        ) as alias,
    ):
        yield alias


@contextmanager
def mariadb_elsewhere(**options: object) -> Iterator[str]:
    """The alias "elsewhere" for a new MariaDB database."""
    with (
        new_database("mariadb", _migrated("mariadb")) as name,
        alias_elsewhere(MariadbServer.from_environment().django_settings(name, **options)) as alias,
    ):
        yield alias


def serializable(server: str) -> object:
    """The strictest isolation level, as this server's driver wants it named."""
    if server == "mariadb":
        return "serializable"
    from psycopg import IsolationLevel

    return IsolationLevel.SERIALIZABLE


WITH_SERVERS = {"postgresql": postgresql_elsewhere, "mariadb": mariadb_elsewhere}
"""Databases where two may write at the same time."""
