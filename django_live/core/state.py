"""Station 3, beside the log: the contract a store fulfils for what is true *now*.

Who is here, what a dashboard shows, how far a job is, which process does the rounds: nobody wants
the history of it, and everybody wants it gone when whoever said it has died. A store must keep true:

* A change of a map happens as a whole or not at all, and gives the map a new version. Versions of a
  map only grow, also when the map was forgotten or the store was emptied in between, as long as its
  clock does not go back: a new one is the time in microseconds, or one more than the last.
* What is read from a map is at least as new as the version that comes with it. So a reader that takes
  the entries first, and after that changes with a version above that of the entry, misses nothing.
* An entry that has expired is not there for anybody. ``sweep`` hands each one to one caller only.
* Of all that ask for a lease at most one has it, and the token of whoever has it next is greater.
* Time is the store's. Callers say how long, never until when.

A set of members is a map with empty values: ``set(map, dict.fromkeys(members, ""))``.

Methods are called from plain threads. The ``a…`` forms are for the event loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..conf import Remembered, live_settings
from .hooks import in_thread, store_threads

BUILT_IN = {
    "database": "django_live.stores.state_database.DatabaseState",
    "memory": "django_live.stores.state_memory.MemoryState",
    "redis": "django_live.stores.state_redis.RedisState",
}
MOST_ENTRIES = 10_000
"""What a map may hold unless its user allows more or less."""
ABSENT = 0
"""The version of an entry that is not there."""


class Entry(NamedTuple):
    value: str
    version: int
    """Of the change that set it."""


class Entries(NamedTuple):
    """What a map holds: its version, and the entries by key. A map that nobody knows has version 0."""

    version: int
    entries: dict[str, Entry]


class Changes(NamedTuple):
    """What one change did. ``version`` is the map's after it."""

    version: int
    added: frozenset[str] = frozenset()
    """Keys that were set and had not been there."""
    removed: frozenset[str] = frozenset()
    """Keys that were there and are not any more."""


class Count(NamedTuple):
    value: int
    left: float
    """Seconds until it begins again at 0."""


class Lease(NamedTuple):
    """A claim that expires."""

    holder: str
    token: int
    """The fencing token: whoever holds the lease later has a greater one. Hand it to ``change`` as
    ``fence``, and what a former holder still writes is refused."""
    left: float
    """Seconds until it expires."""


