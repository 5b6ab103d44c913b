"""The site of `transport_pages.py` and the network before it, for all tests that listen there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.databases import server_database
from tests.support.network import Network
from tests.support.servers import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = "tests.browser.transport_settings"
    with server_database("sqlite", tmp_path_factory.mktemp("site"), settings) as database:
        env = {**database.env, "DJANGO_SETTINGS_MODULE": settings}
        with Server("uvicorn", env=env) as server:
            yield server


@pytest.fixture
def network(server: Server) -> Iterator[Network]:
    with Network(server.host, server.port) as network:
        yield network
