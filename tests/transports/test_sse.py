"""The view: its answers, and the stream that it makes itself where nobody holds it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.test import RequestFactory

from django_live.core.runtime import runtime
from django_live.transports import sse
from django_live.transports.sse import BUFFER_BYTES, BufferSink
from tests.transports.driver import Browser, tell

Site = Callable[..., Any]


@pytest.fixture
def bare(site: Site) -> Any:
    """Django's application, as a project that kept its own ``asgi.py`` serves it."""
    site()
    return get_asgi_application()


@pytest.mark.asyncio
async def test_without_the_wrapper_the_stream_makes_itself(bare: Any) -> None:
    async with Browser(bare, "open/a") as opened:
        await opened.opened()
        for number in range(100):
            await tell("open/a", "said", number)
        await opened.until(lambda: len(opened.said()) == 100)
        assert opened.said() == list(range(100))


@pytest.mark.asyncio
async def test_without_the_wrapper_a_client_that_leaves_is_forgotten(bare: Any) -> None:
    async with Browser(bare, "open/a") as opened:
        await opened.opened()
        assert runtime().hub.connections
        opened.hang_up()
        await opened.ended()
        assert not runtime().hub.connections


@pytest.mark.asyncio
async def test_without_the_wrapper_the_server_ends_a_stream(bare: Any) -> None:
    async with Browser(bare, "open/a") as opened:
        await opened.opened()
        await runtime().drain()
        await opened.ended()
        assert opened.is_complete
        assert b"retry: " in opened.body


@pytest.mark.asyncio
async def test_without_the_wrapper_a_slow_reader_costs_a_buffer(bare: Any) -> None:
    async with Browser(bare, "open/a") as opened:
        await opened.opened()
        opened.stuck = True
        for number in range(100):
            await tell("open/a", "said", [number, "x" * 10_000])
        (connection,) = runtime().hub.connections.values()
        assert connection.blocked
        assert connection.sink._size < BUFFER_BYTES + 64 * 1024 + 20_000  # type: ignore[attr-defined]
        opened.let_go()
        await opened.until(lambda: len(opened.said()) == 100)
        assert [number for number, _ in opened.said()] == list(range(100))


@pytest.mark.asyncio
async def test_a_stream_gives_back_the_database_connections_of_its_request(
    bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(
        sse, "_close_connections", lambda: closed.append(threading.current_thread())
    )
    async with Browser(bare, "open/a") as opened:
        await opened.opened()
        assert len(closed) == 1


@pytest.mark.parametrize(
    ("topics", "status", "code"),
    [
        ([], 400, "no-topics"),
        (["unknown/topic"], 403, "forbidden"),
        (["customers/1/orders"], 403, "forbidden"),
        (["a\nb"], 403, "malformed-topic"),
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_opened_is_told_in_json(
    site: Site, topics: list[str], status: int, code: str
) -> None:
    async with Browser(site(), *topics) as opened:
        await opened.ended()
        assert opened.status == status
        (error,) = json.loads(opened.body)["errors"]
        assert error["code"] == code
        assert "no-store" in opened.headers["cache-control"]


@pytest.mark.asyncio
async def test_a_forbidden_topic_and_one_that_does_not_exist_look_alike(site: Site) -> None:
    bodies = []
    for name in ("customers/1/orders", "unknown/1/topic"):
        async with Browser(site(), name) as opened:
            await opened.ended()
            bodies.append((opened.status, opened.body.replace(name.encode(), b"it")))
    assert bodies[0] == bodies[1]


@pytest.mark.asyncio
async def test_what_was_refused_is_told_on_the_stream_of_the_others(site: Site) -> None:
    async with Browser(site(), "open/a", "unknown/topic") as opened:
        await opened.opened()
        await opened.until(lambda: opened.events("stream-error"))
        (frame,) = opened.events("stream-error")
        assert json.loads(frame.data or "")["topic"] == "unknown/topic"
        await tell("open/a", "said", 1)
        await opened.until(opened.said)


@pytest.mark.asyncio
async def test_a_client_resumes_where_it_was(site: Site) -> None:
    application = site()
    async with Browser(application, "open/a") as first:
        await first.opened()
        await tell("open/a", "said", 1)
        await first.until(first.said)
    await tell("open/a", "said", 2)
    cursor = first.events("said")[0].id or ""
    async with Browser(application, "open/a", headers={"last-event-id": cursor}) as again:
        await again.opened()
        await again.until(again.said)
        assert again.said() == [2]


@pytest.mark.asyncio
async def test_a_cursor_that_cannot_be_read_is_a_reset(site: Site) -> None:
    async with Browser(site(), "open/a", headers={"last-event-id": "null"}) as opened:
        await opened.until(lambda: len(opened.frames) == 3)
        (error,) = opened.events("stream-error")
        assert json.loads(error.data or "")["code"] == "malformed-cursor"
        (reset,) = opened.events("stream-reset")
        assert json.loads(reset.data or "")["reason"] == "unknown-cursor"


def test_under_wsgi_it_says_that_it_cannot() -> None:
    response = sse.events(RequestFactory().get("/live/events/", {"topic": "open/a"}))
    assert response.status_code == 501
    assert b"no-streaming" in response.content  # type: ignore[attr-defined]


# -- the buffer ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_what_was_written_comes_in_one_piece_and_ends() -> None:
    sink = BufferSink()
    assert sink.write(b"a")
    assert sink.write(b"b")
    sink.end()
    assert [chunk async for chunk in sink.chunks()] == [b"ab"]


@pytest.mark.asyncio
async def test_a_buffer_that_is_full_says_so_and_tells_when_it_is_taken() -> None:
    sink = BufferSink()
    taken = []
    sink.on_taken = lambda: taken.append(True)
    assert sink.write(b"x" * (BUFFER_BYTES - 1))
    assert not sink.write(b"x")
    chunks = sink.chunks()
    assert len(await anext(chunks)) == BUFFER_BYTES
    assert not taken, "not before the server asks for more"
    following = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    assert taken == [True]
    sink.write(b"y")
    assert await following == b"y"
    sink.end()
    assert [chunk async for chunk in chunks] == []
