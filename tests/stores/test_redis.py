"""What is particular to the log in Redis: faults, processes, event loops, keys."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from django_live.checks import check_settings
from django_live.core import bus
from django_live.core.allowance import Allowance
from django_live.core.events import Draft, encode_data
from django_live.core.log import get_log
from django_live.core.outbox import Numbered
from django_live.core.sending import send_numbered
from django_live.core.topics import History, Topic
from django_live.exceptions import StoreError
from django_live.stores import clock
from django_live.stores.redis import RedisLog
from django_live.stores.redis_client import Command, RedisClient, Words
from tests.chaos.checking import examine
from tests.contracts.conftest import empty_redis, in_threads, redis_server
from tests.support import prepared
from tests.support.redis import RedisServer
from tests.support.requirements import requires
from tests.support.servers import PROJECT_ROOT

if TYPE_CHECKING:
    from pytest_django import Settings

__all__ = ["empty_redis", "redis_server"]

pytestmark = [requires("redis-server"), pytest.mark.any_database]

PLENTY = 10_000_000
MOST_WAIT = 2.0
"""Seconds after which a publisher has its answer, whatever happened to Redis."""


def use(settings: Settings, server: RedisServer) -> RedisLog:
    settings.DJANGO_LIVE = {"STORE": "redis", "REDIS_URL": server.url}
    get_log.cache_clear()
    log = get_log()
    assert isinstance(log, RedisLog)
    return log


@pytest.fixture
def log(settings: Settings, redis_server: RedisServer, empty_redis: Redis) -> RedisLog:  # noqa: ARG001
    """An empty log in a Redis that tests share."""
    return use(settings, redis_server)


def said(*texts: str, key: str = "") -> list[Draft]:
    return [Draft("said", encode_data(text), idempotency_key=key) for text in texts]


def seen(log: RedisLog, topic: Topic) -> list[tuple[int, str]]:
    events = log.read(topic, 0, PLENTY, PLENTY).events
    return [(event.offset, json.loads(event.data)) for event in events]


def texts(log: RedisLog, topic: Topic) -> list[str]:
    return [text for _, text in seen(log, topic)]


# -- answers that are lost -------------------------------------------------------------------------


@contextmanager
def lost_answers(monkeypatch: pytest.MonkeyPatch, how_many: int = 1) -> Iterator[list[int]]:
    """The next commands are done, but their answers never come; how often that happened."""
    exchange = RedisClient._exchange
    lost: list[int] = []

    def lose(client: RedisClient, batch: Sequence[Words]) -> list[Any]:
        replies = exchange(client, batch)
        if len(lost) < how_many:
            lost.append(len(batch))
            raise RedisConnectionError("Connection closed by server.")
        return replies

    with monkeypatch.context() as patch:
        patch.setattr(RedisClient, "_exchange", lose)
        yield lost


def test_an_append_whose_answer_was_lost_is_done_once(
    log: RedisLog, room: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(room, said("before"))
    with lost_answers(monkeypatch) as lost:
        appended = log.append(room, said("a", "b"))
    assert lost == [1]
    assert [event.offset for event in appended.events] == [2, 3]
    assert texts(log, room) == ["before", "a", "b"]


def test_sent_again_as_it_was_it_would_be_done_twice(
    log: RedisLog, room: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RedisLog._append_command

    def forgetful(*args: Any) -> Command:
        command = whole(*args)
        return command._replace(again=command.words)

    monkeypatch.setattr(RedisLog, "_append_command", forgetful)
    log.append(room, said("before"))
    with lost_answers(monkeypatch):
        log.append(room, said("a"))
    assert texts(log, room) == ["before", "a", "a"]


def test_a_topics_first_append_whose_answer_was_lost_is_done_once(
    log: RedisLog, room: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lost_answers(monkeypatch, 2) as lost, pytest.raises(StoreError):
        log.append(room, said("a"))
    assert len(lost) == 2
    with lost_answers(monkeypatch):
        log.append(room, said("b"))
    assert texts(log, room) == ["b"]


def test_connections_that_are_cut_again_and_again_lose_and_double_nothing(
    log: RedisLog,
    room: Topic,
    empty_redis: Redis,
) -> None:
    done = threading.Event()
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        while not done.wait(0.002):
            cuts += int(empty_redis.client_kill_filter(_type="normal"))

    knife = threading.Thread(target=cut)
    knife.start()
    certain: list[str] = []
    possible: list[str] = []
    try:
        while cuts < 30 or len(certain) < 200:
            value = f"w:{len(certain) + len(possible)}"
            try:
                log.append(room, said(value))
                certain.append(value)
            except StoreError:
                possible.append(value)
    finally:
        done.set()
        knife.join()
    assert examine(seen(log, room), certain, possible).kinds == set()


# -- a Redis that goes away ------------------------------------------------------------------------


@pytest.fixture
def own_log(settings: Settings, own_redis: RedisServer) -> RedisLog:
    """A log in a Redis of this test alone."""
    return use(settings, own_redis)


def test_without_persistence_a_restart_begins_new_epochs(
    own_log: RedisLog, own_redis: RedisServer, room: Topic, room_class: type[Topic]
) -> None:
    unborn = room_class(title="unborn")
    own_log.append(room, said("a"))
    before = own_log.heads([room, unborn])
    own_redis.restart()
    after = own_log.heads([room, unborn])
    assert {head.epoch for head in before.values()}.isdisjoint(
        head.epoch for head in after.values()
    )
    appended = own_log.append(room, said("b"))
    assert (appended.epoch, appended.events[0].offset) == (after[room.key].epoch, 1)


def test_with_persistence_a_restart_changes_nothing(settings: Settings, room: Topic) -> None:
    with RedisServer(persistent=True) as server:
        log = use(settings, server)
        first = log.append(room, said("a", "b"))
        server.restart()
        second = log.append(room, said("c"))
        assert second.epoch == first.epoch
        assert seen(log, room) == [(1, "a"), (2, "b"), (3, "c")]


def set_back(server: RedisServer, log: RedisLog, room: Topic) -> None:
    """Redis comes back from a dump: it holds two of the four events that were appended."""
    log.append(room, said("a", "b"))
    with Redis.from_url(server.url) as client:
        client.save()
    log.append(room, said("c", "d"))
    server.restart()


def test_who_appended_what_an_old_dump_lacks_begins_a_new_epoch(
    own_log: RedisLog, own_redis: RedisServer, room: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    set_back(own_redis, own_log, room)
    before = own_log.heads([room])[room.key]
    assert before.last == 2
    appended = own_log.append(room, said("e"))
    assert appended.epoch != before.epoch
    assert [event.offset for event in appended.events] == [5]
    assert seen(own_log, room) == [(5, "e")]
    assert "lost events of rooms/lobby" in caplog.text


def test_who_knows_nothing_of_what_a_dump_lacks_goes_on_with_it(
    own_log: RedisLog, own_redis: RedisServer, room: Topic
) -> None:
    set_back(own_redis, own_log, room)
    get_log.cache_clear()
    assert get_log().append(room, said("e")).events[0].offset == 3


def test_a_script_that_redis_forgot_is_sent_again(
    log: RedisLog,
    room: Topic,
    empty_redis: Redis,
) -> None:
    for text in ("a", "b"):
        empty_redis.script_flush()
        log.append(room, said(text))
    empty_redis.script_flush()
    assert texts(log, room) == ["a", "b"]


@pytest.mark.parametrize("fault", ["dead", "silent"])
def test_a_publisher_does_not_wait_long_for_a_redis_that_is_down(
    own_log: RedisLog, own_redis: RedisServer, room: Topic, fault: str
) -> None:
    own_log.append(room, said("a"))
    if fault == "dead":
        own_redis.kill()
    else:
        own_redis.pause()
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"Redis at 127\.0\.0\.1:\d+"):
        own_log.append(room, said("b"))
    assert time.monotonic() - begun < MOST_WAIT
    if fault == "dead":
        own_redis.start()
    else:
        own_redis.resume()
    assert own_log.append(room, said("c")).events


class StuckLayer:
    """Takes a message and never answers."""

    async def group_send(self, group: str, message: object) -> None:
        await asyncio.Event().wait()


def test_a_slow_answer_and_a_layer_that_hangs_are_not_too_much_together(
    own_log: RedisLog, own_redis: RedisServer, room: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both may take nearly as long as each may."""
    layer = StuckLayer()
    monkeypatch.setattr(bus, "layer_in_force", lambda: layer)
    own_log.append(room, said("a"))
    own_redis.pause()
    later = threading.Timer(0.8, own_redis.resume)
    later.start()
    begun = time.monotonic()
    with Allowance().in_force():
        assert send_numbered([Numbered(room, own_log.append(room, said("b")))]) == 1
    waited = time.monotonic() - begun
    later.join()
    assert 0.8 < waited < MOST_WAIT


