"""Redis as the store and as what carries messages: it fails, and so do the processes around it."""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.scenarios import Scenario, run, unexcused
from tests.faults.site import BAD, Plan, Site

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def site(new_site: NewSite) -> Site:
    return new_site(Plan(store="redis", layer=BAD))


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.BAD_LAYER,
        scenarios.WEB_KILLED,
        scenarios.REDIS_DOWN,
        scenarios.REDIS_FORGETS,
        scenarios.OLD_DUMP,
        scenarios.CLIENTS_KILLED,
        scenarios.FLUSHED,
        scenarios.STOPPED,
    ],
    ids=str,
)
def test_nothing_is_lost_or_doubled(site: Site, scenario: Scenario) -> None:
    report = run(site, scenario)
    print(f"{scenario}: {report}")  # noqa: T201 -- with `-s`, the figures of each run
    assert not unexcused(scenario, report)