class SharedState(ABC):
    """Maps, counters and leases. Names, keys and values are text without NUL characters, which a
    database cannot hold; each kind has names of its own."""

    shared: bool = True
    """Whether other processes see it."""

    # -- maps --------------------------------------------------------------------------------------

    @abstractmethod
    def change(
        self,
        name: str,
        entries: Mapping[str, str] | None = None,
        delete: Collection[str] = (),
        *,
        ttl: float | None = None,
        expect: Mapping[str, int] | None = None,
        fence: int = 0,
        most: int = MOST_ENTRIES,
    ) -> Changes | None:
        """Set these entries, for ``ttl`` seconds or for ever, and delete those keys, all at once.

        None, and nothing happened: a key has another version than ``expect`` says (``ABSENT``: it
        must not be there), or the map has been changed with a greater ``fence`` (0: nobody asks).
        Raises ``MapFull`` where the map would hold more than ``most``.
        """

    @abstractmethod
    def items(self, name: str, keys: Collection[str] | None = None) -> Entries:
        """What the map holds, or only these keys of it."""

    @abstractmethod
    def renew(self, keys: Mapping[str, Collection[str]], ttl: float) -> dict[str, frozenset[str]]:
        """Let these keys of these maps live ``ttl`` seconds from now, in one question to the store.
        No change, so no version. By map the keys that were not there any more."""

    @abstractmethod
    def sweep(self, name: str, *, limit: int = 500) -> Changes:
        """Remove entries that have expired, and tell which. Each is told to one caller only."""

    # -- counters ----------------------------------------------------------------------------------

    @abstractmethod
    def count(self, name: str, amount: int = 1, *, ttl: float) -> Count:
        """Add to a counter, which begins at 0 and does so again ``ttl`` seconds after it began."""

    # -- leases ------------------------------------------------------------------------------------

    @abstractmethod
    def acquire(self, name: str, holder: str, ttl: float) -> Lease | None:
        """The lease, if it is free; None while somebody else has it. Who has it already keeps its
        token, and has it for ``ttl`` seconds from now."""

    @abstractmethod
    def extend(self, name: str, token: int, ttl: float) -> bool:
        """Keep a lease for ``ttl`` seconds from now. False: it is lost."""

    @abstractmethod
    def release(self, name: str, token: int) -> bool:
        """Give a lease back. False: it was lost before."""

    @abstractmethod
    def lease(self, name: str) -> Lease | None:
        """Who has it."""

    # -- housekeeping ------------------------------------------------------------------------------

    @abstractmethod
    def purge(self, *, limit: int = 500) -> int:
        """Remove what nobody will miss: what expired a day ago and was not swept. How much it was."""

    # -- plainer forms -----------------------------------------------------------------------------

    def set(
        self,
        name: str,
        entries: Mapping[str, str],
        *,
        ttl: float | None = None,
        most: int = MOST_ENTRIES,
    ) -> Changes:
        return _certain(self.change(name, entries, ttl=ttl, most=most))

    def delete(self, name: str, keys: Collection[str]) -> Changes:
        return _certain(self.change(name, delete=keys))

    def get(self, name: str, key: str) -> Entry | None:
        return self.items(name, [key]).entries.get(key)

    def compare_and_set(
        self, name: str, key: str, value: str, version: int, *, ttl: float | None = None
    ) -> int | None:
        """Set a key that still has this version (``ABSENT``: that is not there). Its new version;
        None, and nothing happened, where it has another."""
        changes = self.change(name, {key: value}, ttl=ttl, expect={key: version})
        return changes.version if changes else None

    # -- for the event loop ------------------------------------------------------------------------

    async def achange(
        self,
        name: str,
        entries: Mapping[str, str] | None = None,
        delete: Collection[str] = (),
        *,
        ttl: float | None = None,
        expect: Mapping[str, int] | None = None,
        fence: int = 0,
        most: int = MOST_ENTRIES,
    ) -> Changes | None:
        return await in_thread(
            store_threads(),
            lambda: self.change(
                name, entries, delete, ttl=ttl, expect=expect, fence=fence, most=most
            ),
        )

    async def aitems(self, name: str, keys: Collection[str] | None = None) -> Entries:
        return await in_thread(store_threads(), lambda: self.items(name, keys))

    async def arenew(
        self, keys: Mapping[str, Collection[str]], ttl: float
    ) -> dict[str, frozenset[str]]:
        return await in_thread(store_threads(), lambda: self.renew(keys, ttl))

    async def asweep(self, name: str, *, limit: int = 500) -> Changes:
        return await in_thread(store_threads(), lambda: self.sweep(name, limit=limit))

    async def acount(self, name: str, amount: int = 1, *, ttl: float) -> Count:
        return await in_thread(store_threads(), lambda: self.count(name, amount, ttl=ttl))

    async def aacquire(self, name: str, holder: str, ttl: float) -> Lease | None:
        return await in_thread(store_threads(), lambda: self.acquire(name, holder, ttl))

    async def aextend(self, name: str, token: int, ttl: float) -> bool:
        return await in_thread(store_threads(), lambda: self.extend(name, token, ttl))

    async def arelease(self, name: str, token: int) -> bool:
        return await in_thread(store_threads(), lambda: self.release(name, token))

    async def alease(self, name: str) -> Lease | None:
        return await in_thread(store_threads(), lambda: self.lease(name))

    async def apurge(self, *, limit: int = 500) -> int:
        return await in_thread(store_threads(), lambda: self.purge(limit=limit))

    async def aset(
        self,
        name: str,
        entries: Mapping[str, str],
        *,
        ttl: float | None = None,
        most: int = MOST_ENTRIES,
    ) -> Changes:
        return _certain(await self.achange(name, entries, ttl=ttl, most=most))

    async def adelete(self, name: str, keys: Collection[str]) -> Changes:
        return _certain(await self.achange(name, delete=keys))

    async def aget(self, name: str, key: str) -> Entry | None:
        return (await self.aitems(name, [key])).entries.get(key)

    async def acompare_and_set(
        self, name: str, key: str, value: str, version: int, *, ttl: float | None = None
    ) -> int | None:
        changes = await self.achange(name, {key: value}, ttl=ttl, expect={key: version})
        return changes.version if changes else None


def _certain(changes: Changes | None) -> Changes:
    assert changes is not None, "only what is expected can be otherwise"
    return changes


@Remembered
def get_state() -> SharedState:
    """The state beside the log of ``DJANGO_LIVE["STORE"]``; one per process. A store of your own
    names the class of its state as ``state_class``."""
    name = live_settings().STORE
    state_class = import_string(BUILT_IN[name]) if name in BUILT_IN else _state_beside(name)
    state = state_class()
    if not isinstance(state, SharedState):
        raise TypeError(f"The state of the store {name!r} is not a SharedState.")
    return state


def _state_beside(path: str) -> type[SharedState]:
    state_class: type[SharedState] | None = getattr(import_string(path), "state_class", None)
    if state_class is None:
        raise ImproperlyConfigured(
            f"{path} has no state_class: presence, limits and leases need a SharedState beside the "
            "log."
        )
    return state_class