def test_a_commit_waits_for_a_redis_that_is_silent_as_long_as_one_event_does(
    own_log: RedisLog, own_redis: RedisServer, room: Topic
) -> None:
    own_log.append(room, said("a"))
    own_redis.pause()
    begun = time.monotonic()
    try:
        with Allowance().in_force():
            for _ in range(10):
                with pytest.raises(StoreError, match="did not answer"):
                    own_log.append(room, said("b"))
    finally:
        own_redis.resume()
    assert time.monotonic() - begun < MOST_WAIT
    assert own_log.append(room, said("c")).events  # another caller, another allowance


def test_a_time_out_that_the_url_names_is_waited_for(
    own_redis: RedisServer, settings: Settings, room: Topic
) -> None:
    settings.DJANGO_LIVE = {"STORE": "redis", "REDIS_URL": f"{own_redis.url}?socket_timeout=30"}
    get_log.cache_clear()
    log = get_log()
    log.append(room, said("a"))
    own_redis.pause()
    later = threading.Timer(1.6, own_redis.resume)
    later.start()
    with Allowance().in_force():
        assert log.append(room, said("b")).events
    later.join()


def test_a_redis_that_is_down_delays_no_event_loop_for_long(
    own_log: RedisLog, own_redis: RedisServer, room: Topic
) -> None:
    async def scenario() -> float:
        await own_log.aappend(room, said("a"))
        own_redis.pause()
        begun = time.monotonic()
        with pytest.raises(StoreError):
            await own_log.aappend(room, said("b"))
        waited = time.monotonic() - begun
        own_redis.resume()
        await own_log.aread(room, 0, 10, PLENTY)
        return waited

    assert asyncio.run(scenario()) < MOST_WAIT


