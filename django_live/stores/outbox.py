"""The outbox: rows in the caller's transaction, numbered after it.

Where the rows and the log share a database, numbering is one transaction: lock the heads, read the
pending rows, insert the events, delete the rows. Where they do not, the lock and the rows are held
here while the log appends, under keys made of the rows: killed at any point, the next one appends
the same rows again and the log knows them.

A bundle (``core/bundles.py``) is numbered as a whole, by a sweep. Rows of the topics that it may
concern, and that were written after it, wait for that: so everything keeps the order of the rows.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router
from django.db.models import Max, Min, QuerySet

from ..core.bundles import Bundle, UnreadableBundle, declared_keys, unpack
from ..core.events import Draft, Event
from ..core.log import Appended, EventLog, get_log
from ..core.outbox import Entry, Numbered, Outbox, told_of
from ..core.topics import Topic, registry
from ..exceptions import InvalidTopic, StoreError
from ..models import Head, PendingEvent
from . import clock
from .database import DatabaseLog, write_events
from .heads import (
    Patience,
    delete_ids,
    delete_rows,
    is_transient,
    lock_or_make_heads,
    make_heads,
    numbering,
    refuse_callers_transaction,
    wait_for_heads,
    with_heads,
)
from .pending import BATCH, Row, take, write_bundles, write_entries

logger = logging.getLogger("django_live.outbox")

TOPICS_PER_SWEEP = 50
"""Topics that one transaction of the sweep may hold."""
TOPICS_AT_ONCE = 1000
"""Topics of one commit whose heads one transaction locks."""
LOG_PATIENCE = 0.3
"""Seconds. A log elsewhere that fails later than that is not asked for the other topics of a commit:
each would make the caller wait as long."""
LOOK_AGAIN = 60.0
"""Seconds after which a database without the table is asked again."""
UNDECLARED_GRACE = 3600.0
"""Seconds that rows of an undeclared topic are left alone: during a deploy another release may know
the topic."""


T = TypeVar("T")


class DatabaseOutbox(Outbox):
    """Rows of ``PendingEvent`` in the database of the caller's transaction."""

    def __init__(self) -> None:
        self._has_table: dict[str, bool] = {}
        self._look_again: dict[str, float] = {}

    def aliases(self) -> list[str]:
        """Those where the routers allow the table, and where it is. The default one need not have it
        yet: that it is not migrated should be heard of."""
        allowed = [one for one in connections if router.allow_migrate_model(one, PendingEvent)]
        return [one for one in allowed if one == DEFAULT_DB_ALIAS or self._looked_up(one)]

    def _looked_up(self, alias: str) -> bool:
        if not self._has_table.get(alias) and time.monotonic() >= self._look_again.get(alias, 0.0):
            self._look_again[alias] = time.monotonic() + LOOK_AGAIN
            try:
                tables = connections[alias].introspection.table_names()
            except Exception as error:
                logger.info("The database %r is not swept for now (%s).", alias, error)
                tables = []
            self._has_table[alias] = PendingEvent._meta.db_table in tables
        return self._has_table.get(alias, False)

    def add(self, entries: Sequence[Entry], using: str) -> list[int]:
        self._look_again.pop(using, None)
        return write_entries(entries, using)

    def add_bundles(self, bundles: Sequence[Bundle], using: str) -> list[int]:
        self._look_again.pop(using, None)
        return write_bundles(bundles, using)

    def pending(self, ids: Sequence[int], using: str) -> dict[int, Entry]:
        rows = PendingEvent.objects.using(using).filter(pk__in=ids).order_by("pk")
        return {row.id: Entry(topic, _draft(row)) for row in rows if (topic := _topic_of(row))}

    def opened(self, ids: Sequence[int], using: str) -> dict[int, list[Entry]]:
        rows = PendingEvent.objects.using(using).filter(pk__in=ids, topic_key__in=declared_keys())
        return {
            row.id: [Entry(*one) for one in unpack(row.topic_key, row.data)]
            for row in rows.order_by("pk")
        }

    def remove(self, ids: Sequence[int], using: str) -> None:
        delete_ids(PendingEvent, ids, using)

    def number(
        self, topics: Sequence[Topic], using: str, also: Sequence[Entry] = ()
    ) -> Iterator[Numbered]:
        refuse_callers_transaction(using)
        numberer = _numberer(using)
        if also and not numberer.takes_also:
            self.add(also, using)
            also = ()
        known = {topic.key: topic for topic in (*topics, *(entry.topic for entry in also))}
        for group in numberer.groups(list(known.values())):
            keys = {topic.key for topic in group}
            of_group = [entry for entry in also if entry.topic.key in keys]
            yield from self._number_group(numberer, group, using, of_group)

    def _number_group(
        self, numberer: _Numberer, topics: Sequence[Topic], using: str, also: Sequence[Entry]
    ) -> Iterator[Numbered]:
        patience = Patience()
        waiting = {topic.key: topic for topic in topics}
        newest: int | None = None
        while waiting:
            batch = numberer.number_once(waiting, also)
            if batch is not None:
                yield from batch.numbered
                if also and batch.is_blocked and not batch.is_full:
                    self.add(also, using)  # they wait for a bundle as the rows do
                also = also if batch.is_full else ()
                for key in () if batch.is_full else batch.held:
                    del waiting[key]
                if batch.held:
                    continue
            if newest is None and make_heads(using, numberer.locks(waiting)):
                continue
            if also:
                # Somebody numbers now. As rows they are numbered by whoever has the topic next, which
                # may be the one that has it: nobody starves and nothing is refused.
                self.add(also, using)
                also = ()
            if newest is None:
                newest = _newest(waiting, using)
            # Whoever has the lock is likely to take these rows along: look before trying again.
            patience.wait()
            waiting = _still_pending(waiting, newest, using)
            if waiting and patience.is_over():
                names = told_of.get()() or ", ".join(
                    topic.name for topic in list(waiting.values())[:5]
                )
                logger.warning(
                    "Events of %d topics are left to the sweep: others number them, or the database "
                    "is locked (%s).",
                    len(waiting),
                    names,
                )
                return

    def waits(self, using: str) -> bool:
        return PendingEvent.objects.using(using).exists()

    def sweep(self, using: str) -> Iterator[Numbered]:
        if not self.waits(using):
            return
        numberer = _numberer(using)
        yield from self._sweep_bundles(numberer, using)
        for page in _pending_topics(using):
            for group in numberer.groups(page):
                yield from self._sweep_group(numberer, group, using)

    def _sweep_bundles(self, numberer: _Numberer, using: str) -> Iterator[Numbered]:
        """The oldest of a class first. Another process that numbers one of a class has them all."""
        classes = set(declared_keys())
        while bundle := _oldest_bundle(classes, using):
            try:
                entries = [Entry(*one) for one in unpack(bundle.topic_key, bundle.data)]
            except UnreadableBundle as error:
                logger.warning("A bundle of events is left to another process: %s.", error)
                classes.discard(bundle.topic_key)
                continue
            numbered = self._number_bundle(numberer, bundle, entries, using)
            if numbered is None:
                classes.discard(bundle.topic_key)
            else:
                yield from numbered

    def _number_bundle(
        self, numberer: _Numberer, bundle: PendingEvent, entries: Sequence[Entry], using: str
    ) -> list[Numbered] | None:
        topics = {entry.topic.key: entry.topic for entry in entries}
        before: list[Numbered] = []
        patience = Patience()
        while True:
            make_heads(using, numberer.locks(topics))
            batch = numberer.number_bundle(bundle, topics, entries)
            if batch is not None:
                before += batch.numbered
                if not batch.is_full:
                    return before
            elif patience.is_over() or not _still_first(bundle, using):
                return before or None
            else:
                patience.wait()

    def _sweep_group(
        self, numberer: _Numberer, topics: Sequence[Topic], using: str
    ) -> Iterator[Numbered]:
        waiting = {topic.key: topic for topic in topics}
        while batch := numberer.number_once(waiting, ()):
            yield from batch.numbered
            if batch.is_full:
                continue
            for key in batch.held:
                del waiting[key]
            if not (waiting and make_heads(using, numberer.locks(waiting))):
                return


