"""Station 7: whether those who are connected may still see what they see.

Must keep true: users are loaded anew; each viewer and topic is asked once; what cannot be decided is
ended; a large group leaves room for one person who is dismissed meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import ceil
from typing import Any

from ..conf import live_settings
from . import hooks
from .connections import Connection
from .counting import tally
from .subscribing import Subscribing
from .topics import Topic, Viewer

logger = logging.getLogger("django_live.control")

CHECKS_AT_ONCE = 12
LARGE_CHECKS_AT_ONCE = 4
"""Of a check of more than ``FEW`` viewers: half as many as there are threads for it, so that nobody waits
for a large group who was dismissed meanwhile."""
FEW = 50
PIECE = 20
"""Viewers of a large check that a thread asks about in one go. Each go costs a database connection where
they are not kept, which is dearer than the queries."""


class Rechecking:
    """Asks on behalf of the connections of one event loop."""

    def __init__(self, subscribing: Subscribing) -> None:
        self._subscribing = subscribing
        self._gate = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._gate_of_crowds = asyncio.Semaphore(LARGE_CHECKS_AT_ONCE)
        self._crowd: dict[Hashable, _Waiting] = {}
        """Those of large checks whose turn has not come, by ``Viewer.identity``."""

    async def check(self, connections: Iterable[Connection], topic_key: str | None = None) -> None:
        """Ask the permissions of these connections again, each viewer and topic once. Who waits for their
        turn already is not asked a second time."""
        of_viewers: dict[Hashable, list[Connection]] = {}
        for connection in connections:
            of_viewers.setdefault(connection.viewer.identity, []).append(connection)
        is_crowd = len(of_viewers) > FEW
        concerned = []
        for identity, same in of_viewers.items():
            # One of a few does not wait for the crowd they are in.
            waiting = self._crowd.get(identity) if is_crowd else self._crowd.pop(identity, None)
            if waiting is None:
                waiting = _Waiting()
            if is_crowd:
                self._crowd[identity] = waiting
            waiting.add(same, topic_key)
            concerned.append(waiting)
        if is_crowd:
            await asyncio.gather(*(self._ask_crowd() for _ in range(LARGE_CHECKS_AT_ONCE)))
        else:
            await asyncio.gather(*(self._ask_at_once(one) for one in concerned))
        for one in concerned:  # another check may be asking about them
            await one.done.wait()

    async def _ask_at_once(self, waiting: _Waiting) -> None:
        async with self._gate:
            await self._ask([waiting])

    async def _ask_crowd(self) -> None:
        while self._crowd:
            async with self._gate_of_crowds:
                size = min(PIECE, ceil(len(self._crowd) / LARGE_CHECKS_AT_ONCE))
                await self._ask([self._crowd.pop(key) for key in list(islice(self._crowd, size))])

    async def _ask(self, piece: list[_Waiting]) -> None:
        questions = [_question(one) for one in piece]
        loop = asyncio.get_running_loop()

        def ask() -> None:
            for question in questions:
                question.ask()
                # Each at once: the next one's permission may be slow.
                loop.call_soon_threadsafe(self._carry_out, question)

        try:
            await hooks.in_thread(hooks.hook_threads(), ask)
            for question in questions:
                while question.in_loop and question.viewer is not None:
                    await question.ask_in_loop()
                    self._carry_out(question)
        finally:
            for one in piece:
                one.done.set()

    def _carry_out(self, question: _Question) -> None:
        """Do what the answers that came say."""
        answers, question.answers = question.answers, {}
        for connection in question.connections:
            if question.viewer is None:
                signed_out(connection)
                continue
            for key, allowed in answers.items():
                subscription = connection.subscriptions.get(key)
                if subscription is None or allowed:
                    continue
                if allowed is None:
                    self._subscribing.end_unavailable(subscription)
                else:
                    text = "You may no longer see this topic."
                    self._subscribing.end(subscription, "revoked", text)


def signed_out(connection: Connection) -> None:
    """Who opened this connection is no longer who they were: end it, and say which it is."""
    if connection.viewer.has_expired:
        frame = connection.dialect.error("", "expired", "Your token has expired.")
        connection.close(live_settings().RETRY, frame, "expired")
    else:
        frame = connection.dialect.error("", "signed-out", "You are no longer signed in.")
        connection.close(live_settings().RETRY, frame, "signed-out")


class _Waiting:
    """One viewer whose turn has not come."""

    __slots__ = ("connections", "done", "topic_keys")

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}
        self.topic_keys: set[str] | None = set()
        """None: all."""
        self.done = asyncio.Event()

    def add(self, connections: list[Connection], topic_key: str | None) -> None:
        self.connections.update(dict.fromkeys(connections))
        if topic_key is None or self.topic_keys is None:
            self.topic_keys = None
        else:
            self.topic_keys.add(topic_key)


@dataclass(slots=True)
class _Question:
    """What is asked about one viewer."""

    connections: list[Connection]
    """All of this viewer."""
    topics: list[Topic]
    viewer: Viewer | None
    """With the user as they are now; None: they are no longer who they were."""
    in_loop: list[tuple[Topic, Callable[[], Awaitable[Any]]]] = field(default_factory=list)
    """Permissions that are coroutines: these run on the event loop that is the project's own."""
    answers: dict[str, bool | None] = field(default_factory=dict)
    """By ``Topic.key``. None: it could not be decided. Then the client may come back and ask again,
    rather than give the topic up because a database was away for a second."""

    def ask(self) -> None:
        """In a plain thread."""
        viewer = self.viewer
        assert viewer is not None
        try:
            if not viewer.still_stands():
                self.viewer = None
                return
        except Exception:
            logger.exception("A user could not be loaded for a re-check; asked again later.")
        for topic in self.topics:
            ask = partial(topic.can_subscribe, viewer)
            if inspect.iscoroutinefunction(topic.can_subscribe):
                self.in_loop.append((topic, ask))
                continue
            with _deciding(topic, self.answers):
                answer = ask()
                # Of a coroutine behind a plain decorator. Taken as it is, it would be a yes to anything.
                if inspect.isawaitable(answer):
                    self.in_loop.append((topic, partial(_itself, answer)))
                else:
                    self.answers[topic.key] = bool(answer)

    async def ask_in_loop(self) -> None:
        """The next one that has to be asked there."""
        topic, ask = self.in_loop.pop()
        with _deciding(topic, self.answers):
            self.answers[topic.key] = bool(await ask())


def _itself(answer: Awaitable[Any]) -> Awaitable[Any]:
    return answer


def _question(waiting: _Waiting) -> _Question:
    """About the viewer, and what they are subscribed to by now."""
    connections = list(waiting.connections)
    topics = {
        key: subscription.feed.topic
        for connection in connections
        for key, subscription in connection.subscriptions.items()
        if waiting.topic_keys is None or key in waiting.topic_keys
    }
    return _Question(connections, list(topics.values()), connections[0].viewer.refreshed())


@contextmanager
def _deciding(topic: Topic, answers: dict[str, bool | None]) -> Iterator[None]:
    """What fails is no answer. Counts each."""
    try:
        yield
    except Exception:
        tally.count("permission_checks", "failed")
        logger.exception("%r.can_subscribe() failed; the subscription is ended.", topic)
        answers[topic.key] = None
    else:
        if topic.key in answers:
            tally.count("permission_checks", "yes" if answers[topic.key] else "no")
