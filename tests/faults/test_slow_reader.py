"""A reader of a kilobyte a second while megabytes pass: it costs a constant, and ends right. The fifty
megabytes themselves are `make soak`'s."""

from __future__ import annotations

import pytest

from tests.faults.conftest import NewSite
from tests.faults.slow_reader import FIFTY_MEGABYTES, MAY_GROW_KB, plan, read_slowly
from tests.support.reader_pool import ReaderPool

pytestmark = pytest.mark.timeout(300)
EVENTS = FIFTY_MEGABYTES // 2
"""Enough to grow by more than is allowed, where memory is not bounded."""


def test_its_memory_is_bounded_and_it_ends_in_the_right_state(
    new_site: NewSite, readers: ReaderPool
) -> None:
    with new_site(plan()) as site:
        outcome = read_slowly(site, readers, EVENTS)
    print(outcome)  # noqa: T201 -- with `-s`, the figures of the run
    assert not outcome.faults()


def test_without_back_pressure_memory_grows(new_site: NewSite, readers: ReaderPool) -> None:
    """The negative control: Daphne takes whatever it is given."""
    with new_site(plan("daphne", "back-pressure")) as site:
        outcome = read_slowly(site, readers, EVENTS)
    print(outcome)  # noqa: T201 -- with `-s`, the figures of the run
    assert outcome.grown_kb > MAY_GROW_KB
