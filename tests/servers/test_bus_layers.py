"""The bus on the layers of channels_redis, over a Redis of the test's own: what they lose and forget
without a word is found."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.layers import channel_layers
from channels_redis.core import RedisChannelLayer
from django.test import override_settings

from django_live.core import bus as bus_module
from django_live.core.bus import Bus, envelopes, group_name
from django_live.core.events import Event
from django_live.core.spare_loop import SpareLoop
from tests.core.fakes import until
from tests.support.redis import RedisServer

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"
KEY = "0" * 32
CAPACITY = 100

pytestmark = pytest.mark.asyncio


class Ear:
    """A bus, what it heard, and when it thought that it had missed something."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.interruptions = 0
        self.bus = Bus(self.heard.append, self._interrupted)

    def _interrupted(self) -> None:
        self.interruptions += 1


@asynccontextmanager
async def listening(*keys: str) -> AsyncIterator[Ear]:
    ear = Ear()
    tasks = ear.bus.start()
    try:
        for key in keys:
            await ear.bus.join(key)
        yield ear
        assert not any(task.done() for task in tasks), "the bus gave up"
    finally:
        ear.bus.stop()
        for task in tasks:
            task.cancel()
        _, left = await asyncio.wait(tasks, timeout=10)
        assert not left, "the bus did not end"
        for layer in (ear.bus._layer, *_made):
            await close(layer)
        _made.clear()


_made: list[Any] = []


async def close(layer: Any) -> None:
    if hasattr(layer, "close_pools"):
        await layer.close_pools()
    else:
        await layer.flush()


