"""The faults, and what is permitted while they last."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tests.faults.judging import Report
from tests.faults.site import TOPICS, Site

LARGE_TRANSACTION = 10_000
EVERY_KIND = 20.0
"""Seconds that faults which come by chance have for it."""


@dataclass(frozen=True)
class Scenario:
    """One kind of fault: `inject` makes it happen, for about so many seconds while everybody
    publishes and listens, and answers with how often it did."""

    name: str
    inject: Callable[[Site, float], int]
    seconds: float
    """In `make test`."""
    longest: float
    """In the random part of `make soak`, where it lasts from `seconds` to this."""
    resets: frozenset[str] = frozenset()
    """Causes of resets that the fault excuses."""
    sets_back: bool = False
    """The log forgets, so a publisher that repeats itself is heard again after the reset."""
    needs: str = ""
    """The store it is about; empty: any."""
    exactly: tuple[float, ...] = ()
    """How long it lasts in the list that `make soak` begins with; empty: `seconds`."""

    def __str__(self) -> str:
        return self.name


def run(
    site: Site,
    scenario: Scenario,
    seconds: float | None = None,
    *,
    patience: float = 20.0,
) -> Report:
    """Let it happen, and judge. Raises AssertionError when nothing happened or an unexcused reset
    came; losses and their like are in the report."""
    site.begin()
    site.load()
    site.wait_for(lambda: site.committed() > 20, 20, "publishers have begun")
    injected = scenario.inject(site, scenario.seconds if seconds is None else seconds)
    site.heal()
    site.settle(patience=patience)
    report = site.judged()
    report.injected = injected
    assert injected, f"{scenario}: no fault was injected, this run proves nothing"
    assert report.delivered or report.lost, (
        f"{scenario}: nothing was delivered, this run proves nothing"
    )
    return report


def unexcused(scenario: Scenario, report: Report) -> str:
    """What the fault does not excuse, as a text; empty when the promise was kept."""
    causes = set(report.resets) - scenario.resets
    if report.repeated and not scenario.sets_back:
        return f"{report.repeated} events were told again after a reset: {report}"
    return f"{scenario}: {report}" if report.kinds or causes else ""


# -- the faults ------------------------------------------------------------------------------------


def kill_web_processes(site: Site, seconds: float) -> int:
    kills = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or kills < len(site.servers):
        server = site.servers[kills % len(site.servers)]
        os.kill(server.pid, signal.SIGKILL)
        kills += 1
        time.sleep(0.3)
        server.kill()  # takes the body away
        server.start()
        time.sleep(0.5)
    return kills


def replace_web_processes(site: Site, seconds: float) -> int:
    """One after the other is told to stop, and started again: a deploy. Raises ServerError when one
    does not go."""
    restarts = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or restarts < 2 * len(site.servers):
        server = site.servers[restarts % len(site.servers)]
        server.terminate(timeout=30)
        restarts += 1
        server.start()
    return restarts


def kill_publishers(site: Site, seconds: float) -> int:
    """By themselves between commit and send, and by others at any moment."""
    site.let_die(0.15)
    killed = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.25)
        with contextlib.suppress(ProcessLookupError):
            os.kill(site.publisher_pid(random.randrange(site.plan.publishers)), signal.SIGKILL)
            killed += 1
    site.let_die(0.0)
    by_themselves = site.journal().deaths
    assert killed, "no publisher was killed"
    return sum(by_themselves.values())


def redis_is_down(site: Site, seconds: float) -> int:
    """It loses nothing."""
    assert site.redis is not None
    site.redis.kill()
    time.sleep(seconds)
    site.redis.start()
    time.sleep(1.0)
    return 1


def redis_is_down_and_forgets(site: Site, seconds: float) -> int:
    assert site.redis is not None
    site.redis.kill()
    site.redis.forget()
    time.sleep(seconds)
    site.redis.start()
    time.sleep(1.0)
    return 1


def redis_comes_back_from_an_old_dump(site: Site, seconds: float) -> int:
    assert site.redis is not None
    dump = site.redis.saved()
    since = site.committed()
    time.sleep(seconds)
    site.redis.kill()
    assert site.committed() > since, "nothing was published after the dump"
    site.redis.start_from(dump)
    time.sleep(1.0)
    return 1


def connections_are_killed(site: Site, seconds: float) -> int:
    assert site.redis is not None
    killed = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for kind in ("normal", "pubsub"):
            killed += int(site.redis.command("CLIENT", "KILL", "TYPE", kind))
        time.sleep(random.uniform(0.1, 0.4))
    return killed


def everything_is_flushed(site: Site, seconds: float) -> int:
    assert site.redis is not None
    flushed = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.7)
        if site.redis.command("DBSIZE"):
            site.redis.command("FLUSHALL")
            flushed += 1
    time.sleep(0.7)
    return flushed


def processes_are_stopped(site: Site, seconds: float) -> int:
    """A web process, and Redis in the middle of it."""
    server = site.a_server()
    server.pause()
    try:
        time.sleep(seconds / 4)
        if site.redis is not None:
            site.redis.pause()
        time.sleep(seconds / 2)
        if site.redis is not None:
            site.redis.resume()
        time.sleep(seconds / 4)
    finally:
        server.resume()
    time.sleep(0.5)
    return 1 + (site.redis is not None)


def layer_misbehaves(site: Site, seconds: float) -> int:
    """It drops a fifth, repeats a twentieth and reorders a tenth (`layers.BadLayer`)."""
    faults = site.layer_faults
    switch = faults.with_name(faults.name + ".on")
    faults.unlink(missing_ok=True)
    switch.touch()
    time.sleep(seconds)
    # They come by chance: of few messages one kind may not be among them yet.
    deadline = time.monotonic() + EVERY_KIND
    while not set("ldo") <= set(letters := faults.read_text() if faults.exists() else ""):
        assert time.monotonic() < deadline, f"not every kind of fault happened: {letters}"
        time.sleep(0.02)
    switch.unlink()
    return len(letters)


def postgres_is_restarted(site: Site, seconds: float) -> int:
    """Once as an administrator does it, once as a crash."""
    assert site.postgres is not None
    site.postgres.stop("fast")
    time.sleep(seconds / 3)
    site.postgres.start()
    time.sleep(seconds / 3)
    site.postgres.stop("immediate")
    time.sleep(seconds / 3)
    site.postgres.start()
    time.sleep(1.0)
    return 2


_batches = 0


def transactions_are_large(site: Site, seconds: float, events: int = LARGE_TRANSACTION) -> int:
    """One that is rolled back in the end, and one that is committed."""
    global _batches  # noqa: PLW0603 -- names must differ over all runs of this process
    names = []
    for rolls_back in (True, False):
        _batches += 1
        names.append(f"batch{_batches}")
        site.batch(names[-1], 0, TOPICS[0], events, rolls_back=rolls_back)
    site.wait_for(
        lambda: site.journal().batches >= set(names), 200 + seconds, "the large transactions"
    )
    return len(names)


def two_releases_talk(site: Site, seconds: float) -> int:
    """The fault is the deploy itself: counted is what the older processes published. In the control
    each process is of a release that cannot read what the others write."""
    time.sleep(seconds)
    by_slot = site.journal().by_slot
    assert all(by_slot[slot] for slot in range(site.plan.publishers))
    older = site.plan.older or range(site.plan.publishers)
    return sum(by_slot[slot] for slot in older)


EPOCH = frozenset({"epoch"})

WEB_KILLED = Scenario("kill -9 of web processes", kill_web_processes, 2, 15)
REPLACED = Scenario("a rolling restart", replace_web_processes, 3, 20)
PUBLISHERS_KILLED = Scenario(
    "kill -9 of publishers between commit and send", kill_publishers, 3, 15, needs="database"
)
REDIS_DOWN = Scenario("Redis is down", redis_is_down, 3, 40, exactly=(3, 40))
REDIS_FORGETS = Scenario(
    "Redis is down and forgets",
    *(redis_is_down_and_forgets, 3, 40, EPOCH),
    sets_back=True,
    needs="redis",
    exactly=(3, 40),
)
OLD_DUMP = Scenario(
    "Redis comes back from an old dump",
    *(redis_comes_back_from_an_old_dump, 5, 5, EPOCH),
    sets_back=True,
    needs="redis",
)
CLIENTS_KILLED = Scenario("CLIENT KILL, repeatedly", connections_are_killed, 3, 20)
FLUSHED = Scenario("FLUSHALL", everything_is_flushed, 2, 10, EPOCH, sets_back=True, needs="redis")
STOPPED = Scenario("SIGSTOP and SIGCONT", processes_are_stopped, 6, 20, exactly=(20,))
BAD_LAYER = Scenario("a layer that loses, repeats and reorders", layer_misbehaves, 4, 20)
LARGE = Scenario("10,000 events in one transaction", transactions_are_large, 0, 0, needs="database")
LARGE_ENOUGH = replace(
    LARGE,
    name="1,500 events in one transaction",
    inject=partial(transactions_are_large, events=1_500),
)
"""More than a commit numbers itself (`MANY_TOPICS`); for `make test`."""
POSTGRES_RESTARTED = Scenario(
    "PostgreSQL is restarted", postgres_is_restarted, 3, 20, needs="postgresql"
)
TWO_RELEASES = Scenario("two releases side by side", two_releases_talk, 3, 10)
