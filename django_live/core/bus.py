"""Station 4: between processes. The only module that speaks over the channel layer.

One layer channel per process, one group per topic that somebody local listens to, and one that every
process hears, for messages of so many topics that most are listened to nowhere. The bus may lose,
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

from .ending import end
from .envelopes import (
    Envelope,
    envelopes,
    is_logged,
    parcels,
    read_envelope,
    size_of,
    unpacked,
)
from .layer import (
    another_instance,
    capacity_of,
    close,
    is_idle_timeout,
    is_resting,
    layer_in_force,
)
from .probe import Probe

logger = logging.getLogger("django_live.bus")

__all__ = [
    "Bus",
    "Envelope",
    "envelopes",
    "group_name",
    "layer_in_force",
    "needs_running_loop",
    "reaches_other_processes",
    "read_envelope",
    "send",
    "send_local",
    "size_of",
]

INBOX_BYTES = 1024 * 1024
"""Data that may wait for an event loop of this process. More than that a busy loop reads from the log:
a sweep numbers faster than a loop delivers, and 64 MB of events grew a server by 47 MB."""
LEAVE_AFTER = 1.0
"""Seconds: a reload leaves a topic and comes back; that should not cost two group messages."""
REJOIN_EVERY = (30.0, 60.0)
"""Seconds: Redis forgets groups when it restarts, and every layer after ``group_expiry``."""
TICK = 0.5
PROBE_AFTER = 3.0
"""Seconds without a word on the link. Shorter than any time-out of an idle connection, so that none
is cut just when a message is on its way."""
PROBE_TICKS = 6
"""How long a probe may be on its way. Counted in turns of this loop: a process that was stopped did
not listen meanwhile."""
PAUSE = 0.25
"""Seconds of waiting for a message, after which the layer certainly had no other to give."""
STALLED = 5.0
"""Seconds by which a turn came too late: messages may have expired while nobody took them."""
RESTARTS = frozenset(2**power for power in range(1, 16))
"""After how many lost probes in a row the layer is connected anew. After the first, joining the groups
again may be enough."""
PARCELS = "live.parcels"
"""The group that every process hears."""
LONGEST_BACKOFF = 1.0
"""Seconds between two tries to receive. Longer ones spare nothing, for the groups are tried at each turn,
and what is said after the layer came back would wait for them."""
COMPLAIN_EVERY = 10.0
"""Seconds: a layer that restarts breaks connections, which are noticed one after the other; one may also
come and go for hours. A new outage that is shorter is not told of so soon after another."""
SHORTEST_IDLE = 1.0
"""Seconds: a time-out that comes sooner is a fault, and not a channel on which nothing was said."""


def reaches_other_processes() -> bool:
    """Whether what is sent here can be heard in another process."""
    return layer_in_force() is not None


def needs_running_loop() -> bool:
    """Whether the layer may do something in its event loop between two sends."""
    return not is_resting(layer_in_force())


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
    """Send messages, one after the other; many small ones in parcels. Raises what the layer raises.

    Each twice, where that does no harm: a connection that something on the way has cut while it was idle
    fails with the next message, and the one after it is fine.
    """
    messages = list(messages)
    layer = layer_in_force()
    if layer is None:
        send_local(messages)
        return
    packed = parcels(messages)
    for message in packed or messages:
        group = PARCELS if packed else group_name(message["key"])
        try:
            await layer.group_send(group, message)
        except Exception:
            if not is_logged(message):
                raise  # who hears it twice cannot tell
            await layer.group_send(group, message)


def group_name(key: str) -> str:
    """The layer's group for a topic: a digest, because names may be long and in any script."""
    return f"live.{key}"


# -- receiving -------------------------------------------------------------------------------------


