"""Keys on a real cluster: whatever log and state say to Redis in one command stays in one slot.

`REDIS_URL` names one server, so the commands are brought to the right one here. A command whose keys
lie in two slots is refused by the servers themselves (CROSSSLOT).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.test import override_settings
from redis import ResponseError

from django_live.checks import check_redis
from django_live.core.bus import envelopes, group_name
from django_live.core.events import Draft, Event
from django_live.exceptions import StoreError
from django_live.stores.redis import RedisLog
from django_live.stores.redis_client import RedisClient, Words, _packed
from django_live.stores.state_redis import RedisState
from tests.support.redis import RedisServer
from tests.support.redis_cluster import RedisCluster
from tests.support.requirements import require
from tests.testapp.live import OpenTopic

TOPICS = [OpenTopic(slug=f"cluster-{n}") for n in range(12)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    require("redis-server")
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def routed(cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Commands go where their first key lives; the ports that were talked to."""
    ports: set[int] = set()
    clients: dict[int, RedisClient] = {}

    def key_of(words: Words) -> bytes | str | None:
        if words[0] in ("EVAL", "EVALSHA"):
            return str(words[3])
        return None if words[0] == "SCAN" else str(words[1])

    def exchange(_client: RedisClient, batch: Sequence[Words]) -> list[Any]:
        replies = []
        for words in batch:
            key = key_of(words)
            # Scans are asked of every server by nobody: one has a part of the keys.
            server = cluster.servers[0] if key is None else cluster.server_of(key)
            ports.add(server.port)
            client = clients[server.port]
            pool = client._pools_of_process().for_threads
            connection = pool.get_connection()
            try:
                connection.send_packed_command(_packed([words]), check_health=False)
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            finally:
                pool.release(connection)
        return replies

    settings = {"STORE": "redis", "REDIS_PREFIX": "cluster"}
    for server in cluster.servers:
        with override_settings(DJANGO_LIVE={**settings, "REDIS_URL": server.url}):
            clients[server.port] = RedisClient()
    monkeypatch.setattr(RedisClient, "_exchange", exchange)
    with override_settings(DJANGO_LIVE={**settings, "REDIS_URL": cluster.servers[0].url}):
        yield ports
    for client in clients.values():
        client._pools_of_process().for_threads.disconnect()


def test_the_log_lives_on_every_server(routed: set[int], cluster: RedisCluster) -> None:
    log = RedisLog()
    for topic in TOPICS:
        for n in range(3):
            log.append(topic, [Draft("said", str(n), idempotency_key=f"k{n}")])
        again = log.append(topic, [Draft("said", "0", idempotency_key="k0")])
        assert again.events[0].offset == 1
        page = log.read(topic, 1, 10, 10_000)
        assert [event.data for event in page.events] == ["1", "2"]
    heads = log.heads(TOPICS)
    assert {head.last for head in heads.values()} == {3}
    assert {p.offset for p in log.positions(TOPICS, time.time() + 1).values()} == {3}
    begun = log.begin_epoch(TOPICS[0], heads[TOPICS[0].key])
    assert begun.epoch != heads[TOPICS[0].key].epoch
    log.trim()
    assert routed == {server.port for server in cluster.servers}, "all of them have a part"


def test_state_lives_on_every_server(routed: set[int], cluster: RedisCluster) -> None:
    state = RedisState()
    for n in range(12):
        name = f"map-{n}"
        state.change(name, {"a": "1", "b": "2"}, ttl=60)
        assert set(state.items(name).entries) == {"a", "b"}
        lease = state.acquire(f"lease-{n}", "me", ttl=60)
        assert lease is not None
        assert state.extend(f"lease-{n}", lease.token, ttl=60)
        assert state.release(f"lease-{n}", lease.token)
        assert state.lease(f"lease-{n}") is None
        assert state.count(f"count-{n}", 2, ttl=60) is not None
        state.sweep(name)
    assert not any(state.renew({f"map-{n}": ["a"] for n in range(12)}, ttl=90).values())
    assert routed == {server.port for server in cluster.servers}


def settings_for(url: str) -> override_settings:
    return override_settings(DJANGO_LIVE={"STORE": "redis", "REDIS_URL": url})


def test_a_cluster_as_the_store_is_refused_with_words(
    cluster: RedisCluster, own_redis: RedisServer
) -> None:
    with settings_for(cluster.servers[0].url):
        assert [message.id for message in check_redis(None)] == ["django_live.W013"]
        batches = [(topic, [Draft("said", "1")]) for topic in TOPICS]
        with pytest.raises(StoreError, match="is one server of a cluster"):
            RedisLog().append_many(batches)
    with settings_for(own_redis.url):
        assert not check_redis(None)
        own_redis.kill()
        assert not check_redis(None), "a check is no probe"


def message() -> dict[str, Any]:
    (envelope,) = envelopes("0" * 32, "e", [Event("said", "1", 1)])
    return envelope


@pytest.mark.asyncio
async def test_the_pub_sub_layer_is_heard_across_servers(cluster: RedisCluster) -> None:
    here = RedisPubSubChannelLayer(hosts=[cluster.servers[0].url])
    there = RedisPubSubChannelLayer(hosts=[cluster.servers[1].url])
    channel = await here.new_channel("live")
    await here.group_add(group_name("0" * 32), channel)
    try:
        await there.group_send(group_name("0" * 32), message())
        heard = await asyncio.wait_for(here.receive(channel), 10)
    finally:
        await here.flush()
        await there.flush()
    assert heard == message()


@pytest.mark.asyncio
async def test_the_other_layer_of_channels_does_not_work_on_a_cluster(
    cluster: RedisCluster,
) -> None:
    """Said in docs/concepts/delivery.md. If this fails one day, that has to change."""
    failures = 0
    for server in cluster.servers:
        layer = RedisChannelLayer(hosts=[server.url])
        try:
            for n in range(8):
                channel = await layer.new_channel("live")
                await layer.group_add(group_name(f"{n:032}"), channel)
                await layer.group_send(group_name(f"{n:032}"), message())
        except ResponseError:
            failures += 1
        await layer.close_pools()
    assert failures == len(cluster.servers)
