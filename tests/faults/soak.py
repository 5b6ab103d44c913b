"""`make soak SECONDS=600`: random faults for as long as told; what was lost or doubled (nothing).

One site after the other, each with another store and another way between processes, suffers one random
fault after the other. Ends with 1 when anything was lost, doubled, invented, out of order, or reset
without an excuse.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults import scenarios
from tests.faults.judging import Report
from tests.faults.scenarios import Scenario, run, unexcused
from tests.faults.site import BAD, CORE, CURRENT, PUBSUB, Plan, Site
from tests.support import postgres_cluster
from tests.support.databases import environment, run_python, server_database
from tests.support.postgres_cluster import PostgresCluster
from tests.support.redis import RedisServer

TURN = 150
"""Seconds that one site suffers before it is another one's turn."""
OLDER = "tests.faults.older_application:application"

OF_PROCESSES = [scenarios.WEB_KILLED, scenarios.STOPPED, scenarios.REPLACED]
OF_CONNECTIONS = [scenarios.REDIS_DOWN, scenarios.CLIENTS_KILLED]
OF_THE_LOG = [scenarios.REDIS_FORGETS, scenarios.OLD_DUMP, scenarios.FLUSHED]
SITES: Sequence[tuple[str, Plan, Sequence[Scenario]]] = [
    (
        "Redis as the store, pub/sub layer",
        Plan(store="redis", layer=BAD),
        [*OF_PROCESSES, *OF_CONNECTIONS, *OF_THE_LOG, scenarios.BAD_LAYER],
    ),
    (
        "SQLite as the store, RedisChannelLayer",
        Plan(store="database", layer=CORE),
        [*OF_PROCESSES, *OF_CONNECTIONS, scenarios.PUBLISHERS_KILLED, scenarios.LARGE],
    ),
    (
        "PostgreSQL as the store, no layer",
        Plan(store="database", layer=None),
        [*OF_PROCESSES, scenarios.POSTGRES_RESTARTED, scenarios.PUBLISHERS_KILLED, scenarios.LARGE],
    ),
    (
        "Redis as the store, two releases",
        Plan(
            store="redis",
            layer=PUBSUB,
            servers=(("uvicorn", CURRENT), ("uvicorn", OLDER)),
            older=(2, 3),
        ),
        [scenarios.TWO_RELEASES, *OF_PROCESSES, *OF_CONNECTIONS],
    ),
]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


@contextlib.contextmanager
def begun(name: str, plan: Plan) -> Iterator[Site]:
    """The site, with what it stands on, in a folder that goes with it."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="django_live_soak_"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = None
        if name.startswith("PostgreSQL"):
            postgres = stack.enter_context(PostgresCluster())
            env = environment("postgresql", "postgres", "tests.settings")
            env["LIVE_TEST_POSTGRES"] = postgres.url
            run_python(["-m", "django", "migrate", "--verbosity", "0", "--no-input"], env)
        else:
            env = dict(stack.enter_context(server_database("sqlite", folder)).env)
        needs_redis = plan.layer is not None or plan.store == "redis"
        redis = stack.enter_context(RedisServer(persistent=True)) if needs_redis else None
        yield stack.enter_context(Site(plan, folder, env, redis=redis, postgres=postgres))


def soak(seconds: float, seed: int) -> bool:
    """Whether every promise was kept."""
    random.seed(seed)
    total = Report()
    broken: list[str] = []
    until = time.monotonic() + seconds
    turns = [
        turn for turn in SITES if not turn[0].startswith("Postgre") or postgres_cluster.programs()
    ]
    if len(turns) < len(SITES):
        say("Left out: PostgreSQL's own programs (initdb, pg_ctl) are missing.")
    say(f"Seed {seed}.")
    place = 0
    turn_length = max(30.0, min(TURN, seconds / len(turns)))
    while time.monotonic() < until:
        name, plan, faults = turns[place % len(turns)]
        place += 1
        say(f"\n{name}: {plan.publishers} publishers, {sum(n for _, n in plan.crowd)} clients")
        try:
            with begun(name, plan) as site:
                turn_ends = min(until, time.monotonic() + turn_length)
                while time.monotonic() < turn_ends:
                    broken += _suffer(site, random.choice(faults), turn_ends, total)
        except Exception as error:  # the run goes on, and fails in the end
            traceback.print_exc()
            broken.append(f"{name}: the run itself failed ({type(error).__name__}: {error})")
    say(f"\nTogether: {total}")
    for sentence in broken:
        say(f"BROKEN: {sentence}")
    return not broken


def _suffer(site: Site, scenario: Scenario, turn_ends: float, total: Report) -> list[str]:
    left = max(scenario.seconds, turn_ends - time.monotonic())
    lasts = min(random.uniform(scenario.seconds, scenario.longest), left)
    began = time.monotonic()
    report = run(site, scenario, lasts)
    total.add(report)
    took = time.monotonic() - began
    say(f"  {took:5.1f} s  {scenario}: {report}")
    sentence = unexcused(scenario, report)
    return [sentence] if sentence else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    return 0 if soak(chosen.seconds, chosen.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