@pytest.fixture(params=[PUBSUB, CORE], ids=["pubsub", "core"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layer(
    backend: str, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Any]]:
    """The project's layer is this one; called, it makes another instance of it."""
    config = {"BACKEND": backend, "CONFIG": {"hosts": [own_redis.url]}}
    with override_settings(CHANNEL_LAYERS={"default": config}):
        monkeypatch.setattr(channel_layers, "backends", {})
        make = channel_layers.make_backend

        def remember(name: str) -> Any:
            _made.append(make(name))
            return _made[-1]

        monkeypatch.setattr(channel_layers, "make_backend", remember)
        monkeypatch.setattr(bus_module, "TICK", 0.1)
        monkeypatch.setattr(bus_module, "PROBE_AFTER", 0.3)
        yield lambda: remember("default")


def message(number: int, key: str = KEY) -> Any:
    (envelope,) = envelopes(key, "e", [Event("said", str(number), number)])
    return envelope


async def say_until_heard(ear: Ear, layer: Any, number: int) -> None:
    async def said() -> None:
        while not any(envelope["events"][0][0] == number for envelope in ear.heard):
            await layer.group_send(group_name(KEY), message(number))
            await asyncio.sleep(0.1)

    await asyncio.wait_for(said(), 15)


async def test_what_one_process_says_another_hears(layer: Callable[[], Any]) -> None:
    other = layer()
    async with listening(KEY) as ear:
        await other.group_send(group_name(KEY), message(1))
        await until(lambda: ear.heard)
        assert ear.heard[0]["events"][0][0] == 1


def cut_the_connections(redis: RedisServer, but: set[str]) -> int:
    """How many, and they are gone."""

    def clients() -> set[str]:
        listed = redis.command("CLIENT", "LIST").decode().splitlines()
        return {line.split()[0] for line in listed if "cmd=client" not in line} - but

    cut = clients()
    for client in cut:
        redis.command("CLIENT", "KILL", "ID", client.removeprefix("id="))
    while clients() & cut:
        pass
    return len(cut)


@pytest.mark.parametrize(
    ("host", "is_logged"),
    [({}, True), ({"protocol": 2}, False)],
    ids=["logged", "not logged"],
)
@pytest.mark.usefixtures("layer")
async def test_connections_that_are_cut_while_the_loop_of_sync_callers_rests(
    host: dict[str, Any], is_logged: bool, own_redis: RedisServer, backend: str
) -> None:
    """Nobody is there to see them end; the next message is sent over another. By its second protocol,
    for redis-py 8 does not look whether connections that speak the third are still there: what no
    log has would be lost then, and other messages need a second try."""
    spare = SpareLoop()
    hosts = [{"address": own_redis.url, **host}]

    def send(number: int) -> None:
        spare.run(lambda: bus_module.send([message(number if is_logged else 0)]), 5)

    async with listening(KEY) as ear:
        await until(lambda: ear.bus._is_listening)
        listed = await asyncio.to_thread(own_redis.command, "CLIENT", "LIST")
        of_ear = {line.split()[0] for line in listed.decode().splitlines()}
        config = {"BACKEND": backend, "CONFIG": {"hosts": hosts}}
        with override_settings(CHANNEL_LAYERS={"default": config}):
            cut = 0
            for number in range(1, 6):
                await asyncio.to_thread(send, number)
                await until(lambda count=number: len(ear.heard) == count)  # type: ignore[misc]
                cut += await asyncio.to_thread(cut_the_connections, own_redis, of_ear)
            assert cut == 5
            assert spare.loop is not None
            await asyncio.to_thread(spare.loop.close)


async def test_groups_that_redis_forgot_are_joined_again(
    layer: Callable[[], Any], own_redis: RedisServer, backend: str
) -> None:
    """After a flush nothing raises: only a probe tells."""
    other = layer()
    async with listening(KEY) as ear:
        await say_until_heard(ear, other, 1)
        own_redis.command("FLUSHALL")
        await say_until_heard(ear, other, 2)
        assert ear.bus._own_layer is False, "nothing had to be connected anew"
        assert ear.interruptions or backend == PUBSUB, "somebody looks into the log"


async def test_without_the_probe_they_are_not(
    layer: Callable[[], Any],
    own_redis: RedisServer,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control. What pub/sub listens to is not among the data."""
    monkeypatch.setattr(bus_module, "PROBE_AFTER", 3600)
    other = layer()
    async with listening(KEY) as ear:
        await say_until_heard(ear, other, 1)
        own_redis.command("FLUSHALL")
        for _ in range(15):
            await other.group_send(group_name(KEY), message(2))
            await asyncio.sleep(0.1)
        heard = [envelope["events"][0][0] for envelope in ear.heard]
        assert (2 in heard) is (backend == PUBSUB)


@pytest.mark.parametrize("backend", [PUBSUB], indirect=True, ids=["pubsub"])
async def test_a_layer_whose_reader_has_ended_is_connected_anew(
    layer: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """As channels_redis's does when a connection ends with ETIMEDOUT: it is deaf for good."""
    other = layer()
    async with listening(KEY) as ear:
        await say_until_heard(ear, other, 1)
        inner = ear.bus._layer._get_layer()  # type: ignore[union-attr]
        for shard in inner._shards:
            shard._receive_task.cancel()
        await say_until_heard(ear, other, 2)
        assert ear.interruptions, "somebody looks into the log"
    assert caplog.text.count("is connected anew") == 1


async def test_a_probe_that_could_not_be_sent_restarts_nothing(
    layer: Callable[[], Any], own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    other = layer()
    async with listening(KEY) as ear:
        await say_until_heard(ear, other, 1)
        own_redis.kill()
        await until(lambda: ear.bus._down_since is not None)
        await asyncio.sleep(2.0)  # far longer than a probe may take
        own_redis.start()
        await until(lambda: ear.bus._down_since is None)

        async def said() -> None:
            while not any(envelope["events"][0][0] == 2 for envelope in ear.heard):
                try:
                    await other.group_send(group_name(KEY), message(2))
                except Exception:
                    await asyncio.sleep(0)
                await asyncio.sleep(0.1)

        await asyncio.wait_for(said(), 15)
    assert "is connected anew" not in caplog.text


async def test_a_process_that_stood_still_restarts_nothing_and_looks_into_the_log(
    layer: Callable[[], Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "STALLED", 1.0)
    other = layer()
    async with listening(KEY) as ear:
        await say_until_heard(ear, other, 1)
        before = ear.interruptions
        await until(lambda: ear.bus._probe.is_under_way or ear.bus._probe._number > 1)
        time.sleep(1.5)  # noqa: ASYNC251 -- that is the point
        await until(lambda: ear.interruptions > before)
        await say_until_heard(ear, other, 2)
    assert "is connected anew" not in caplog.text


@pytest.mark.parametrize("backend", [CORE], indirect=True, ids=["core"])
@pytest.mark.usefixtures("layer")
async def test_what_a_full_channel_dropped_is_looked_for_at_once(own_redis: RedisServer) -> None:
    """300 topics speak once while this process is busy, and the layer keeps a hundred messages. No
    event comes after the lost ones that would show the hole."""
    keys = [f"{n:032}" for n in range(3 * CAPACITY)]
    async with listening(*keys) as ear:
        before = ear.interruptions

        def say() -> None:
            async def speak() -> None:
                other = RedisChannelLayer(hosts=[own_redis.url])  # of that thread's loop
                for number, key in enumerate(keys):
                    await other.group_send(group_name(key), message(number, key))
                await other.close_pools()

            asyncio.run(speak())

        thread = threading.Thread(target=say)
        thread.start()
        thread.join()  # the loop stands still meanwhile
        sent = time.monotonic()
        await until(lambda: ear.interruptions > before)
        took = time.monotonic() - sent
        await until(lambda: len(ear.heard) >= CAPACITY - 1)
        assert len(ear.heard) < len(keys), "the layer dropped nothing: this run proves nothing"
        print(f"looked for after {took:.2f} s")  # noqa: T201
        assert took < 4
