"""`make soak SECONDS=600`: every fault as the list has it, then random ones for as long as told; what was
lost or doubled (nothing).

One site after the other, each with another store and another way between processes, suffers first the
faults of the list, each in each of its lengths (`Scenario.exactly`), and then one random fault after the
other. The list takes some six minutes; what the time did not suffice for is named. Ends with 1 when
anything was lost, doubled, invented, out of order, or reset without an excuse.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults import scenarios, slow_reader
from tests.faults.judging import Report
from tests.faults.scenarios import Scenario, run, unexcused
from tests.faults.site import BAD, CORE, CURRENT, PUBSUB, Plan, Site
from tests.support import postgres_cluster
from tests.support.databases import environment, run_python, server_database
from tests.support.postgres_cluster import PostgresCluster
from tests.support.reader_pool import ReaderPool
from tests.support.redis import RedisServer

TURN = 150
"""Seconds that one site suffers before it is another one's turn."""
OLDER = "tests.faults.older_application:application"

OF_PROCESSES = [scenarios.WEB_KILLED, scenarios.STOPPED, scenarios.REPLACED]
OF_CONNECTIONS = [scenarios.REDIS_DOWN, scenarios.CLIENTS_KILLED]
OF_THE_LOG = [scenarios.REDIS_FORGETS, scenarios.OLD_DUMP, scenarios.FLUSHED]
Turn = tuple[str, Plan, Sequence[Scenario]]
SITES: Sequence[Turn] = [
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


def listed(turns: Sequence[Turn]) -> list[tuple[str, Plan, list[tuple[Scenario, float]]]]:
    """What comes first: each fault in each of its lengths, on the first site that suffers it."""
    seen: set[str] = set()
    answer = []
    for name, plan, faults in turns:
        own = [
            (one, length)
            for one in faults
            if one.name not in seen
            for length in one.exactly or (one.seconds,)
        ]
        seen.update(one.name for one in faults)
        answer.append((name, plan, own))
    return answer


class Soak:
    """One run: what it has shown so far."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.total = Report()
        self.broken: list[str] = []
        self.left_out: list[str] = []

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    @contextlib.contextmanager
    def site(self, name: str, plan: Plan) -> Iterator[Site]:
        """One site's turn. If the run itself fails, that is said, and the next one comes."""
        say(f"\n{name}: {plan.publishers} publishers, {sum(n for _, n in plan.crowd)} clients")
        try:
            with begun(name, plan) as site:
                yield site
        except Exception as error:
            traceback.print_exc()
            self.broken.append(f"{name}: the run itself failed ({type(error).__name__}: {error})")

    def suffer(self, site: Site, scenario: Scenario, seconds: float) -> None:
        began = time.monotonic()
        report = run(site, scenario, seconds)
        self.total.add(report)
        took = time.monotonic() - began
        say(f"  {took:5.1f} s  {scenario}, {seconds:.0f} s: {report}")
        if sentence := unexcused(scenario, report):
            self.broken.append(sentence)

    def suffer_the_list(self, turns: Sequence[Turn]) -> None:
        for name, plan, faults in listed(turns):
            if not faults or self.left <= 0:
                self.left_out += [f"{one}, {length:.0f} s" for one, length in faults]
                continue
            with self.site(name, plan) as site:
                for scenario, length in faults:
                    if self.left > 0:
                        self.suffer(site, scenario, length)
                    else:
                        self.left_out.append(f"{scenario}, {length:.0f} s")
        if self.left > 0:
            self.read_slowly()
        else:
            self.left_out.append("a reader of 1 kB/s")

    def read_slowly(self) -> None:
        name = "A reader of 1 kB/s"
        with self.site(name, slow_reader.plan()) as site, ReaderPool() as readers:
            outcome = slow_reader.read_slowly(site, readers, slow_reader.FIFTY_MEGABYTES)
            say(f"  {outcome}")
            self.broken += [f"{name}: {fault}" for fault in outcome.faults()]

    def suffer_at_random(self, turns: Sequence[Turn]) -> None:
        turn_length = max(30.0, min(TURN, self.left / len(turns)))
        for name, plan, faults in itertools.cycle(turns):
            if self.left <= 0:
                return
            with self.site(name, plan) as site:
                ends = min(self.until, time.monotonic() + turn_length)
                while time.monotonic() < ends:
                    scenario = random.choice(faults)
                    most = max(scenario.seconds, ends - time.monotonic())
                    lasts = min(random.uniform(scenario.seconds, scenario.longest), most)
                    self.suffer(site, scenario, lasts)


def soak(seconds: float, seed: int) -> bool:
    """Whether every promise was kept."""
    random.seed(seed)
    this = Soak(seconds)
    turns = [
        turn for turn in SITES if not turn[0].startswith("Postgre") or postgres_cluster.programs()
    ]
    if len(turns) < len(SITES):
        say("Left out: PostgreSQL's own programs (initdb, pg_ctl) are missing.")
    say(f"Seed {seed}.")
    this.suffer_the_list(turns)
    this.suffer_at_random(turns)
    say(f"\nTogether: {this.total}")
    if this.left_out:
        say(f"The time did not suffice for: {'; '.join(this.left_out)}")
    for sentence in this.broken:
        say(f"BROKEN: {sentence}")
    return not this.broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    return 0 if soak(chosen.seconds, chosen.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
