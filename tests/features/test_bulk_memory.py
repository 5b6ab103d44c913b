"""Very many rows are told in bounded memory, whatever is done to them: a process of its own writes them,
and says how much it grew.

The control is the same without the bounds on what is held at once.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.databases import server_database

pytestmark = [
    pytest.mark.timeout(1600),
    pytest.mark.any_database,  # it has one of its own
]

MB = 2**20
FEW, MANY = 6_000, 100_000


def growth_of(folder: Path, rows: int, options: str) -> dict[str, int]:
    """Bytes by operation."""
    with server_database("sqlite", folder) as database:
        source = f"from tests.features.bulk_memory import write\nwrite({rows}, {options})"
        found: dict[str, int] = json.loads(database.python(source, timeout=1500))
    return found


def test_six_thousand_rows(tmp_path: Path) -> None:
    """A transaction remembers as small a part of them as it would of a million."""
    grown = growth_of(tmp_path, FEW, "remembered=200")
    assert grown.keys() == {"bulk_create", "update", "delete"}
    assert max(grown.values()) < 20 * MB, grown
    assert grown["delete"] < 6 * MB, grown


def test_without_the_bounds_it_is_more(tmp_path: Path) -> None:
    grown = growth_of(tmp_path, FEW, "bounded=False")
    assert grown["update"] > 40 * MB, grown
    assert grown["delete"] > 10 * MB, grown


@pytest.mark.long
def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    """With what a transaction remembers as it is shipped."""
    grown = growth_of(tmp_path, MANY, "long=True")
    # Of a bulk_update() the most is Django's own.
    own = grown.pop("bulk_update")
    assert max(grown.values()) < 60 * MB, grown
    assert own < 200 * MB, own
