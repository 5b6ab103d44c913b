"""What one transaction of the outbox does: rows become numbered events.

Where the rows and the log share a database, numbering is one transaction: lock the heads, read the
pending rows, insert the events, delete the rows. Where they do not, the lock and the rows are held
here while the log appends, under keys made of the rows: killed at any point, the next one appends
the same rows again and the log knows them. Whoever holds them is waited for, on SQLite by everybody who
writes: so a log is asked whether it answers before the transaction begins, not in it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from django.db import DatabaseError, connections

from ..core.events import Draft, Event
from ..core.interruptions import raise_interruption
from ..core.log import Appended, EventLog, get_log
from ..core.outbox import Entry, Numbered, told_of
from ..core.topics import Topic
from ..exceptions import StoreError
from ..models import Head, PendingChange, PendingEvent
from .blocks import Block, block_of
from .database import DatabaseLog, write_events
from .free_heads import free_heads
from .heads import (
    delete_ids,
    delete_rows,
    is_transient,
    lock_or_make_heads,
    numbering,
    numbering_transaction,
    wait_for_heads,
    with_heads,
)
from .pending import BATCH, Row, older_bundles, take

logger = logging.getLogger("django_live.outbox")

TOPICS_AT_ONCE = 1000
"""Topics of one commit whose heads one transaction locks."""
LOG_PATIENCE = 0.3
"""Seconds. A log elsewhere that fails later than that is not asked for the other topics of a commit:
each would make the caller wait as long. And so long it is believed to answer because it has."""
DOUBTS = 3
"""How often one call gives a lock back because it waited longer than that for it."""

T = TypeVar("T")


def numberer_for(using: str) -> Numberer:
    """For the rows of this database and the log that is in force."""
    log = get_log()
    if isinstance(log, DatabaseLog) and log.lives_in(using):
        return Numberer(using)
    return _NumbererElsewhere(using, log)


class Batch(NamedTuple):
    """What one transaction did: what it numbered, of which topics it held the heads, whether they may
    have more rows, and whether those have to wait for a bundle (None: nobody looked)."""

    numbered: list[Numbered]
    held: frozenset[str]
    is_full: bool
    is_blocked: bool | None = None


class Numberer:
    """Numbers pending rows into a log of the same database, in one transaction."""

    takes_also = True

    def __init__(self, using: str) -> None:
        self.using = using

    def groups(self, topics: Sequence[Topic]) -> list[Sequence[Topic]]:
        """Topics that are numbered in one transaction. Not all at once: 40,000 topics of one commit
        cost more than a minute, their heads locked all the while."""
        return [topics[i : i + TOPICS_AT_ONCE] for i in range(0, len(topics), TOPICS_AT_ONCE)]

    def locks(self, topics: Mapping[str, Topic]) -> Mapping[str, Topic | None]:
        """The keys of the heads to lock, and what to make of those that do not exist."""
        return topics

    def number_once(self, topics: Mapping[str, Topic], also: Sequence[Entry]) -> Batch | None:
        """Number up to ``BATCH`` rows of those topics that nobody else is numbering, and ``also``
        after them, all or nothing of it. None: nothing was done."""

        def work() -> Batch | None:
            if also and topics.keys() == {entry.topic.key for entry in also}:
                # Nearly always nothing waits, and nobody else numbers: then it is two statements, not four.
                numbered = self.number_here(also, ())
                if numbered is not None:
                    return Batch(numbered, frozenset(topics), is_full=False, is_blocked=False)
            heads = lock_or_make_heads(self.using, self.locks(topics))
            return self._number_held(topics, heads, also)

        return numbering_transaction(self.using, work)

    def _number_held(
        self, topics: Mapping[str, Topic], heads: Mapping[str, Head], also: Sequence[Entry]
    ) -> Batch | None:
        if also and len(heads) < len(topics):
            return None
        held = [topics[key] for key in heads]
        with block_of(self.using) as block:
            taken = take(held, self.using, looks=bool(also), block=block)
            drafts = _drafts_by_topic(taken.rows)
            also_now = not (taken.is_full or taken.is_blocked)
            for entry in also if also_now else ():
                drafts.setdefault(entry.topic.key, []).append(entry.draft)
            numbered = self._write(topics, heads, drafts, block)
        return Batch(numbered, frozenset(heads), taken.is_full, taken.is_blocked)

    def number_here(self, entries: Sequence[Entry], notes: Sequence[int]) -> list[Numbered] | None:
        """See ``Outbox.number_here()``."""
        topics = {entry.topic.key: entry.topic for entry in entries}
        drafts: dict[str, list[Draft]] = {}
        for topic, draft in entries:
            drafts.setdefault(topic.key, []).append(draft)
        is_too_much = len(topics) > TOPICS_AT_ONCE or len(entries) > BATCH
        # Of those with a key it is not known whether they are events already.
        if is_too_much or any(entry.draft.idempotency_key for entry in entries):
            return None
        kept = {key: len(ones) for key, ones in drafts.items() if topics[key].history is not None}
        free = free_heads(self.using, topics, kept)
        if free is None:
            return None
        with block_of(self.using) as block:
            delete_ids(PendingChange, notes, self.using, block)
            return self._write(topics, free.heads, drafts, block, at=free.moved_on)

    def number_bundle(
        self, bundle: PendingEvent, topics: Mapping[str, Topic], entries: Sequence[Entry]
    ) -> Batch | None:
        """Number a bundle, and before it the older rows of its topics. None: it is not its turn, or
        somebody else numbers it. The topics' heads exist."""
        try:
            with numbering(self.using):
                # The first statement is a write: on SQLite it takes the lock.
                if not delete_rows(PendingEvent.objects.using(self.using).filter(pk=bundle.pk)):
                    raise _NotNow
                if older_bundles(bundle, self.using).exists():
                    raise _NotNow
                heads = wait_for_heads(self.using, self.locks(topics))
                if len(heads) < len(topics):
                    raise _NotNow
                taken = take(topics.values(), self.using, looks=False, before=bundle.pk)
                if taken.is_full:
                    # Those first, in a transaction that leaves the bundle where it is.
                    raise _NotYet
                return Batch(
                    self._write_bundle(topics, heads, taken.rows, bundle, entries),
                    frozenset(topics),
                    is_full=False,
                )
        except _NotNow:
            return None
        except _NotYet:
            batch = self.number_once(topics, ())
            return batch and batch._replace(is_full=True)
        except _LogFailed as failure:
            _leave_bundle(failure)
            return None
        except DatabaseError as error:
            if connections[self.using].in_atomic_block or not is_transient(error):
                raise
            return None

    def _write_bundle(
        self,
        topics: Mapping[str, Topic],
        heads: Mapping[str, Head],
        rows: Sequence[Row],
        bundle: PendingEvent,
        entries: Sequence[Entry],
    ) -> list[Numbered]:
        drafts = _drafts_by_topic(rows)
        for entry in entries:
            drafts.setdefault(entry.topic.key, []).append(entry.draft)
        return self._write(topics, heads, drafts)

    def _write(
        self,
        topics: Mapping[str, Topic],
        heads: Mapping[str, Head],
        drafts: Mapping[str, Sequence[Draft]],
        block: Block | None = None,
        at: float | None = None,
    ) -> list[Numbered]:
        kept = [key for key in drafts if topics[key].history is not None]
        numbered = {key: Appended("", _unnumbered(drafts[key])) for key in drafts}
        if kept:
            batches = [(heads[key], drafts[key]) for key in kept]
            appended = write_events(self.using, batches, block, moved_on=at)
            numbered.update(zip(kept, appended, strict=True))
        return [Numbered(topics[key], done) for key, done in numbered.items()]


