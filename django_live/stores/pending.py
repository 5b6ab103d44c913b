"""Rows of the outbox: writing them, taking the oldest ones to number, and looking what waits.

Must keep true: rows are taken by who holds their topics' heads, oldest first, and no row before a
bundle that is older and may concern its topic; all that is looked at together is seen at one moment.

Taking is one statement where the database can return what it deletes, and two elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Max, Min, QuerySet

from ..core.bundles import Bundle, bundle_key, declared_keys
from ..core.events import Draft
from ..core.outbox import Entry
from ..core.topics import Topic, registry
from ..exceptions import InvalidTopic
from ..models import PendingEvent
from . import clock
from .blocks import Block
from .bulk_rows import insert_and_number
from .heads import delete_ids

logger = logging.getLogger("django_live.outbox")

BATCH = 1000
"""Rows that one transaction numbers."""
BATCH_BYTES = 1024 * 1024
"""Data that one transaction numbers, more or less: numbering 400 rows of 16 kB grew a server by 20 MB,
and rows may be larger."""
NO_NAME = " bundle"
"""Cannot be a topic's name: an earlier release leaves such a row alone."""

_NEVER = 2**63 - 1
_COLUMNS = (
    "topic_key",
    "namespace",
    "name",
    "type",
    "data",
    "exclude",
    "conflate",
    "idempotency_key",
    "created",
)


class Row(NamedTuple):
    """One row that was taken."""

    id: int
    topic_key: str
    namespace: str
    name: str
    type: str
    data: str
    exclude: str
    conflate: str
    idempotency_key: str
    created: float

    def draft(self, or_key: str = "") -> Draft:
        """Its event; ``or_key`` where it has no idempotency key."""
        return Draft(
            type=self.type,
            data=self.data,
            exclude=self.exclude,
            conflate=self.conflate,
            idempotency_key=self.idempotency_key or or_key,
        )


class Taken(NamedTuple):
    """Rows of topics in the order in which they were written, whether there may be more, and whether
    a bundle comes before what is left. None: nobody looked."""

    rows: list[Row]
    is_full: bool
    is_blocked: bool | None


TOPICS_PER_SWEEP = 50
"""Topics that one transaction of the sweep may hold."""
UNDECLARED_GRACE = 3600.0
"""Seconds that rows of an undeclared topic are left alone: during a deploy another release may know
the topic."""


# -- writing ---------------------------------------------------------------------------------------


def write_entries(entries: Sequence[Entry], using: str) -> list[int]:
    """A row for each event; their ids, in order."""
    now = clock.now()
    rows = [
        (
            *(topic.key, topic.namespace, topic.name, draft.type, draft.data, draft.exclude),
            *(draft.conflate, draft.idempotency_key, now),
        )
        for topic, draft in entries
    ]
    return insert_and_number(using, PendingEvent, _COLUMNS, rows)


def write_bundles(bundles: Sequence[Bundle], using: str) -> list[int]:
    """A row for each bundle; their ids, in order."""
    now = clock.now()
    rows = [(one.key, "", NO_NAME, "bundle", one.text, "", "", "", now) for one in bundles]
    return insert_and_number(using, PendingEvent, _COLUMNS, rows)


# -- taking ----------------------------------------------------------------------------------------


def take(
    topics: Collection[Topic],
    using: str,
    *,
    looks: bool,
    before: int = _NEVER,
    block: Block | None = None,
) -> Taken:
    """Take the oldest rows of these topics, whose heads are locked: they are deleted, at the end of
    the block if there is one. ``looks``: it has
    to be known whether a bundle comes before what is left. ``before``: only rows with smaller ids,
    whatever bundles there are.

    The statement begins after the heads are locked and sees all that was committed before the
    transaction that wrote the youngest row it sees: so rows of one topic come in the order of commits
    wherever commits had to wait for each other.
    """
    if not topics:
        return Taken([], is_full=False, is_blocked=None)
    connection = connections[using]
    keys = [topic.key for topic in topics]
    bundles = sorted({bundle_key(topic.pattern) for topic in topics}) if before == _NEVER else []
    can_return = connection.features.can_return_columns_from_insert
    if connection.vendor == "postgresql":
        rows = _run(connection, *_deleting_and_looking(connection, keys, bundles, before))
    elif connection.vendor == "sqlite" and can_return and not looks:
        rows = _run(connection, *_deleting(connection, keys, bundles, before))
        return Taken(rows, _is_full(rows, connection), None)
    else:
        rows = _run(connection, *_looking(connection, keys, bundles, before))
        delete_ids(PendingEvent, [row.id for row in rows if row.topic_key], using, block)
    found = [row for row in rows if row.topic_key]
    return Taken(found, _is_full(found, connection), len(found) < len(rows))


_Statement = tuple[str, list[Any]]


def _deleting_and_looking(
    connection: BaseDatabaseWrapper, keys: Sequence[str], bundles: Sequence[str], before: int
) -> _Statement:
    """PostgreSQL: in one statement, so of one moment."""
    table = _table(connection)
    oldest, values = _oldest(connection, keys, bundles, before)
    statement = (
        f"WITH gone AS (DELETE FROM {table} WHERE id IN ({oldest}) RETURNING {_names(connection)}) "  # noqa: S608
        f"SELECT * FROM gone"
    )
    if not bundles:
        return statement, values
    return f"{statement} UNION ALL {_first_bundle(table, bundles)}", [*values, *bundles]


