"""The negative control: with a mechanism switched off the contract is not fulfilled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.databases import server_database
from tests.support.servers import Server
from tests.transport_contract.clients import Site
from tests.transport_contract.conftest import SETTINGS
from tests.transport_contract.contract import TransportContract


def test_without_back_pressure_slow_readers_fill_the_memory(
    tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., Server]
) -> None:
    with server_database("sqlite", tmp_path_factory.mktemp("site"), SETTINGS) as database:
        env = {
            **database.env,
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "MALLOC_ARENA_MAX": "1",
            "LIVE_TEST_BROKEN": "back-pressure",
        }
        server = start_server("daphne", "tests.servers.broken:application", env=env)
        with pytest.raises(AssertionError, match="published meanwhile"):
            TransportContract().test_replay_slow_readers_cost_a_constant_and_miss_nothing(
                Site(server), "control"
            )
