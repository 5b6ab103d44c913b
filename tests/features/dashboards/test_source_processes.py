"""Two processes watch one source; the one that runs it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import prepared
from tests.support.databases import ServerDatabase
from tests.support.servers import PROJECT_ROOT

Worker = subprocess.Popen[str]
WORKER = "tests.features.dashboards.source_worker"

pytestmark = pytest.mark.any_database


@pytest.fixture
def start(new_server_database: Callable[..., ServerDatabase]) -> Iterator[Callable[[], Worker]]:
    database = new_server_database("sqlite")
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(
            prepared.Popen(
                [sys.executable, "-m", WORKER],
                cwd=PROJECT_ROOT,
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **database.env},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.communicate()


def next_runner(worker: Worker, other_than: int = 0) -> int:
    """Which process ran the source whose value this viewer sees next."""
    assert worker.stdout is not None
    while True:
        runner = int(worker.stdout.readline())
        if runner != other_than:
            return runner


@pytest.mark.timeout(60)
def test_when_the_process_that_runs_a_source_is_killed_another_takes_over(
    start: Callable[[], Worker],
) -> None:
    first = start()
    assert next_runner(first) == first.pid
    second = start()
    assert next_runner(second) == first.pid, "one runs it for both"
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed = time.monotonic()
    assert next_runner(second, other_than=first.pid) == second.pid
    took = time.monotonic() - killed
    assert 0.3 < took < 5, "not before the lease has run out, and soon after"
