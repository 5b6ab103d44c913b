"""Station 3: the contract a store fulfils for events.

The log is what makes delivery right; the bus only makes it fast. A store must keep true:

* Offsets of a topic are 1, 2, 3 … without holes, also with many processes appending at once, and
  an event that can be read never disappears except by trimming from the front.
* An epoch names one life of a topic's log. It is unknown to every other life: after a flush, or in
  a memory store's next process, the same offset comes with another epoch. A topic that was never
  written to has an epoch, too, so that "nothing yet" is a position one can resume from.
* ``read`` never shows an event before every earlier one can be read.

Methods are called from plain threads. The ``a…`` forms are for the event loop; a store with an
asynchronous client overrides them, any other inherits threads from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from django.utils.module_loading import import_string

from ..conf import Remembered, live_settings
from ..exceptions import StoreError
from .events import Draft, Event, Position
from .hooks import in_thread, store_threads
from .topics import Topic

BUILT_IN = {
    "database": "django_live.stores.database.DatabaseLog",
    "memory": "django_live.stores.memory.MemoryLog",
    "redis": "django_live.stores.redis.RedisLog",
}


class Head(NamedTuple):
    """Where a topic's log stands: events ``floor + 1`` to ``last`` can be read."""

    epoch: str
    last: int = 0
    floor: int = 0

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.last)


class Page(NamedTuple):
    """A part of a log: its head as it was *before* the events were read, and the events."""

    head: Head
    events: list[Event]


class Appended(NamedTuple):
    """What one append wrote: an event for each draft, in their order and of one epoch. Offsets are
    contiguous, but for drafts that the log knew: these stand there with the offset they had."""

    epoch: str
    events: list[Event]


class EventLog(ABC):
    """The events of all topics with history."""

    shared: bool = True
    """Whether other processes see what this one appends."""
    uses_outbox: bool = False
    """Whether every event goes through the outbox, because the log is in the same database."""

    @abstractmethod
    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        """Number these drafts, in order, and keep them.

        A draft whose idempotency key the log has seen (in this topic and epoch, and at least as long
        as it keeps the event) is not appended again; the event of the first time is in the answer in
        its place. Raises ``StoreError`` when nothing was appended: others write to the topic for too
        long, or the caller is inside a transaction that could take the event back.
        """

    def append_many(self, batches: Sequence[tuple[Topic, Sequence[Draft]]]) -> list[Appended]:
        """``append()`` to several topics, with as few round trips as the store can do. Each topic gets
        all of its drafts or none; raises what ``append()`` raises, and then some topics may have theirs.
        """
        return [self.append(topic, drafts) for topic, drafts in batches]

    @abstractmethod
    def read(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        """The first events after offset ``after``: at most ``limit``, and no more than
        ``max_bytes`` of data, yet always one if there is one. Where the log no longer holds
        ``after + 1`` the events begin at ``head.floor + 1``."""

    @abstractmethod
    def heads(self, topics: Sequence[Topic]) -> dict[str, Head]:
        """The heads by ``Topic.key``, in one question to the store. Every topic has one."""

    @abstractmethod
    def positions(self, topics: Sequence[Topic], at: float) -> dict[str, Position]:
        """By ``Topic.key`` the last position that covers only events numbered at ``at`` (seconds since
        1970) or before. Where events that came later were trimmed already it is offset 0, from where
        a reader learns that it missed some."""

    @abstractmethod
    def begin_epoch(self, topic: Topic, seen: Head) -> Head:
        """Begin a new life of the topic's log, unless its epoch is no longer that of ``seen``
        (somebody else did). Offsets go on after ``seen.last`` and after all that was appended, and
        what was kept cannot be read any more. The head after it, whoever made it."""

    @abstractmethod
    def trim(self, *, limit: int = 500) -> int:
        """Remove events that their topics' ``History`` no longer keeps, in batches of at most
        ``limit``, away from the publishing path. How many went."""

    # -- what live_forget needs; a store that cannot do it says so ---------------------------------

    def names(self) -> Iterator[tuple[str, str]]:
        """Namespace and name of each topic that holds events."""
        raise StoreError(f"{type(self).__qualname__} cannot tell which topics it keeps.")

    def replace(self, topic: Topic, data: Mapping[int, str]) -> int:
        """Put other JSON in the place of the data of the events with these offsets, as far as they are
        still kept; offsets, types and times stay. How many it were. Raises ``StoreError`` when
        nothing was done: others write to the topic for too long, or the caller is inside a
        transaction."""
        raise StoreError(f"{type(self).__qualname__} cannot change the events it keeps.")

    # -- for the event loop ------------------------------------------------------------------------

    async def aappend(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        return await in_thread(store_threads(), lambda: self.append(topic, drafts))

    async def aread(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        return await in_thread(store_threads(), lambda: self.read(topic, after, limit, max_bytes))

    async def aheads(self, topics: Sequence[Topic]) -> Mapping[str, Head]:
        return await in_thread(store_threads(), lambda: self.heads(topics))

    async def abegin_epoch(self, topic: Topic, seen: Head) -> Head:
        return await in_thread(store_threads(), lambda: self.begin_epoch(topic, seen))

    async def atrim(self, *, limit: int = 500) -> int:
        return await in_thread(store_threads(), lambda: self.trim(limit=limit))


@Remembered
def get_log() -> EventLog:
    """The store that ``DJANGO_LIVE["STORE"]`` names; one per process."""
    name = live_settings().STORE
    log = import_string(BUILT_IN.get(name, name))()
    if not isinstance(log, EventLog):
        raise TypeError(f"The store {name!r} is not an EventLog.")
    return log
