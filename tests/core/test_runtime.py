# ruff: noqa: ARG001 - what stands for somebody else's function takes its arguments
"""What one event loop runs: heartbeats, lifetimes, hooks, and faults that are told once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio
from django.test import override_settings

from django_live.core import runtime as runtime_module
from django_live.core import sweeping
from django_live.core.chores import Chore
from django_live.core.runtime import Runtime, running_runtime, runtime
from django_live.core.subscribing import Request
from django_live.core.topics import History, Topic, Viewer, registry
from tests.core.fakes import FakeSink, RecordDialect, ScriptedLog, kinds_of, until

HOOKS: list[str] = []
VIEWER = Viewer(user_id="1", source=lambda viewer: SimpleNamespace(pk=1, is_active=True))

with registry.isolated():

    class Plain(Topic):
        pattern = "plain"
        history = History()

        def can_subscribe(self, viewer: Viewer) -> bool:
            return True

    class Hooked(Topic):
        pattern = "hooked/<slug:how>"

        def can_subscribe(self, viewer: Viewer) -> bool:
            return True

        def on_subscribe(self, viewer: Viewer) -> None:
            if self.kwargs["how"] == "slow":
                time.sleep(0.05)
            if self.kwargs["how"] == "failing":
                raise RuntimeError("no")
            HOOKS.append(f"came {self.name} {viewer.user_id}")

        async def on_unsubscribe(self, viewer: Viewer) -> None:
            HOOKS.append(f"went {self.name} {viewer.user_id}")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> ScriptedLog:
    store = ScriptedLog()
    monkeypatch.setattr(runtime_module, "get_log", lambda: store)
    monkeypatch.setattr(sweeping, "sweep", lambda *_: 0)
    HOOKS.clear()
    return store


@pytest_asyncio.fixture
async def live(store: ScriptedLog) -> AsyncIterator[Runtime]:
    live = runtime()
    yield live
    await live.stop()


async def open_on(live: Runtime, *topics: Topic, sink: FakeSink | None = None) -> FakeSink:
    sink = sink or FakeSink()
    requests = [Request(topic, None) for topic in topics]
    sink.connection = await live.open(
        sink, RecordDialect(), VIEWER, requests, decided=time.monotonic()
    )
    return sink


@pytest.mark.asyncio
async def test_there_is_one_runtime_per_loop_and_none_after_it_stopped(store: ScriptedLog) -> None:
    assert running_runtime() is None
    live = runtime()
    assert runtime() is live
    assert running_runtime() is live
    sink = await open_on(live, Plain())
    await live.stop()
    assert sink.ended
    assert running_runtime() is None
    assert live._tasks == set()


@pytest.mark.asyncio
async def test_a_task_that_does_not_hear_its_first_cancel_is_ended(live: Runtime) -> None:
    async def hard_of_hearing() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    task = live.spawn(hard_of_hearing())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await live.stop()
    assert task.cancelled()


@pytest.mark.asyncio
async def test_a_silent_stream_gets_heartbeats(live: Runtime) -> None:
    sink = await open_on(live, Plain())
    assert sink.connection is not None
    await live._beat()  # the opening counts as a sign of life
    assert kinds_of(sink.take()) == ["open"]
    await live._beat()
    assert sink.take() == [], "not before its time"
    sink.connection.next_beat = 0.0
    await live._beat()
    assert kinds_of(sink.take()) == ["keep-alive"]


@pytest.mark.asyncio
async def test_a_stream_ends_after_its_life_and_says_when_to_come_back(live: Runtime) -> None:
    with override_settings(DJANGO_LIVE={"STREAM_LIFETIME": 100.0}):
        now = time.monotonic()
        lives = [(await open_on(live, Plain())) for _ in range(30)]
    ends = [sink.connection.expires - now for sink in lives if sink.connection]
    assert 90 <= min(ends) < max(ends) <= 111, "spread, so that they do not come back together"
    lives[0].connection.expires = now  # type: ignore[union-attr]
    await live._beat()
    assert [sink.ended for sink in lives] == [True] + [False] * 29
    assert kinds_of(lives[0].take()) == ["open", "goodbye"]


@pytest.mark.asyncio
async def test_an_opening_that_is_cancelled_leaves_nothing(
    live: Runtime, store: ScriptedLog
) -> None:
    await asyncio.sleep(0)
    store.slow = True
    opening = asyncio.ensure_future(open_on(live, Plain()))
    await until(lambda: live.hub.connections)
    opening.cancel()
    await asyncio.wait({opening})
    assert live.hub.connections == {}
    store.slow = False
    while store.waiting:
        store.step()
        await asyncio.sleep(0)
    await until(lambda: Plain().key not in live.hub.feeds)


@pytest.mark.asyncio
async def test_a_fault_that_repeats_is_told_once_and_so_is_its_end(
    live: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    results = iter([True, False, False, False, True, True])
    done = asyncio.Event()

    async def work() -> None:
        works = next(results, None)
        if works is None:
            done.set()
        elif not works:
            raise LookupError("no")

    live.take_up(Chore("water the plants", 0.001, work))
    async with asyncio.timeout(10):
        await done.wait()
    messages = [record.getMessage() for record in caplog.records]
    assert len([m for m in messages if "Failed to water the plants" in m]) == 1
    assert len([m for m in messages if "possible again to water the plants" in m]) == 1


@pytest.mark.asyncio
async def test_a_task_that_nobody_waits_for_reports_its_fault(
    live: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise LookupError("no")

    await asyncio.wait({live.spawn(fails())})
    await asyncio.sleep(0)
    assert "A background task failed." in caplog.text


@pytest.mark.asyncio
async def test_quiet_topics_are_looked_after_and_busy_ones_are_not(
    live: Runtime, store: ScriptedLog
) -> None:
    await open_on(live, Plain())
    feed = live.hub.feeds[Plain().key]
    store.asked.clear()
    feed.quiet_since = time.monotonic()
    await live._check_heads()
    assert not any("plain" in question for question in store.asked)
    feed.quiet_since -= 5.0
    await live._check_heads()
    assert any("plain" in question for question in store.asked)


@pytest.mark.asyncio
async def test_topics_are_told_who_came_and_who_went(live: Runtime) -> None:
    sink = await open_on(live, Hooked(how="plain"), Hooked(how="other"))
    await until(lambda: len(HOOKS) == 2)
    assert sink.connection is not None
    live.hub.drop(sink.connection)
    await until(lambda: len(HOOKS) == 4)
    assert sorted(HOOKS[:2]) == ["came hooked/other 1", "came hooked/plain 1"]
    assert sorted(HOOKS[2:]) == ["went hooked/other 1", "went hooked/plain 1"]


@pytest.mark.asyncio
async def test_one_subscription_that_ends_is_told_too(live: Runtime) -> None:
    sink = await open_on(live, Hooked(how="plain"), Plain())
    await until(lambda: HOOKS)
    assert sink.connection is not None
    ended = sink.connection.subscriptions[Hooked(how="plain").key]
    live.subscribing.end(ended, "revoked", "You may no longer see this topic.")
    await until(lambda: len(HOOKS) == 2)
    live.hub.drop(sink.connection)
    await asyncio.sleep(0.01)
    assert HOOKS == ["came hooked/plain 1", "went hooked/plain 1"]


@pytest.mark.asyncio
async def test_nobody_goes_before_they_came(live: Runtime) -> None:
    sink = await open_on(live, Hooked(how="slow"))
    assert sink.connection is not None
    live.hub.drop(sink.connection)
    await until(lambda: len(HOOKS) == 2)
    assert HOOKS == ["came hooked/slow 1", "went hooked/slow 1"]


@pytest.mark.asyncio
async def test_a_hook_that_fails_ends_its_subscription_and_no_other(
    live: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    sink = await open_on(live, Hooked(how="failing"), Plain())
    await until(lambda: b"unavailable" in sink.received)
    assert sink.take()[-1].parts == ["hooked/failing", "unavailable"]
    assert not sink.ended
    assert "on_subscribe() failed" in caplog.text


@pytest.mark.asyncio
async def test_draining_asks_everybody_to_come_back(live: Runtime) -> None:
    sinks = [await open_on(live, Plain()) for _ in range(5)]
    await live.drain()
    assert live.draining
    assert all(kinds_of(sink.take()) == ["open", "goodbye"] for sink in sinks)
    assert live.hub.connections == {}
