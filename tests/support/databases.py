"""Databases for tests that start servers: each test its own, thrown away afterwards.

pytest-django's database belongs to the test's process; what a server process shall see has to be
committed in a database that both know. These are chosen by environment variables, which the settings
of the tests' site and of the example project read.
"""

import atexit
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from tests.support.mariadb_url import MariadbServer
from tests.support.postgres_url import PostgresServer
from tests.support.requirements import require
from tests.support.servers import PROJECT_ROOT

Engine = Literal["sqlite", "sqlite-journal", "postgresql", "mariadb"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

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
    engine: Engine, folder: Path, settings: str = "tests.settings"
) -> Iterator[ServerDatabase]:
    """A new database, migrated. `folder` (a `tmp_path`) takes the SQLite file; `settings` is
    `tests.settings` or `example_project.settings`."""
    if engine in ("sqlite", "sqlite-journal"):
        path = str(folder / f"test_django_live_{next(_numbers)}.sqlite3")
        shutil.copyfile(_template(engine, settings), path)
        yield ServerDatabase(engine, path, environment(engine, path, settings))
        return
    require(engine)
    if engine == "mariadb":
        with mariadb_database() as name:
            yield _migrated(engine, name, settings)
        return
    with postgresql_database(_template(engine, settings)) as name:
        yield ServerDatabase(engine, name, environment(engine, name, settings))


_templates = contextlib.ExitStack()
atexit.register(_templates.close)


@cache
def _template(engine: Engine, settings: str) -> str:
    """A migrated database to copy, of this process: to migrate takes seconds. Whoever migrated it has
    left, so it is complete and nobody is connected."""
    if engine == "postgresql":
        name = _templates.enter_context(postgresql_database())
    else:
        folder = _templates.enter_context(tempfile.TemporaryDirectory())
        name = str(Path(folder) / "template.sqlite3")
    return _migrated(engine, name, settings).name


@contextmanager
def postgresql_database(template: str = "template1") -> Iterator[str]:
    """A new PostgreSQL database like the template; its name. Whoever is still connected at the end is
    cut."""
    import psycopg

    url = PostgresServer.from_environment().url
    name = f"test_django_live_{os.getpid()}_{next(_numbers)}"
    # The name is made of letters and digits of ours: nothing in it needs quoting.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    try:
        yield name
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@contextmanager
def mariadb_database() -> Iterator[str]:
    """A new, empty MariaDB database; its name. Whoever is still connected finds it gone."""
    server = MariadbServer.from_environment()
    name = f"test_django_live_{os.getpid()}_{next(_numbers)}"
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield name
    finally:
        with server.cursor() as cursor:
            # DROP would wait for the transactions of a process that was only just killed.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
            for (id,) in cursor.fetchall():
                with suppress(Exception):  # it went by itself
                    cursor.execute(f"KILL {int(id)}")
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")


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


def _migrated(engine: Engine, name: str, settings: str) -> ServerDatabase:
    database = ServerDatabase(engine, name, environment(engine, name, settings))
    database.manage("migrate", "--verbosity", "0", "--no-input")
    return database
