"""PostgreSQL as the store, and no channel layer: what other processes publish is found in the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.controls import PATIENCE
from tests.faults.scenarios import run, unexcused
from tests.faults.site import BROKEN, FEW, Plan
from tests.support.databases import run_python
from tests.support.postgres_cluster import PostgresCluster
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresCluster]:
    require("postgresql-programs")
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def migrated(postgres: PostgresCluster) -> dict[str, str]:
    """The environment of a project whose database is there."""
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "LIVE_TEST_DATABASE": "postgresql",
        "LIVE_TEST_POSTGRES": postgres.url,
        "LIVE_TEST_DATABASE_NAME": "postgres",
    }
    run_python(["-m", "django", "migrate", "--verbosity", "0", "--no-input"], env)
    return env


def test_nothing_is_lost_or_doubled_when_the_database_is_restarted(
    new_site: NewSite, postgres: PostgresCluster, migrated: dict[str, str]
) -> None:
    plan = Plan(store="database", layer=None)
    with new_site(plan, env=dict(migrated), postgres=postgres) as site:
        report = run(site, scenarios.POSTGRES_RESTARTED)
    print(report)  # noqa: T201 -- with `-s`, the figures of the run
    assert not unexcused(scenarios.POSTGRES_RESTARTED, report)


def test_a_process_that_gives_up_at_the_first_failure_would_lose_events(
    new_site: NewSite, postgres: PostgresCluster, migrated: dict[str, str]
) -> None:
    """The negative control: without a layer only the head checks bring what others publish."""
    plan = Plan(
        store="database",
        layer=None,
        servers=[("uvicorn", BROKEN)],
        crowd=FEW,
        broken="patience",
    )
    with new_site(plan, env=dict(migrated), postgres=postgres) as site:
        report = run(site, scenarios.POSTGRES_RESTARTED, 1, patience=PATIENCE)
    assert "lost" in report.kinds
