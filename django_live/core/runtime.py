"""The top floor: what one event loop of a process runs. Puts the stations together and does what has
to be done now and then: heartbeats, head checks, the sweep, trimming, re-checks.

Must keep true: it starts with the first stream and needs no call of the project's; a store or layer
that is missing costs a line in the log, not the site.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from django.db import DatabaseError

from ..conf import live_settings
from . import hooks, publishing
from .bus import Bus, layer_in_force
from .control import Control, ControlTopic
from .hub import Connection, Dialect, Feed, Hub, Sink, Subscription
from .log import get_log
from .subscribing import Request, Subscribing
from .topics import Viewer

logger = logging.getLogger("django_live.runtime")

BEAT = 1.0
COMMANDS_CHECK = 1.0
"""Seconds: a revocation has to be felt everywhere within one."""


class Runtime:
    """One per event loop; ``runtime()`` finds it."""

    def __init__(self) -> None:
        settings = live_settings()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.hub = Hub()
        self.bus = Bus(self._receive, self._look_into_the_log)
        self.subscribing = Subscribing(self.hub, self.bus, get_log(), self.spawn)
        self.control = Control(self.hub, self.subscribing, self.spawn)
        self.hub.on_feed_unused = self.subscribing.feed_unused
        self.hub.on_unsubscribed = self._farewell
        self.draining = False
        for task in self.bus.start():
            self._keep(task)
        self.spawn(self._every(COMMANDS_CHECK, "look at the heads", self._check_heads))
        self.spawn(self._every(BEAT, "beat", self._beat))
        self.spawn(self._every(settings.SWEEP, "sweep the outbox", self._sweep))
        self.spawn(self._every(settings.TRIM, "trim the log", self._trim))
        self.spawn(self._every(settings.RECHECK, "ask permissions again", self._recheck))
        self.spawn(self.control.listen())

    # -- connections -------------------------------------------------------------------------------

    async def open(
        self,
        sink: Sink,
        dialect: Dialect,
        viewer: Viewer,
        requests: Sequence[Request],
        *,
        decided: float,
        kept_places: Sequence[str] = (),
    ) -> Connection:
        """Open a stream for requests that are permitted already, as of ``decided`` (by
        ``time.monotonic()``): commands that came since then apply to it, too."""
        connection = Connection(self.hub, sink, dialect, viewer, self.subscribing.need)
        lifetime = live_settings().STREAM_LIFETIME
        connection.expires = time.monotonic() + lifetime * random.uniform(0.9, 1.1)
        connection.kept_places += kept_places
        self.hub.add(connection)
        try:
            await self.subscribing.open(connection, requests)
        except BaseException:  # a server that cancels the request, above all
            self.hub.drop(connection)
            raise
        self.control.catch_up(connection, decided)
        for subscription in list(connection.subscriptions.values()):
            if not subscription.feed.topic.has_hooks():  # most topics: no task, no thread
                continue
            subscription.announcement = self.spawn(self._announce(subscription))
        return connection

    async def _announce(self, subscription: Subscription) -> None:
        """Call the topic's ``on_subscribe``. One that fails ends the subscription."""
        topic = subscription.feed.topic
        try:
            await hooks.call(topic.on_subscribe, subscription.connection.viewer)
        except Exception:
            logger.exception("%r.on_subscribe() failed; the subscription is ended.", topic)
            self.subscribing.end_unavailable(subscription)

    def _farewell(self, subscription: Subscription) -> None:
        """Call the topic's ``on_unsubscribe`` for a subscription that was announced."""
        if subscription.announcement is not None:
            self.spawn(self._say_farewell(subscription, subscription.announcement))

    async def _say_farewell(self, subscription: Subscription, after: asyncio.Task[None]) -> None:
        await asyncio.wait({after})
        topic = subscription.feed.topic
        try:
            await hooks.call(topic.on_unsubscribe, subscription.connection.viewer)
        except Exception:
            logger.exception("%r.on_unsubscribe() failed.", topic)

    def drain(self, window: float = 0.0) -> asyncio.Task[Any]:
        """Ask every client to come back, spread over ``window`` seconds, and end its stream."""
        self.draining = True
        return self.spawn(self._drain(window))

    async def _drain(self, window: float) -> None:
        connections = list(self.hub.connections.values())
        for connection in connections:
            connection.close(live_settings().RETRY)
            if window:
                await asyncio.sleep(window / len(connections))

    # -- now and then ------------------------------------------------------------------------------

    def _receive(self, message: dict[str, Any]) -> None:
        self.subscribing.receive(message)

    def _look_into_the_log(self) -> None:
        self.spawn(self.subscribing.check_heads(list(self.hub.feeds.values())))

    async def _beat(self) -> None:
        now = time.monotonic()
        every = live_settings().HEARTBEAT / 2
        for connection in list(self.hub.connections.values()):
            if now >= connection.expires:
                connection.close(live_settings().RETRY)
            elif now >= connection.next_beat:
                connection.next_beat = now + every
                connection.keep_alive()

    async def _check_heads(self) -> None:
        now = time.monotonic()
        interval = live_settings().HEAD_CHECK
        if not self.bus.reaches_other_processes:
            interval = min(interval, 1.0)
        commands = ControlTopic().key
        quiet: list[Feed] = []
        for feed in self.hub.feeds.values():
            if now - feed.quiet_since >= (COMMANDS_CHECK if feed.key == commands else interval):
                feed.quiet_since = now
                quiet.append(feed)
        await self.subscribing.check_heads(quiet)

    async def _sweep(self) -> None:
        await hooks.in_thread(hooks.store_threads(), publishing.sweep_everywhere)

    async def _trim(self) -> None:
        await get_log().atrim()

    async def _recheck(self) -> None:
        await self.control.check(list(self.hub.connections.values()))

    async def _every(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Repeat some work; a fault is logged when it begins and when it is over."""
        failing = False
        while True:
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))
            try:
                await work()
            except Exception as error:
                if not failing:
                    _report(name, error)
                failing = True
            else:
                if failing:
                    logger.warning("It is possible again to %s.", name)
                failing = False

    # -- tasks -------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something that nobody waits for, and report it when it fails."""
        return self._keep(self.hub.loop.create_task(work))

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("A background task failed.", exc_info=task.exception())

    async def stop(self) -> None:
        """End every stream and every task of this loop."""
        self.bus.stop()
        for connection in list(self.hub.connections.values()):
            self.hub.drop(connection)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _runtimes.pop(self.hub.loop, None)


def _report(name: str, error: Exception) -> None:
    """Say once that something cannot be done just now."""
    if isinstance(error, DatabaseError):
        # What matters of a database that is away, or not migrated, is in its own words.
        logger.error(
            "The database does not let us %s (%s). It is tried again and again; if tables are "
            "missing, run `manage.py migrate`.",
            name,
            error,
        )
    else:
        logger.error("Failed to %s; it is tried again and again.", name, exc_info=error)


_runtimes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime]
_runtimes = weakref.WeakKeyDictionary()


def check_setup() -> None:
    """Raise what is wrong with the settings of store and layer, if they cannot work at all."""
    get_log()
    layer_in_force()


def runtime() -> Runtime:
    """The runtime of the event loop that runs here, made when it is first asked for."""
    loop = asyncio.get_running_loop()
    if loop not in _runtimes:
        _runtimes[loop] = Runtime()
    return _runtimes[loop]


def running_runtime() -> Runtime | None:
    """The runtime of this event loop, if there is one already."""
    return _runtimes.get(asyncio.get_running_loop())
