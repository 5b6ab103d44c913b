# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""Held: what middleware let through unchanged. Passed on: everything else, as if nobody were there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application

from django_live.core.connections import Connection
from django_live.core.runtime import runtime
from django_live.transports import hold as hold_module
from django_live.transports import sockets as sockets_module
from django_live.transports.application import LiveApplication
from django_live.transports.hold import HEADER
from django_live.transports.sockets import SendSink, _Rest, is_steppable
from tests.core.fakes import until
from tests.transports.driver import Browser, SteppedBrowser, tell
from tests.transports.middleware import answers

pytestmark = pytest.mark.asyncio

OURS = "tests.transports.middleware."
Site = Callable[..., Any]


def with_middleware(name: str) -> list[str]:
    return [OURS + name, *settings.MIDDLEWARE]


def around(application: Any) -> LiveApplication:
    return LiveApplication(application, answers_websockets=False)


@pytest.fixture(params=[Browser, SteppedBrowser], ids=["awaited", "stepped"])
def browser(request: pytest.FixtureRequest) -> type[Browser]:
    """A server whose ``send`` is awaited, and one whose is stepped."""
    kind: type[Browser] = request.param
    return kind


# -- what is held ----------------------------------------------------------------------------------


async def test_a_stream_stays_open_and_delivers(site: Site, browser: type[Browser]) -> None:
    async with browser(site(), "open/a") as opened:
        await opened.opened()
        for number in range(20):
            await tell("open/a", "said", number)
        await opened.until(lambda: len(opened.said()) == 20)
        assert opened.said() == list(range(20))
        assert opened.status == 200
        assert not opened.is_complete


async def test_the_head_of_a_stream_is_for_a_browser(site: Site) -> None:
    async with Browser(site(), "open/a") as opened:
        await opened.opened()
        headers = opened.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert "no-store" in headers["cache-control"]
        for name in (HEADER.lower(), "content-length", "content-encoding", "etag"):
            assert name not in headers


async def test_a_held_stream_keeps_nothing_of_django(site: Site) -> None:
    """The response's generator ended, so that its thread and its connection went back."""
    async with Browser(site(), "open/a") as opened:
        await opened.opened()
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
        assert not any("ASGIHandler" in name for name in names)


@pytest.mark.parametrize("middleware", [None, "adds_a_header", "django.middleware.gzip"])
async def test_harmless_middleware_is_no_hindrance(site: Site, middleware: str | None) -> None:
    names = {
        None: settings.MIDDLEWARE,
        "adds_a_header": with_middleware("adds_a_header"),
        "django.middleware.gzip": [
            "django.middleware.gzip.GZipMiddleware",
            "django.middleware.http.ConditionalGetMiddleware",
            *settings.MIDDLEWARE,
        ],
    }[middleware]
    async with Browser(
        site(MIDDLEWARE=names), "open/a", headers={"accept-encoding": "gzip"}
    ) as opened:
        await opened.opened()
        assert runtime().hub.connections
        assert opened.headers.get("x-site") == ("ours" if middleware == "adds_a_header" else None)


async def test_a_response_that_middleware_replaced_is_not_held(site: Site) -> None:
    application = site(MIDDLEWARE=with_middleware("replaces"))
    async with Browser(application, "open/a") as opened:
        await opened.ended()
        assert opened.body == b"something else"
        assert opened.is_complete