class _Batch(NamedTuple):
    """What one transaction did: what it numbered, of which topics it held the heads, whether they may
    have more rows, and whether those have to wait for a bundle (None: nobody looked)."""

    numbered: list[Numbered]
    held: frozenset[str]
    is_full: bool
    is_blocked: bool | None = None


class _Numberer:
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

    def number_once(self, topics: Mapping[str, Topic], also: Sequence[Entry]) -> _Batch | None:
        """Number up to ``BATCH`` rows of those topics that nobody else is numbering, and ``also``
        after them, all or nothing of it. None: nothing was done."""

        def work(heads: dict[str, Head]) -> _Batch | None:
            if also and len(heads) < len(topics):
                return None
            held = [topics[key] for key in heads]
            taken = take(held, self.using, looks=bool(also))
            drafts = _drafts_by_topic(taken.rows)
            also_now = not (taken.is_full or taken.is_blocked)
            for entry in also if also_now else ():
                drafts.setdefault(entry.topic.key, []).append(entry.draft)
            numbered = self._write(topics, heads, drafts)
            return _Batch(numbered, frozenset(heads), taken.is_full, taken.is_blocked)

        return with_heads(self.using, self.locks(topics), work, lock_or_make_heads)

    def number_bundle(
        self, bundle: PendingEvent, topics: Mapping[str, Topic], entries: Sequence[Entry]
    ) -> _Batch | None:
        """Number a bundle, and before it the older rows of its topics. None: it is not its turn, or
        somebody else numbers it. The topics' heads exist."""
        try:
            with numbering(self.using):
                # The first statement is a write: on SQLite it takes the lock.
                if not delete_rows(PendingEvent.objects.using(self.using).filter(pk=bundle.pk)):
                    raise _NotNow
                if _older_bundles(bundle, self.using).exists():
                    raise _NotNow
                heads = wait_for_heads(self.using, self.locks(topics))
                if len(heads) < len(topics):
                    raise _NotNow
                taken = take(topics.values(), self.using, looks=False, before=bundle.pk)
                if taken.is_full:
                    # Those first, in a transaction that leaves the bundle where it is.
                    raise _NotYet
                return _Batch(
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
            logger.warning("A bundle of events is left to the next sweep (%s).", failure.__cause__)
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
    ) -> list[Numbered]:
        kept = [key for key in drafts if topics[key].history is not None]
        numbered = {key: Appended("", _unnumbered(drafts[key])) for key in drafts}
        if kept:
            appended = write_events(self.using, [(heads[key], drafts[key]) for key in kept])
            numbered.update(zip(kept, appended, strict=True))
        return [Numbered(topics[key], done) for key, done in numbered.items()]


