"""Jobs in real workers, seen by a real viewer over a real server: also when the worker is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from celery import Celery

from tests.servers.test_everywhere import Site, process, site
from tests.servers.test_streams import USERS, open_stream
from tests.support.http import Visitor
from tests.support.servers import PROJECT_ROOT
from tests.support.sse_reader import SSEReader

Start = Callable[[str, int], None]
PATIENCE = 30
LEASE = 2.0
RESERVE = """
from django.contrib.auth.models import User
from django_live.features.progress import reserve
anna = User.objects.get(username="anna")
print(*[reserve("Import", owner=anna).id for _ in range(5)])
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site("redis", tmp_path_factory.mktemp("site")) as made:
        live = {**json.loads(made.env["LIVE_TEST_DJANGO_LIVE"]), "JOB_LEASE": LEASE}
        made.env["LIVE_TEST_DJANGO_LIVE"] = json.dumps(live)
        made.database.python(USERS)
        yield made


@pytest.fixture(scope="module")
def anna(here: Site) -> Visitor:
    return logged_in(here, "anna")


def logged_in(here: Site, name: str) -> Visitor:
    visitor = Visitor(here.web.url)
    visitor.log_in(name, name)
    return visitor


@pytest.fixture(scope="module")
def jobs(here: Site) -> list[str]:
    """Anna's, which wait."""
    return here.python(RESERVE).split()


@pytest.fixture(scope="module")
def start(here: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Hands a job to a worker."""
    command = [sys.executable, "-m", "celery", "--app", "tests.servers.reporting:celery_app"]
    command += ["worker", "--pool", "prefork", "--concurrency", "1", "--loglevel", "INFO"]
    command += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    queue = Celery(broker=here.env["EVERYWHERE_BROKER"])

    def send(job: str, count: int) -> None:
        queue.send_task("import", [job, count], queue="reporting")

    with process(command, here.env, tmp_path_factory.mktemp("worker") / "worker.log"):
        yield send
    queue.close()


def views(reader: SSEReader, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """What the viewer is told, up to and including what they wait for."""
    told: list[dict[str, Any]] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        frame = reader.wait_for(
            lambda frame: frame.event in ("progressed", "stream-snapshot"), PATIENCE
        )
        told.append(frame.json())
        if until(told[-1]):
            return told
    raise AssertionError(f"it does not come: {told[-3:]}")


@contextmanager
def watched(here: Site, visitor: Visitor, job: str) -> Iterator[SSEReader]:
    """By somebody who has been told of the state before they came; what that had in it already, an event
    may tell once more."""
    with open_stream(here.web, f"live/progress/{job}", visitor=visitor) as reader:
        assert views(reader, lambda _: True)[0]["state"] == "waiting"
        yield reader


def test_a_celery_task_is_watched_and_cancelled(
    here: Site, anna: Visitor, jobs: list[str], start: Start
) -> None:
    with watched(here, anna, jobs[0]) as reader:
        start(jobs[0], 60)
        told = views(reader, lambda view: view["state"] == "done")
    states = [view["state"] for view in told]
    assert "running" in states
    assert [told[-1][key] for key in ("done", "total", "link")] == [60, 60, "/"]
    assert all(one["done"] <= two["done"] for one, two in pairwise(told))

    with watched(here, anna, jobs[1]) as reader:
        start(jobs[1], 1_000_000)
        views(reader, lambda view: view["done"] > 3)
        anna.get("/live/send/")
        assert anna.post(f"/live/progress/{jobs[1]}/").json() == {"cancelled": True}
        views(reader, lambda view: view["state"] == "cancelled")


def test_a_worker_that_is_killed_is_stalled_within_its_lease_and_the_next_goes_on(
    here: Site, anna: Visitor, jobs: list[str], start: Start
) -> None:
    with watched(here, anna, jobs[2]) as reader:
        start(jobs[2], 1_000_000)
        told = views(reader, lambda view: view["done"] > 3)
        pid = next(line["text"] for view in told for line in view["lines"])
        os.kill(int(pid.split()[1]), signal.SIGKILL)
        killed = time.monotonic()
        views(reader, lambda view: view["state"] == "stalled")
        # Two looks, a second apart; the rest is for a machine that is busy.
        assert time.monotonic() - killed < LEASE + 10
        start(jobs[2], 5)
        told = views(reader, lambda view: view["state"] == "done")
    assert (told[-1]["attempt"], told[-1]["done"]) == (2, 5)


def test_a_web_process_that_is_killed_costs_the_job_nothing_and_its_viewer_no_word(
    here: Site, anna: Visitor, jobs: list[str], start: Start
) -> None:
    with watched(here, anna, jobs[4]) as reader:
        start(jobs[4], 300)
        told = views(reader, lambda view: view["done"] > 3)
        here.web.kill()
        cursor = reader.last_id
    here.web.start()
    topic = f"live/progress/{jobs[4]}"
    with open_stream(here.web, topic, visitor=anna, last_id=cursor) as reader:
        told += views(reader, lambda view: view["state"] == "done")
    assert (told[-1]["attempt"], told[-1]["done"], told[-1]["total"]) == (1, 300, 300)
    assert all(one["seq"] < two["seq"] for one, two in pairwise(told)), "nothing comes twice"
    lines = [line["n"] for view in told for line in view["lines"]]
    assert lines == [1], "a line of the log comes once"


def test_nobody_else_may_watch(here: Site, jobs: list[str]) -> None:
    bert = logged_in(here, "bert")
    for path in (f"live/progress/{jobs[3]}", "live/progress/0123456789abcdef"):
        answer = bert.get(f"/live/events/?topic={path}")
        assert (answer.status, answer.json()["errors"][0]["code"]) == (403, "forbidden")
    assert bert.get(f"/live/progress/{jobs[3]}/").status == 404


def test_a_job_ends_in_time_when_its_store_is_gone(here: Site) -> None:
    """In a process of its own, which also ends: nothing waits for a store that does not answer."""
    live = {**json.loads(here.env["LIVE_TEST_DJANGO_LIVE"]), "REDIS_URL": "redis://127.0.0.1:9/0"}
    env = {**here.database.env, "LIVE_TEST_DJANGO_LIVE": json.dumps(live)}
    source = """
import time, django
django.setup()
from django_live.features.progress import Progress
began = time.monotonic()
with Progress("Import", owner=1) as progress:
    for _ in progress.track(range(100_000)):
        pass
assert progress.done == 100_000
print(time.monotonic() - began)
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **env},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 15
    assert "cannot be written" in done.stderr
