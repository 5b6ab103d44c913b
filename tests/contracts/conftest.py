"""The stores that the contracts are tried on. The only file here that names any."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from django.core.management import call_command
from django.db import connections
from redis import Redis

from django_live.core.log import EventLog, get_log
from django_live.core.state import SharedState, get_state
from django_live.core.topics import History, Topic, registry
from django_live.stores import clock
from django_live.stores.redis import RedisLog
from django_live.stores.state_redis import RedisState
from tests.stores.aliases import alias_elsewhere, sqlite_at
from tests.support.redis import RedisServer
from tests.support.requirements import require

if TYPE_CHECKING:
    from pytest_django import Settings

T = TypeVar("T")

# The first and the last have nothing to do with the database that a run stands on.
LOGS = [
    pytest.param("memory", marks=pytest.mark.any_database),
    "database",
    pytest.param("redis", marks=pytest.mark.any_database),
]
LOGS_BEHIND_AN_OUTBOX = ["memory", "database", "database-elsewhere", "redis"]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this process's tests. Each test that uses it finds it empty."""
    require("redis-server")
    with RedisServer() as server:
        yield server


@pytest.fixture
def empty_redis(redis_server: RedisServer) -> Iterator[Redis]:
    """A client of it."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture(params=LOGS)
def log(
    request: pytest.FixtureRequest,
    settings: Settings,
    transactional_db: None,  # noqa: ARG001 - threads have to see what the test wrote
) -> EventLog:
    """The log under test, empty."""
    settings.DJANGO_LIVE = {"STORE": request.param, **redis_settings(request)}
    get_log.cache_clear()
    return get_log()


@pytest.fixture(params=LOGS)
def state(
    request: pytest.FixtureRequest,
    settings: Settings,
    transactional_db: None,  # noqa: ARG001 - as above
) -> SharedState:
    """The shared state under test, empty."""
    settings.DJANGO_LIVE = {"STORE": request.param, **redis_settings(request)}
    get_state.cache_clear()
    return get_state()


@pytest.fixture(params=LOGS_BEHIND_AN_OUTBOX)
def log_behind_outbox(
    request: pytest.FixtureRequest,
    settings: Settings,
    tmp_path: Path,
    transactional_db: None,  # noqa: ARG001 - as above
) -> Iterator[EventLog]:
    """The log that the outbox of the alias "default" numbers into."""
    store, _, where = request.param.partition("-")
    with alias_elsewhere(sqlite_at(tmp_path / "log.sqlite3")) if where else nullcontext():
        settings.DJANGO_LIVE = {
            "STORE": store,
            "DATABASE": where or "default",
            **redis_settings(request),
        }
        get_log.cache_clear()
        yield get_log()


def redis_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """The part of DJANGO_LIVE that a store in Redis needs; the Redis is empty."""
    if request.param != "redis":
        return {}
    request.getfixturevalue("empty_redis")
    return {"REDIS_URL": request.getfixturevalue("redis_server").url}


@pytest.fixture
def flush(request: pytest.FixtureRequest, log: EventLog) -> Callable[[], EventLog]:
    """Loses everything that the log holds, as an operator would; the log after it."""

    def lose_everything() -> EventLog:
        if isinstance(log, RedisLog):
            request.getfixturevalue("empty_redis").flushall()
        elif log.shared:
            call_command("flush", interactive=False, verbosity=0)
        get_log.cache_clear()
        return get_log()

    return lose_everything


@pytest.fixture
def empty_again(request: pytest.FixtureRequest, state: SharedState) -> Callable[[], SharedState]:
    """Loses everything that the state holds; the state after it."""

    def lose_everything() -> SharedState:
        if isinstance(state, RedisState):
            request.getfixturevalue("empty_redis").flushall()
        elif state.shared:
            call_command("flush", interactive=False, verbosity=0)
        get_state.cache_clear()
        return get_state()

    return lose_everything


class FakeClock:
    """The stores' clock, which stands still until it is told otherwise."""

    def __init__(self, now: float) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return round(self.now, 6)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Time as the stores see it."""
    fake = FakeClock(1_800_000_000.123456)
    monkeypatch.setattr(clock, "now", fake)
    monkeypatch.setattr(clock, "instead_of_the_servers", fake)
    return fake


@pytest.fixture
def room_class() -> Iterator[type[Topic]]:
    """A topic that keeps 1,000 events for a day; a test may give it another history."""
    with registry.isolated():
        # The test app's own rooms would have the same names.
        registry._classes.pop("rooms/<slug:slug>", None)

        class Room(Topic):
            pattern = "rooms/<str:title>"
            history = History(events=1000, age=timedelta(days=1))

        yield Room


@pytest.fixture
def room(room_class: type[Topic]) -> Topic:
    """One topic with history."""
    return room_class(title="lobby")


@pytest.fixture
def signal() -> Iterator[Topic]:
    """One topic without history."""
    with registry.isolated():

        class Signal(Topic):
            pattern = "signals/<str:word>"

        yield Signal(word="typing")


def in_threads(count: int, work: Callable[[int], T]) -> list[T]:
    """`work(0)`, `work(1)` … at the same time, each with database connections of its own."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(10)
        try:
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
