"""What is particular to the shared state in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from django_live.core.state import ABSENT
from django_live.exceptions import StoreError
from django_live.stores import clock
from django_live.stores.redis_client import RedisClient, Words
from django_live.stores.state_redis import RedisState
from tests.contracts.conftest import FakeClock, empty_redis, redis_server
from tests.support.redis import RedisServer
from tests.support.requirements import requires

if TYPE_CHECKING:
    from pytest_django import Settings

__all__ = ["empty_redis", "redis_server"]

pytestmark = [requires("redis-server"), pytest.mark.any_database]

ROOM = "presence:rooms/lobby"


@pytest.fixture
def state(settings: Settings, redis_server: RedisServer, empty_redis: Redis) -> RedisState:  # noqa: ARG001
    """An empty state in a Redis that tests share."""
    settings.DJANGO_LIVE = {"STORE": "redis", "REDIS_URL": redis_server.url}
    return RedisState()


def everything(state: RedisState) -> None:
    """Use all that the state can do, with nothing that lasts for ever."""
    version = state.set(ROOM, {"ada": "1", "bob": "1"}, ttl=60).version
    state.compare_and_set(ROOM, "ada", "2", version, ttl=60)
    state.change(ROOM, {"eve": ""}, delete=["bob"], ttl=30, fence=3)
    state.renew({ROOM: ["ada"], "other": ["ada"]}, 90)
    state.sweep(ROOM)
    state.count("hits", ttl=60)
    lease = state.acquire("rounds", "web-1", 60)
    assert lease
    state.extend("rounds", lease.token, 60)
    state.lease("rounds")
    state.release("rounds", lease.token)
    state.acquire("rounds", "web-2", 60)
    state.set("short", {"ada": "1"}, ttl=1)
    state.delete("short", ["ada"])


def test_no_command_touches_two_slots_of_a_cluster(
    state: RedisState, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = RedisClient._exchange
    calls: list[Words] = []

    def record(client: RedisClient, batch: Sequence[Words]) -> list[Any]:
        calls.extend(batch)
        return exchange(client, batch)

    monkeypatch.setattr(RedisClient, "_exchange", record)
    everything(state)
    scripts = [words[3 : 3 + words[2]] for words in calls if words[0] == "EVALSHA"]
    assert len(scripts) > 10
    assert all(len({key_slot(key.encode()) for key in keys}) == 1 for keys in scripts)


def test_no_key_stays_for_ever(state: RedisState, empty_redis: Redis) -> None:
    everything(state)
    left = {key: empty_redis.ttl(key) for key in empty_redis.scan_iter()}
    assert len(left) > 4
    assert min(left.values()) > 0


def test_a_map_with_an_entry_for_ever_stays_until_that_is_gone(
    state: RedisState,
    empty_redis: Redis,
) -> None:
    state.set(ROOM, {"ada": "", "bob": ""}, ttl=60)
    state.set(ROOM, {"eve": ""})
    assert {empty_redis.ttl(key) for key in state._map_keys(ROOM)} == {-1}
    state.delete(ROOM, ["eve"])
    assert min(empty_redis.ttl(key) for key in state._map_keys(ROOM)) > 60


def test_what_nobody_sweeps_does_not_pile_up(
    state: RedisState,
    empty_redis: Redis,
    time: FakeClock,
) -> None:
    for number in range(50):
        state.set(ROOM, {f"connection {number}": ""}, ttl=60)
        time.advance(7200)
    entries, expiries, _ = state._map_keys(ROOM)
    assert empty_redis.hlen(entries) == empty_redis.zcard(expiries) < 15


def test_time_is_that_of_redis(state: RedisState, monkeypatch: pytest.MonkeyPatch) -> None:
    first = state.acquire("rounds", "web-1", 60)
    monkeypatch.setattr(clock, "now", lambda: 4e9)
    assert first
    assert state.acquire("rounds", "web-2", 60) is None


def lose_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = RedisClient._exchange
    lost: list[bool] = []

    def lose(client: RedisClient, batch: Sequence[Words]) -> list[Any]:
        replies = exchange(client, batch)
        if not lost:
            lost.append(True)
            raise RedisConnectionError("Connection closed by server.")
        return replies

    monkeypatch.setattr(RedisClient, "_exchange", lose)


def test_what_may_be_done_twice_is_done_although_an_answer_was_lost(
    state: RedisState, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_next_answer(monkeypatch)
    lease = state.acquire("rounds", "web-1", 60)
    assert lease
    assert state.extend("rounds", lease.token, 60)


def test_what_may_not_be_done_twice_fails_when_its_answer_is_lost(
    state: RedisState, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        lose_the_next_answer(patch)
        with pytest.raises(StoreError):
            state.count("hits", ttl=60)
    assert state.count("hits", 0, ttl=60).value == 1
    with monkeypatch.context() as patch:
        lose_the_next_answer(patch)
        with pytest.raises(StoreError):
            state.compare_and_set(ROOM, "ada", "1", ABSENT)
    assert state.items(ROOM).entries["ada"].value == "1"


def test_an_evicted_map_is_an_empty_one(state: RedisState, empty_redis: Redis) -> None:
    state.set(ROOM, {"ada": "1"}, ttl=60)
    entries, _, _ = state._map_keys(ROOM)
    empty_redis.delete(entries)
    assert state.items(ROOM).entries == {}
    assert state.renew({ROOM: ["ada"]}, 60) == {ROOM: {"ada"}}
    assert state.compare_and_set(ROOM, "ada", "1", ABSENT)