def _deleting(
    connection: BaseDatabaseWrapper, keys: Sequence[str], bundles: Sequence[str], before: int
) -> _Statement:
    oldest, values = _oldest(connection, keys, bundles, before)
    table = _table(connection)
    return f"DELETE FROM {table} WHERE id IN ({oldest}) RETURNING {_names(connection)}", values  # noqa: S608


def _looking(
    connection: BaseDatabaseWrapper, keys: Sequence[str], bundles: Sequence[str], before: int
) -> _Statement:
    table = _table(connection)
    oldest, values = _oldest(connection, keys, bundles, before)
    statement = (
        f"SELECT {_names(connection, 'pending')} FROM {table} AS pending "  # noqa: S608
        f"JOIN ({oldest}) AS chosen ON chosen.id = pending.id"
    )
    if not bundles:
        return statement, values
    return f"{statement} UNION ALL {_first_bundle(table, bundles)}", [*values, *bundles]


def _oldest(
    connection: BaseDatabaseWrapper, keys: Sequence[str], bundles: Sequence[str], before: int
) -> _Statement:
    """The ids of the oldest rows: at most ``BATCH``, and up to the one that exceeds ``BATCH_BYTES``."""
    table = _table(connection)
    length = "OCTET_LENGTH" if connection.vendor == "postgresql" else "LENGTH"
    bound = "%s"
    values: list[Any] = [before]
    if bundles:
        bound = (
            f"COALESCE((SELECT MIN(id) FROM {table} WHERE topic_key IN ({_marks(bundles)})), %s)"  # noqa: S608
        )
        values = [*bundles, before]
    statement = (
        "SELECT id FROM (SELECT id, size, SUM(size) OVER (ORDER BY topic_key, id ROWS UNBOUNDED "  # noqa: S608
        f"PRECEDING) AS total FROM (SELECT id, topic_key, {length}(data) AS size FROM {table} "
        f"WHERE topic_key IN ({_marks(keys)}) AND id < {bound} ORDER BY topic_key, id LIMIT {BATCH}) "
        f"AS oldest) AS summed WHERE total - size < {BATCH_BYTES}"
    )
    return statement, [*keys, *values]


def _first_bundle(table: str, bundles: Sequence[str]) -> str:
    """One row, whose id is empty where there is no bundle."""
    return (
        f"SELECT MIN(id), '', '', '', '', '', '', '', '', 0.0 FROM {table} "  # noqa: S608
        f"WHERE topic_key IN ({_marks(bundles)})"
    )


def _run(connection: BaseDatabaseWrapper, statement: str, values: Sequence[Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = [Row(*found) for found in cursor.fetchall() if found[0] is not None]
    # What is deleted comes back in any order.
    return sorted(rows, key=lambda row: row.id)


def _is_full(rows: Sequence[Row], connection: BaseDatabaseWrapper) -> bool:
    # As the database counts, in characters on SQLite: taking goes on until the bound is passed.
    counted = connection.vendor == "sqlite"
    size = sum(len(row.data) if counted else len(row.data.encode()) for row in rows)
    return len(rows) >= BATCH or size >= BATCH_BYTES


def _table(connection: BaseDatabaseWrapper) -> str:
    return str(connection.ops.quote_name(PendingEvent._meta.db_table))


_names_known: dict[tuple[str, str], str] = {}


def _names(connection: BaseDatabaseWrapper, table: str = "") -> str:
    asked = (connection.vendor, table)
    if asked not in _names_known:
        names = [connection.ops.quote_name(name) for name in ("id", *_COLUMNS)]
        _names_known[asked] = ", ".join(f"{table}.{name}" if table else name for name in names)
    return _names_known[asked]


def _marks(values: Sequence[object]) -> str:
    return ", ".join(["%s"] * len(values))


# -- looking ---------------------------------------------------------------------------------------


def draft_of(row: PendingEvent) -> Draft:
    return Draft(
        type=row.type,
        data=row.data,
        exclude=row.exclude,
        conflate=row.conflate,
        idempotency_key=row.idempotency_key,
    )


def topic_of(row: PendingEvent) -> Topic | None:
    try:
        return registry.resolve(row.name, row.namespace)
    except InvalidTopic:
        return None


def oldest_bundle(classes: Collection[str], using: str) -> PendingEvent | None:
    bundles = PendingEvent.objects.using(using).filter(topic_key__in=sorted(classes))
    return bundles.order_by("id").first()


def older_bundles(bundle: PendingEvent, using: str) -> QuerySet[PendingEvent]:
    rows = PendingEvent.objects.using(using)
    return rows.filter(topic_key=bundle.topic_key, id__lt=bundle.pk)


def is_still_first(bundle: PendingEvent, using: str) -> bool:
    rows = PendingEvent.objects.using(using).filter(pk=bundle.pk, topic_key=bundle.topic_key)
    return rows.exists() and not older_bundles(bundle, using).exists()


def newest_of(topics: Mapping[str, Topic], using: str) -> int:
    rows = PendingEvent.objects.using(using).filter(topic_key__in=list(topics))
    return rows.aggregate(newest=Max("id"))["newest"] or 0


def still_pending(topics: dict[str, Topic], newest: int, using: str) -> dict[str, Topic]:
    """Those of the topics that have a row up to this one, which all of the caller's are."""
    rows = PendingEvent.objects.using(using).filter(topic_key__in=list(topics), id__lte=newest)
    keys = set(rows.values_list("topic_key", flat=True).distinct())
    return {key: topic for key, topic in topics.items() if key in keys}


def pages_of_topics(using: str) -> Iterator[list[Topic]]:
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
            topic = topic_of(row)
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
