"""Processes that race for a lease: never two at once, and who dies with it holds up nobody for long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import NewDatabase
from tests.contracts.conftest import empty_redis, redis_server
from tests.support.databases import run_python
from tests.support.requirements import require

__all__ = ["empty_redis", "redis_server"]

pytestmark = pytest.mark.any_database

PROCESSES = 4
TTL = 2.0


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "redis"])
def environment(
    request: pytest.FixtureRequest, new_server_database: NewDatabase
) -> Mapping[str, str]:
    """What makes a process use the store."""
    if request.param != "redis":
        return new_server_database(request.param).env
    require("redis-server")
    request.getfixturevalue("empty_redis")
    url = request.getfixturevalue("redis_server").url
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "LIVE_TEST_DJANGO_LIVE": json.dumps({"STORE": "redis", "REDIS_URL": url}),
    }


def race(
    environment: Mapping[str, str], journal: Path, mechanism: str, turns: int, deaths: int = 0
) -> list[tuple[str, int]]:
    """Let them race; what they told, in order."""
    arguments = {
        "journal": str(journal),
        "processes": PROCESSES,
        "turns": turns,
        "ttl": TTL,
        "mechanism": mechanism,
        "deaths": deaths,
    }
    command = ["-m", "tests.stores.lease_workers", json.dumps(arguments)]
    codes = json.loads(run_python(command, environment))
    assert sorted(codes) == [-9] * deaths + [0] * (PROCESSES - deaths)
    lines = [line.split() for line in journal.read_text().splitlines()]
    return [(what, int(token)) for what, token in lines]


def two_at_once(told: list[tuple[str, int]]) -> int:
    """How often one had the lease before the one who had it was done."""
    faults, holder = 0, None
    for what, token in told:
        if what == "has":
            faults += holder is not None
            holder = token
        elif holder == token:
            holder = None
    return faults


def test_no_two_have_a_lease_at_once(environment: Mapping[str, str], tmp_path: Path) -> None:
    told = race(environment, tmp_path / "journal", "lease", turns=15, deaths=2)
    tokens = [token for what, token in told if what == "has"]
    assert two_at_once(told) == 0
    assert len(tokens) == PROCESSES * 15
    assert tokens == sorted(set(tokens))
    assert sum(what == "dies" for what, _ in told) == 2


def test_without_a_store_that_decides_two_have_it(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    told = race(environment, tmp_path / "journal", "look", turns=15)
    assert two_at_once(told) > 0


def test_the_checker_finds_two_at_once() -> None:
    alone = [("has", 1), ("had", 1), ("has", 2), ("dies", 2), ("has", 3), ("had", 3)]
    assert two_at_once(alone) == 0
    assert two_at_once([("has", 1), ("has", 2), ("had", 1), ("had", 2)]) == 1
