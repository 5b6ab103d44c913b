"""A deploy: processes of this release and of the one before publish and listen side by side."""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.scenarios import run, unexcused
from tests.faults.site import CURRENT, PUBSUB, Plan, Site

pytestmark = pytest.mark.timeout(300)

OLDER = "tests.faults.older_application:application"
PLAN = Plan(
    layer=PUBSUB,
    servers=(("uvicorn", CURRENT), ("uvicorn", OLDER)),
    older=(2, 3),
    # So that only messages between processes can have brought an event in time.
    settings={"HEAD_CHECK": 3600},
)


@pytest.fixture(scope="module")
def site(new_site: NewSite) -> Site:
    return new_site(PLAN)


def test_each_hears_the_other(site: Site) -> None:
    report = run(site, scenarios.TWO_RELEASES)
    print(report)  # noqa: T201 -- with `-s`, the figures of the run
    assert not unexcused(scenarios.TWO_RELEASES, report)