def test_each_refusal_says_what_to_do(
    own_redis: RedisServer, settings: Settings, room: Topic
) -> None:
    log = use(settings, own_redis)
    log.append(room, said("a"))
    with Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match="no memory left"):
            log.append(room, said("b"))
        client.config_set("maxmemory", 0)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreError, match="is a replica"):
            log.append(room, said("b"))
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("requirepass", "secret")
        settings.DJANGO_LIVE = {
            "STORE": "redis",
            "REDIS_URL": own_redis.url.replace("//", "//:wrong-password@"),
        }
        with pytest.raises(StoreError, match="check user and password") as refused:
            RedisLog().append(room, said("b"))
        assert "wrong-password" not in str(refused.value)


# -- threads, processes, event loops ---------------------------------------------------------------


def test_processes_that_append_at_once_leave_no_hole(
    log: RedisLog,
    redis_server: RedisServer,
    room: Topic,
) -> None:
    store = {"STORE": "redis", "REDIS_URL": redis_server.url}
    processes = [
        prepared.Popen(
            [
                *(sys.executable, "-m", "tests.stores.redis_workers", "append"),
                json.dumps({"writer": f"w{number}", "count": 200}),
            ],
            cwd=PROJECT_ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(PROJECT_ROOT),
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "LIVE_TEST_DJANGO_LIVE": json.dumps(store),
            },
        )
        for number in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    everything = [f"w{writer}:{number}" for writer in range(3) for number in range(200)]
    assert examine(seen(log, room), everything).kinds == set()


def test_threads_that_come_first_together_are_all_served(
    room: Topic,
    log: RedisLog,
) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.000_001)
    try:
        for _ in range(20):
            fresh = RedisLog()
            in_threads(4, lambda _: fresh.append(room, said("a")))  # noqa: B023
    finally:
        sys.setswitchinterval(interval)
    assert len(seen(log, room)) == 80


