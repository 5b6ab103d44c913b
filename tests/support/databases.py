"""Databases for tests that start servers: each test its own, thrown away afterwards.

pytest-django's database belongs to the test's process; what a server process shall see has to be
committed in a database that both know. These are chosen by environment variables, which the settings
of the tests' site and of the example project read.
"""

import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support import prepared
from tests.support.engines import ENGINES, Engine, create, drop
from tests.support.forking import ended_with_the_database, forking_parent
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

    def manage(self, *arguments: str) -> str:
        """`django-admin …` against it; returns what it prints. Raises CommandFailedError."""
        command = ["django-admin", *arguments]
        run = "from django.core.management import execute_from_command_line as run\n"
        return self.python(f"{run}run({command!r})")

    def python(self, source: str, *, timeout: float = 120) -> str:
        """Run a few lines against it, in a process of their own, after `django.setup()`."""
        code, printed, complained = forking_parent(self.env).run(source, timeout)
        if code:
            raise CommandFailedError(f"a process of the test: {code}\n{printed}\n{complained}")
        return printed

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
    done = prepared.run(
        [sys.executable, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **env},
        input=stdin,
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
        copied = new_database(engine, migrated(engine, settings, also))
    else:
        copied = sqlite_file(folder, migrated(engine, settings, also))
    with copied as name, ended_with_the_database(name):
        yield ServerDatabase(engine, name, environment(engine, name, settings))


def migrated(
    engine: Engine, settings: str, also: Sequence[str] = (), *, only: Sequence[str] = ()
) -> str:
    """The name of a database to copy: all apps are migrated, or `only` this one."""

    def fill(name: str) -> None:
        env = environment(engine, name, settings)
        migrate = ["migrate", *only, "--verbosity", "0", "--no-input"]
        run_python(["-m", "django", *migrate], env)
        for command in also:
            run_python(["-m", "django", command], env)

    return template(engine, (engine, settings, also, only), fill)


@contextmanager
def sqlite_file(folder: Path, like: str) -> Iterator[str]:
    """A copy of that one in the folder, which stays there; its path."""
    path = str(folder / f"test_django_live_{next(_numbers)}.sqlite3")
    create("sqlite", path, like)
    yield path


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
