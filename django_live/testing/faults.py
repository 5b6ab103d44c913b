"""A channel layer and a store that fail as real ones do: to see what your pages make of it.

Both stand in for what the settings name as long as the block lasts. Faults are drawn by a generator of
their own: the same ``seed`` makes the same faults.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.test import override_settings
from django.utils.module_loading import import_string

from ..conf import SETTING, live_settings
from ..core.events import Draft, Position
from ..core.log import BUILT_IN, Appended, EventLog, Head, Page
from ..core.state import BUILT_IN as STATES
from ..core.topics import Topic
from ..exceptions import StoreError

INJECTED = "a fault that the test asked for"


@dataclass
class Faults:
    """What goes wrong, and how often it did. May be changed inside of the block."""

    down: bool = False
    """Every call fails."""
    lose: float = 0.0
    """Of the layer: the share of messages that nobody gets."""
    repeat: float = 0.0
    """Of the layer: the share that comes twice."""
    delay: float = 0.0
    """Seconds that each call takes longer."""
    seed: int = 1
    count: int = 0
    """Calls that failed, and messages that were lost or repeated, so far."""
    random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def strikes(self, share: float) -> bool:
        """Whether it hits this time."""
        hit = self.random.random() < share
        self.count += hit
        return hit

    def check(self, error: Callable[[str], Exception]) -> None:
        """Raise while ``down``."""
        if self.down:
            self.count += 1
            raise error(INJECTED)


class FaultyLayer:
    """A channel layer of this process. Not Channels' in-memory one, which the bus does without: every
    message takes the way that it takes over Redis."""

    extensions = ("groups",)

    def __init__(self, faults: Faults, **config: Any) -> None:
        self.faults = faults
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._loops: dict[str, asyncio.AbstractEventLoop] = {}
        self._groups: dict[str, set[str]] = {}

    async def new_channel(self, prefix: str = "specific") -> str:
        self.faults.check(ConnectionError)
        channel = f"{prefix}.{len(self._queues)}"
        self._queues[channel] = asyncio.Queue()
        self._loops[channel] = asyncio.get_running_loop()
        return channel

    async def group_add(self, group: str, channel: str) -> None:
        self.faults.check(ConnectionError)
        self._groups.setdefault(group, set()).add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.faults.check(ConnectionError)
        self._groups.get(group, set()).discard(channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.faults.check(ConnectionError)
        if self.faults.delay:
            await asyncio.sleep(self.faults.delay)
        # Probes pass: a link that is up and loses is harder to notice than one that is down.
        is_event = message.get("type") != "live.probe"
        if is_event and self.faults.strikes(self.faults.lose):
            return
        times = 2 if is_event and self.faults.strikes(self.faults.repeat) else 1
        for channel in list(self._groups.get(group, ())):
            loop, queue = self._loops[channel], self._queues[channel]
            if loop.is_closed():
                self._groups[group].discard(channel)
                continue
            for _ in range(times):
                loop.call_soon_threadsafe(queue.put_nowait, dict(message))

    async def receive(self, channel: str) -> dict[str, Any]:
        self.faults.check(ConnectionError)
        return await self._queues[channel].get()


class FaultyLog(EventLog):
    """The store that the settings named before, with faults."""

    faults: Faults
    inner: EventLog

    @property
    def shared(self) -> bool:  # type: ignore[override]
        return self.inner.shared

    @property
    def uses_outbox(self) -> bool:  # type: ignore[override]
        return self.inner.uses_outbox

    def _fault(self) -> None:
        if self.faults.delay:
            time.sleep(self.faults.delay)
        self.faults.check(StoreError)

    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        self._fault()
        return self.inner.append(topic, drafts)

    def append_many(self, batches: Sequence[tuple[Topic, Sequence[Draft]]]) -> list[Appended]:
        self._fault()
        return self.inner.append_many(batches)

    def read(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        self._fault()
        return self.inner.read(topic, after, limit, max_bytes)

    def heads(self, topics: Sequence[Topic]) -> dict[str, Head]:
        self._fault()
        return self.inner.heads(topics)

    def positions(self, topics: Sequence[Topic], at: float) -> dict[str, Position]:
        self._fault()
        return self.inner.positions(topics, at)

    def begin_epoch(self, topic: Topic, seen: Head) -> Head:
        self._fault()
        return self.inner.begin_epoch(topic, seen)

    def trim(self, *, limit: int = 500) -> int:
        self._fault()
        return self.inner.trim(limit=limit)

    def names(self) -> Iterator[tuple[str, str]]:
        self._fault()
        return self.inner.names()

    def replace(self, topic: Topic, data: Mapping[int, str]) -> int:
        self._fault()
        return self.inner.replace(topic, data)


_made: list[type[FaultyLog]] = []


@contextmanager
def faulty_layer(faults: Faults | None = None, **given: Any) -> Iterator[Faults]:
    """Have a channel layer in force that loses, repeats, delays or is ``down``: by ``Faults`` or its
    fields. What is opened in the block hears through it."""
    from channels.layers import channel_layers

    faults = faults or Faults(**given)
    alias = live_settings().CHANNEL_LAYER
    before = channel_layers.backends.get(alias)
    channel_layers.backends[alias] = FaultyLayer(faults)
    try:
        yield faults
    finally:
        if before is None:
            del channel_layers.backends[alias]
        else:
            channel_layers.backends[alias] = before


@contextmanager
def faulty_store(faults: Faults | None = None, **given: Any) -> Iterator[Faults]:
    """Have the store fail that the settings name, ``down`` or with a ``delay``. Events that a
    transaction of yours wrote into the outbox are its own, and wait there."""
    faults = faults or Faults(**given)
    name = live_settings().STORE
    log_class = type(
        "FaultyLog",
        (FaultyLog,),
        {
            "faults": faults,
            "inner": import_string(BUILT_IN.get(name, name))(),
            "state_class": _state_of(name),
        },
    )
    _made.append(log_class)
    path = f"{__name__}.faulty_log_{len(_made) - 1}"
    with override_settings(**{SETTING: {**getattr(settings, SETTING, {}), "STORE": path}}):
        yield faults


def __getattr__(name: str) -> Any:
    """The classes that ``faulty_store()`` made, by the path that the settings name them by."""
    number = name.removeprefix("faulty_log_")
    if number != name and number.isdecimal() and int(number) < len(_made):
        return _made[int(number)]
    raise AttributeError(name)


def _state_of(name: str) -> Any:
    if name in STATES:
        return import_string(STATES[name])
    return getattr(import_string(name), "state_class", None)
