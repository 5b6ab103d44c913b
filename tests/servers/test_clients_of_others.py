"""Client libraries that people already use, from their registry, against a real server."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import httpx_sse

from tests.servers.test_streams import StartServer, path_of
from tests.support.databases import ServerDatabase

PUBLISH = "from django_live import publish; publish('open/theirs', 'counted', {{'n': {n}}})"


def test_httpx_sse_receives_and_resumes(
    new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    server = start_server("uvicorn", env=database.env)
    last_id = ""
    for n in range(3):
        if n:  # while the client is away
            database.python(PUBLISH.format(n=n))
        with (
            httpx.Client(base_url=server.url, timeout=10) as client,
            httpx_sse.connect_sse(
                client, "GET", path_of("open/theirs"), headers={"Last-Event-ID": last_id}
            ) as source,
        ):
            events = source.iter_sse()
            opened = next(events)
            assert opened.event == "stream-open"
            assert opened.retry == 2000
            if not n:
                database.python(PUBLISH.format(n=n))
            event = next(events)
            assert (event.event, event.json()) == ("counted", {"n": n})
            last_id = event.id