async def test_it_would_be_if_the_token_did_not_count(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.compare_digest", lambda a, b: True)
    application = site(MIDDLEWARE=with_middleware("replaces"))
    async with Browser(application, "open/a") as opened:
        await opened.opened()


async def test_a_header_out_of_a_cache_holds_nothing(site: Site) -> None:
    answers.clear()
    application = site(MIDDLEWARE=with_middleware("caches_the_headers"))
    async with Browser(application, "open/a") as first:
        await first.opened()
        assert answers["cached"][HEADER]
        async with Browser(application, "open/a") as second:
            await second.ended()
            assert second.body == b"from the cache"


async def test_an_error_is_not_held(site: Site) -> None:
    application = site(MIDDLEWARE=with_middleware("fails"))
    async with Browser(application, "open/a") as opened:
        await opened.until(lambda: opened.messages)
        assert opened.status == 500


async def test_what_somebody_encodes_streams_by_itself(site: Site) -> None:
    application = site(MIDDLEWARE=with_middleware("compresses"))
    async with Browser(application, "open/a") as opened:
        await opened.opened()
        await tell("open/a", "said", 1)
        await opened.until(opened.said)
        assert opened.headers["content-encoding"] == "x-unknown"


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_only_get_opens_a_stream(site: Site, method: str) -> None:
    async with Browser(site(), "open/a", method=method) as opened:
        await opened.ended()
        assert opened.status in (403, 405)  # POST meets the CSRF check first
        assert not runtime().hub.connections


async def test_a_head_request_is_never_held() -> None:
    """Also by a view that would answer it."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        slot = scope[hold_module.SCOPE_KEY]
        slot.plan = object()
        token = (HEADER.lower().encode(), slot.token.encode())
        await send({"type": "http.response.start", "status": 200, "headers": [token]})
        await send({"type": "http.response.body", "body": b""})

    async with Browser(around(application), method="HEAD") as opened:
        await opened.ended()
        assert opened.is_complete


async def test_a_refusal_is_an_ordinary_answer(site: Site) -> None:
    async with Browser(site(), "unknown/topic") as opened:
        await opened.ended()
        assert opened.status == 403
        assert opened.is_complete


async def test_a_view_cannot_know_the_token_of_another_request() -> None:
    slots = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        slots.append(scope[hold_module.SCOPE_KEY])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    for _ in range(2):
        async with Browser(around(application)) as opened:
            await opened.ended()
    assert slots[0].token != slots[1].token


# -- what is not held ------------------------------------------------------------------------------


async def test_ordinary_requests_pass_as_if_nobody_were_there(site: Site) -> None:
    application = site()
    for path in ("/", "/nowhere/", "/live/events/"):
        async with Browser(get_asgi_application(), path=path) as plain:
            await plain.ended()
        async with Browser(application, path=path) as wrapped:
            await wrapped.ended()
        assert wrapped.messages == plain.messages


async def test_an_ordinary_request_leaves_no_task(site: Site) -> None:
    """Django waits for the disconnect beside its view; servers need not tell of it afterwards."""
    async with Browser(site(), path="/") as opened:
        await opened.ended()
        await asyncio.sleep(0)
        names = [repr(task.get_coro()) for task in asyncio.all_tasks()]
        assert not any("_until_disconnect" in name for name in names)


async def test_what_the_application_raises_is_raised() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no")

    browser = Browser(around(application))
    with pytest.raises(LookupError):
        await around(application)(browser.scope, browser.receive, browser.send)


async def test_django_never_cancels_the_servers_receive(site: Site) -> None:
    async with Browser(site(), "open/a") as opened:
        await opened.opened()
        await tell("open/a", "said", 1)
        await opened.until(opened.said)
        assert opened.receives_cancelled == 0


async def test_a_body_in_pieces_is_passed_on() -> None:
    pieces = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": False},
        {"type": "http.disconnect"},
    ]
    seen: list[Any] = []

    async def receive() -> Any:
        return pieces[len(seen)]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for _ in pieces:
            message = await receive()
            seen.append(message)

    browser = Browser(None)
    await around(application)(browser.scope, receive, browser.send)
    assert seen == pieces


# -- the gate --------------------------------------------------------------------------------------


async def test_only_so_many_streams_open_at_once(settings_in_force: Any) -> None:
    settings_in_force(DJANGO_LIVE={"ADMISSION": 3})
    inside = most = 0
    free = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal inside, most
        await receive()
        inside += 1
        most = max(most, inside)
        await free.wait()
        inside -= 1
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    live = around(application)
    browsers = [Browser(live) for _ in range(20)]
    tasks = [asyncio.ensure_future(live(b.scope, b.receive, b.send)) for b in browsers]
    await asyncio.sleep(0.01)
    assert inside == 3
    pages = Browser(live, headers={"accept": "text/html"})
    page = asyncio.ensure_future(live(pages.scope, pages.receive, pages.send))
    await asyncio.sleep(0.01)
    assert inside == 4, "pages do not wait at the gate"
    free.set()
    await asyncio.gather(*tasks, page)
    assert most == 4


async def test_streams_of_others_do_not_keep_ours_out(settings_in_force: Any) -> None:
    """A site's own event stream asks for the same type, and may last for hours."""
    settings_in_force(DJANGO_LIVE={"ADMISSION": 2})
    over = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        await over.wait()
        await send({"type": "http.response.body", "body": b""})

    live = around(application)
    browsers = [Browser(live) for _ in range(10)]
    tasks = [asyncio.ensure_future(live(b.scope, b.receive, b.send)) for b in browsers]
    await until(lambda: all(b.messages for b in browsers))
    over.set()
    await asyncio.gather(*tasks)


async def test_a_request_that_fails_gives_its_place_back(settings_in_force: Any) -> None:
    settings_in_force(DJANGO_LIVE={"ADMISSION": 1})

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no")

    live = around(application)
    for _ in range(5):
        browser = Browser(live)
        with pytest.raises(LookupError):
            await asyncio.wait_for(live(browser.scope, browser.receive, browser.send), 5)


async def test_who_never_ends_the_request_takes_nobodys_place(site: Site) -> None:
    """A GET may announce a body, and its client may never send it."""

    class Endless(Browser):
        async def receive(self) -> Any:
            if self._asked:
                return await super().receive()
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": True}

    application = site(DJANGO_LIVE={"ADMISSION": 2})
    async with (
        Endless(application, "open/a"),
        Endless(application, "open/a"),
        Endless(application, "open/a"),
        Browser(application, "open/a") as browser,
    ):
        await browser.opened()


# -- sockets that are slow, break, or are gone -----------------------------------------------------


def the_connection() -> Connection:
    (connection,) = runtime().hub.connections.values()
    return connection


async def test_a_slow_socket_gets_everything_in_order(site: Site, browser: type[Browser]) -> None:
    async with browser(site(), "open/a", "open/b") as opened:
        await opened.opened()
        for round_ in range(10):
            opened.stuck = True
            for number in range(10):
                await tell("open/a", "said", round_ * 10 + number)
            opened.let_go()
            await opened.until(partial(opened.has_said, (round_ + 1) * 10))
        assert opened.said() == list(range(100))


async def test_it_would_not_if_a_busy_socket_were_written_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SteppedBrowser(site(), "open/a") as opened:
        await opened.opened()
        monkeypatch.setattr(
            Connection, "blocked", property(lambda self: False, lambda self, on: None)
        )
        opened.stuck = True
        for number in range(10):
            await tell("open/a", "said", number)
        opened.let_go()
        await opened.ended()  # two writers at a time
        assert opened.said() != list(range(10))


async def test_heartbeat_event_and_end_never_write_at_once(
    site: Site, browser: type[Browser]
) -> None:
    async with browser(site(), "open/a") as opened:
        await opened.opened()
        connection = the_connection()
        for number in range(50):
            opened.stuck = number % 3 != 0
            await tell("open/a", "said", number)
            connection.keep_alive()
            connection.notify(b"event: notice\ndata: 1\n\n")
            await asyncio.sleep(0)
            opened.let_go()
        await opened.until(lambda: len(opened.said()) == 50)
        assert opened.said() == list(range(50))
        assert len(opened.events("notice")) == 50
        connection.keep_alive()
        connection.close(2.0)
        await opened.ended()
        assert opened.is_complete


async def turns_within(seconds: float) -> int:
    """How often the loop comes round: one with nothing to do waits, one that spins does not."""
    loop: Any = asyncio.get_running_loop()
    turns = 0
    run_once = loop._run_once

    def counted() -> None:
        nonlocal turns
        turns += 1
        run_once()

    loop._run_once = counted
    await asyncio.sleep(seconds)
    del loop._run_once
    return turns


async def test_a_blocked_socket_costs_no_time(site: Site, browser: type[Browser]) -> None:
    """The task that finishes its write waits; it does not look again and again."""
    async with browser(site(), "open/a") as opened:
        await opened.opened()
        for _ in range(2):  # also the second time
            opened.stuck = True
            await tell("open/a", "said", 1)
            await asyncio.sleep(0.01)
            assert await turns_within(0.05) < 20
            tasks = [t for t in asyncio.all_tasks() if not t.done()]
            assert sum("_awaiting" in repr(t.get_coro()) for t in tasks) == 1
            opened.let_go()


async def test_a_client_that_hangs_up_is_forgotten(site: Site, browser: type[Browser]) -> None:
    application = site()
    async with browser(application, "open/a") as opened:
        await opened.opened()
        opened.hang_up()
        await opened.ended()
        assert not runtime().hub.connections


async def test_a_client_that_hangs_up_while_its_socket_is_full_is_forgotten_at_once(
    site: Site, browser: type[Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets_module, "LAST_WRITE", 3600.0)
    async with browser(site(), "open/a") as opened:
        await opened.opened()
        opened.stuck = True
        await tell("open/a", "said", 1)
        await tell("open/a", "said", 2)
        opened.hang_up()
        await opened.ended()
        assert not runtime().hub.connections


async def test_a_client_that_hangs_up_before_its_stream_is_open_leaves_nothing(
    site: Site, browser: type[Browser]
) -> None:
    async with browser(site(), "open/a") as opened:
        opened.hang_up()
        await opened.ended()
        assert not runtime().hub.connections


async def test_a_stream_that_is_ended_waits_a_moment_for_a_full_socket(
    site: Site, browser: type[Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets_module, "LAST_WRITE", 0.02)
    async with browser(site(), "open/a") as opened:
        await opened.opened()
        opened.stuck = True
        await tell("open/a", "said", 1)
        await asyncio.sleep(0)
        the_connection().close(2.0)
        await opened.ended()
        assert not opened.is_complete, "it did not read: it cannot be told that this is the end"


async def test_a_full_socket_that_drains_in_time_gets_its_end(
    site: Site, browser: type[Browser]
) -> None:
    async with browser(site(), "open/a") as opened:
        await opened.opened()
        opened.stuck = True
        await tell("open/a", "said", 1)
        await asyncio.sleep(0)
        the_connection().close(2.0)
        await asyncio.sleep(0)
        opened.let_go()
        await opened.ended()
        assert opened.said() == [1]
        assert opened.is_complete


async def test_a_send_that_raises_ends_its_stream_and_tells_nobody_else(
    site: Site, browser: type[Browser], caplog: pytest.LogCaptureFixture
) -> None:
    application = site()
    async with browser(application, "open/a") as broken, browser(application, "open/a") as whole:
        await broken.opened()
        await whole.opened()
        broken.breaks = True
        await tell("open/a", "said", 1)
        await broken.ended()
        await whole.until(whole.said)
        assert len(runtime().hub.connections) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_server_that_cancels_the_request_leaves_nothing(
    site: Site, browser: type[Browser]
) -> None:
    async with browser(site(), "open/a") as opened:
        await opened.opened()
        opened.stuck = True
        await tell("open/a", "said", 1)
        await asyncio.sleep(0)
        opened.task.cancel()
        await asyncio.wait({opened.task})
        assert not runtime().hub.connections
    await asyncio.sleep(0)
    mine = asyncio.current_task()
    left = [t for t in asyncio.all_tasks() if t is not mine and "_awaiting" in repr(t.get_coro())]
    assert left == []


async def test_while_the_site_shuts_down_a_new_stream_is_sent_away(
    site: Site, browser: type[Browser]
) -> None:
    application = site()
    async with browser(application, "open/a") as before:
        await before.opened()
        await runtime().drain()
        await before.ended()
        assert before.is_complete
        async with browser(application, "open/a") as late:
            await late.ended()
            assert late.status == 200, "another status would stop an EventSource for good"
            assert late.body.startswith(b"retry: ")
            assert late.is_complete


# -- stepping --------------------------------------------------------------------------------------


async def test_only_a_servers_own_send_is_stepped() -> None:
    browser, stepped = Browser(None), SteppedBrowser(None)
    assert not is_steppable(browser.send)
    assert is_steppable(stepped.send)
    assert is_steppable(partial(stepped.send))
    assert not is_steppable(partial(partial(browser.send)))
    assert not is_steppable(lambda message: stepped.send(message))


async def test_a_wrapped_send_is_awaited_by_the_connections_own_task(site: Site) -> None:
    """Time-outs of the kind that anyio or asyncio offer need the task that entered them."""
    writers = set()

    class Wrapped(Browser):
        async def send(self, message: Any) -> None:
            task = asyncio.current_task()
            async with asyncio.timeout(5):
                await self._send(message)
            assert asyncio.current_task() is task
            if message["type"] == "http.response.body":
                writers.add(asyncio.current_task())

    async with Wrapped(site(), "open/a") as opened:
        await opened.opened()
        await tell("open/a", "said", 1)
        await opened.until(opened.said)
        assert asyncio.current_task() not in writers


async def test_the_rest_of_a_send_goes_on_where_it_waited() -> None:
    order: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()

    async def send() -> None:
        order.append("begun")
        await first.wait()
        order.append("between")
        await asyncio.sleep(0)
        await second.wait()
        order.append("done")

    step = send().__await__()
    awaited = next(step)
    rest = asyncio.ensure_future(sockets_module._awaiting(_Rest(step, awaited)))
    await asyncio.sleep(0)
    assert order == ["begun"]
    first.set()
    second.set()
    await rest
    assert order == ["begun", "between", "done"]


@pytest.mark.parametrize("catches", [True, False])
async def test_a_send_that_is_cancelled_hears_of_it(catches: bool) -> None:
    heard = []

    async def send() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            if not catches:
                raise

    step = send().__await__()
    rest = asyncio.ensure_future(sockets_module._awaiting(_Rest(step, next(step))))
    await asyncio.sleep(0)
    rest.cancel()
    await asyncio.wait({rest})
    assert heard == ["cancelled"]
    assert rest.cancelled() != catches


async def test_an_awaitable_that_is_no_coroutine_is_stepped_too() -> None:
    """As granian's: its iterator has neither ``send`` nor ``throw``."""

    class Future:
        def __init__(self, future: asyncio.Future[None]) -> None:
            self.future = future
            self.asked = False

        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if not self.asked:
                self.asked = True
                self.future._asyncio_future_blocking = True
                return self.future
            raise StopIteration

    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(message: Any) -> Any:
        return Future(waiting)

    send.__module__ = "granian.asgi"
    sink = SendSink(send)
    assert sink.write(b"data") is False
    assert sink._unfinished is not None
    rest = asyncio.ensure_future(sockets_module._awaiting(sink._unfinished))
    await asyncio.sleep(0)
    waiting.set_result(None)
    await asyncio.wait_for(rest, 5)


async def test_a_server_that_asks_for_a_pause_gets_one() -> None:
    written = []

    async def send(message: Any) -> None:
        written.append(message["body"])

    send.__module__ = "daphne.http_protocol"
    sink = SendSink(send)
    assert sink.write(b"1") is True
    sink.pauseProducing()
    assert sink.write(b"2") is False
    assert written == [b"1", b"2"]
    sink.resumeProducing()
    assert sink.write(b"3") is True


async def test_a_client_that_left_daphne_while_its_stream_was_opened_is_no_fault() -> None:
    from daphne.http_protocol import WebRequest

    request = WebRequest.__new__(WebRequest)
    request.channel = None  # as Twisted leaves it

    async def reply(protocol: Any, message: Any) -> None:
        """Daphne's own passes over what is said to who has left."""

    reply.__module__ = "daphne.server"
    send = partial(reply, request)
    undo = sockets_module.register_producer(send, SendSink(send))
    undo()
