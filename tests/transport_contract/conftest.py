"""One server for each module, which says with ``SERVER`` which it is; each test has topics of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.support.databases import server_database
from tests.support.servers import Server
from tests.transport_contract.clients import CLIENTS, Client, Site

SETTINGS = "tests.transport_contract.site.settings"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with server_database("sqlite", folder, SETTINGS) as database:
        # With one arena what threads leave behind is used again: memory says what is really kept.
        env = {**database.env, "DJANGO_SETTINGS_MODULE": SETTINGS, "MALLOC_ARENA_MAX": "1"}
        with Server(request.module.SERVER, env=env, log_path=folder / "server.log") as server:
            yield Site(server)
            log = server.log()
    # Clients that leave, that do not read and that are cut are no faults of the site.
    for word in ("Traceback", "ERROR", "Exception"):
        assert word not in log, log[-8000:]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.name)
def kind(request: pytest.FixtureRequest) -> type[Client]:
    client: type[Client] = request.param
    return client


@pytest.fixture
def slug() -> str:
    """The end of a topic's name that no other test has."""
    return f"t{next(_numbers)}"
