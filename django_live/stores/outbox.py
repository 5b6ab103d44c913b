"""The outbox: rows in the caller's transaction, numbered after it.

Here is who numbers which topics, how long anybody waits for others, and what a sweep finds; what one
transaction does is in ``numbering.py``, the rows themselves in ``pending.py``.

A bundle (``core/bundles.py``) is numbered as a whole, by a sweep. Rows of the topics that it may
concern, and that were written after it, wait for that: so everything keeps the order of the rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction

from ..core.allowance import allowance
from ..core.bundles import Bundle, UnreadableBundle, declared_keys, unpack
from ..core.outbox import Entry, Numbered, Outbox, told_of
from ..core.topics import Topic
from ..models import PendingEvent
from .heads import (
    Patience,
    delete_ids,
    is_in_callers_transaction,
    make_heads,
    numbering,
    refuse_callers_transaction,
)
from .numbering import Numberer, numberer_for
from .pending import (
    draft_of,
    is_still_first,
    newest_of,
    oldest_bundle,
    pages_of_topics,
    still_pending,
    topic_of,
    write_bundles,
    write_entries,
)

logger = logging.getLogger("django_live.outbox")

LOOK_AGAIN = 60.0
"""Seconds after which a database without the table is asked again."""


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
        return {row.id: Entry(topic, draft_of(row)) for row in rows if (topic := topic_of(row))}

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
        numberer = numberer_for(using)
        if also and not numberer.takes_also:
            self.add(also, using)
            also = ()
        known = {topic.key: topic for topic in (*topics, *(entry.topic for entry in also))}
        for group in numberer.groups(list(known.values())):
            keys = {topic.key for topic in group}
            of_group = [entry for entry in also if entry.topic.key in keys]
            yield from self._number_group(numberer, group, using, of_group)

    def _number_group(
        self, numberer: Numberer, topics: Sequence[Topic], using: str, also: Sequence[Entry]
    ) -> Iterator[Numbered]:
        patience = Patience()
        allowed = allowance()
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
                newest = newest_of(waiting, using)
            # Whoever has the lock is likely to take these rows along: look before trying again.
            allowed.waited_in_vain(patience.wait())
            waiting = still_pending(waiting, newest, using)
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

    @contextmanager
    def numbering(self, using: str) -> Iterator[bool]:
        is_callers = is_in_callers_transaction(using)
        with transaction.atomic(using=using) if is_callers else numbering(using):
            yield not is_callers

    def number_here(
        self, entries: Sequence[Entry], using: str, notes: Sequence[int] = ()
    ) -> list[Numbered] | None:
        return numberer_for(using).number_here(entries, notes)

    def waits(self, using: str) -> bool:
        return PendingEvent.objects.using(using).exists()

    def waiting(self, using: str) -> int | None:
        rows = PendingEvent.objects.using(using)
        return None if rows.filter(topic_key__in=declared_keys()).exists() else rows.count()

    def sweep(self, using: str) -> Iterator[Numbered]:
        if not self.waits(using):
            return
        numberer = numberer_for(using)
        yield from self._sweep_bundles(numberer, using)
        for page in pages_of_topics(using):
            for group in numberer.groups(page):
                yield from self._sweep_group(numberer, group, using)

    def _sweep_bundles(self, numberer: Numberer, using: str) -> Iterator[Numbered]:
        """The oldest of a class first. Another process that numbers one of a class has them all."""
        classes = set(declared_keys())
        while bundle := oldest_bundle(classes, using):
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
        self, numberer: Numberer, bundle: PendingEvent, entries: Sequence[Entry], using: str
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
            elif patience.is_over() or not is_still_first(bundle, using):
                return before or None
            else:
                patience.wait()

    def _sweep_group(
        self, numberer: Numberer, topics: Sequence[Topic], using: str
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
