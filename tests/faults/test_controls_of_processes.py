"""The negative controls of what happens to web processes and publishers (see `controls`)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.controls import Control, check

pytestmark = pytest.mark.timeout(300)

# Each is an append and a message of its own here: fewer do.
LARGE = replace(scenarios.LARGE, inject=partial(scenarios.transactions_are_large, events=300))
CONTROLS = [
    Control("resume", scenarios.WEB_KILLED, 1, servers=2),
    Control("outbox", scenarios.PUBLISHERS_KILLED, 2, store="database"),
    Control("idempotency", scenarios.STOPPED, 4, frozenset({"doubled"})),
    Control("commit", LARGE, 0, frozenset({"ghosts"})),
    Control("envelope", scenarios.TWO_RELEASES, 1, head_check=3600),
]


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_without_its_mechanism_the_promise_is_broken(control: Control, new_site: NewSite) -> None:
    check(control, new_site)
