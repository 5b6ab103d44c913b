"""Between processes: the channel layer makes it fast, the log makes it right."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.test_streams import open_stream
from tests.support.databases import ServerDatabase
from tests.support.redis import RedisServer
from tests.support.servers import Server

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]

PUBLISH = "from django_live import publish; publish('{topic}', 'counted', {{'n': {n}}})"
SLOW_CHECKS = '{"HEAD_CHECK": 3600, "SWEEP": 3600}'
"""So that only the layer can have brought an event in time."""
QUICK_CHECKS = '{"HEAD_CHECK": 0.5}'


@pytest.fixture
def layered(new_server_database: NewDatabase, own_redis: RedisServer) -> ServerDatabase:
    """A database whose processes hear each other over a Redis of their own."""
    database = new_server_database("sqlite")
    return ServerDatabase(
        database.engine, database.name, {**database.env, "LIVE_TEST_LAYER": own_redis.url}
    )


def with_settings(database: ServerDatabase, settings: str) -> dict[str, str]:
    return {**database.env, "LIVE_TEST_DJANGO_LIVE": settings}


@pytest.mark.parametrize("topic", ["open/fast", "ephemeral/fast"])
def test_an_event_of_another_process_comes_over_the_layer(
    topic: str, layered: ServerDatabase, start_server: StartServer
) -> None:
    one = start_server("uvicorn", env=with_settings(layered, SLOW_CHECKS))
    other = start_server("daphne", env=with_settings(layered, SLOW_CHECKS))
    with open_stream(one, topic) as first, open_stream(other, topic) as second:
        for reader in (first, second):
            reader.wait_for(lambda frame: frame.event == "stream-open")
        layered.python(PUBLISH.format(topic=topic, n=1))
        for reader in (first, second):
            assert reader.next_event(timeout=5).json() == {"n": 1}


def test_without_the_layer_only_the_log_would_bring_it(
    new_server_database: NewDatabase, start_server: StartServer
) -> None:
    """The negative control of the test above: its head checks are off, so nothing comes."""
    database = new_server_database("sqlite")
    server = start_server("uvicorn", env=with_settings(database, SLOW_CHECKS))
    with open_stream(server, "ephemeral/fast") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        database.python(PUBLISH.format(topic="ephemeral/fast", n=1))
        assert not [f for f in reader.frames_during(2) if f.event == "counted"]


def test_a_layer_that_dies_delays_events_and_loses_none(
    layered: ServerDatabase, own_redis: RedisServer, start_server: StartServer
) -> None:
    server = start_server("uvicorn", env=with_settings(layered, QUICK_CHECKS))
    with open_stream(server, "open/redis") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        layered.python(PUBLISH.format(topic="open/redis", n=0))
        assert reader.next_event().json() == {"n": 0}
        own_redis.kill()
        began = time.monotonic()
        layered.python(PUBLISH.format(topic="open/redis", n=1))
        assert time.monotonic() - began < 10
        assert reader.next_event(timeout=10).json() == {"n": 1}
        own_redis.start()
        for n in (2, 3):
            layered.python(PUBLISH.format(topic="open/redis", n=n))
            assert reader.next_event(timeout=10).json() == {"n": n}
    complaints = [line for line in server.log().splitlines() if "does not answer" in line]
    assert len(complaints) <= 2, server.log()


@pytest.mark.parametrize(("broken", "obeyed"), [("", True), ("head-checks", False)])
def test_a_command_that_the_layer_lost_is_obeyed_all_the_same(
    broken: str, obeyed: bool, layered: ServerDatabase, start_server: StartServer, tmp_path: Path
) -> None:
    """With its negative control. The layer drops every message."""
    faults = tmp_path / "layer-faults"
    faults.with_name(faults.name + ".on").touch()
    env = {
        **with_settings(layered, SLOW_CHECKS),
        "LIVE_TEST_LAYER_BACKEND": "tests.faults.layers.BadLayer",
        "LIVE_TEST_LAYER_FAULTS": str(faults),
        "LIVE_TEST_LAYER_LOSES": "1",
        "LIVE_TEST_BROKEN": broken,
    }
    lossy = ServerDatabase(layered.engine, layered.name, env)
    application = "tests.servers.broken:application" if broken else "tests.asgi:application"
    server = start_server("uvicorn", application=application, env=env)
    with open_stream(server, "open/lossy") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        lossy.python(
            "from django_live.core.control import disconnect; disconnect(topic='open/lossy')"
        )
        told = [frame for frame in reader.frames_during(4) if frame.event == "stream-error"]
    assert bool(told) is obeyed
    assert "l" in faults.read_text(), "the layer lost nothing: this run proves nothing"


@pytest.mark.parametrize(("broken", "arrives"), [("", True), ("head-checks", False)])
def test_a_last_event_that_the_layer_lost_is_found_by_the_head_check(
    broken: str, arrives: bool, new_server_database: NewDatabase, start_server: StartServer
) -> None:
    """With its negative control. There is no layer here, so it loses everything of other processes."""
    database = new_server_database("sqlite")
    application = "tests.servers.broken:application" if broken else "tests.asgi:application"
    env = {**with_settings(database, QUICK_CHECKS), "LIVE_TEST_BROKEN": broken}
    server = start_server("uvicorn", application=application, env=env)
    with open_stream(server, "open/lost") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        database.python(PUBLISH.format(topic="open/lost", n=1))
        came = [frame for frame in reader.frames_during(3) if frame.event == "counted"]
    assert bool(came) is arrives
