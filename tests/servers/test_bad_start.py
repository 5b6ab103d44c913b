"""A store or layer that is missing at start: the site runs, and the log says so once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.servers.test_streams import StartServer, open_stream
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.redis import RedisServer
from tests.support.servers import free_port

NewDatabase = Callable[..., ServerDatabase]


def complaints(log: str) -> list[str]:
    """The lines that speak of a fault."""
    words = ("does not answer", "does not let us", "Traceback", "Error", "failed")
    return [line for line in log.splitlines() if any(word in line for word in words)]


@pytest.mark.parametrize("name", ["uvicorn", "daphne"])
def test_without_its_tables_the_site_serves_pages_and_refuses_streams(
    name: str, new_server_database: NewDatabase, start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    database.manage("migrate", "django_live", "zero")
    server = start_server(name, env=database.env)
    visitor = Visitor(server.url)
    assert visitor.get("/").status == 200
    with open_stream(server, "open/any") as reader:
        frame = reader.wait_for(lambda frame: frame.event == "stream-error")
        assert frame.json()["code"] == "unavailable"
    with open_stream(server, "open/any") as reader:
        reader.frames_during(3)  # the periodic work has come round several times
    assert visitor.get("/").status == 200
    log = server.log()
    assert "manage.py migrate" in log
    assert "Traceback" not in log
    lines = complaints(log)
    assert len(lines) == len(set(lines)) <= 4, lines

    database.manage("migrate", "django_live")
    with open_stream(server, "open/any") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        database.python("from django_live import publish; publish('open/any', 'here')")
        assert reader.next_event().event == "here"


def test_without_its_layer_the_site_runs_and_events_come_from_the_log(
    new_server_database: NewDatabase, start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    port = free_port()
    env = {
        **database.env,
        "LIVE_TEST_LAYER": f"redis://127.0.0.1:{port}/0",
        "LIVE_TEST_DJANGO_LIVE": '{"HEAD_CHECK": 0.5}',
    }
    server = start_server("uvicorn", env=env)
    with open_stream(server, "open/any") as reader:
        reader.wait_for(lambda frame: frame.event == "stream-open")
        database.python("from django_live import publish; publish('open/any', 'before')")
        assert reader.next_event(timeout=10).event == "before"
        reader.frames_during(3)
        log = server.log()
        assert log.count("channel layer does not answer") == 1
        assert "Traceback" not in log
        with RedisServer(port=port):
            deadline = time.monotonic() + 30
            while "answers again" not in server.log() and time.monotonic() < deadline:
                reader.frames_during(0.2)
            assert "answers again" in server.log()


@pytest.mark.parametrize("setting", ["STORE", "CHANNEL_LAYERS"])
def test_a_store_or_layer_that_cannot_be_imported_refuses_streams_and_serves_pages(
    setting: str, new_server_database: NewDatabase, start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    wrong = {
        "STORE": {"LIVE_TEST_DJANGO_LIVE": '{"STORE": "nobody.Store"}'},
        "CHANNEL_LAYERS": {
            "LIVE_TEST_LAYER_BACKEND": "nobody.Layer",
            "LIVE_TEST_LAYER": "redis://",
        },
    }[setting]
    server = start_server("uvicorn", env={**database.env, **wrong})
    visitor = Visitor(server.url)
    for _ in range(3):
        assert visitor.get("/").status == 200
        with open_stream(server, "open/any") as reader:
            assert reader.status == 503
            assert reader.headers["retry-after"]
            assert reader.json()["errors"][0]["code"] == "unavailable"
    assert server.log().count("Live features are off") == 1
    assert server.log().count("Traceback (most recent") <= 3  # of that one report
