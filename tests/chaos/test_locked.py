"""Another process holds what the numbering needs: the database's lock, the rows, or half of a deadlock. The
save has succeeded, the log names model and key, and a sweep tells the event later, once
(`locked_workers.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.chaos.test_numbering import finish, start
from tests.support.databases import ENGINES, Engine, ServerDatabase, server_database

SAVES = {"order": "OrderChanges testapp.Order", "ticket": "NotedTicket testapp.Ticket"}
"""A plain declaration, and one that is told from a note."""
DEADLOCKS = {"postgresql": "deadlock detected", "mariadb": "Deadlock found"}


@pytest.fixture(params=ENGINES, scope="module")
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerDatabase]:
    """One of each kind."""
    folder = tmp_path_factory.mktemp("locked")
    with server_database(cast(Engine, request.param), folder) as database:
        yield database


def save_while(database: ServerDatabase, how: str, what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        finish(
            start(database, "save_while", module="tests.chaos.locked_workers", how=how, what=what)
        )
    )
    return found


def assert_told_later(found: dict[str, Any], what: str) -> None:
    assert found["told"] == ["created"]  # what was before
    assert found["waits"]
    logged = "\n".join(found["logged"])
    assert "left to the sweep" in logged
    assert f"{SAVES[what]} {found['key']}" in logged
    assert found["later"] == ["created", "updated"]


@pytest.mark.parametrize("what", SAVES)
def test_a_lock_that_is_held_for_too_long(database: ServerDatabase, what: str) -> None:
    found = save_while(database, "lock", what)
    assert_told_later(found, what)
    if database.engine.startswith("sqlite"):
        assert "database is locked" in found["faults"]


@pytest.mark.parametrize("what", SAVES)
def test_a_deadlock(database: ServerDatabase, what: str) -> None:
    if database.engine not in DEADLOCKS:
        return  # SQLite has one lock
    found = save_while(database, "deadlock", what)
    assert any(DEADLOCKS[database.engine] in fault for fault in found["faults"]), found
    assert_told_later(found, what)


@pytest.mark.parametrize("what", SAVES)
def test_with_nobody_in_the_way_it_is_told_at_once(database: ServerDatabase, what: str) -> None:
    found = save_while(database, "nothing", what)
    assert found["told"] == ["created", "updated"]
    assert not found["waits"]
    assert found["logged"] == []
