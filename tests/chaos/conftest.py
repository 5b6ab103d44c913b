"""The databases that the chaos is tried on."""

from __future__ import annotations

from typing import cast

import pytest

from tests.conftest import NewDatabase
from tests.support.databases import ENGINES, Engine, ServerDatabase


@pytest.fixture(params=ENGINES)
def any_database(
    request: pytest.FixtureRequest, new_server_database: NewDatabase
) -> ServerDatabase:
    """The test runs once on each database there is, each time with a new one."""
    return new_server_database(cast(Engine, request.param))
