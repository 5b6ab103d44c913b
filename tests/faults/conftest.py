"""What the tests of faults stand on."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.site import Plan, Site
from tests.support.databases import ServerDatabase, environment, server_database
from tests.support.redis import RedisServer
from tests.support.requirements import require

NewSite = Callable[..., Site]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerDatabase]:
    """A migrated SQLite database, to be copied."""
    with server_database("sqlite", tmp_path_factory.mktemp("migrated")) as database:
        yield database


@pytest.fixture(scope="module")
def new_site(
    tmp_path_factory: pytest.TempPathFactory, migrated_file: ServerDatabase
) -> Iterator[NewSite]:
    """`new_site(Plan(…))`: a site, begun, with a Redis of its own and a new SQLite file. It ends with
    the module, or as a context manager."""
    require("redis-server")
    with contextlib.ExitStack() as stack:

        def make(plan: Plan, **extra: Any) -> Site:
            folder: Path = tmp_path_factory.mktemp("site")
            path = folder / "site.sqlite3"
            shutil.copy(migrated_file.name, path)
            env = extra.pop("env", None) or environment("sqlite", str(path), "tests.settings")
            needs_redis = plan.layer is not None or plan.store == "redis"
            redis = stack.enter_context(RedisServer(persistent=True)) if needs_redis else None
            return stack.enter_context(Site(plan, folder, env, redis=redis, **extra))

        yield make
