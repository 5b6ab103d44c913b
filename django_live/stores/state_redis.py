"""The shared state in Redis: one script per act, the keys of each map in one slot. Everything in it
expires by itself, a day after what it held."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

from ..core.state import (
    MOST_ENTRIES,
    Changes,
    Count,
    Entries,
    Entry,
    Lease,
    SharedState,
)
from .clock import microseconds, words_for_now
from .redis_client import Command, Plan, RedisClient, Script
from .versions import digest, map_full


class RedisState(SharedState):
    """Maps, counters and leases in the Redis of ``DJANGO_LIVE["REDIS_URL"]``."""

    shared = True

    def __init__(self) -> None:
        self._redis = RedisClient()

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
        return self._redis.run(self._change(name, entries, delete, ttl, expect, fence, most))

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
        return await self._redis.arun(self._change(name, entries, delete, ttl, expect, fence, most))

    def items(self, name: str, keys: Collection[str] | None = None) -> Entries:
        return self._redis.run(self._items(name, keys))

    async def aitems(self, name: str, keys: Collection[str] | None = None) -> Entries:
        return await self._redis.arun(self._items(name, keys))

    def renew(self, keys: Mapping[str, Collection[str]], ttl: float) -> dict[str, frozenset[str]]:
        return self._redis.run(self._renew(keys, ttl))

    async def arenew(
        self, keys: Mapping[str, Collection[str]], ttl: float
    ) -> dict[str, frozenset[str]]:
        return await self._redis.arun(self._renew(keys, ttl))

    def sweep(self, name: str, *, limit: int = 500) -> Changes:
        return self._redis.run(self._sweep(name, limit))

    async def asweep(self, name: str, *, limit: int = 500) -> Changes:
        return await self._redis.arun(self._sweep(name, limit))

    def _change(
        self,
        name: str,
        entries: Mapping[str, str] | None,
        delete: Collection[str],
        ttl: float | None,
        expect: Mapping[str, int] | None,
        fence: int,
        most: int,
    ) -> Plan[Changes | None]:
        entries, expected = entries or {}, expect or {}
        command = _scripts().change.repeatable(
            self._map_keys(name),
            words_for_now(),
            "" if ttl is None else microseconds(ttl),
            *(fence, most, len(expected), len(entries), len(delete)),
            *_flat(expected),
            *_flat(entries),
            *delete,
        )
        if expected:
            # A second time it would not be as expected any more.
            command = command._replace(again=None)
        (reply,) = yield [command]
        if reply[0] < 0:
            raise map_full(name, most)
        return Changes(reply[1], _names(reply[2]), _names(reply[3])) if reply[0] else None

    def _items(self, name: str, keys: Collection[str] | None) -> Plan[Entries]:
        is_all = int(keys is None)
        items = _scripts().items.repeatable(
            self._map_keys(name), words_for_now(), is_all, *(keys or ())
        )
        ((version, *found),) = yield [items]
        return Entries(
            version,
            {
                key.decode(): _entry(packed)
                for key, packed in zip(found[::2], found[1::2], strict=True)
            },
        )

    def _renew(
        self, keys: Mapping[str, Collection[str]], ttl: float
    ) -> Plan[dict[str, frozenset[str]]]:
        if not keys:
            return {}
        replies = yield [
            _scripts().renew.repeatable(
                self._map_keys(name), words_for_now(), microseconds(ttl), *some
            )
            for name, some in keys.items()
        ]
        return {name: _names(reply) for name, reply in zip(keys, replies, strict=True)}

    def _sweep(self, name: str, limit: int) -> Plan[Changes]:
        # Once: a second time would not tell what the first one removed.
        sweep = _scripts().sweep.once(self._map_keys(name), words_for_now(), limit)
        ((version, *removed),) = yield [sweep]
        return Changes(version, removed=_names(removed))

    # -- counters and leases -----------------------------------------------------------------------

    def count(self, name: str, amount: int = 1, *, ttl: float) -> Count:
        return self._redis.run(self._count(name, amount, ttl))

    async def acount(self, name: str, amount: int = 1, *, ttl: float) -> Count:
        return await self._redis.arun(self._count(name, amount, ttl))

    def acquire(self, name: str, holder: str, ttl: float) -> Lease | None:
        return self._redis.run(self._acquire(name, holder, ttl))

    async def aacquire(self, name: str, holder: str, ttl: float) -> Lease | None:
        return await self._redis.arun(self._acquire(name, holder, ttl))

    def extend(self, name: str, token: int, ttl: float) -> bool:
        return self._redis.run(self._extend(name, token, ttl))

    async def aextend(self, name: str, token: int, ttl: float) -> bool:
        return await self._redis.arun(self._extend(name, token, ttl))

    def release(self, name: str, token: int) -> bool:
        return self._redis.run(self._release(name, token))

    async def arelease(self, name: str, token: int) -> bool:
        return await self._redis.arun(self._release(name, token))

    def lease(self, name: str) -> Lease | None:
        return self._redis.run(self._lease(name))

    async def alease(self, name: str) -> Lease | None:
        return await self._redis.arun(self._lease(name))

    def purge(self, *, limit: int = 500) -> int:
        """Nothing: it all expires by itself."""
        return 0

    def _count(self, name: str, amount: int, ttl: float) -> Plan[Count]:
        count = _scripts().add.once(
            [self._key("c", name)], words_for_now(), amount, microseconds(ttl)
        )
        ((value, left),) = yield [count]
        return Count(value, left / 1_000_000)

    def _acquire(self, name: str, holder: str, ttl: float) -> Plan[Lease | None]:
        (token,) = yield [self._lease_command("acquire", name, holder, microseconds(ttl))]
        return Lease(holder, token, ttl) if token else None

    def _extend(self, name: str, token: int, ttl: float) -> Plan[bool]:
        (kept,) = yield [self._lease_command("extend", name, token, microseconds(ttl))]
        return bool(kept)

    def _release(self, name: str, token: int) -> Plan[bool]:
        (held,) = yield [self._lease_command("release", name, token)]
        return bool(held)

    def _lease(self, name: str) -> Plan[Lease | None]:
        (found,) = yield [self._lease_command("lease", name)]
        if not found:
            return None
        return Lease(found[0].decode(), found[1], found[2] / 1_000_000)

    def _lease_command(self, act: str, name: str, *words: Any) -> Command:
        script: Script = getattr(_scripts(), act)
        return script.repeatable([self._key("l", name)], words_for_now(), *words)

    # -- keys --------------------------------------------------------------------------------------

    def _key(self, kind: str, name: str) -> str:
        return f"{self._redis.prefix}:{kind}:{{{digest(name)}}}"

    def _map_keys(self, name: str) -> list[str]:
        start = self._key("m", name)
        return [start + ":e", start + ":x", start + ":v"]


class _Scripts(NamedTuple):
    change: Script
    items: Script
    renew: Script
    sweep: Script
    acquire: Script
    extend: Script
    release: Script
    lease: Script
    add: Script


@cache
def _scripts() -> _Scripts:
    starts = [("common", "maps")] * 4 + [("common", "leases")] * 4 + [("common",)]
    return _Scripts(
        *(Script(*start, name) for start, name in zip(starts, _Scripts._fields, strict=True))
    )


def _flat(pairs: Mapping[str, Any]) -> list[Any]:
    return [word for pair in pairs.items() for word in pair]


def _names(reply: Collection[bytes]) -> frozenset[str]:
    return frozenset(name.decode() for name in reply)


def _entry(packed: bytes) -> Entry:
    version, _, value = packed.partition(b":")
    return Entry(value.decode(), int(version))
