"""Redis as the shared store: two web processes, publishers elsewhere, and a Redis that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.servers.test_streams import StartServer, path_of
from tests.support.databases import ServerDatabase
from tests.support.exactly_once import assert_exactly_once
from tests.support.reader_pool import ReaderPool
from tests.support.redis import RedisServer
from tests.support.requirements import require
from tests.support.servers import PROJECT_ROOT

TOPIC = "open/redis"
EACH = 150
PUBLISHER = f"""
import django; django.setup()
import time
from django_live import publish
from django_live.exceptions import StoreError
for n in range({EACH}):
    while True:
        try:
            publish("{TOPIC}", "counted", {{"n": f"{{WHO}}:{{n}}"}}, idempotency_key=f"{{WHO}}:{{n}}")
            time.sleep(0.01)  # a pace at which the faults fall in between
            break
        except StoreError:
            time.sleep(0.05)
"""


@pytest.fixture
def durable_redis() -> Iterator[RedisServer]:
    """A Redis that writes every change to disk before it answers."""
    require("redis-server")
    with RedisServer(persistent=True) as server:
        yield server


def test_nothing_is_lost_or_doubled_while_redis_and_a_web_process_are_killed(
    new_server_database: Callable[..., ServerDatabase],
    durable_redis: RedisServer,
    start_server: StartServer,
    readers: ReaderPool,
) -> None:
    database = new_server_database("sqlite")
    env = {
        **database.env,
        "LIVE_TEST_LAYER": durable_redis.url,
        "LIVE_TEST_DJANGO_LIVE": json.dumps(
            {"STORE": "redis", "REDIS_URL": durable_redis.url, "HEAD_CHECK": 0.5}
        ),
    }
    servers = [start_server("uvicorn", env=env), start_server("daphne", env=env)]
    headers = {"Accept": "text/event-stream"}
    pool = [
        readers.open(server.host, server.port, path_of(TOPIC), headers)
        for server in servers
        for _ in range(10)
    ]
    readers.wait_until_open()
    publishers = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHER.replace("{WHO}", who)],
            env={**os.environ, **env, "PYTHONPATH": str(PROJECT_ROOT)},
            cwd=PROJECT_ROOT,
        )
        for who in ("a", "b")
    ]
    total = EACH * len(publishers)
    faults = 0
    pause = threading.Event()
    while any(publisher.poll() is None for publisher in publishers):
        if faults == 0 and len(pool[0].events) > total // 10:
            servers[1].kill()
            servers[1].start()
            faults += 1
        elif faults == 1 and len(pool[0].events) > total // 4:
            durable_redis.kill()
            pause.wait(1.0)
            durable_redis.start()
            faults += 1
        for reader in pool:
            if reader.over is not None:
                readers.reopen(reader)
        pause.wait(0.05)
    assert all(publisher.returncode == 0 for publisher in publishers)
    assert faults == 2, "a fault was not injected: this run proves nothing"

    def all_complete() -> bool:
        for reader in pool:
            if reader.over is not None:
                readers.reopen(reader)
        return all(len(reader.events) >= total for reader in pool)

    readers.wait_until(all_complete, 40, "every reader has every event")
    assert not any(reader.named("stream-reset") for reader in pool), "the log held everything"
    received = readers.received()
    order = [n for _, n in received[next(iter(received))]]
    assert len(set(order)) == total
    assert_exactly_once({TOPIC: order}, received)
