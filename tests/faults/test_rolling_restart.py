"""A deploy under load: two processes are replaced, one after the other, while everybody publishes and
listens over every transport. Nothing is lost, doubled or reordered, nobody is reset, and each process
leaves in time and without a word in its log."""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.scenarios import run, unexcused
from tests.faults.site import CURRENT, PUBSUB, Plan

pytestmark = pytest.mark.timeout(300)

PLAN = Plan(store="redis", layer=PUBSUB, servers=(("uvicorn", CURRENT), ("uvicorn", CURRENT)))


def test_nothing_is_lost_doubled_or_reordered(new_site: NewSite) -> None:
    """Its negative control is that of killed web processes: clients that do not resume."""
    with new_site(PLAN) as site:
        report = run(site, scenarios.REPLACED)
        print(report)  # noqa: T201 -- with `-s`, the figures of the run
        for server in site.servers:
            assert "Traceback" not in server.log(), server.log_tail()
    assert not unexcused(scenarios.REPLACED, report)
    assert report.replayed, "nobody missed anything meanwhile: this run proves nothing"
