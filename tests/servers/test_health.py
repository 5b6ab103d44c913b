"""``live/health/``: what a balancer asks, while everything is well, while Redis is away or hangs, and
while the process leaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client, override_settings

from django_live.asgi import get_live_application
from django_live.core.runtime import runtime
from django_live.transports import health
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.redis import RedisServer
from tests.support.servers import Server

StartServer = Callable[..., Server]
NewDatabase = Callable[..., ServerDatabase]

WELL = {"status": "ok", "alive": True, "ready": True, "streams": True}


def wait_for(visitor: Visitor, expected: dict[str, Any]) -> None:
    """What was heard is told for two seconds."""
    deadline = time.monotonic() + 30
    while (told := visitor.get("/live/health/").json()) != expected:
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


@pytest.mark.parametrize("server", ["uvicorn"])
def test_redis_goes_hangs_and_comes_back_and_the_process_stays_ready(
    server: str,
    new_server_database: NewDatabase,
    own_redis: RedisServer,
    start_server: StartServer,
) -> None:
    live = {"STORE": "redis", "REDIS_URL": own_redis.url}
    env = {
        **new_server_database("sqlite").env,
        "LIVE_TEST_LAYER": own_redis.url,
        "LIVE_TEST_DJANGO_LIVE": json.dumps(live),
    }
    visitor = Visitor(start_server(server, env=env).url)
    well = {**WELL, "store": "ok", "layer": "ok"}
    away = {**well, "status": "degraded", "store": "unreachable", "layer": "unreachable"}
    wait_for(visitor, well)
    answer = visitor.get("/live/health/", headers={"Host": "10.0.0.7"})
    assert answer.status == 200, (
        "a balancer calls it by an address that ALLOWED_HOSTS does not have"
    )
    assert answer.headers["cache-control"] == "no-store"
    own_redis.pause()
    try:
        wait_for(visitor, away)
        slowest = 0.0
        for _ in range(3):
            began = time.monotonic()
            assert visitor.get("/live/health/").status == 200
            assert visitor.get("/live/health/alive/").json() == {"alive": True}
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 4, "a Redis that hangs must not hang the probe (it is given one second)"
    finally:
        own_redis.resume()
    wait_for(visitor, well)
    own_redis.kill()
    wait_for(visitor, away)
    told = visitor.get("/live/health/").text
    assert "127.0.0.1" not in told
    assert str(own_redis.port) not in told
    own_redis.start()
    wait_for(visitor, well)


@pytest.fixture
def wsgi() -> Iterator[Visitor]:
    import threading

    with make_server("127.0.0.1", 0, WSGIHandler(), WSGIServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Visitor(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_under_wsgi_it_says_that_the_process_answers(wsgi: Visitor) -> None:
    """Not even a database is asked: this test has none."""
    answer = wsgi.get("/live/health/")
    assert (answer.status, answer.json()) == (200, {**WELL, "streams": False})
    assert wsgi.get("/live/health/alive/").json() == {"alive": True}
    assert wsgi.request("OPTIONS", "/live/health/").status == 405


@override_settings(
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
)
def test_under_wsgi_nobody_has_to_log_in(client: Client) -> None:
    assert client.get("/live/health/alive/").status_code == 200


async def ask(application: Any, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }
    await application(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body or b"null")


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often store and layer were asked; they answer at once."""
    asked = {"store": 0, "layer": 0}

    def question(name: str) -> Callable[[], Any]:
        async def answered() -> str:
            asked[name] += 1
            return "ok"

        return answered

    monkeypatch.setattr(health, "QUESTIONS", {name: question(name) for name in asked})
    return asked


def run(work: Callable[[], Any]) -> None:
    async def in_loop() -> None:
        try:
            await work()
        finally:
            await runtime().stop()

    asyncio.run(in_loop())


@override_settings(DJANGO_LIVE={"STORE": "memory"})
def test_probing_often_is_no_load(questions: dict[str, int]) -> None:
    async def work() -> None:
        application = get_live_application()
        answers = await asyncio.gather(*(ask(application, "/live/health/") for _ in range(50)))
        assert {status for status, _ in answers} == {200}
        assert (await ask(application, "/live/health/", "HEAD"))[0] == 200

    run(work)
    assert questions == {"store": 1, "layer": 1}


@override_settings(DJANGO_LIVE={"STORE": "memory"})
def test_what_hangs_is_asked_once_and_told_as_unreachable(
    questions: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def hangs() -> str:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return "ok"

    monkeypatch.setitem(health.QUESTIONS, "store", hangs)
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    monkeypatch.setattr(health, "FRESH", 0.0)

    async def work() -> None:
        for _ in range(3):
            status, told = await ask(get_live_application(), "/live/health/")
            assert (status, told["status"], told["ready"]) == (200, "degraded", True)
            assert (told["store"], told["layer"]) == ("unreachable", "ok")

    run(work)
    assert asked == 1
    assert questions["layer"] == 3


@pytest.mark.usefixtures("questions")
@override_settings(DJANGO_LIVE={"STORE": "memory"})
def test_a_process_that_drains_gets_no_new_requests() -> None:
    async def work() -> None:
        application = get_live_application()
        assert (await ask(application, "/live/health/"))[0] == 200
        await runtime().drain()
        status, told = await ask(application, "/live/health/")
        assert (status, told["status"], told["ready"]) == (503, "draining", False)
        assert (await ask(application, "/live/health/alive/")) == (200, {"alive": True})

    run(work)


@override_settings(DJANGO_LIVE={"STORE": "nonsense"})
def test_settings_that_do_not_work_cost_the_streams_and_not_the_pages() -> None:
    async def work() -> None:
        status, told = await ask(get_live_application(), "/live/health/")
        assert (status, told["status"], told["ready"]) == (200, "degraded", True)

    asyncio.run(work())
