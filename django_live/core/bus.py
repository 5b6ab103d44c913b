"""Station 4: between processes. The only module that knows the channel layer.

One layer channel per process, one group per topic that somebody local listens to. The bus may lose,
delay, repeat and reorder; the stations after it notice. What it must keep true: a message costs one
``group_send`` whatever the number of subscribers, and a layer that is down neither stops the site nor
fills its log.

Where a project has no channel layer, or Channels' in-memory one, there is nothing between processes:
messages are handed straight to the event loops of this process, from any thread.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers

from ..conf import live_settings
from .events import Event

logger = logging.getLogger("django_live.bus")

ENVELOPE_VERSION = 1
MESSAGE_TYPE = "live.events"
MAX_MESSAGE_EVENTS = 100
MAX_MESSAGE_BYTES = 256 * 1024
LEAVE_AFTER = 1.0
"""Seconds: a reload leaves a topic and comes back; that should not cost two group messages."""
REJOIN_EVERY = 45.0
"""Seconds: Redis forgets groups when it restarts, and every layer after ``group_expiry``."""
LONGEST_BACKOFF = 5.0
SHORTEST_IDLE = 1.0
"""Seconds: a time-out that comes sooner is a fault, and not a channel on which nothing was said."""

Envelope = dict[str, Any]


def envelopes(key: str, epoch: str, events: Iterable[Event]) -> Iterable[Envelope]:
    """Messages that carry these events, each small enough for any layer.

    ``{"type", "v": 1, "key": topic key, "epoch", "events": [[offset, type, data, exclude, created,
    conflate], …]}``. A later version may add keys; a receiver ignores those it does not know.
    """
    batch: list[list[Any]] = []
    size = 0
    for event in events:
        if batch and (
            len(batch) >= MAX_MESSAGE_EVENTS or size + len(event.data) > MAX_MESSAGE_BYTES
        ):
            yield _envelope(key, epoch, batch)
            batch, size = [], 0
        batch.append(
            [event.offset, event.type, event.data, event.exclude, event.created, event.conflate]
        )
        size += len(event.data)
    if batch:
        yield _envelope(key, epoch, batch)


def _envelope(key: str, epoch: str, batch: list[list[Any]]) -> Envelope:
    return {
        "type": MESSAGE_TYPE,
        "v": ENVELOPE_VERSION,
        "key": key,
        "epoch": epoch,
        "events": batch,
    }


def read_envelope(message: Envelope) -> tuple[str, str, list[Event]] | None:
    """Key, epoch and events of a message; None for one that this release cannot read."""
    try:
        if message["type"] != MESSAGE_TYPE or message["v"] < 1:
            return None
        events = [
            Event(
                offset=offset,
                type=type,
                data=data,
                exclude=exclude,
                created=created,
                conflate=conflate,
            )
            for offset, type, data, exclude, created, conflate in (
                row[:6] for row in message["events"]
            )
        ]
        return str(message["key"]), str(message["epoch"]), events
    except (KeyError, TypeError, ValueError):
        return None


def layer_in_force() -> Any | None:
    """The project's channel layer; None where only this process would hear it."""
    layer = channel_layers.backends.get(live_settings().CHANNEL_LAYER)
    if layer is None:
        from django.conf import settings

        alias = live_settings().CHANNEL_LAYER
        if alias not in getattr(settings, "CHANNEL_LAYERS", {}):
            return None
        layer = channel_layers[alias]
    return None if isinstance(layer, InMemoryChannelLayer) else layer


def reaches_other_processes() -> bool:
    """Whether what is sent here can be heard in another process."""
    return layer_in_force() is not None


# -- sending ---------------------------------------------------------------------------------------

_local_buses: weakref.WeakSet[Bus] = weakref.WeakSet()
_local_buses_lock = threading.Lock()


def send_local(messages: Iterable[Envelope]) -> None:
    """Hand messages to the event loops of this process that listen. From any thread."""
    with _local_buses_lock:
        buses = list(_local_buses)
    for message in messages:
        for bus in buses:
            bus.receive_from_any_thread(message)


async def send(messages: Iterable[Envelope]) -> None:
    """Send messages, one after the other. Raises what the layer raises."""
    layer = layer_in_force()
    if layer is None:
        send_local(messages)
        return
    for message in messages:
        await layer.group_send(group_name(message["key"]), message)


def _is_idle(error: Exception) -> bool:
    """redis-py's socket time-out is as long as the layer's blocking read: so an idle channel raises.
    Its TimeoutError is none of Python's."""
    return isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError"


def group_name(key: str) -> str:
    """The layer's group for a topic: a digest, because names may be long and in any script."""
    return f"live.{key}"


