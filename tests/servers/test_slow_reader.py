"""A reader that stops reading costs the server a constant, and misses nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.test_streams import StartServer, open_stream
from tests.support.databases import ServerDatabase
from tests.support.exactly_once import assert_exactly_once

EVENTS, EACH = 2_000, 16_000
"""32 MB: far more than any socket's or server's buffers."""
MAY_GROW_KB = 16_000
FILL = f"""
from django_live import publish_many
for start in range(0, {EVENTS}, 50):
    publish_many(
        ("open/large", "counted", {{"n": n, "filling": "x" * {EACH}}})
        for n in range(start, start + 50)
    )
"""


@pytest.mark.parametrize("name", ["uvicorn", "daphne"])
def test_memory_stays_bounded_and_every_event_arrives_in_the_end(
    name: str, new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    server = start_server(name, env=database.env)
    topic = "open/large"
    with (
        open_stream(server, topic) as stopped,
        open_stream(server, topic) as quick,
    ):
        for reader in (stopped, quick):
            reader.wait_for(lambda frame: frame.event == "stream-open")
        before = server.rss_kb()
        database.python(FILL)
        received = [("open/large", frame.json()["n"]) for frame in quick.events(EVENTS, timeout=40)]
        # By now the server has written 32 MB to one reader and what fits to the other.
        assert server.rss_kb() - before < MAY_GROW_KB
        late = [("open/large", frame.json()["n"]) for frame in stopped.events(EVENTS, timeout=60)]
        assert server.rss_kb() - before < MAY_GROW_KB
    assert_exactly_once({"open/large": range(EVENTS)}, {"quick": received, "stopped": late})


def test_without_back_pressure_memory_would_grow(
    new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> None:
    """The negative control: Daphne takes whatever it is given."""
    database = new_server_database("sqlite")
    server = start_server(
        "daphne",
        application="tests.servers.broken:application",
        env={**database.env, "LIVE_TEST_BROKEN": "back-pressure"},
    )
    with open_stream(server, "open/large") as stopped, open_stream(server, "open/large") as quick:
        for reader in (stopped, quick):
            reader.wait_for(lambda frame: frame.event == "stream-open")
        before = server.rss_kb()
        database.python(FILL)
        quick.events(EVENTS, timeout=40)
        assert server.rss_kb() - before > MAY_GROW_KB
