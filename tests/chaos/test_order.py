"""Two processes write the same row; a process dies between commit and sending. Who goes on at which
moment is decided, so each order of events happens every time (`workers.py`).

Every promise has a control: the same steps without the part of the mechanism that keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

import pytest

from tests.chaos.test_numbering import finish, start
from tests.support.databases import ENGINES, Engine, ServerDatabase, server_database

LATE = "committed", "outbox"
"""The first one has committed and stops; the second writes the row, commits, and numbers."""
LATE_SAVED = "committed", "saved"
LATE_ALONE = "committed", "own-rows"
EARLY = "begun", "outbox"
"""The first one has begun and stops; the second writes the row and commits; then the first writes the
row, commits, and numbers."""
EARLY_SAVED = "begun", "saved"
EARLY_PUBLISHED = "begun", "publish-first"
POINTS = ["committed", "numbering", "sending", "no-outbox"]

Order = dict[str, list[str]]


@pytest.fixture(params=ENGINES, scope="module")
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerDatabase]:
    """One of each kind."""
    folder = tmp_path_factory.mktemp("order")
    with server_database(cast(Engine, request.param), folder) as database:
        finish(start(database, "create_tables"))
        yield database


@pytest.fixture(scope="module")
def orders(database: ServerDatabase) -> dict[tuple[str, str], Order]:
    """How each race ended.

    SQLite has one writer: who has published, or begun with IMMEDIATE, has the lock, and nobody can
    overtake. So half of the races cannot be run there.
    """
    has_many_writers = not database.engine.startswith("sqlite")
    runs = [LATE, LATE_SAVED, LATE_ALONE]
    runs += [EARLY, EARLY_SAVED, EARLY_PUBLISHED] if has_many_writers else []
    ended: list[Order] = json.loads(finish(start(database, "race", runs=runs)))
    for order in ended:
        assert len(set(order["written"])) == 2
        assert sorted(order["told"]) == sorted(order["written"])
    return dict(zip(runs, ended, strict=True))


def test_two_writers_of_one_row_are_told_in_the_order_of_their_commits(
    orders: dict[tuple[str, str], Order],
) -> None:
    for race in orders.keys() & {LATE, LATE_SAVED, EARLY, EARLY_SAVED}:
        assert orders[race]["told"] == orders[race]["written"], race


def test_they_are_not_if_each_numbers_its_own_or_publishes_before_it_writes(
    orders: dict[tuple[str, str], Order],
) -> None:
    for race in orders.keys() & {LATE_ALONE, EARLY_PUBLISHED}:
        assert orders[race]["told"] == orders[race]["written"][::-1], race


def test_what_a_killed_process_committed_is_delivered_by_the_sweep_once(
    database: ServerDatabase,
) -> None:
    assert json.loads(finish(start(database, "die_at_each_point", points=POINTS))) == [-9] * 4
    found = json.loads(finish(start(database, "sweep_and_read", slugs=POINTS)))
    once = [[1, "life:1"], [2, "life:2"]]
    # "sending": it was numbered already, and is found with the next look at the heads.
    assert found["swept"] == [4, 0]
    # The last one is the control.
    assert found["seen"] == {"committed": once, "numbering": once, "sending": once, "no-outbox": []}