class Bus:
    """One event loop's ear on the layer.

    ``on_message`` gets each envelope, in the loop. ``on_interruption`` is called when messages may
    have been lost, so that somebody looks into the log: after an outage, a stand-still of this
    process, a probe that did not come back, and as many messages in a row as the layer lets wait,
    for then it may have dropped others.
    """

    def __init__(
        self, on_message: Callable[[Envelope], None], on_interruption: Callable[[], None]
    ) -> None:
        self._on_message = on_message
        self._on_interruption = on_interruption
        self._loop = asyncio.get_running_loop()
        self._layer = layer_in_force()
        self._own_layer = False
        self._channel = ""
        self._joined: set[str] = set()
        self._leaving: dict[str, float] = {}
        self._down_since: float | None = None
        self._is_told = False
        """Whether somebody was told of this outage."""
        self._told_at = float("-inf")
        self._opening = asyncio.Lock()
        self._stopped = False
        """What waits inside a layer may swallow a cancellation: then this ends the tasks."""
        self._receiving: asyncio.Task[None] | None = None
        self._is_listening = False
        """Whether somebody waits for messages now, and not for another try."""
        self._heard = time.monotonic()
        self._in_a_row = 0
        self._may_have_overflowed = False
        self._probe = Probe(PROBE_TICKS)
        self._inbox_lock = threading.Lock()
        self._inbox_size = 0
        self._left_out = False
        """Whether messages did not fit into the inbox: what they carried is in the log."""

    @property
    def reaches_other_processes(self) -> bool:
        return self._layer is not None

    @property
    def is_up(self) -> bool:
        """Whether the layer brings what other processes say, as far as is known."""
        return self._layer is not None and self._down_since is None

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to listen. The tasks that do it, for the caller to cancel."""
        if self._layer is None:
            with _local_buses_lock:
                _local_buses.add(self)
            return []
        return [asyncio.create_task(self._listen()), asyncio.create_task(self._keep_up())]

    def stop(self) -> None:
        """Begin nothing new; the tasks are cancelled after this."""
        self._stopped = True
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
        if message["key"] not in self._joined:
            return
        size = size_of(message)
        with self._inbox_lock:
            if is_logged(message) and self._inbox_size and self._inbox_size + size > INBOX_BYTES:
                self._left_out = True
                return
            self._inbox_size += size
        try:
            self._loop.call_soon_threadsafe(self._take_from_inbox, message, size)
        except RuntimeError:
            self.stop()

    def _take_from_inbox(self, message: Envelope, size: int) -> None:
        with self._inbox_lock:
            self._inbox_size -= size
            look = self._left_out and not self._inbox_size
            if look:
                self._left_out = False
        self._on_message(message)
        if look:
            self._on_interruption()

    async def _open_channel(self) -> None:
        async with self._opening:
            if not self._channel:
                channel = await self._layer.new_channel("live")  # type: ignore[union-attr]
                await self._join_own_groups(channel)
                self._channel = channel

    async def _join_own_groups(self, channel: str) -> None:
        for group in (self._probe.group, PARCELS):
            await self._layer.group_add(group, channel)  # type: ignore[union-attr]

    # -- listening ---------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Receive, and begin anew when that was ended by a restart."""
        try:
            while not self._stopped:
                self._receiving = asyncio.create_task(self._receive())
                await asyncio.wait({self._receiving})
                if not self._receiving.cancelled():
                    self._receiving.result()
        finally:
            if self._receiving is not None:
                await end([self._receiving])

    async def _receive(self) -> None:
        assert self._layer is not None
        failures = 0
        while not self._stopped:
            asked = time.monotonic()
            try:
                await self._open_channel()
                self._is_listening = True
                message = await self._layer.receive(self._channel)
            except Exception as error:
                if is_idle_timeout(error) and time.monotonic() - asked >= SHORTEST_IDLE:
                    continue
                self._is_listening = False
                self._note_outage(error)
                failures += 1
                await asyncio.sleep(random.uniform(0.05, min(LONGEST_BACKOFF, 0.1 * 2**failures)))
                if await self._rejoin():
                    self._on_interruption()
                continue
            failures = 0
            self._note_recovery()
            self._note_heard(time.monotonic() - asked)
            if self._probe.is_answer(message):
                self._probe.came_back(message)
                continue
            try:
                for envelope in unpacked(message, self._joined):
                    self._on_message(envelope)
            except Exception:
                logger.exception("A message of the channel layer could not be handled.")

    def _note_heard(self, waited: float) -> None:
        self._heard = time.monotonic()
        if waited >= PAUSE:
            self._in_a_row = 0
        self._in_a_row += 1
        capacity = capacity_of(self._layer, self._channel)
        if capacity and self._in_a_row >= capacity:
            # A channel that overflowed had this many messages waiting, so this comes after it did.
            self._in_a_row = 0
            self._may_have_overflowed = True

    # -- keeping up --------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        rejoin_at = time.monotonic() + self._rejoin_after()
        turn = time.monotonic()
        while not self._stopped:
            await asyncio.sleep(min(TICK, LEAVE_AFTER / 2))
            now = time.monotonic()
            if now - turn > STALLED or self._may_have_overflowed:
                self._may_have_overflowed = False
                self._on_interruption()
            turn = now
            await self._leave_groups(now)
            if now >= rejoin_at or self._down_since is not None:
                rejoin_at = now + self._rejoin_after()
                await self._rejoin()
            await self._look_at_the_link(now)

    def _rejoin_after(self) -> float:
        expiry = getattr(self._layer, "group_expiry", None)
        return min(random.uniform(*REJOIN_EVERY), (expiry or float("inf")) / 3)

    async def _leave_groups(self, now: float) -> None:
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

    async def _rejoin(self) -> bool:
        """Join every group anew; whether the layer took it."""
        try:
            await self._open_channel()
            layer, channel = self._layer, self._channel
            assert layer is not None
            await self._join_own_groups(channel)
            for key in list(self._joined):
                if key in self._joined:
                    await layer.group_add(group_name(key), channel)
                if key not in self._joined:  # left meanwhile
                    await layer.group_discard(group_name(key), channel)
        except Exception as error:
            self._note_outage(error)
            return False
        self._note_recovery()
        return True

    async def _look_at_the_link(self, now: float) -> None:
        """Say something to ourselves when nobody else did, and see whether it comes back. A layer may
        be deaf without an error: its groups were flushed, or what reads for it has ended."""
        can_hear = self._is_listening and bool(self._channel)
        if self._down_since is not None or not can_hear:
            self._probe.forget()
        elif self._probe.is_lost():
            self._probe.forget()
            self._on_interruption()
            if self._probe.lost_in_a_row in RESTARTS:
                await self._restart()
            await self._rejoin()
            await self._send_probe()
        elif not self._probe.is_under_way and now - self._heard >= PROBE_AFTER:
            await self._send_probe()

    async def _send_probe(self) -> None:
        try:
            await self._layer.group_send(self._probe.group, self._probe.message())  # type: ignore[union-attr]
        except Exception as error:
            self._note_outage(error)
        else:
            self._probe.was_sent()

    async def _restart(self) -> None:
        """Listen with another instance of the layer, and on another channel."""
        logger.warning(
            "The channel layer takes messages and delivers none here; it is connected anew. Events "
            "still arrive, by way of the log and somewhat later."
        )
        old, owned = self._layer, self._own_layer
        fresh = another_instance(old)
        if fresh is not None:
            self._layer, self._own_layer = fresh, True
        self._channel = ""
        self._is_listening = False
        if self._receiving is not None:
            self._receiving.cancel()
        if owned and fresh is not None:
            await close(old)

    def _note_outage(self, error: Exception) -> None:
        now = time.monotonic()
        if self._down_since is None:
            self._down_since, self._is_told = now, False
        if not self._is_told and now - self._told_at >= COMPLAIN_EVERY:
            self._is_told, self._told_at = True, now
            logger.warning(
                "The channel layer does not answer (%s: %s). Events still arrive, by way of the log "
                "and somewhat later.",
                type(error).__name__,
                error,
            )

    def _note_recovery(self) -> None:
        if self._down_since is not None:
            if self._is_told:
                away = time.monotonic() - self._down_since
                logger.warning("The channel layer answers again after %.1f s.", away)
            self._down_since = None
            self._on_interruption()
