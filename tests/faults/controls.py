"""The negative controls: each fault once more against a site without the mechanism that answers it.
The instruments have to find what then goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.conftest import NewSite
from tests.faults.scenarios import Scenario, run, unexcused
from tests.faults.site import BROKEN, FEW, PUBSUB, Plan

PATIENCE = 1.5
"""Seconds without anything new after which what is missing counts as lost: more than a head check takes."""


@dataclass(frozen=True)
class Control:
    """`kinds`: what the instruments must find, at least one of these."""

    broken: str
    scenario: Scenario
    seconds: float
    kinds: frozenset[str] = frozenset({"lost"})
    store: str = "redis"
    layer: str | None = PUBSUB
    servers: int = 1
    head_check: float = 1.0

    def __str__(self) -> str:
        return f"{self.scenario}, without {self.broken}"


def check(control: Control, new_site: NewSite) -> None:
    """Run it; AssertionError when nothing was noticed."""
    plan = Plan(
        store=control.store,
        layer=control.layer,
        servers=[("uvicorn", BROKEN)] * control.servers,
        crowd=FEW,
        broken=control.broken,
        settings={"HEAD_CHECK": control.head_check},
    )
    with new_site(plan) as site:
        report = run(site, control.scenario, control.seconds, patience=PATIENCE)
    assert unexcused(control.scenario, report)
    assert report.kinds & control.kinds, f"the instruments did not notice: {report}"
