"""A time limit that ends a task while it publishes: it reaches the task, whatever it has hit.

Celery's is an ordinary exception, which a signal handler raises wherever the main thread is. What
forgives the faults of a channel layer must not forgive it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.servers.test_everywhere import Site, SiteWith, process, site_with
from tests.support.databases import ServerDatabase

__all__ = ["site_with"]

LIMITED = """
    import gc, json, signal, sys, time
    from django.db import connection, connections, transaction
    from django_live import publish
    from django_live.core import {broken} as broken
    if {control}:
        broken.raise_interruption = lambda error: None
        broken.is_interruption = lambda error: False

    class TimeLimit(Exception):
        pass

    fired = False
    def limit(*args):
        global fired
        fired = True
        raise TimeLimit

    def tell():
        if {inside}:
            with transaction.atomic():
                publish("ephemeral/limited", "counted", {{"n": 1}})
        else:
            publish("ephemeral/limited", "counted", {{"n": 1}})

    unheard = []
    sys.unraisablehook = unheard.append  # Python's own: a finalizer was hit
    signal.signal(signal.SIGALRM, limit)
    outcomes = {{"heard": 0, "lost": 0}}

    def anew():
        # Django's transactions are not made for it: hit in `atomic`, a connection may believe for ever
        # that it is inside of one, and run no commit hook any more.
        connection.close()
        del connections["default"]
        connection.ensure_connection()  # or the next one hits nothing but this

    def usual():
        times = []
        for _ in range(5):
            anew()
            began = time.perf_counter()
            tell()
            times.append(time.perf_counter() - began)
        return sorted(times)[2]

    tell()
    gc.disable()  # what the errors of former turns hold would be collected at the next one's cost
    for turn in range({turns}):
        if turn % 20 == 0:
            gc.collect()
            # So that each moment of a publish is hit, its commit too; anew: other tests come and go.
            longest = usual() * 1.2
        fired = False
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00005 + turn * 7 % 100 / 100 * longest)
            while not fired:
                tell()
            outcomes["lost"] += 1
        except TimeLimit:
            outcomes["heard"] += 1
            anew()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    tell()
    ignored = [str(one.object) for one in unheard]
    print(json.dumps([outcomes["heard"], outcomes["lost"] - len(ignored), ignored]))
"""


@pytest.fixture
def everywhere(site_with: SiteWith) -> Site:
    return site_with("redis")


def limited(here: Site, *, inside: bool, turns: int, control: str = "") -> tuple[int, int]:
    source = LIMITED.format(
        inside=inside, turns=turns, control=bool(control), broken=control or "sending"
    )
    heard, lost, ignored = json.loads(here.python(source).splitlines()[-1])
    print(heard, lost, ignored)  # noqa: T201 -- with `-s`
    assert heard + lost + len(ignored) == turns
    assert len(ignored) < turns / 100
    return heard, lost


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_a_limit_at_any_moment_of_a_publish(everywhere: Site, inside: bool) -> None:
    heard, lost = limited(everywhere, inside=inside, turns=400)
    assert heard
    assert lost == 0


@pytest.mark.parametrize("mechanism", ["sending", "commits"])
def test_without_the_mechanism_it_is_lost(everywhere: Site, mechanism: str) -> None:
    """Negative control."""
    _, lost = limited(everywhere, inside=mechanism == "commits", turns=200, control=mechanism)
    assert lost


def test_the_soft_limit_of_a_celery_worker(everywhere: Site, tmp_path: Path) -> None:
    """The layer hangs, so each publish would be forgiven after 1.2 seconds, for ever."""
    worker = [sys.executable, "-m", "celery", "--app", "tests.servers.everywhere:celery_app"]
    worker += ["worker", "--pool", "prefork", "--concurrency", "1", "--loglevel", "INFO"]
    worker += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    stuck = {
        **everywhere.env,
        "LIVE_TEST_LAYER_BACKEND": "tests.servers.slow_layer.StuckLayer",
        # Its queue in the broker is its own.
        "EVERYWHERE_BROKER": everywhere.env["EVERYWHERE_BROKER"].removesuffix("/5") + "/6",
    }
    here = everywhere._replace(
        env=stuck, database=ServerDatabase("sqlite", everywhere.database.name, stuck)
    )
    report = tmp_path / "report"
    with process(worker, stuck, tmp_path / "worker.log"):
        here.python(f"""
            from tests.servers.everywhere import celery_app
            celery_app.send_task("publish_for_ever", ["ephemeral/limited", {str(report)!r}])
        """)
        deadline = time.monotonic() + 40
        while not (report.exists() and report.read_text()):
            assert time.monotonic() < deadline, "the task goes on beyond its limit"
            time.sleep(0.05)
    assert 0.9 < float(report.read_text()) < 3
