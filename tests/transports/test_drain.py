# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""Told to stop: streams end first, then the server gets its signal; a second signal goes straight to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_live.core.runtime import running_runtime, runtime
from django_live.transports import drain
from django_live.transports.application import LiveApplication
from tests.core.fakes import until
from tests.transports.driver import Browser


class Server:
    """Its handler of signals, as uvicorn's: a plain callable."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def handle(self, signum: int, frame: Any) -> None:
        self.heard.append(signum)

    def __call__(self, signum: int, frame: Any) -> None:
        self.heard.append(signum)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = {number: signal.signal(number, server.handle) for number in drain.SIGNALS}
    yield server
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.asyncio
async def test_streams_end_before_the_server_hears_its_signal(site: Any, server: Server) -> None:
    async with Browser(site(), "open/a") as opened:
        await opened.opened()
        signal.raise_signal(signal.SIGTERM)
        assert server.heard == []
        await opened.ended()
        assert opened.is_complete
        assert b"retry: " in opened.body
        await until(lambda: server.heard == [signal.SIGTERM])


@pytest.mark.asyncio
async def test_a_second_signal_goes_to_the_server_at_once(site: Any, server: Server) -> None:
    site()
    drain.install()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert server.heard == [signal.SIGTERM]


@pytest.mark.asyncio
async def test_installing_twice_wraps_once(site: Any, server: Server) -> None:
    site()
    drain.install()
    first = signal.getsignal(signal.SIGTERM)
    drain.install()
    assert signal.getsignal(signal.SIGTERM) is first


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
@pytest.mark.asyncio
async def test_what_is_no_servers_handler_stays(site: Any, server: Server, handler: Any) -> None:
    site()
    signal.signal(signal.SIGINT, handler)
    drain.install()
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.asyncio
async def test_a_handler_of_the_loop_is_put_off_as_well(site: Any, server: Server) -> None:
    """Granian's and hypercorn's, on asyncio. (On uvloop: tests/servers/test_drain.py.)"""
    loop = asyncio.get_running_loop()
    heard: list[bool] = []
    try:
        async with Browser(site(), "open/a") as opened:
            loop.add_signal_handler(signal.SIGTERM, lambda: heard.append(opened.is_complete))
            await opened.opened()
            drain.install()
            drain.install()
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: bool(heard))
            assert heard == [True]
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: heard == [True, True])
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@pytest.mark.asyncio
async def test_the_streams_of_a_terminated_process_end_one_after_the_other(
    site: Any, server: Server
) -> None:
    application = site()
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(Browser(application, "open/a")) for _ in range(30)
        ]
        for stream in streams:
            await stream.opened()
        live = runtime()
        counts: set[int] = set()
        signal.raise_signal(signal.SIGTERM)  # 30 streams: within 0.3 of DRAIN's three seconds
        while not server.heard:
            counts.add(len(live.hub.connections))
            await asyncio.sleep(0.001)
        assert len(counts) >= 4, "all at once"
        assert counts >= {0, 30}
        assert all(stream.is_complete for stream in streams)


@pytest.mark.asyncio
async def test_the_second_signal_ends_all_streams_at_once(site: Any, server: Server) -> None:
    application = site()
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(Browser(application, "open/a")) for _ in range(30)
        ]
        for stream in streams:
            await stream.opened()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: runtime().draining)
        signal.raise_signal(signal.SIGINT)
        assert server.heard == [signal.SIGINT]
        await asyncio.sleep(0)
        assert not runtime().hub.connections
        for stream in streams:
            await stream.ended()
            assert stream.is_complete
        assert server.heard == [signal.SIGINT], "the server would take one more for an order"


@pytest.mark.asyncio
async def test_a_process_whose_settings_do_not_work_still_ends(server: Server) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    live = LiveApplication(application, answers_websockets=False)
    with override_settings(DJANGO_LIVE={"STORE": "tests.no.such.store"}):
        await lifespan(live, "startup", "shutdown")
        assert running_runtime() is None
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: server.heard == [signal.SIGTERM])


def test_outside_the_main_thread_nothing_is_installed(server: Server) -> None:
    async def install() -> None:
        drain.install()

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=asyncio.run, args=(install(),))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_after_the_loop_is_closed_the_server_hears_at_once(server: Server) -> None:
    loop = asyncio.new_event_loop()
    handler = drain.DrainFirst(server.handle, drain.Leaving(loop))
    loop.close()
    handler(signal.SIGTERM, None)
    assert server.heard == [signal.SIGTERM]


# -- lifespan --------------------------------------------------------------------------------------


async def lifespan(application: Any, *events: str) -> list[str]:
    inbox = [{"type": f"lifespan.{event}"} for event in events]
    sent: list[str] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await application({"type": "lifespan"}, receive, send)
    return sent


@pytest.mark.asyncio
async def test_the_application_answers_lifespan_and_stops_what_it_started(
    site: Any, server: Server
) -> None:
    application = site()
    answers = await lifespan(application, "startup", "shutdown")
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    async with Browser(application, "open/a") as opened:  # it would begin anew
        await opened.opened()
        live = runtime()
    await live.stop()


@pytest.mark.asyncio
async def test_a_websocket_that_nobody_answers_is_closed(server: Server) -> None:
    sent = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    live = LiveApplication(application, answers_websockets=False)
    elsewhere = {"type": "websocket", "path": "/elsewhere/", "headers": []}
    await live(dict(elsewhere), receive, send)
    assert sent == [{"type": "websocket.close", "code": 4404}]
    await LiveApplication(application, answers_websockets=True)(dict(elsewhere), receive, send)
    assert sent[-1] == {"type": "websocket.accept"}
