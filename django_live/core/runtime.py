"""The top floor: what one event loop of a process runs. Puts the stations together and does what has
to be done now and then: heartbeats, head checks, the sweep, trimming, re-checks.

Must keep true: it starts with the first stream and needs no call of the project's; a store or layer
that is missing costs a line in the log, not the site.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import socket
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from django.db import DatabaseError

from ..conf import live_settings
from . import chores, hooks, sweeping
from .bus import Bus, layer_in_force
from .chores import Chore
from .connections import NOBODY, Connection, Peer, Sink
from .control import Control, ControlTopic
from .ending import end
from .feeds import Dialect, Feed, Subscription
from .housekeeping import tidy
from .hub import Hub
from .log import get_log
from .rechecking import signed_out
from .subscribing import Request, Subscribing
from .survey import ENROL_EVERY, Witness
from .topics import Topic, Viewer

logger = logging.getLogger("django_live.runtime")

BEAT = 1.0
LEAVE_WAIT = 2.0
"""Seconds that a process which is told to stop gives what is under way, and then its last words."""
MOST_LEAVING = 100
"""Connections that end in a second, when there are so few that they need no longer window."""
LEAVE_STEP = 0.05
"""Seconds between two looks at who has to leave now."""
COMMANDS_CHECK = 0.35
"""Seconds, give or take a tenth, between two looks for commands where no layer brings them: a survey has
to be answered within one. Where a layer does it is every second time: a revocation has to be felt
everywhere within one second, also where the bus lost it, and asking the permissions again takes some
of that."""


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
        self.process = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        """What the processes know this event loop by."""
        self.draining = False
        self._looks = 0
        self._commands = ControlTopic().key
        self.witness = Witness(self.process, self.hub, lambda: self.draining)
        self.control.on_question = self._asked
        self.leaving: set[asyncio.Task[Any]] = set()
        """Tasks that still have to say good-bye on a connection which the hub has dropped."""
        self.requests = 0
        """Requests that Django is answering, those that open a stream included."""
        self.hurried = asyncio.Event()
        """The process was told to stop for a second time."""
        for task in self.bus.start():
            self._keep(task)
        for chore in (
            Chore("look at the heads", COMMANDS_CHECK, self._check_heads),
            Chore("beat", BEAT, self._beat),
            Chore("sweep the outbox", settings.SWEEP, self._sweep),
            Chore("trim the log", settings.TRIM, self._tidy),
            Chore("ask permissions again", settings.RECHECK, self._recheck),
            Chore("enrol among the processes", ENROL_EVERY, self.witness.enrol, soon=True),
            *chores.declared(),
        ):
            self.take_up(chore)
        self.spawn(self.control.listen())
        self.spawn(self._keep_store_connections())

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
        two_way: bool = False,
        transport: str = "sse",
        peer: Peer = NOBODY,
    ) -> Connection:
        """Open a stream for requests that are permitted already, as of ``decided`` (by
        ``time.monotonic()``): commands that came since then apply to it, too."""
        connection = Connection(
            self.hub,
            sink,
            dialect,
            viewer,
            self.subscribing.need,
            two_way=two_way,
            transport=transport,
            peer=peer,
        )
        lifetime = live_settings().STREAM_LIFETIME
        lifetime = min(lifetime * random.uniform(0.9, 1.1), viewer.expires - time.time())
        connection.expires = time.monotonic() + lifetime
        for place in kept_places:
            connection.keep_place(place)
        self.hub.add(connection)
        try:
            await self.subscribing.open(connection, requests)
        except BaseException:  # a server that cancels the request, above all
            self.hub.drop(connection)
            raise
        self.control.catch_up(connection, decided)
        self._announce_all(list(connection.subscriptions.values()))
        return connection

    async def subscribe(
        self,
        connection: Connection,
        requests: Sequence[Request],
        reply: Callable[[list[str], list[str]], bytes],
        *,
        decided: float,
    ) -> None:
        """Subscribe an open connection to more topics, as ``open()`` does: see
        ``Subscribing.subscribe``. What it is subscribed to already is left as it is."""
        fresh = [r for r in requests if r.topic.key not in connection.subscriptions]
        begun = await self.subscribing.subscribe(connection, fresh, reply)
        self.control.catch_up(connection, decided)
        self._announce_all(begun)

    def unsubscribe(self, connection: Connection, topics: Iterable[Topic]) -> None:
        self.subscribing.unsubscribe(connection, topics)

    def _announce_all(self, subscriptions: Iterable[Subscription]) -> None:
        for subscription in subscriptions:
            if subscription.state == Subscription.ENDED:
                continue
            topic, connection = subscription.feed.topic, subscription.connection
            for attendant in topic.attendants:
                attendant.arrived(topic, connection.viewer, connection.id)
            subscription.attended = True
            if not subscription.feed.topic.has_hooks():  # most topics: no task, no thread
                continue
            subscription.announcement = self.spawn(self._announce(subscription))

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
        if subscription.attended:
            topic, connection = subscription.feed.topic, subscription.connection
            for attendant in topic.attendants:
                attendant.departed(topic, connection.viewer, connection.id)
        if subscription.announcement is not None:
            self.spawn(self._say_farewell(subscription, subscription.announcement))

    async def _say_farewell(self, subscription: Subscription, after: asyncio.Task[None]) -> None:
        await asyncio.wait({after})
        topic = subscription.feed.topic
        try:
            await hooks.call(topic.on_unsubscribe, subscription.connection.viewer)
        except Exception:
            logger.exception("%r.on_unsubscribe() failed.", topic)

    # -- leaving -----------------------------------------------------------------------------------

    def drain(self, window: float = 0.0) -> asyncio.Task[Any]:
        """Ask every client to come back, spread over at most ``window`` seconds, and end its stream.
        What clients have sent and is being handled gets ``LEAVE_WAIT`` to be answered."""
        self.draining = True
        return self.spawn(self._drain(window))

    def hurry(self) -> None:
        """Told to stop again: whoever is still here leaves now."""
        self.hurried.set()
        for connection in list(self.hub.connections.values()):
            connection.close(live_settings().RETRY)

    async def _drain(self, window: float) -> None:
        await self._end_some_at_a_time(window)
        until = self.hub.loop.time() + LEAVE_WAIT
        while self.hub.connections or self.requests:
            patient = self.hub.loop.time() < until and not self.hurried.is_set()
            for connection in list(self.hub.connections.values()):
                if not patient or not (connection.blocked or connection.is_busy()):
                    connection.close(live_settings().RETRY)
            if not patient:
                break
            await self._leave_step()
        await asyncio.sleep(0)  # their tasks hear of it
        await asyncio.sleep(0)
        until = self.hub.loop.time() + LEAVE_WAIT
        while self.leaving and not self.hurried.is_set() and self.hub.loop.time() < until:
            await self._leave_step()

    async def _end_some_at_a_time(self, window: float) -> None:
        connections = list(self.hub.connections.values())
        window = min(window, len(connections) / MOST_LEAVING)
        began, ended = self.hub.loop.time(), 0
        while ended < len(connections) and not self.hurried.is_set():
            passed = self.hub.loop.time() - began
            due = len(connections) if passed >= window else int(len(connections) * passed / window)
            for connection in connections[ended:due]:
                # One that is being answered, or is not ready to hear, leaves at the end.
                if not (connection.closed or connection.blocked or connection.is_busy()):
                    connection.close(live_settings().RETRY)
            ended = due
            if ended < len(connections):
                await self._leave_step()

    async def _leave_step(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_STEP):
                await self.hurried.wait()

    # -- now and then ------------------------------------------------------------------------------

    def _receive(self, message: dict[str, Any]) -> None:
        self.subscribing.receive(message)

    def _asked(self, question: dict[str, Any]) -> None:
        self.spawn(self.witness.answer(question))

    def _look_into_the_log(self) -> None:
        self.spawn(self.subscribing.check_heads(list(self.hub.feeds.values())))

    async def _beat(self) -> None:
        now = time.monotonic()
        following = now + live_settings().HEARTBEAT / 2
        for connection in list(self.hub.connections.values()):
            if now >= connection.expires and connection.viewer.has_expired:
                signed_out(connection)
            elif now >= connection.expires:
                connection.close(live_settings().RETRY)
            elif now >= connection.next_beat:
                connection.next_beat = following
                connection.keep_alive()

    async def _check_heads(self) -> None:
        self._looks += 1
        if self.bus.is_up and self._looks % 2:
            return
        now = time.monotonic()
        interval = live_settings().HEAD_CHECK
        if not self.bus.reaches_other_processes:
            interval = min(interval, 1.0)
        quiet: list[Feed] = []
        for feed in self.hub.feeds.values():
            if feed.key == self._commands or now - feed.quiet_since >= interval:
                feed.quiet_since = now
                quiet.append(feed)
        await self.subscribing.check_heads(quiet)

    async def _sweep(self) -> None:
        await hooks.in_thread(hooks.store_threads(), sweeping.sweep_everywhere)

    async def _keep_store_connections(self) -> None:
        """Until this loop ends, whether it is stopped or just closed."""
        with hooks.store_threads().keeping_connections():
            await self.hub.loop.create_future()

    async def _tidy(self) -> None:
        await tidy(self.process, live_settings().TRIM)

    async def _recheck(self) -> None:
        await self.control.check(list(self.hub.connections.values()))

    def take_up(self, chore: Chore) -> asyncio.Task[Any]:
        """Do this again and again until the loop ends. A fault is logged when it begins and when it is
        over."""
        return self.spawn(self._again_and_again(chore))

    async def _again_and_again(self, chore: Chore) -> None:
        soon = chore.soon
        failing = False
        while True:
            await asyncio.sleep(0 if soon else chore.seconds * random.uniform(0.9, 1.1))
            soon = False
            try:
                await chore.work()
            except Exception as error:
                if not failing:
                    _report(chore.name, error)
                failing = True
            else:
                if failing:
                    logger.warning("It is possible again to %s.", chore.name)
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
            connection.ending = connection.ending or "good-bye"
            self.hub.drop(connection)
        await end(self._tasks)
        await self.witness.leave()
        _runtimes.pop(self.hub.loop, None)


def _report(name: str, error: Exception) -> None:
    """Say once that something cannot be done just now."""
    if isinstance(error.__cause__, DatabaseError):  # the shared state says it in words of its own
        error = error.__cause__
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
