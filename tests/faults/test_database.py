"""The database as the store, Redis as what carries messages."""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.scenarios import Scenario, run, unexcused
from tests.faults.site import CORE, Plan, Site

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def site(new_site: NewSite) -> Site:
    """On Channels' other layer, which keeps its messages in lists and drops what does not fit."""
    return new_site(Plan(store="database", layer=CORE))


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.PUBLISHERS_KILLED,
        scenarios.LARGE_ENOUGH,
        scenarios.REDIS_DOWN,
        scenarios.CLIENTS_KILLED,
    ],
    ids=str,
)
def test_nothing_is_lost_or_doubled(site: Site, scenario: Scenario) -> None:
    report = run(site, scenario)
    print(f"{scenario}: {report}")  # noqa: T201 -- with `-s`, the figures of each run
    assert not unexcused(scenario, report)
