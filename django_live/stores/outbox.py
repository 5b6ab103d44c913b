"""The outbox: rows in the caller's transaction, numbered after it.

Where the rows and the log share a database, numbering is one transaction: lock the heads, read the
pending rows, insert the events, delete the rows. Where they do not, the lock and the rows are held
here while the log appends, under keys made of the rows: killed at any point, the next one appends
the same rows again and the log knows them.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router
from django.db.models import Max, Min, Q

from ..core.events import Draft, Event
from ..core.log import Appended, EventLog, get_log
from ..core.outbox import Entry, Numbered, Outbox
from ..core.topics import Topic, registry
from ..exceptions import InvalidTopic, StoreError
from ..models import Head, PendingEvent
from . import clock
from .database import DatabaseLog, write_events
from .heads import Patience, delete_ids, make_heads, refuse_callers_transaction, with_heads

logger = logging.getLogger("django_live.outbox")

BATCH = 400
"""Rows that one transaction numbers."""
BATCH_BYTES = 1024 * 1024
"""Data that one transaction numbers, unless a single row is larger: numbering 400 rows of 16 kB grew
a server by 20 MB, and rows may be larger."""
FIRST_ROWS = 16
"""Rows that are asked for before it is known how large they are. Most commits have fewer."""
TOPICS_PER_SWEEP = 50
"""Topics that one transaction of the sweep may hold."""
TOPICS_AT_ONCE = 200
"""Topics of one commit whose heads one transaction locks."""
LOOK_AGAIN = 60.0
"""Seconds after which a database without the table is asked again."""
UNDECLARED_GRACE = 3600.0
"""Seconds that rows of an undeclared topic are left alone: during a deploy another release may know
the topic."""


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
        rows = [_row(entry) for entry in entries]
        if connections[using].features.can_return_rows_from_bulk_insert:
            PendingEvent.objects.using(using).bulk_create(rows)
        else:
            for row in rows:
                row.save(using=using, force_insert=True)
        return [row.id for row in rows]

    def pending(self, ids: Sequence[int], using: str) -> dict[int, Entry]:
        rows = PendingEvent.objects.using(using).filter(pk__in=ids).order_by("pk")
        return {row.id: Entry(topic, _draft(row)) for row in rows if (topic := _topic_of(row))}

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
                logger.info("%d topics are left to the sweep: others number them.", len(waiting))
                return

    def sweep(self, using: str) -> Iterator[Numbered]:
        numberer = _numberer(using)
        for page in _pending_topics(using):
            for group in numberer.groups(page):
                yield from self._sweep_group(numberer, group, using)

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
    """What one transaction did: what it numbered, of which topics it held the heads, and whether
    they may have more rows."""

    numbered: list[Numbered]
    held: frozenset[str]
    is_full: bool


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
            rows, is_full = _oldest_rows(heads.keys(), self.using)
            drafts: dict[str, list[Draft]] = {}
            for row in rows:
                drafts.setdefault(row.topic_key, []).append(_draft(row))
            for entry in () if is_full else also:
                drafts.setdefault(entry.topic.key, []).append(entry.draft)
            numbered = self._write(topics, heads, drafts)
            delete_ids(PendingEvent, [row.id for row in rows], self.using)
            return _Batch(numbered, frozenset(heads), is_full)

        return with_heads(self.using, self.locks(topics), work)

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

        def work(locks: dict[str, Head]) -> _Batch:
            rows, is_full = _oldest_rows([topic.key] if locks else [], self.using)
            numbered = [Numbered(topic, self._append(topic, rows))] if rows else []
            delete_ids(PendingEvent, [row.id for row in rows], self.using)
            return _Batch(numbered, frozenset(topics if locks else ()), is_full)

        try:
            return with_heads(self.using, self.locks(topics), work)
        except _LogFailed as failure:
            logger.warning(
                "%s is left to the sweep: its log did not take the events (%s).",
                topic.name,
                failure.__cause__,
            )
            return _Batch([], frozenset(topics), is_full=False)

    def _append(self, topic: Topic, rows: Sequence[PendingEvent]) -> Appended:
        if topic.history is None:
            return Appended("", _unnumbered([_draft(row) for row in rows]))
        drafts = [_draft(row, or_key=f"{self.using}:{row.id}:{row.created:.6f}") for row in rows]
        try:
            return self.log.append(topic, drafts)
        except (StoreError, DatabaseError, OSError) as error:
            raise _LogFailed from error


class _LogFailed(Exception):
    """The log that is elsewhere did not take a batch."""


def _numberer(using: str) -> _Numberer:
    log = get_log()
    if isinstance(log, DatabaseLog) and log.lives_in(using):
        return _Numberer(using)
    return _NumbererElsewhere(using, log)


# -- rows ------------------------------------------------------------------------------------------


def _row(entry: Entry) -> PendingEvent:
    topic, draft = entry
    return PendingEvent(
        topic_key=topic.key,
        namespace=topic.namespace,
        name=topic.name,
        type=draft.type,
        data=draft.data,
        exclude=draft.exclude,
        conflate=draft.conflate,
        idempotency_key=draft.idempotency_key,
        created=clock.now(),
    )


def _draft(row: PendingEvent, or_key: str = "") -> Draft:
    return Draft(
        type=row.type,
        data=row.data,
        exclude=row.exclude,
        conflate=row.conflate,
        idempotency_key=row.idempotency_key or or_key,
    )


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


def _oldest_rows(keys: Collection[str], using: str) -> tuple[list[PendingEvent], bool]:
    """The oldest rows of these topics, and whether there may be more.

    Plain SELECTs after the heads are locked: they see all that was committed before its own
    transaction wrote the youngest row they see, so rows of one topic come in the order of commits
    wherever commits had to wait for each other.
    """
    pending = PendingEvent.objects.using(using).filter(topic_key__in=list(keys))
    pending = pending.order_by("topic_key", "id")
    rows = list(pending[:FIRST_ROWS])
    if len(rows) < FIRST_ROWS:
        return rows, False
    average = sum(len(row.data) for row in rows) // len(rows) + 1
    room = min(BATCH, BATCH_BYTES // average) - len(rows)
    if room <= 0:
        return rows, True
    last = rows[-1]
    later = Q(topic_key=last.topic_key, id__gt=last.id) | Q(topic_key__gt=last.topic_key)
    more = list(pending.filter(later)[:room])
    return rows + more, len(more) == room


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
        last_key = max(found)
        topics: list[Topic] = []
        for row in rows.filter(pk__in=found.values()):
            topic = _topic_of(row)
            if topic is not None:
                topics.append(topic)
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
