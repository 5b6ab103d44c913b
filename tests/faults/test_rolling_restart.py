"""A deploy under load: two processes are replaced, one after the other, while everybody publishes and
listens over every transport. Nothing is lost, doubled or reordered, nobody is reset, and each process
leaves in time and without a word in its log."""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.controls import Control, check
from tests.faults.scenarios import run, unexcused
from tests.faults.site import CURRENT, PUBSUB, Plan

pytestmark = pytest.mark.timeout(300)

PLANS = {
    "Redis and its layer": Plan(
        store="redis", layer=PUBSUB, servers=(("uvicorn", CURRENT), ("uvicorn", CURRENT))
    ),
    "no layer": Plan(
        store="database", layer=None, servers=(("uvicorn", CURRENT), ("daphne", CURRENT))
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_nothing_is_lost_doubled_or_reordered(name: str, new_site: NewSite) -> None:
    with new_site(PLANS[name]) as site:
        report = run(site, scenarios.REPLACED)
        print(f"{name}: {report}")  # noqa: T201 -- with `-s`, the figures of each run
        for server in site.servers:
            assert "Traceback" not in server.log(), server.log_tail()
    assert not unexcused(scenarios.REPLACED, report)
    assert report.replayed, "nobody missed anything meanwhile: this run proves nothing"


def test_without_resuming_it_would_lose(new_site: NewSite) -> None:
    """The negative control: clients that come back begin like new ones."""
    check(Control("resume", scenarios.REPLACED, 1, servers=2), new_site)
