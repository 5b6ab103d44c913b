"""The shared state of one process, for development and tests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf

from ..core.state import (
    ABSENT,
    MOST_ENTRIES,
    Changes,
    Count,
    Entries,
    Entry,
    Lease,
    SharedState,
)
from . import clock
from .versions import REMEMBERED, map_full, next_version


@dataclass(slots=True)
class _Map:
    version: int = 0
    fence: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    expires: dict[str, float] = field(default_factory=dict)

    def has(self, key: str, now: float) -> bool:
        return self.expires.get(key, -inf) > now

    def version_of(self, key: str, now: float) -> int:
        return self.entries[key].version if self.has(key, now) else ABSENT

    def expired(self, now: float) -> list[str]:
        return [key for key, expires in self.expires.items() if expires <= now]

    def remove(self, key: str) -> None:
        self.entries.pop(key, None)
        self.expires.pop(key, None)


@dataclass(slots=True)
class _Claim:
    holder: str = ""
    """Empty: it was given back."""
    token: int = 0
    expires: float = -inf

    def is_held(self, now: float) -> bool:
        return bool(self.holder) and self.expires > now


class MemoryState(SharedState):
    """Dicts under one lock."""

    shared = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._maps: dict[str, _Map] = {}
        self._counters: dict[str, tuple[int, float]] = {}
        self._claims: dict[str, _Claim] = {}

    # -- maps --------------------------------------------------------------------------------------

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
        with self._lock:
            now = clock.now()
            found = self._maps.get(name) or _Map()
            entries = entries or {}
            if 0 < fence < found.fence or any(
                found.version_of(key, now) != version for key, version in (expect or {}).items()
            ):
                return None
            added = frozenset(key for key in entries if not found.has(key, now))
            removed = frozenset(key for key in delete if found.has(key, now)) - entries.keys()
            holds = sum(expires > now for expires in found.expires.values())
            if added and holds + len(added) - len(removed) > most:
                raise map_full(name, most)
            found.fence = max(fence, found.fence)
            if entries or removed:
                found.version = next_version(found.version, now)
            for key in removed:
                found.remove(key)
            for key, value in entries.items():
                found.entries[key] = Entry(value, found.version)
                found.expires[key] = inf if ttl is None else now + ttl
            if entries or removed or fence:
                self._maps[name] = found
            return Changes(found.version, added, removed)

    def items(self, name: str, keys: Collection[str] | None = None) -> Entries:
        with self._lock:
            now = clock.now()
            found = self._maps.get(name) or _Map()
            return Entries(
                found.version,
                {
                    key: entry
                    for key, entry in found.entries.items()
                    if found.has(key, now) and (keys is None or key in keys)
                },
            )

    def renew(self, keys: Mapping[str, Collection[str]], ttl: float) -> dict[str, frozenset[str]]:
        with self._lock:
            now = clock.now()
            missing = {}
            for name, some in keys.items():
                found = self._maps.get(name) or _Map()
                missing[name] = frozenset(key for key in some if not found.has(key, now))
                found.expires.update((key, now + ttl) for key in some if found.has(key, now))
            return missing

    def sweep(self, name: str, *, limit: int = 500) -> Changes:
        with self._lock:
            now = clock.now()
            found = self._maps.get(name) or _Map()
            expired = found.expired(now)[:limit]
            for key in expired:
                found.remove(key)
            if expired:
                found.version = next_version(found.version, now)
            return Changes(found.version, removed=frozenset(expired))

    # -- counters and leases -----------------------------------------------------------------------

    def count(self, name: str, amount: int = 1, *, ttl: float) -> Count:
        with self._lock:
            now = clock.now()
            value, expires = self._counters.get(name, (0, -inf))
            if expires <= now:
                value, expires = 0, now + ttl
            self._counters[name] = (value + amount, expires)
            return Count(value + amount, expires - now)

    def acquire(self, name: str, holder: str, ttl: float) -> Lease | None:
        with self._lock:
            now = clock.now()
            claim = self._claims.setdefault(name, _Claim())
            is_held = claim.is_held(now)
            if is_held and claim.holder != holder:
                return None
            if not is_held:
                claim.holder, claim.token = holder, next_version(claim.token, now)
            claim.expires = now + ttl
            return Lease(holder, claim.token, ttl)

    def extend(self, name: str, token: int, ttl: float) -> bool:
        with self._lock:
            claim = self._held(name, token)
            if claim:
                claim.expires = clock.now() + ttl
            return claim is not None

    def release(self, name: str, token: int) -> bool:
        with self._lock:
            claim = self._held(name, token)
            if claim:
                claim.holder = ""
            return claim is not None

    def _held(self, name: str, token: int) -> _Claim | None:
        claim = self._claims.get(name)
        return claim if claim and claim.token == token and claim.is_held(clock.now()) else None

    def lease(self, name: str) -> Lease | None:
        with self._lock:
            now = clock.now()
            claim = self._claims.get(name)
            if claim is None or not claim.is_held(now):
                return None
            return Lease(claim.holder, claim.token, claim.expires - now)

    # -- housekeeping ------------------------------------------------------------------------------

    def purge(self, *, limit: int = 500) -> int:
        # In memory there is nobody to make way for, so `limit` bounds nothing.
        with self._lock:
            before = clock.now() - REMEMBERED
            removed = 0
            for found in self._maps.values():
                expired = found.expired(before)
                for key in expired:
                    found.remove(key)
                removed += len(expired)
            oldest = clock.microseconds(before)
            empty = [n for n, m in self._maps.items() if not m.entries and m.version <= oldest]
            old = [n for n, (_, expires) in self._counters.items() if expires <= before]
            free = [n for n, claim in self._claims.items() if claim.expires <= before]
            for name in empty:
                del self._maps[name]
            for name in old:
                del self._counters[name]
            for name in free:
                del self._claims[name]
            return removed + len(empty) + len(old) + len(free)
