# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""Between loops, threads and processes: a layer that fails and comes back, groups that are left late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from django_live.core import bus as bus_module
from django_live.core.bus import Bus, envelopes, group_name, layer_in_force, read_envelope, send
from django_live.core.envelopes import (
    MAX_MESSAGE_BYTES,
    PARCEL_FROM,
    parcels,
    size_of,
    unpacked,
)
from django_live.core.events import Event
from tests.core.fakes import until

KEY = "0" * 32


class FakeLayer:
    """A channel layer of this process that can be switched off."""

    group_expiry = 86_400

    def __init__(self) -> None:
        self.groups: dict[str, set[str]] = {}
        self.queues: dict[str, asyncio.Queue[Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.down = False
        self.idle: list[Exception] = []
        self.receives = 0
        self.on_discard: Callable[[str], Any] = lambda group: None

    def _call(self, name: str, group: str = "") -> None:
        self.calls.append((name, group))
        if self.down:
            raise ConnectionError("gone")

    async def new_channel(self, prefix: str) -> str:
        self._call("new_channel")
        self.queues[prefix] = asyncio.Queue()
        return prefix

    async def group_add(self, group: str, channel: str) -> None:
        self._call("group_add", group)
        self.groups.setdefault(group, set()).add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._call("group_discard", group)
        self.on_discard(group)
        for _ in range(3):
            await asyncio.sleep(0)  # others work meanwhile
        self.groups.get(group, set()).discard(channel)

    async def group_send(self, group: str, message: Any) -> None:
        self._call("group_send", group)
        for channel in self.groups.get(group, ()):
            self.queues[channel].put_nowait(message)

    async def receive(self, channel: str) -> Any:
        self.receives += 1
        if self.idle:
            raise self.idle.pop()
        if self.down:
            raise ConnectionError("gone")
        message = await self.queues[channel].get()
        if isinstance(message, Exception):
            raise message
        return message

    def fail(self) -> None:
        """Stop answering, and say so to who waits."""
        self.down = True
        for queue in self.queues.values():
            queue.put_nowait(ConnectionError("gone"))

    def restart(self) -> None:
        """Come back, with no memory of groups and of what was waiting."""
        self.groups.clear()
        for queue in self.queues.values():
            while not queue.empty():
                queue.get_nowait()
        self.down = False


class Ear:
    """A bus and what it heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.interruptions = 0
        self.bus = Bus(self.heard.append, self._interrupted)

    def _interrupted(self) -> None:
        self.interruptions += 1


@asynccontextmanager
async def listening() -> AsyncIterator[Ear]:
    ear = Ear()
    tasks = ear.bus.start()
    try:
        yield ear
        assert not any(task.done() for task in tasks), "the bus gave up"
    finally:
        ear.bus.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> FakeLayer:
    layer = FakeLayer()
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    monkeypatch.setattr(bus_module, "LEAVE_AFTER", 0.02)
    monkeypatch.setattr(bus_module, "LONGEST_BACKOFF", 0.06)
    return layer


@pytest.fixture
def no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_layers, "backends", {})


def message(number: int = 1, key: str = KEY) -> Any:
    (envelope,) = envelopes(key, "e1", [Event("said", str(number), number)])
    return envelope


# -- envelopes -------------------------------------------------------------------------------------


def test_events_survive_the_journey() -> None:
    events = [Event("said", '"a"', 7, "connection", 12.5, "key"), Event("said", "1", 8)]
    (envelope,) = envelopes(KEY, "e1", events)
    assert read_envelope(envelope) == (KEY, "e1", events)


def test_messages_are_bounded_in_events_and_in_bytes() -> None:
    many = list(envelopes(KEY, "e", [Event("said", "1", n) for n in range(250)]))
    assert [len(envelope["events"]) for envelope in many] == [100, 100, 50]
    large = "x" * (MAX_MESSAGE_BYTES - 1)
    assert len(list(envelopes(KEY, "e", [Event("said", large, n) for n in range(3)]))) == 3


def test_group_names_are_what_every_layer_takes() -> None:
    assert InMemoryChannelLayer().require_valid_group_name(group_name(KEY))


class CutOnce(FakeLayer):
    """Its connection was cut while it was idle."""

    async def group_send(self, group: str, message: Any) -> None:
        if not self.calls:
            self._call("group_send", group)
            raise ConnectionError("closed by server")
        await super().group_send(group, message)


@pytest.mark.asyncio
async def test_what_a_log_has_is_sent_once_more_where_the_layer_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = CutOnce()
    monkeypatch.setattr(bus_module, "layer_in_force", lambda: cut)
    await send([message(7)])
    assert cut.calls == [("group_send", group_name(KEY))] * 2


@pytest.mark.asyncio
async def test_a_parcel_is_sent_once_more_where_a_log_has_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for last, calls in ((PARCEL_FROM, 2), (0, 1)):
        cut = CutOnce()
        monkeypatch.setattr(bus_module, "layer_in_force", lambda cut=cut: cut)
        many = [message(n, f"{n:032}") for n in [*range(1, PARCEL_FROM), last]]
        with pytest.raises(ConnectionError) if calls == 1 else nullcontext():
            await send(many)
        assert cut.calls == [("group_send", bus_module.PARCELS)] * calls


@pytest.mark.asyncio
async def test_what_no_log_has_is_not_for_its_readers_could_have_it_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = CutOnce()
    monkeypatch.setattr(bus_module, "layer_in_force", lambda: cut)
    with pytest.raises(ConnectionError):
        await send([message(0)])
    assert len(cut.calls) == 1


@pytest.mark.parametrize(
    ("layer", "runs"),
    [(RedisPubSubChannelLayer, False), (RedisChannelLayer, False), (FakeLayer, True)],
)
def test_only_layers_that_are_known_to_rest_do_without_a_running_loop(
    layer: Callable[[], Any], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "layer_in_force", layer)
    assert bus_module.needs_running_loop() is runs


def test_few_messages_go_to_their_topics_and_many_small_ones_in_parcels() -> None:
    many = [message(n, f"{n:032}") for n in range(1, PARCEL_FROM + 1)]
    (parcel,) = parcels(many)
    assert list(unpacked(parcel, {one["key"] for one in many})) == many
    assert list(unpacked(parcel, {f"{3:032}"})) == [many[2]]
    assert list(unpacked(many[0], ())) == [many[0]], "what came by its topic's group is heard"
    assert parcels(many[1:]) == []


def test_parcels_are_bounded_and_large_messages_are_in_none() -> None:
    def sized(size: int, count: int) -> list[Any]:
        event = Event("said", "x" * size, 1)
        return [one for n in range(count) for one in envelopes(f"{n:032}", "e", [event])]

    many = sized(1000, 600)
    packed = parcels(many)
    assert [one for parcel in packed for one in parcel["messages"]] == many, "in their order"
    sizes = [sum(map(size_of, parcel["messages"])) for parcel in packed]
    assert len(sizes) == 3
    assert max(sizes) <= MAX_MESSAGE_BYTES
    assert parcels(sized(1025, 600)) == []


# -- without a layer -------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_layer")
def test_without_a_layer_only_this_process_hears() -> None:
    assert layer_in_force() is None


def test_channels_own_layer_of_one_process_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(channel_layers.backends, "default", InMemoryChannelLayer())
    assert layer_in_force() is None


@pytest.mark.usefixtures("no_layer")
def test_every_loop_of_a_process_hears_what_any_thread_sends() -> None:
    heard: dict[str, list[int]] = {}
    ready = threading.Barrier(3)
    sent = threading.Event()

    async def listen(name: str) -> None:
        async with listening() as ear:
            await ear.bus.join(KEY)
            ready.wait(10)
            await until(lambda: len(ear.heard) == 100)
            heard[name] = [envelope["events"][0][0] for envelope in ear.heard]
            await until(sent.is_set)

    threads = [threading.Thread(target=asyncio.run, args=(listen(name),)) for name in "ab"]
    for thread in threads:
        thread.start()
    ready.wait(10)
    for number in range(100):
        bus_module.send_local([message(number), message(number, key="1" * 32)])
    sent.set()
    for thread in threads:
        thread.join(10)
    assert heard == {"a": list(range(100)), "b": list(range(100))}


@pytest.mark.usefixtures("no_layer")
def test_a_loop_that_is_closed_is_no_trouble_for_the_others() -> None:
    async def leave() -> None:
        ear = Ear()
        ear.bus.start()
        await ear.bus.join(KEY)
        kept.append(ear)

    async def stay() -> list[Any]:
        async with listening() as ear:
            await ear.bus.join(KEY)
            await send([message()])
            await until(lambda: ear.heard)
            return ear.heard

    kept: list[Ear] = []
    asyncio.run(leave())
    assert asyncio.run(stay()) == [message()]
    assert kept[0].heard == []


@pytest.mark.usefixtures("no_layer")
@pytest.mark.asyncio
async def test_what_a_busy_loop_cannot_take_in_time_is_left_to_the_log() -> None:
    def large(number: int) -> Any:
        event = Event("said", "x" * (bus_module.INBOX_BYTES // 4), number)
        return next(iter(envelopes(KEY, "e1", [event])))

    async with listening() as ear:
        await ear.bus.join(KEY)
        bus_module.send_local([large(number) for number in range(1, 41)])  # no await in between
        await until(lambda: ear.interruptions)
        assert [one["events"][0][0] for one in ear.heard] == [1, 2, 3, 4]
        bus_module.send_local([large(41), large(0), large(0), large(0), large(0)])
        await until(lambda: len(ear.heard) == 9)
        assert ear.interruptions == 1, "what has no log is never left out"


@pytest.mark.usefixtures("no_layer")
@pytest.mark.asyncio
async def test_a_topic_that_was_left_is_not_heard() -> None:
    async with listening() as ear:
        await ear.bus.join(KEY)
        ear.bus.leave(KEY)
        bus_module.send_local([message()])
        await ear.bus.join(KEY)
        bus_module.send_local([message(2)])
        await until(lambda: ear.heard)
        assert ear.heard == [message(2)]


# -- groups ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_process_has_one_channel_and_a_group_per_topic(layer: FakeLayer) -> None:
    async with listening() as ear:
        await asyncio.gather(*(ear.bus.join(f"{n:032}") for n in range(20)))
        await ear.bus.join(f"{1:032}")
        assert [name for name, _ in layer.calls].count("new_channel") == 1
        groups = [group for name, group in layer.calls if name == "group_add"]
        assert len([group for group in groups if group.startswith("live.0")]) == 20
        assert len(groups) == 22, "its probe's, and the one that every process hears"
        await send([message(1, f"{3:032}")])
        await until(lambda: ear.heard)
        assert [name for name, _ in layer.calls].count("group_send") == 1


@pytest.mark.asyncio
async def test_a_group_is_left_a_moment_after_its_last_reader(layer: FakeLayer) -> None:
    async with listening() as ear:
        await ear.bus.join(KEY)
        ear.bus.leave(KEY)
        assert layer.groups[group_name(KEY)] == {"live"}
        await until(lambda: not layer.groups[group_name(KEY)])


@pytest.mark.asyncio
async def test_a_reload_costs_no_group_message(
    layer: FakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as ear:
        await ear.bus.join(KEY)
        await ear.bus.join("1" * 32)
        ear.bus.leave(KEY)
        ear.bus.leave("1" * 32)
        await ear.bus.join(KEY)
        await until(lambda: ("group_discard", group_name("1" * 32)) in layer.calls)
        assert layer.calls.count(("group_add", group_name(KEY))) == 1
        assert ("group_discard", group_name(KEY)) not in layer.calls


@pytest.mark.asyncio
async def test_a_topic_that_is_joined_while_another_is_left_stays(layer: FakeLayer) -> None:
    async with listening() as ear:
        keys = ["1" * 32, "2" * 32]
        for key in keys:
            await ear.bus.join(key)

        joining: list[asyncio.Future[None]] = []

        def join_the_other(group: str) -> None:
            other = keys[1] if group == group_name(keys[0]) else keys[0]
            if other in ear.bus._leaving:
                joining.append(asyncio.ensure_future(ear.bus.join(other)))

        layer.on_discard = join_the_other
        for key in keys:
            ear.bus.leave(key)
        await until(lambda: any(name == "group_discard" for name, _ in layer.calls))
        await until(lambda: not ear.bus._leaving)
        assert len(ear.bus._joined) == 1
        ear.bus.leave(*ear.bus._joined)  # and the bus still works
        await until(lambda: not ear.bus._joined)


@pytest.mark.asyncio
async def test_many_topics_at_once_are_few_messages_of_which_each_hears_its_own(
    layer: FakeLayer,
) -> None:
    many = [message(n, f"{n:032}") for n in range(1, 10 * PARCEL_FROM)]
    async with listening() as ear:
        for n in (3, 200):
            await ear.bus.join(f"{n:032}")
        await send(many)
        await until(lambda: len(ear.heard) == 2)
        assert [name for name, _ in layer.calls].count("group_send") == 1
        assert ear.heard == [many[2], many[199]]
        layer.fail()  # and comes back without a memory of who listens to what
        await until(lambda: ear.bus._down_since is not None)
        layer.restart()
        await until(lambda: ear.bus._down_since is None)
        await send(many)
        await until(lambda: len(ear.heard) == 4)


@pytest.mark.asyncio
async def test_a_parcel_that_cannot_be_read_is_logged_and_the_next_is_heard(
    layer: FakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as ear:
        await ear.bus.join(KEY)
        broken: list[Any] = [None, [{}], ["text"]]
        for messages in broken:
            await layer.group_send(
                bus_module.PARCELS, {"type": "live.parcel", "v": 1, "messages": messages}
            )
        await send([message()])
        await until(lambda: ear.heard)
    assert caplog.text.count("could not be handled") == 3


@pytest.mark.asyncio
async def test_a_topic_that_is_joined_again_while_it_is_left_is_heard(layer: FakeLayer) -> None:
    async with listening() as ear:
        await ear.bus.join(KEY)
        layer.on_discard = lambda group: asyncio.ensure_future(ear.bus.join(KEY))
        ear.bus.leave(KEY)
        await until(lambda: layer.calls.count(("group_add", group_name(KEY))) > 1)
        layer.on_discard = lambda group: None
        await until(lambda: ear.interruptions)  # something may have been missed meanwhile
        await send([message()])
        await until(lambda: ear.heard)


@pytest.mark.asyncio
async def test_groups_are_joined_anew_long_before_they_expire(layer: FakeLayer) -> None:
    async with listening() as ear:
        usual = [ear.bus._rejoin_after() for _ in range(100)]
        assert all(30 <= seconds <= 60 for seconds in usual)
        assert len(set(usual)) > 1, "all processes at once"
        layer.group_expiry = 30
        assert ear.bus._rejoin_after() <= 10


# -- outages ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_layer_that_restarts_without_its_groups_is_heard_again(
    layer: FakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as ear:
        await ear.bus.join(KEY)
        layer.fail()
        await until(lambda: ear.bus._down_since is not None)
        await ear.bus.join("1" * 32)  # joined while it is away
        await asyncio.sleep(0.1)  # let it fail a few times: that must not fill the log
        layer.restart()
        await until(lambda: ear.bus._down_since is None)
        assert ear.interruptions
        await send([message(1), message(2, "1" * 32)])
        await until(lambda: len(ear.heard) == 2)
    warnings = [r.getMessage() for r in caplog.records if r.name == "django_live.bus"]
    assert len(warnings) == 2
    assert warnings[0].startswith("The channel layer does not answer (ConnectionError: gone)")
    assert warnings[1].startswith("The channel layer answers again")


async def come_and_go(layer: FakeLayer, bus: bus_module.Bus, times: int) -> None:
    for _ in range(times):
        layer.fail()
        await until(lambda: bus._down_since is not None)
        layer.restart()
        await until(lambda: bus._down_since is None)


@pytest.mark.asyncio
async def test_a_layer_that_comes_and_goes_does_not_fill_the_log(
    layer: FakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections that a restart has broken are noticed one after the other."""
    async with listening() as ear:
        await ear.bus.join(KEY)
        await come_and_go(layer, ear.bus, 5)
        assert ear.interruptions >= 5, "what may have been lost is looked for each time"
    assert caplog.text.count("does not answer") == caplog.text.count("answers again") == 1


@pytest.mark.asyncio
async def test_an_outage_that_lasts_is_told_also_soon_after_another(
    layer: FakeLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as ear:
        await ear.bus.join(KEY)
        await come_and_go(layer, ear.bus, 2)
        layer.fail()
        await until(lambda: ear.bus._down_since is not None)
        assert caplog.text.count("does not answer") == 1
        monkeypatch.setattr(bus_module, "COMPLAIN_EVERY", 0.05)
        await until(lambda: caplog.text.count("does not answer") == 2)


@pytest.mark.asyncio
async def test_a_probe_is_not_lost_while_nobody_listens(
    layer: FakeLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer takes messages again before the next try to receive one is due."""
    monkeypatch.setattr(bus_module, "TICK", 0.01)
    monkeypatch.setattr(bus_module, "PROBE_AFTER", 0.0)
    monkeypatch.setattr(bus_module, "LONGEST_BACKOFF", 1.0)
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    async with listening() as ear:
        await ear.bus.join(KEY)
        await until(lambda: ear.bus._probe._answered)
        failed = layer.receives
        layer.fail()
        # The third try has failed, and the next is 0.8 s away: far longer than a probe may take.
        await until(lambda: layer.receives >= failed + 3)
        layer.restart()
        await until(lambda: ear.bus._down_since is None)
        answered = ear.bus._probe._answered
        await until(lambda: ear.bus._probe._answered > answered)
        assert ear.bus._probe.lost_in_a_row == 0
    assert "is connected anew" not in caplog.text


@pytest.mark.asyncio
async def test_a_layer_that_is_away_at_the_start_is_joined_when_it_comes(layer: FakeLayer) -> None:
    layer.down = True
    async with listening() as ear:
        await ear.bus.join(KEY)
        layer.restart()
        await until(lambda: layer.groups.get(group_name(KEY)))
        await send([message()])
        await until(lambda: ear.heard)


class TimeoutError(Exception):  # noqa: A001 - what redis-py calls its own
    """None of Python's."""


@pytest.mark.parametrize("error", [TimeoutError, asyncio.TimeoutError])
@pytest.mark.asyncio
async def test_an_idle_channel_is_no_outage(
    layer: FakeLayer,
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus_module, "SHORTEST_IDLE", 0.0)
    layer.idle = [error() for _ in range(5)]
    async with listening() as ear:
        await ear.bus.join(KEY)
        await send([message()])
        await until(lambda: ear.heard)
    assert "does not answer" not in caplog.text


@pytest.mark.asyncio
async def test_time_outs_that_come_at_once_are_an_outage_and_stop_nobody(
    layer: FakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    layer.idle = [TimeoutError() for _ in range(3)]
    async with listening() as ear:
        await ear.bus.join(KEY)
        await send([message()])
        await until(lambda: ear.heard)
    assert "does not answer" in caplog.text


@pytest.mark.asyncio
async def test_a_message_that_cannot_be_handled_does_not_end_the_listening(
    layer: FakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as ear:
        heard = ear.heard

        def handle(message: Any) -> None:
            heard.append(message)
            if len(heard) == 1:
                raise ValueError

        ear.bus._on_message = handle
        await ear.bus.join(KEY)
        await send([message(1), message(2)])
        await until(lambda: len(heard) == 2)
    assert "could not be handled" in caplog.text