class _NumbererElsewhere(_Numberer):
    """Numbers pending rows into a log that is somewhere else, one topic at a time."""

    takes_also = False

    def __init__(self, using: str, log: EventLog) -> None:
        super().__init__(using)
        self.log = log
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

    def number_once(self, topics: Mapping[str, Topic], also: Sequence[Entry]) -> _Batch | None:
        (topic,) = topics.values()
        if self.is_silent:
            return _Batch([], frozenset(topics), is_full=False)

        def work(locks: dict[str, Head]) -> _Batch:
            taken = take([topic] if locks else [], self.using, looks=False)
            rows = taken.rows
            numbered = [Numbered(topic, self._append(topic, rows))] if rows else []
            return _Batch(numbered, frozenset(topics if locks else ()), taken.is_full)

        try:
            return with_heads(self.using, self.locks(topics), work, lock_or_make_heads)
        except _LogFailed as failure:
            logger.warning(
                "%s is left to the sweep: its log did not take the events (%s).%s",
                topic.name,
                failure.__cause__,
                f" They tell of {subjects}." if (subjects := told_of.get()()) else "",
            )
            return _Batch([], frozenset(topics), is_full=False)

    def _append(self, topic: Topic, rows: Sequence[Row]) -> Appended:
        if topic.history is None:
            return Appended("", _unnumbered([row.draft() for row in rows]))
        drafts = [row.draft(or_key=self._key_of(row)) for row in rows]
        return self._asked(lambda: self.log.append(topic, drafts))

    def _asked(self, ask: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return ask()
        except (StoreError, DatabaseError, OSError) as error:
            self.is_silent = time.monotonic() - began > LOG_PATIENCE
            raise _LogFailed from error

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
    """The log that is elsewhere did not take a batch."""


def _numberer(using: str) -> _Numberer:
    log = get_log()
    if isinstance(log, DatabaseLog) and log.lives_in(using):
        return _Numberer(using)
    return _NumbererElsewhere(using, log)


# -- rows ------------------------------------------------------------------------------------------


def _draft(row: PendingEvent) -> Draft:
    return Draft(
        type=row.type,
        data=row.data,
        exclude=row.exclude,
        conflate=row.conflate,
        idempotency_key=row.idempotency_key,
    )


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


def _topic_of(row: PendingEvent) -> Topic | None:
    try:
        return registry.resolve(row.name, row.namespace)
    except InvalidTopic:
        return None


def _oldest_bundle(classes: Collection[str], using: str) -> PendingEvent | None:
    bundles = PendingEvent.objects.using(using).filter(topic_key__in=sorted(classes))
    return bundles.order_by("id").first()


def _older_bundles(bundle: PendingEvent, using: str) -> QuerySet[PendingEvent]:
    rows = PendingEvent.objects.using(using)
    return rows.filter(topic_key=bundle.topic_key, id__lt=bundle.pk)


def _still_first(bundle: PendingEvent, using: str) -> bool:
    rows = PendingEvent.objects.using(using).filter(pk=bundle.pk, topic_key=bundle.topic_key)
    return rows.exists() and not _older_bundles(bundle, using).exists()


def _newest(topics: Mapping[str, Topic], using: str) -> int:
    rows = PendingEvent.objects.using(using).filter(topic_key__in=list(topics))
    return rows.aggregate(newest=Max("id"))["newest"] or 0


def _still_pending(topics: dict[str, Topic], newest: int, using: str) -> dict[str, Topic]:
    """Those of the topics that have a row up to this one, which all of the caller's are."""
    rows = PendingEvent.objects.using(using).filter(topic_key__in=list(topics), id__lte=newest)
    keys = set(rows.values_list("topic_key", flat=True).distinct())
    return {key: topic for key, topic in topics.items() if key in keys}


def _pending_topics(using: str) -> Iterator[list[Topic]]:
    """Topics with rows, in pages. Rows that nobody has declared a topic for are removed."""
    last_key = ""
    bundles = declared_keys()
    rows = PendingEvent.objects.using(using)
    while True:
        found = dict(
            rows.filter(topic_key__gt=last_key)
            .values_list("topic_key")
            .annotate(first=Min("id"))
            .order_by("topic_key")[:TOPICS_PER_SWEEP]
        )
        if not found:
            return
        last_key = list(found)[-1]  # as the database sorts
        topics: list[Topic] = []
        for row in rows.filter(pk__in=found.values()):
            topic = _topic_of(row)
            if topic is not None:
                topics.append(topic)
            elif row.topic_key in bundles:
                continue
            elif row.created < clock.now() - UNDECLARED_GRACE:
                _remove_undeclared(row, using)
        if topics:
            yield topics


def _remove_undeclared(row: PendingEvent, using: str) -> None:
    ids = list(
        PendingEvent.objects.using(using)
        .filter(topic_key=row.topic_key, created__lt=clock.now() - UNDECLARED_GRACE)
        .values_list("id", flat=True)[:BATCH]
    )
    delete_ids(PendingEvent, ids, using)
    logger.warning(
        "%d events of %r were never sent and are removed: no Topic declares it.", len(ids), row.name
    )