class _NumbererElsewhere(Numberer):
    """Numbers pending rows into a log that is somewhere else, one topic at a time."""

    takes_also = False

    def __init__(self, using: str, log: EventLog) -> None:
        super().__init__(using)
        self.log = log
        self._answered = float("-inf")
        self._doubts = DOUBTS
        self.is_silent = False
        """Whether the log made somebody wait in vain: not again for the next topic."""

    def groups(self, topics: Sequence[Topic]) -> list[Sequence[Topic]]:
        return [[topic] for topic in topics]

    def locks(self, topics: Mapping[str, Topic]) -> Mapping[str, Topic | None]:
        # Not the topics' own heads: should the log be in the same database after all, reached by
        # another address, its append would wait for us for ever.
        return {
            hashlib.blake2b(f"outbox\0{key}".encode(), digest_size=16).hexdigest(): None
            for key in topics
        }

    def number_here(self, entries: Sequence[Entry], notes: Sequence[int]) -> list[Numbered] | None:
        return None

    def number_once(self, topics: Mapping[str, Topic], also: Sequence[Entry]) -> Batch | None:
        (topic,) = topics.values()
        if self.is_silent:
            return Batch([], frozenset(topics), is_full=False)

        def work(locks: dict[str, Head]) -> Batch:
            self._doubt(topics)
            taken = take([topic] if locks else [], self.using, looks=False)
            rows = taken.rows
            numbered = [Numbered(topic, self._append(topic, rows))] if rows else []
            return Batch(numbered, frozenset(topics if locks else ()), taken.is_full)

        try:
            return self._if_it_answers(
                topics, lambda: with_heads(self.using, self.locks(topics), work, lock_or_make_heads)
            )
        except _LogFailed as failure:
            logger.warning(
                "%s is left to the sweep: its log did not take the events (%s).%s",
                topic.name,
                failure.__cause__,
                f" They tell of {subjects}." if (subjects := told_of.get()()) else "",
            )
            return Batch([], frozenset(topics), is_full=False)

    def number_bundle(
        self, bundle: PendingEvent, topics: Mapping[str, Topic], entries: Sequence[Entry]
    ) -> Batch | None:
        if self.is_silent:
            return None
        number = super().number_bundle
        try:
            return self._if_it_answers(topics, lambda: number(bundle, topics, entries))
        except _LogFailed as failure:
            _leave_bundle(failure)
            return None

    def _if_it_answers(self, topics: Mapping[str, Topic], work: Callable[[], T]) -> T:
        while True:
            if self._is_doubtful(topics):
                self._ask_for_one_of(topics)
            try:
                return work()
            except _Doubtful:
                self._doubts -= 1

    def _ask_for_one_of(self, topics: Mapping[str, Topic]) -> None:
        kept = [topic for topic in topics.values() if topic.history is not None]
        self._asked(lambda: self.log.heads(kept[:1]))

    def _doubt(self, topics: Mapping[str, Topic]) -> None:
        """Give the lock back where it was waited for so long that nobody knows whether the log still
        answers: it may be what they all waited for, and each would hold it as long."""
        if self._doubts and self._is_doubtful(topics):
            raise _Doubtful

    def _is_doubtful(self, topics: Mapping[str, Topic]) -> bool:
        """Whether these need the log, and it has not answered just now."""
        return time.monotonic() - self._answered > LOG_PATIENCE and any(
            topic.history is not None for topic in topics.values()
        )

    def _append(self, topic: Topic, rows: Sequence[Row]) -> Appended:
        if topic.history is None:
            return Appended("", _unnumbered([row.draft() for row in rows]))
        drafts = [row.draft(or_key=self._key_of(row)) for row in rows]
        return self._asked(lambda: self.log.append(topic, drafts))

    def _asked(self, ask: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            answer = ask()
        except (StoreError, DatabaseError, OSError) as error:
            raise_interruption(error)
            self.is_silent = time.monotonic() - began > LOG_PATIENCE
            raise _LogFailed from error
        self._answered = time.monotonic()
        return answer

    def _key_of(self, row: Row | PendingEvent) -> str:
        return f"{self.using}:{row.id}:{row.created:.6f}"

    def _write_bundle(
        self,
        topics: Mapping[str, Topic],
        heads: Mapping[str, Head],
        rows: Sequence[Row],
        bundle: PendingEvent,
        entries: Sequence[Entry],
    ) -> list[Numbered]:
        self._doubt(topics)
        drafts: dict[str, list[Draft]] = {}
        for row in rows:
            drafts.setdefault(row.topic_key, []).append(row.draft(or_key=self._key_of(row)))
        for place, (topic, draft) in enumerate(entries):
            keyed = replace(draft, idempotency_key=f"{self._key_of(bundle)}:{place}")
            drafts.setdefault(topic.key, []).append(keyed)
        kept = {key: ones for key, ones in drafts.items() if topics[key].history is not None}
        batches = [(topics[key], ones) for key, ones in kept.items()]
        appended = self._asked(lambda: self.log.append_many(batches))
        numbered = {key: Appended("", _unnumbered(ones)) for key, ones in drafts.items()}
        numbered.update(zip(kept, appended, strict=True))
        return [Numbered(topics[key], done) for key, done in numbered.items()]


class _NotNow(Exception):
    """Somebody else is at it, or an older bundle comes first. The transaction is rolled back."""


class _NotYet(Exception):
    """There are too many older rows for one transaction."""


class _LogFailed(Exception):
    """The log that is elsewhere did not take a batch, or does not answer."""


class _Doubtful(Exception):
    """It may have stopped to answer."""


def _leave_bundle(failure: _LogFailed) -> None:
    logger.warning("A bundle of events is left to the next sweep (%s).", failure.__cause__)


def _drafts_by_topic(rows: Sequence[Row]) -> dict[str, list[Draft]]:
    drafts: dict[str, list[Draft]] = {}
    for row in rows:
        drafts.setdefault(row.topic_key, []).append(row.draft())
    return drafts


def _unnumbered(drafts: Sequence[Draft]) -> list[Event]:
    return [
        Event(type=draft.type, data=draft.data, exclude=draft.exclude, conflate=draft.conflate)
        for draft in drafts
    ]
