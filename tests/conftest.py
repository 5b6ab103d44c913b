"""What every test may ask for. The parts live in `support/`, one subject each."""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import hypothesis
import pytest
from django.conf import settings
from django.db import connection

from tests.support import emptying, templates
from tests.support.databases import Engine, ServerDatabase, server_database
from tests.support.reader_pool import ReaderPool
from tests.support.redis import RedisServer
from tests.support.requirements import require
from tests.support.servers import Server

# `make test` draws the same examples every time, so that it says the same of the same code;
# LIVE_TEST_RANDOM=1 draws new ones, which is how the machines find what nobody thought of.
hypothesis.settings.register_profile("the same every time", derandomize=True)
if not os.environ.get("LIVE_TEST_RANDOM"):
    hypothesis.settings.load_profile("the same every time")

pytest_plugins = [
    "pytester",
    "tests.support.left_out",
    "tests.support.browsers",
]

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:  # noqa: ARG001 - it adds to that
    """Tests that commit are tidied up after quickly; PostgreSQL removes no database that a background
    thread is still connected to."""
    from django_live.core.sweeping import errands

    with django_db_blocker.unblock():
        emptying.note_what_migrating_made()
    emptying.install()
    yield
    errands.flush()
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )


@pytest.fixture
def new_server_database(tmp_path: Path) -> Iterator[NewDatabase]:
    """`new_server_database("postgresql")` makes a migrated database for server processes."""
    with contextlib.ExitStack() as stack:

        def make(engine: Engine = "sqlite", settings: str = "tests.settings") -> ServerDatabase:
            return stack.enter_context(server_database(engine, tmp_path, settings))

        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def each_server_database(
    request: pytest.FixtureRequest, new_server_database: NewDatabase
) -> ServerDatabase:
    """The test runs once on each of these databases, each time with a new one. What depends on the
    database more than a server does runs on all of them (`tests/chaos/`)."""
    return new_server_database(cast(Engine, request.param))


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """`start_server("uvicorn", env=database.env)`: as `Server(…)`, started, and ended afterwards."""
    servers: list[Server] = []

    def start(*args: object, **kwargs: object) -> Server:
        kwargs.setdefault("log_path", tmp_path / f"server_{len(servers)}.log")
        server = Server(*args, **kwargs)  # type: ignore[arg-type]
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()
        # pytest shows this only when the test failed.
        print(server.log_tail())  # noqa: T201


@pytest.fixture
def readers() -> Iterator[ReaderPool]:
    """A pool that holds as many event streams as the test opens."""
    with ReaderPool() as pool:
        yield pool


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis server that belongs to this test alone."""
    require("redis-server")
    with RedisServer() as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of what is not repeated on each database, and of what waits for `make soak`;
    the processes of pytest-xdist, which are started after this, share the databases that are copied."""
    templates.share()
    config.addinivalue_line(
        "markers",
        "any_database: makes the databases it needs, or needs none: the same whatever "
        "LIVE_TEST_DATABASE says",
    )
    config.addinivalue_line(
        "markers", "long: part of `make soak`; LIVE_TEST_LONG=1 runs it, and `make test` does not"
    )


SLOW_FIRST = ("docs", "chaos", "faults", "browser", "servers", "transport_contract", "stores")
"""Folders whose files take long: begun last, one of them would keep a single process busy at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long comes first. Long forms of what `make test` shows in short wait for `make soak`."""
    here = Path(__file__).parent
    order = {folder: place for place, folder in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(here).parts[0], len(order)))
    if os.environ.get("LIVE_TEST_LONG"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_sessionfinish() -> None:
    """Remove what SQLite left beside the test database, if a connection was never closed."""
    gc.collect()
    name = settings.DATABASES["default"].get("TEST", {}).get("NAME") or ""
    if name.endswith(".sqlite3"):
        path = Path(name)
        for leftover in path.parent.glob(f"{path.stem}*"):
            leftover.unlink(missing_ok=True)
