"""The log in Redis: a stream per topic, its head beside it, and one script per act.

A script runs as a whole while nothing else does, so offsets are contiguous and become visible in
order. All keys of a topic carry its digest in braces, so in a cluster they share a slot, and no script
touches two topics.

Every topic gets an epoch of its own as soon as somebody asks for its head. So a flush, a restart
without persistence, an evicted or expired head each begin a life that is unknown to every earlier one,
and no key has to stay for ever: events expire with their history, heads ``REMEMBERED`` after that.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from ..core import headway
from ..core.events import Draft, Position
from ..core.log import Appended, EventLog, Head, Page
from ..core.topics import Topic
from . import clock
from .clock import microseconds, words_for_now
from .epochs import new_epoch
from .redis_client import Command, Plan, RedisClient, Script, repeatable
from .redis_words import (
    UNDECLARED,
    appended_in,
    bounded,
    digest_in,
    event_in,
    head_in,
    history_of,
    microseconds_until,
    milliseconds,
    with_marks,
)

logger = logging.getLogger("django_live.redis")

REMEMBERED = timedelta(days=30)
"""How long an epoch outlives the topic's events, and the last look at its head."""
RENEWED = timedelta(days=1)
"""How often a head that is only looked at lives on."""
KNOWN_TOPICS = 4096
"""Topics of which a process remembers what it appended last."""
SCANNED_AT_ONCE = 500
TOPICS_AT_ONCE = 200
"""Topics that are appended to in one round trip, each by a script of its own."""