def test_a_forked_child_has_connections_of_its_own(log: RedisLog, room: Topic) -> None:
    log.append(room, said("parent:1"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for number in range(1, 101):
                log.append(room, said(f"child:{number}"))
            status = 0
        finally:
            os._exit(status)
    for number in range(2, 102):
        log.append(room, said(f"parent:{number}"))
    assert os.waitpid(child, 0)[1] == 0
    everything = [f"child:{number}" for number in range(1, 101)]
    everything += [f"parent:{number}" for number in range(1, 102)]
    assert examine(seen(log, room), everything).kinds == set()


def test_each_event_loop_has_connections_that_end_with_it(
    log: RedisLog,
    room: Topic,
    empty_redis: Redis,
) -> None:
    async def scenario(text: str) -> None:
        await asyncio.gather(*(log.aappend(room, said(text)) for _ in range(5)))
        assert len(log._redis._pools_of_process().by_loop) == 1

    connections = len(empty_redis.client_list())
    for number in range(3):
        asyncio.run(scenario(str(number)))
        assert log._redis._pools_of_process().by_loop == {}
    assert len(seen(log, room)) == 15
    assert len(empty_redis.client_list()) <= connections + 1


def test_the_forms_for_the_event_loop_answer_the_same(log: RedisLog, room: Topic) -> None:
    async def scenario() -> None:
        appended = await log.aappend(room, said("a", "b"))
        assert log.append(room, []).epoch == appended.epoch
        assert await log.aread(room, 0, 10, PLENTY) == log.read(room, 0, 10, PLENTY)
        heads = await log.aheads([room])
        assert heads == log.heads([room])
        begun = await log.abegin_epoch(room, heads[room.key])
        assert log.heads([room])[room.key] == begun
        assert await log.atrim() == 0

    asyncio.run(scenario())


def test_a_task_that_is_cancelled_leaves_no_answer_to_the_next(log: RedisLog, room: Topic) -> None:
    async def scenario() -> None:
        for _ in range(20):
            task = asyncio.ensure_future(log.aread(room, 0, 10, PLENTY))
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await log.aappend(room, said("a"))).events

    log.append(room, said("first"))
    asyncio.run(scenario())
    assert len(seen(log, room)) == 21


# -- keys ------------------------------------------------------------------------------------------


def everything(log: RedisLog, room: Topic, room_class: type[Topic]) -> None:
    """Use all that the log can do."""
    room_class.history = History(events=5, age=timedelta(hours=1))
    other = room_class(title="other", namespace="acme")
    log.heads([room, other])
    log.append(room, said(*"abcdefghij"))
    log.append(other, said("a", key="k"))
    log.append(other, said("a", key="k"))
    log.read(room, 0, 10, PLENTY)
    log.positions([room, other, room_class(title="third")], time.time() - 1)
    log.trim()
    log.begin_epoch(room, log.heads([room])[room.key])
    log.append(room, said("k"))


def test_time_is_that_of_redis(log: RedisLog, room: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: 1.0)
    (event,) = log.append(room, said("a")).events
    assert abs(event.created - time.time()) < 60


def test_no_command_touches_two_slots_of_a_cluster(
    log: RedisLog, room: Topic, room_class: type[Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = RedisClient._exchange
    calls: list[Words] = []

    def record(client: RedisClient, batch: Sequence[Words]) -> list[Any]:
        calls.extend(batch)
        return exchange(client, batch)

    monkeypatch.setattr(RedisClient, "_exchange", record)
    everything(log, room, room_class)
    scripts = [words[3 : 3 + words[2]] for words in calls if words[0] == "EVALSHA"]
    assert len(scripts) > 10
    assert all(len({key_slot(key.encode()) for key in keys}) == 1 for keys in scripts)
    assert len({key_slot(keys[0].encode()) for keys in scripts}) > 1


def test_no_key_stays_for_ever(
    log: RedisLog,
    room: Topic,
    room_class: type[Topic],
    empty_redis: Redis,
) -> None:
    everything(log, room, room_class)
    left = {key: empty_redis.ttl(key) for key in empty_redis.scan_iter()}
    assert len(left) > 4
    assert min(left.values()) > 3600


def test_events_and_keys_are_bounded_without_a_trim(
    log: RedisLog,
    room: Topic,
    room_class: type[Topic],
    empty_redis: Redis,
) -> None:
    room_class.history = History(events=50)
    for number in range(200):
        log.append(room, said("x", key=f"k{number}"))
    _, stream, known = log._keys(room.key)
    assert 50 <= empty_redis.xlen(stream) <= 55
    assert empty_redis.hlen(known) == empty_redis.xlen(stream)


def test_events_that_are_too_old_go_without_a_trim(
    log: RedisLog,
    room: Topic,
    room_class: type[Topic],
    time: Any,
) -> None:
    room_class.history = History(events=1000, age=timedelta(seconds=80))
    for number in range(100):
        log.append(room, said(str(number)))
        time.advance(1)
    head = log.heads([room])[room.key]
    assert 100 - 90 <= head.floor <= 100 - 80


def test_a_stream_that_expired_or_was_evicted_is_as_if_trimmed(
    log: RedisLog,
    room: Topic,
    empty_redis: Redis,
) -> None:
    epoch = log.append(room, said("a", "b")).epoch
    empty_redis.delete(log._keys(room.key)[1])
    assert log.heads([room])[room.key] == (epoch, 2, 2)
    assert log.read(room, 0, 10, PLENTY) == ((epoch, 2, 2), [])
    log.append(room, said("c"))
    assert seen(log, room) == [(3, "c")]
    assert log.heads([room])[room.key] == (epoch, 3, 2)


def test_a_head_that_was_evicted_begins_a_new_life(
    log: RedisLog,
    room: Topic,
    empty_redis: Redis,
) -> None:
    epoch = log.append(room, said("a", "b")).epoch
    empty_redis.delete(log._keys(room.key)[0])
    appended = log.append(room, said("c"))
    assert appended.epoch != epoch
    assert seen(log, room) == [(1, "c")]


def test_heads_of_many_topics_are_one_round_trip(
    log: RedisLog, room_class: type[Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = [room_class(title=str(number)) for number in range(300)]
    log.heads(topics)
    exchange: Callable[..., list[Any]] = RedisClient._exchange
    trips: list[int] = []

    def count(client: RedisClient, batch: Sequence[Words]) -> list[Any]:
        trips.append(len(batch))
        return exchange(client, batch)

    monkeypatch.setattr(RedisClient, "_exchange", count)
    assert len(log.heads(topics)) == 300
    assert len(trips) == 1


def test_projects_with_different_prefixes_do_not_meet(
    log: RedisLog, settings: Settings, room: Topic
) -> None:
    log.append(room, said("ours"))
    settings.DJANGO_LIVE = {**settings.DJANGO_LIVE, "REDIS_PREFIX": "theirs"}
    theirs = RedisLog()
    assert texts(theirs, room) == []
    theirs.append(room, said("theirs"))
    assert texts(log, room) == ["ours"]


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{}, {"REDIS_URL": ""}, {"REDIS_URL": "localhost"}, {"REDIS_URL": "http://localhost"}],
    ids=str,
)
def test_e004_a_redis_without_an_address(wrong: dict[str, Any]) -> None:
    with override_settings(DJANGO_LIVE={"STORE": "redis", **wrong}):
        assert [message.id for message in check_settings(None)] == ["django_live.E004"]


def test_e004_a_prefix_that_would_move_keys() -> None:
    url = "redis://localhost"
    with override_settings(DJANGO_LIVE={"STORE": "redis", "REDIS_URL": url, "REDIS_PREFIX": "{a}"}):
        assert [message.id for message in check_settings(None)] == ["django_live.E004"]


def test_a_redis_with_an_address_is_no_problem() -> None:
    with override_settings(DJANGO_LIVE={"STORE": "redis", "REDIS_URL": "redis://localhost"}):
        assert check_settings(None) == []


def test_without_an_address_there_is_no_log() -> None:
    with (
        override_settings(DJANGO_LIVE={"STORE": "redis"}),
        pytest.raises(ImproperlyConfigured, match="REDIS_URL"),
    ):
        RedisLog()
