"""``EVENTSTREAM_REDIS``: to and from processes that are not moved yet, while a project moves.

Their ``send_event()`` publishes to a Redis channel, and they listen there. One of our processes, which has
the lease, hears it and sends what it hears; what our processes number is published there for them.

Must keep true: nothing goes round in circles; a Redis that is away stops nobody here, and is listened to
again as soon as it is back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from functools import partial
from typing import Any

from django.conf import settings

from ...core import chores, hooks
from ...core.events import Position
from ...core.interruptions import raise_interruption
from ...core.log import Appended
from ...core.runtime import runtime
from ...core.sending import forward_to
from ...core.state import get_state
from ...core.topics import Topic
from .ids import number_of
from .payload import Said, said_of
from .sending import send
from .topics import channel_of_topic, is_kept

logger = logging.getLogger("django_live.eventstream")

NAME = "events_channel"
"""Redis' channel, as django-eventstream calls it."""
OURS = "django_live"
"""Marks what we have published: it was heard here already."""
LEASE = 5.0
PAUSE = 1.0
TIMEOUT = 1.0
"""Seconds that a sender waits for this Redis at most; then it is left alone for ``REST`` seconds."""
REST = 5.0


def install() -> None:
    """Begin, if the project has the setting. Called when the apps are ready."""
    if getattr(settings, "EVENTSTREAM_REDIS", None):
        chores.declare(chores.Chore("listen to EVENTSTREAM_REDIS", PAUSE, listen))
        forward_to(Outlet())


def _options() -> dict[str, Any]:
    options: dict[str, Any] = getattr(settings, "EVENTSTREAM_REDIS", {})
    return options


# -- from them -------------------------------------------------------------------------------------


async def listen() -> None:
    """Hear the others, as long as no other process does. Raises what Redis raises; it is called again."""
    state = get_state()
    lease = await state.aacquire("eventstream-redis", runtime().process, LEASE)
    if lease is None:
        return
    hearing = asyncio.ensure_future(_hear())
    try:
        while not hearing.done():
            await asyncio.wait({hearing}, timeout=LEASE / 4)
            if not await state.aextend("eventstream-redis", lease.token, LEASE):
                return
        hearing.result()
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await state.arelease("eventstream-redis", lease.token)


async def _hear() -> None:
    from redis.asyncio import Redis

    options = {"health_check_interval": 10, **_options()}
    async with Redis(**options) as client, client.pubsub() as heard:
        await heard.subscribe(NAME)
        while True:
            message = await heard.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is not None:
                await hooks.in_thread(hooks.store_threads(), partial(take, message["data"]))


def take(message: bytes | str) -> None:
    """Send what another process has sent there."""
    try:
        event = json.loads(message)
        if event.get(OURS):
            return
        channel, said = event["channel"], Said(event["event_type"], event["data"])
    except (ValueError, KeyError, AttributeError, TypeError):
        logger.warning("A message on %s is not django-eventstream's; it was ignored.", NAME)
        return
    send(channel, said, kept=is_kept(channel))


# -- to them ---------------------------------------------------------------------------------------


class Outlet:
    """Publishes there what this process has numbered."""

    def __init__(self) -> None:
        self._client: Any = None
        self._rests_until = 0.0

    def __call__(self, topic: Topic, appended: Appended) -> None:
        channel = None if topic.is_internal else channel_of_topic(topic)
        if channel is None or time.monotonic() < self._rests_until:
            return
        try:
            for event in appended.events:
                said = said_of(event)
                number = str(number_of(Position(appended.epoch, event.offset)))
                message = {
                    "channel": channel,
                    "event_type": said.type,
                    "data": said.text,
                    "pub_id": number if event.offset else None,
                    OURS: True,
                }
                self._redis().publish(NAME, json.dumps(message))
        except Exception as error:
            raise_interruption(error)
            self._rest(error)

    def _redis(self) -> Any:
        if self._client is None:
            from redis import Redis

            limits = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
            self._client = Redis(**{**_options(), **limits})
        return self._client

    def _rest(self, error: Exception) -> None:
        self._rests_until = time.monotonic() + REST
        logger.warning(
            "Processes that listen to EVENTSTREAM_REDIS were not told (%s: %s).",
            type(error).__name__,
            error,
        )