# -- receiving -------------------------------------------------------------------------------------


class Bus:
    """One event loop's ear on the layer.

    ``on_message`` gets each envelope, in the loop. ``on_interruption`` is called when messages may
    have been lost, so that somebody looks into the log.
    """

    def __init__(
        self, on_message: Callable[[Envelope], None], on_interruption: Callable[[], None]
    ) -> None:
        self._on_message = on_message
        self._on_interruption = on_interruption
        self._loop = asyncio.get_running_loop()
        self._layer = layer_in_force()
        self._channel = ""
        self._joined: set[str] = set()
        self._leaving: dict[str, float] = {}
        self._down_since: float | None = None
        self._opening = asyncio.Lock()

    @property
    def reaches_other_processes(self) -> bool:
        return self._layer is not None

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to listen. The tasks that do it, for the caller to cancel."""
        if self._layer is None:
            with _local_buses_lock:
                _local_buses.add(self)
            return []
        return [asyncio.create_task(self._receive()), asyncio.create_task(self._keep_groups())]

    def stop(self) -> None:
        with _local_buses_lock:
            _local_buses.discard(self)

    async def join(self, key: str) -> None:
        """Hear a topic. Where the layer is down, it is joined as soon as it is back."""
        self._leaving.pop(key, None)
        if key in self._joined:
            return
        self._joined.add(key)
        if self._layer is not None:
            try:
                await self._open_channel()
                await self._layer.group_add(group_name(key), self._channel)
            except Exception as error:
                self._note_outage(error)

    def leave(self, key: str) -> None:
        """Stop hearing a topic, a moment from now unless it is joined again."""
        if self._layer is None:
            self._joined.discard(key)
        elif key in self._joined:
            self._leaving[key] = time.monotonic() + LEAVE_AFTER

    def receive_from_any_thread(self, message: Envelope) -> None:
        """Deliver a message of this process; a loop that is closing misses it and nobody else."""
        if message["key"] in self._joined:
            try:
                self._loop.call_soon_threadsafe(self._on_message, message)
            except RuntimeError:
                self.stop()

    async def _open_channel(self) -> None:
        async with self._opening:
            if not self._channel:
                self._channel = await self._layer.new_channel("live")  # type: ignore[union-attr]

    async def _receive(self) -> None:
        assert self._layer is not None
        failures = 0
        while True:
            asked = time.monotonic()
            try:
                await self._open_channel()
                message = await self._layer.receive(self._channel)
            except Exception as error:
                if _is_idle(error) and time.monotonic() - asked >= SHORTEST_IDLE:
                    continue
                self._note_outage(error)
                failures += 1
                await asyncio.sleep(random.uniform(0.05, min(LONGEST_BACKOFF, 0.1 * 2**failures)))
                if await self._rejoin():
                    self._on_interruption()
                continue
            failures = 0
            self._note_recovery()
            try:
                self._on_message(message)
            except Exception:
                logger.exception("A message of the channel layer could not be handled.")

    async def _keep_groups(self) -> None:
        last_rejoin = time.monotonic()
        while True:
            await asyncio.sleep(LEAVE_AFTER / 2)
            now = time.monotonic()
            for key in [key for key, due in self._leaving.items() if due <= now]:
                if self._leaving.pop(key, None) is None:
                    continue  # joined again while another was left
                self._joined.discard(key)
                try:
                    await self._layer.group_discard(group_name(key), self._channel)  # type: ignore[union-attr]
                except Exception as error:
                    self._note_outage(error)
                if key in self._joined:  # joined again while the group was left
                    self._joined.discard(key)
                    await self.join(key)
                    self._on_interruption()
            if now - last_rejoin >= REJOIN_EVERY or self._down_since is not None:
                last_rejoin = now
                await self._rejoin()

    async def _rejoin(self) -> bool:
        """Join every group anew; whether the layer took it."""
        try:
            await self._open_channel()
            for key in list(self._joined):
                await self._layer.group_add(group_name(key), self._channel)  # type: ignore[union-attr]
        except Exception as error:
            self._note_outage(error)
            return False
        self._note_recovery()
        return True

    def _note_outage(self, error: Exception) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
            logger.warning(
                "The channel layer does not answer (%s: %s). Events still arrive, by way of the log "
                "and somewhat later.",
                type(error).__name__,
                error,
            )

    def _note_recovery(self) -> None:
        if self._down_since is not None:
            logger.warning(
                "The channel layer answers again after %.1f s.", time.monotonic() - self._down_since
            )
            self._down_since = None
            self._on_interruption()
