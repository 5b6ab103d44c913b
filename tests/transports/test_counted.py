"""What the transports count, for those who watch the site."""

from __future__ import annotations

import asyncio
from typing import Self

import pytest
from django.test import Client

from django_live import apublish, publish
from django_live.core.counting import tally
from django_live.core.runtime import runtime
from django_live.testing import CallRefused, Poller, open_sse, open_websocket
from tests.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)


class Since:
    """By how much a counter grew in the block."""

    def __init__(self, name: str, part: str | None = None) -> None:
        self.name, self.part = name, part
        self.grew = 0

    def __enter__(self) -> Self:
        self._before = tally.counted(self.name, self.part)
        return self

    def __exit__(self, *error: object) -> None:
        self.grew = tally.counted(self.name, self.part) - self._before


def test_a_stream_and_a_websocket_that_come_back_are_reconnects_and_a_poll_is_none() -> None:
    async def work() -> tuple[int, int, int]:
        async with open_sse(application, "open/a") as stream:
            await apublish("open/a", "said", 1)
            cursor = (await stream.event("said")).id
        with Since("reconnects") as newcomers:
            async with open_sse(application, "open/a"), open_websocket(application, "open/a"):
                pass
        with Since("reconnects") as stream_back:
            async with open_sse(application, "open/a", cursor=cursor):
                pass
        with Since("reconnects") as socket_back:
            async with open_websocket(application, "open/a", cursor=cursor) as socket:
                await socket.subscribe("open/b", cursor=cursor)
        return newcomers.grew, stream_back.grew, socket_back.grew

    assert asyncio.run(work()) == (0, 1, 1)
    poller = Poller("open/a")
    poller.poll()
    with Since("reconnects") as polled:
        poller.poll()
    assert polled.grew == 0


def test_answers_to_permissions_and_messages_are_counted(client: Client) -> None:
    with Since("permission_checks", "yes") as yes, Since("permission_checks", "no") as no:
        Poller("open/a").poll()
        Poller("readers/all").poll()
    assert (yes.grew, no.grew) == (1, 1)

    async def work() -> None:
        async with open_websocket(application) as socket:
            with pytest.raises(CallRefused):
                await socket.call("open/a", "hello")

    with Since("messages", "forbidden") as by_socket:
        asyncio.run(work())
    assert by_socket.grew == 1
    body = {"topic": "open/a", "type": "hello", "data": 1}
    with Since("messages", "forbidden") as by_post:
        client.post("/live/send/", body, content_type="application/json")
    assert by_post.grew == 1


def test_why_a_connection_ended_is_counted() -> None:
    async def work() -> None:
        async with open_sse(application, "open/a"):
            (connection,) = runtime().hub.connections.values()
            connection.close(1.0, ending="disconnected")

    with Since("closed", "disconnected") as ended, Since("opened", "sse") as opened:
        asyncio.run(work())
    assert (ended.grew, opened.grew) == (1, 1)


def test_what_the_store_takes_for_an_append_is_measured() -> None:
    before = tally.as_json()["store"].get("append", {"count": 0})["count"]
    with Since("published") as published:
        publish("open/a", "said", 1)
    assert published.grew == 1
    assert tally.as_json()["store"]["append"]["count"] == before + 1