class RedisLog(EventLog):
    """Events in the Redis of ``DJANGO_LIVE["REDIS_URL"]``."""

    shared = True
    uses_outbox = False

    def __init__(self) -> None:
        self._redis = RedisClient()
        self._newest: OrderedDict[str, Position] = OrderedDict()

    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        return self._redis.run(self._append(topic, drafts))

    async def aappend(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        return await self._redis.arun(self._append(topic, drafts))

    def append_many(self, batches: Sequence[tuple[Topic, Sequence[Draft]]]) -> list[Appended]:
        return self._redis.run(self._append_many(batches))

    def read(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        return self._redis.run(self._read(topic, after, limit, max_bytes))

    async def aread(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        return await self._redis.arun(self._read(topic, after, limit, max_bytes))

    def heads(self, topics: Sequence[Topic]) -> dict[str, Head]:
        return self._redis.run(self._heads(topics))

    async def aheads(self, topics: Sequence[Topic]) -> dict[str, Head]:
        return await self._redis.arun(self._heads(topics))

    def positions(self, topics: Sequence[Topic], at: float) -> dict[str, Position]:
        return self._redis.run(self._positions(topics, at))

    def begin_epoch(self, topic: Topic, seen: Head) -> Head:
        return self._redis.run(self._begin_epoch(topic, seen))

    async def abegin_epoch(self, topic: Topic, seen: Head) -> Head:
        return await self._redis.arun(self._begin_epoch(topic, seen))

    def trim(self, *, limit: int = 500) -> int:
        return self._redis.run(self._trim(limit))

    async def atrim(self, *, limit: int = 500) -> int:
        return await self._redis.arun(self._trim(limit))

    # -- writing -----------------------------------------------------------------------------------

    def _append(self, topic: Topic, drafts: Sequence[Draft]) -> Plan[Appended]:
        return (yield from self._append_many([(topic, drafts)]))[0]

    def _append_many(
        self, batches: Sequence[tuple[Topic, Sequence[Draft]]]
    ) -> Plan[list[Appended]]:
        marked = [(topic, with_marks(drafts)) for topic, drafts in batches]
        done: dict[int, Appended] = {}
        for start in range(0, len(marked), TOPICS_AT_ONCE):
            waiting = list(range(start, min(start + TOPICS_AT_ONCE, len(marked))))
            while waiting:
                replies = yield from self._append_once([marked[place] for place in waiting])
                for place, reply in zip(waiting, replies, strict=True):
                    topic, drafts = marked[place]
                    if reply[0] == 1:
                        done[place] = appended_in(drafts, reply)
                        self._remember(topic, Position(done[place].epoch, reply[2]))
                waiting = [place for place in waiting if place not in done]
        return [done[place] for place in range(len(marked))]

    def _append_once(
        self, marked: Sequence[tuple[Topic, Sequence[tuple[Draft, str]]]]
    ) -> Plan[list[Any]]:
        """One round trip, a second one for topics without a head. The scripts' replies; what was lost
        has been reported, and its appending is to be tried again."""
        known = [self._newest.get(topic.key, Position("", 0)) for topic, _ in marked]
        appends = [
            self._append_command(*one, before) for one, before in zip(marked, known, strict=True)
        ]
        replies = yield appends
        headless = [place for place, reply in enumerate(replies) if reply[0] == 0]
        if headless:
            ensures = [self._ensure_command(marked[place][0]) for place in headless]
            found = yield [*ensures, *(appends[place] for place in headless)]
            for place, reply in zip(headless, found[len(headless) :], strict=True):
                replies[place] = reply
        for (topic, _), before, reply in zip(marked, known, replies, strict=True):
            if reply[0] == -1:
                yield from self._report_loss(topic, before)
        return replies

    def _append_command(
        self, topic: Topic, marked: Sequence[tuple[Draft, str]], known: Position
    ) -> Command:
        history = topic.history or UNDECLARED
        age = bounded(history.age)
        words = [
            *(words_for_now(), known.epoch, known.offset),
            *(history.events, microseconds(age.total_seconds())),
            # An eighth more, so that the expiry need not be renewed with every event.
            *(milliseconds(age * 9 / 8), milliseconds(age + REMEMBERED)),
        ]
        events = [
            word for draft, mark in marked for word in (draft.type, draft.data, draft.exclude, mark)
        ]
        keys = self._keys(topic.key)
        once = _scripts().append.once(keys, *words, 0, *events)
        return once._replace(again=_scripts().append.words(keys, *words, 1, *events))

    def _remember(self, topic: Topic, newest: Position) -> None:
        """So that this process notices with its next append when the log was set back."""
        self._newest[topic.key] = newest
        if len(self._newest) > KNOWN_TOPICS:
            self._newest.popitem(last=False)

    def _report_loss(self, topic: Topic, known: Position) -> Plan[None]:
        logger.error(
            "Redis lost events of %s: it ends before %d, which was appended here (a restart from "
            "an old dump, a failover). Its readers are reset.",
            topic.name,
            known.offset,
        )
        self._newest.pop(topic.key, None)
        yield from self._begin_epoch(topic, Head(known.epoch, known.offset))

    def _begin_epoch(self, topic: Topic, seen: Head) -> Plan[Head]:
        begin = _scripts().begin_epoch.repeatable(
            self._keys(topic.key), seen.epoch, seen.last, new_epoch()
        )
        (reply,) = yield [begin]
        if not reply[0]:
            return (yield from self._born([topic]))[topic.key]
        return head_in(reply[1:])

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Plan[Page]:
        read = _scripts().read.repeatable(
            self._keys(topic.key), after, min(limit, sys.maxsize), max_bytes
        )
        (reply,) = yield [read]
        if not reply[0]:
            return Page((yield from self._born([topic]))[topic.key], [])
        events = [event_in(*row) for row in zip(reply[4::2], reply[5::2], strict=True)]
        return Page(head_in(reply[1:4]), events)

    def _heads(self, topics: Sequence[Topic]) -> Plan[dict[str, Head]]:
        if not topics:
            return {}
        keys = [self._keys(topic.key) for topic in topics]
        replies = yield [
            command
            for head, stream, _ in keys
            for command in (
                repeatable("HMGET", head, "e", "l", "f", "r"),
                repeatable("EXISTS", stream),
            )
        ]
        stale = microseconds(clock.now() - RENEWED.total_seconds())
        heads: dict[str, Head] = {}
        unborn: list[Topic] = []
        for topic, found, exists in zip(topics, replies[::2], replies[1::2], strict=True):
            if found[0] is None or int(found[3]) < stale:
                unborn.append(topic)
            if found[0] is not None:
                head = head_in(found)
                # Without a stream nothing can be read.
                heads[topic.key] = head if exists else head._replace(floor=head.last)
        if unborn:
            for key, head in (yield from self._born(unborn)).items():
                heads.setdefault(key, head)
        return heads

    def _positions(self, topics: Sequence[Topic], at: float) -> Plan[dict[str, Position]]:
        if not topics:
            return {}
        position = _scripts().position
        bound = microseconds_until(at)
        replies = yield [position.repeatable(self._keys(topic.key), bound) for topic in topics]
        answer: dict[str, Position] = {}
        unborn: list[Topic] = []
        for topic, (born, *place) in zip(topics, replies, strict=True):
            if born:
                answer[topic.key] = Position(place[0].decode(), place[1])
            else:
                unborn.append(topic)
        if unborn:
            heads = yield from self._born(unborn)
            answer.update((key, head.position) for key, head in heads.items())
        return answer

    def _born(self, topics: Sequence[Topic]) -> Plan[dict[str, Head]]:
        """Their heads, made where there are none, which then live on."""
        replies = yield [self._ensure_command(topic) for topic in topics]
        return {topic.key: head_in(reply) for topic, reply in zip(topics, replies, strict=True)}

    def _ensure_command(self, topic: Topic) -> Command:
        age = bounded((topic.history or UNDECLARED).age)
        return _scripts().ensure.repeatable(
            self._keys(topic.key),
            new_epoch(),
            words_for_now(),
            milliseconds(age + REMEMBERED),
            topic.namespace,
            topic.name,
        )

    # -- forgetting --------------------------------------------------------------------------------

    def names(self) -> Iterator[tuple[str, str]]:
        return iter(self._redis.run(self._names()))

    def replace(self, topic: Topic, data: Mapping[int, str]) -> int:
        return self._redis.run(self._replace(topic, data))

    def _replace(self, topic: Topic, data: Mapping[int, str]) -> Plan[int]:
        words = [word for pair in data.items() for word in pair]
        keys = self._keys(topic.key)
        (found,) = yield [_scripts().replace.repeatable([*keys, keys[1] + ":new"], *words)]
        return int(found)

    def _names(self) -> Plan[list[tuple[str, str]]]:
        found: set[tuple[str, str]] = set()
        cursor: Any = 0
        while True:
            ((cursor, streams),) = yield [self._scan_command(cursor)]
            if streams:
                names = yield [
                    repeatable("HMGET", self._keys(digest_in(stream))[0], "s", "n")
                    for stream in streams
                ]
                found.update((space.decode(), name.decode()) for space, name in names if name)
            if not int(cursor):
                return sorted(found)

    # -- trimming ----------------------------------------------------------------------------------

    def _trim(self, limit: int) -> Plan[int]:
        removed = 0
        cursor: Any = 0
        while True:
            ((cursor, streams),) = yield [self._scan_command(cursor)]
            if streams:
                removed += yield from self._trim_some(streams, limit)
            if not int(cursor):
                return removed

    def _scan_command(self, cursor: Any) -> Command:
        """Asks for the next streams."""
        prefix = re.sub(r"([\\*?\[\]])", r"\\\1", self._redis.prefix)
        return repeatable("SCAN", cursor, "MATCH", f"{prefix}:{{*}}:s", "COUNT", SCANNED_AT_ONCE)

    def _trim_some(self, streams: Sequence[bytes], limit: int) -> Plan[int]:
        keys = [self._keys(digest_in(stream)) for stream in streams]
        names = yield [repeatable("HMGET", head, "s", "n") for head, _, _ in keys]
        left = [
            self._trim_command(some, found[0], found[1], limit)
            for some, found in zip(keys, names, strict=True)
        ]
        removed = 0
        while left:
            replies = yield left
            headway.made(sum(replies))
            removed += sum(replies)
            left = [command for command, gone in zip(left, replies, strict=True) if gone == limit]
        return removed

    def _trim_command(
        self, keys: Sequence[str], namespace: bytes | None, name: bytes | None, limit: int
    ) -> Command:
        history = history_of((namespace or b"").decode(), (name or b"").decode())
        return _scripts().trim.repeatable(
            keys,
            words_for_now(),
            history.events,
            microseconds(bounded(history.age).total_seconds()),
            limit,
        )

    def _keys(self, digest: str) -> tuple[str, str, str]:
        """Head, stream, idempotency keys."""
        start = f"{self._redis.prefix}:{{{digest}}}:"
        return start + "h", start + "s", start + "k"


class _Scripts(NamedTuple):
    append: Script
    read: Script
    position: Script
    ensure: Script
    begin_epoch: Script
    trim: Script
    replace: Script


@cache
def _scripts() -> _Scripts:
    return _Scripts(*(Script("common", "log", name) for name in _Scripts._fields))
