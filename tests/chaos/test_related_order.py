"""Two processes change what belongs to one object, each its own rows: neither sees the other, neither
waits. Who goes on at which moment is decided, so each order happens every time (`related_workers.py`).

The promise has a control: the same steps, where each tells what its own transaction has seen.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import pytest

from tests.chaos.test_numbering import finish, start
from tests.support.databases import ENGINES, Engine, ServerDatabase, server_database

pytestmark = pytest.mark.timeout(120)

KINDS = ["labels", "comments"]
"""Many-to-many, and objects that point here."""
WORKERS = "tests.chaos.related_workers"

Run = tuple[str, str, str]


@pytest.fixture(params=ENGINES, scope="module")
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerDatabase]:
    """One of each kind."""
    folder = tmp_path_factory.mktemp("related")
    with server_database(cast(Engine, request.param), folder) as database:
        yield database


@pytest.fixture(scope="module")
def ended(database: ServerDatabase) -> dict[str, Any]:
    """How everything ended: the races, and a few writers some of which die. One process, because to
    start one takes as long as all that it does."""
    has_many_writers = not database.engine.startswith("sqlite")
    points = ["committed", *(["begun"] if has_many_writers else [])]
    runs = [(at, how, kind) for at in points for how in ("changes", "as-seen") for kind in KINDS]
    found = json.loads(
        finish(start(database, "everything", module=WORKERS, runs=runs, writers=4, transactions=5))
    )
    return {**found, "runs": runs}


@pytest.fixture(scope="module")
def races(ended: dict[str, Any]) -> dict[Run, dict[str, Any]]:
    """How each race ended. `committed`: the first has committed and stops, the second writes, commits
    and tells. `begun`: the first has written and stops, the second writes and commits; then the first
    commits and tells. SQLite has one writer, so there nobody can overtake who has written."""
    for run in ended["races"]:
        assert len(run["state"]) == 2
        assert run["told"], "nothing was told: this race proves nothing"
    return dict(zip(ended["runs"], ended["races"], strict=True))


def is_stale(run: dict[str, Any]) -> bool:
    """Whether a reader is left with something else than the truth, or saw it go back."""
    states = [set(told) for told in run["told"]]
    goes_back = any(not before <= after for before, after in pairwise(states))
    return goes_back or states[-1] != set(run["state"])


def test_the_last_event_has_what_both_have_written(races: dict[Run, dict[str, Any]]) -> None:
    for race, ended in races.items():
        if race[1] == "changes":
            assert not is_stale(ended), (race, ended)


def test_it_has_not_if_each_tells_what_its_own_transaction_has_seen(
    races: dict[Run, dict[str, Any]],
) -> None:
    for race, ended in races.items():
        if race[1] == "as-seen":
            assert is_stale(ended), (race, ended)


def assert_told(found: dict[str, Any], last: int) -> None:
    """Every reader ends with the truth, goes forward only, and hears nothing that was rolled back."""
    assert found["endings"] == [0, -signal.SIGKILL] * 2
    written = {text for one in found["tickets"] for kind in KINDS for text in one["state"][kind]}
    assert {f"w1-{last}", f"w3-{last}"} <= written, "what the dead have committed"
    for ticket in found["tickets"]:
        for kind in KINDS:
            run = {"state": ticket["state"][kind], "told": [one[kind] for one in ticket["told"]]}
            assert not is_stale(run), run


def test_many_writers_some_of_which_die_before_they_tell(ended: dict[str, Any]) -> None:
    assert_told(ended["writers"], 4)


@pytest.mark.long
def test_they_do_for_long(database: ServerDatabase) -> None:
    finished = start(database, "write_with_deaths", module=WORKERS, writers=4, transactions=60)
    assert_told(json.loads(finish(finished)), 59)
