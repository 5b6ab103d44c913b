"""Databases for tests that start servers: each test its own, thrown away afterwards.

pytest-django's database belongs to the test's process; what a server process shall see has to be
committed in a database that both know. These are chosen by environment variables, which the settings
of the tests' site and of the example project read.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.engines import ENGINES, Engine, create, drop
from tests.support.postgres_url import PostgresServer
from tests.support.requirements import require
from tests.support.servers import PROJECT_ROOT
from tests.support.templates import template

__all__ = ["ENGINES", "Engine", "ServerDatabase", "server_database"]

_numbers = itertools.count(1)


class CommandFailedError(Exception):
    """A management command ended with an error; the message holds what it printed."""


@dataclass(frozen=True)
class ServerDatabase:
    """A migrated database, and the environment in which a process uses it."""

    engine: Engine
    name: str
    env: Mapping[str, str]

    def manage(self, *arguments: str, stdin: str | None = None) -> str:
        """`python -m django …` against it; returns what it prints. Raises CommandFailedError."""
        return run_python(["-m", "django", *arguments], self.env, stdin=stdin)

    def python(self, source: str, *, timeout: float = 120) -> str:
        """Run a few lines against it, in a process of their own, after `django.setup()`."""
        lines = f"import django\ndjango.setup()\n{source}"
        return run_python(["-"], self.env, stdin=lines, timeout=timeout)

    def connection_count(self) -> int:
        """Connections to this PostgreSQL database, as the server counts them."""
        import psycopg

        with psycopg.connect(PostgresServer.from_environment().url) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            row = connection.execute(query, [self.name]).fetchone()
        assert row is not None
        return int(row[0])


def run_python(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: str | None = None,
    timeout: float = 120,
) -> str:
    """This Python, in the project's root; returns its standard output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **env},
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    if done.returncode:
        what = " ".join(arguments)
        raise CommandFailedError(f"{what}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@contextmanager
def server_database(
    engine: Engine,
    folder: Path,
    settings: str = "tests.settings",
    also: Sequence[str] = (),
) -> Iterator[ServerDatabase]:
    """A new database, migrated. `folder` (a `tmp_path`) takes the SQLite file; `settings` is
    `tests.settings` or `example_project.settings`; `also` are commands that were run on it as well."""
    if engine in ("postgresql", "mariadb"):
        require(engine)
        with new_database(engine, migrated(engine, settings, also)) as name:
            yield ServerDatabase(engine, name, environment(engine, name, settings))
        return
    path = str(folder / f"test_django_live_{next(_numbers)}.sqlite3")
    create(engine, path, migrated(engine, settings, also))
    yield ServerDatabase(engine, path, environment(engine, path, settings))


def migrated(
    engine: Engine, settings: str, also: Sequence[str] = (), *, only: Sequence[str] = ()
) -> str:
    """The name of a database to copy: all apps are migrated, or `only` this one."""

    def fill(name: str) -> None:
        database = ServerDatabase(engine, name, environment(engine, name, settings))
        database.manage("migrate", *only, "--verbosity", "0", "--no-input")
        for command in also:
            database.manage(command)

    return template(engine, (engine, settings, also, only), fill)


@contextmanager
def new_database(
    engine: Literal["postgresql", "mariadb"], like: str | None = None
) -> Iterator[str]:
    """A new database, empty or a copy of this one; its name."""
    name = f"test_django_live_{os.getpid()}_{next(_numbers)}"
    create(engine, name, like)
    try:
        yield name
    finally:
        drop(engine, name)


def environment(engine: Engine, name: str, settings: str) -> dict[str, str]:
    """What makes the settings choose this database."""
    server = PostgresServer.from_environment()
    env = {
        "DJANGO_SETTINGS_MODULE": settings,
        "LIVE_TEST_DATABASE": engine,
        "LIVE_TEST_DATABASE_NAME": name,
    }
    if engine != "postgresql":
        # The example project knows SQLite and PostgreSQL.
        return {**env, "EXAMPLE_SQLITE": name} if engine == "sqlite" else env
    return {
        **env,
        "EXAMPLE_DATABASE_NAME": name,
        "EXAMPLE_DATABASE_USER": server.user,
        "EXAMPLE_DATABASE_PASSWORD": server.password,
        "EXAMPLE_DATABASE_HOST": server.host,
        "EXAMPLE_DATABASE_PORT": server.port,
    }
