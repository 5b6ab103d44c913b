"""A survey of real processes: over Redis, over a Redis that is gone, and over nothing but a database; with
a dead one among them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers.test_streams import open_stream
from tests.support.databases import ServerDatabase, run_python
from tests.support.redis import RedisServer
from tests.support.servers import Server

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]

ASK = """
import json, time
from django_live.core import survey
until = time.monotonic() + 20
while len(survey.processes()) < {processes} and time.monotonic() < until:
    time.sleep(0.05)
page = survey.connections(topic="open/a")
print(json.dumps({{
    "took": page.survey.took,
    "pids": sorted(survey.processes()[id].pid for id in page.survey.answers),
    "missing": [process.pid for process in page.survey.missing],
    "rows": len(page.rows),
}}))
"""


def ask(database: ServerDatabase, env: dict[str, str], processes: int) -> dict[str, Any]:
    source = "import django\ndjango.setup()\n" + ASK.format(processes=processes)
    told: dict[str, Any] = json.loads(run_python(["-"], {**database.env, **env}, stdin=source))
    return told


def ask_until(
    database: ServerDatabase, env: dict[str, str], answered: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Processes need a moment to notice that the layer is gone, and a busy machine may hold one up."""
    until = time.monotonic() + 12  # a dead one is forgotten after 15
    while True:
        told = ask(database, env, 2)
        if answered(told) or time.monotonic() > until:
            return told


@pytest.mark.parametrize("layer", ["redis", "away", "none"])
def test_every_process_answers_and_a_dead_one_is_named(
    layer: str,
    new_server_database: NewDatabase,
    own_redis: RedisServer,
    start_server: StartServer,
) -> None:
    database = new_server_database("sqlite")
    env = dict(database.env)
    if layer != "none":
        env["LIVE_TEST_LAYER"] = own_redis.url
    if layer == "redis":
        env["LIVE_TEST_DJANGO_LIVE"] = json.dumps({"STORE": "redis", "REDIS_URL": own_redis.url})
    first, second = (start_server("uvicorn", env=env) for _ in range(2))
    with open_stream(first, "open/a") as one, open_stream(second, "open/a") as two:
        for reader in (one, two):
            reader.wait_for(lambda frame: frame.event == "stream-open")
        if layer == "away":
            own_redis.kill()
        told = ask_until(database, env, lambda told: not told["missing"])
        assert (told["rows"], told["missing"]) == (2, [])
        assert told["pids"] == sorted([first.pid, second.pid])
        dead = second.pid
        second.kill()
        told = ask_until(
            database, env, lambda told: told["pids"] == [first.pid] and told["took"] < 1.0
        )
    assert told["missing"] == [dead]
    assert (told["rows"], told["pids"]) == (1, [first.pid])
    assert told["took"] < 1.0
