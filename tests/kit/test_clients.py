"""Clients of a test without a server: a WebSocket and a poller; the stream's are in tests/test_testing.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_live import apublish, publish
from django_live.core.runtime import running_runtime
from django_live.testing import CallRefused, Poller, open_websocket
from tests.asgi import application
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)


def run(work: Callable[[], Any]) -> None:
    async def main() -> None:
        await work()
        assert running_runtime() is None, "nothing of it is left"

    asyncio.run(main())


# -- WebSocket -------------------------------------------------------------------------------------


def test_a_websocket_hears_sends_and_resumes() -> None:
    async def work() -> None:
        async with open_websocket(application, "open/a") as socket:
            await apublish("open/a", "said", 1)
            event = await socket.event("said")
            assert (event.topic, event.data) == ("open/a", 1)
            cursor = socket.cursor
        await apublish("open/a", "said", 2)
        async with open_websocket(application, "open/a", cursor=cursor) as socket:
            assert (await socket.event()).data == 2
            await socket.unsubscribe("open/a")
            await apublish("open/a", "said", 3)
            with pytest.raises(TimeoutError):
                await socket.event(timeout=0.2)

    run(work)


def test_what_is_refused_is_an_exception_with_its_code() -> None:
    async def work() -> None:
        with pytest.raises(CallRefused) as refused:
            async with open_websocket(application, "readers/all"):
                pass
        assert refused.value.code == "forbidden"
        async with open_websocket(application) as socket:
            with pytest.raises(CallRefused) as refused:
                await socket.call("open/a", "hello", {"n": 1})
            assert refused.value.code == "forbidden"

    run(work)


def test_a_connection_that_the_site_closes_is_the_end() -> None:
    async def work() -> None:
        async with open_websocket(application, "open/a") as socket:
            from django_live.core.runtime import runtime

            (connection,) = runtime().hub.connections.values()
            connection.close(1.0, ending="disconnected")
            assert await socket.closed() == 4200
            with pytest.raises(EOFError, match="4200"):
                await socket.event("said")

    run(work)


def test_bytes_come_as_they_are() -> None:
    async def work() -> None:
        async with open_websocket(application, "open/a") as socket:
            await apublish("open/a", "raw", b"\x00\xff")
            assert b"\x00\xff" in (await socket.event("binary")).data

    run(work)


# -- polling ---------------------------------------------------------------------------------------


def test_a_poller_is_told_what_came_since_it_last_asked() -> None:
    poller = Poller("open/a")
    assert poller.events() == []
    for number in range(3):
        publish("open/a", "said", number)
    assert [(event.topic, event.data) for event in poller.events()] == [
        ("open/a", number) for number in range(3)
    ]
    assert poller.events() == []
    later = Poller("open/a", cursor=poller.cursor)
    publish("open/a", "said", 3)
    assert [event.data for event in later.events()] == [3]


def test_a_poller_is_somebody(client: Client) -> None:
    anna, bert = (User.objects.create_user(name) for name in ("anna", "bert"))
    order = Order.objects.create(customer=anna)
    assert Poller(f"orders/{order.pk}", user=bert).poll() == []
    hers = Poller(f"orders/{order.pk}", user=anna)
    hers.poll()
    order.status = "paid"
    order.save()
    assert [event.type if hasattr(event, "type") else event.event for event in hers.events()] == [
        "updated"
    ]
    refused = Poller(f"orders/{order.pk}", client=client)
    refused.poll()
    assert refused.status == 403
    assert refused.json()["errors"][0]["code"] == "forbidden"


# -- pytest's fixtures -----------------------------------------------------------------------------


async def _hears(opened: Any) -> Any:
    async with opened as stream:
        await apublish("open/a", "said", 7)
        return (await stream.event("said")).data


def test_the_fixtures_are_there_without_an_import(
    live_sse: Any, live_websocket: Any, live_poller: Any, live_events: list[Any]
) -> None:
    assert asyncio.run(_hears(live_sse("open/a"))) == 7
    assert asyncio.run(_hears(live_websocket("open/a"))) == 7
    poller = live_poller("open/a")
    poller.poll()
    publish("open/a", "said", 8)
    assert [event.data for event in poller.events()] == [8]
    assert [event.data for event in live_events if event.topic == "open/a"] == [7, 7, 8]
