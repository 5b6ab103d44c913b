"""Heads of topics that nobody numbers and of which nothing waits: what is numbered there needs no row.

Must keep true: who gets heads here has the locks of ``heads.py``, and whatever was committed before
this was called is either numbered or makes it give up. One statement on each database, new topics
included; none of them waits for whoever holds a head.

That nothing waits is seen at the moment of the statement. What is committed after it, and before the
head is locked, is numbered after this: by whoever wrote it, as if it had come later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.bundles import bundle_key
from ..core.topics import Topic
from ..models import Head, PendingEvent
from . import clock
from .heads import (
    HEAD_COLUMNS,
    MAKE_IN_MARIADB,
    MAKE_OR_LOCK_IN_POSTGRESQL,
    MARIADB_DOES_NOT_WAIT,
    is_mariadb_with_json_table,
    lock_or_make_heads,
)


class FreeHeads(NamedTuple):
    """The heads by key. ``moved_on``: when they were set to what they are after the new events; None:
    that is still to be done. What the heads say themselves is what was before."""

    heads: dict[str, Head]
    moved_on: float | None = None


def free_heads(using: str, topics: Mapping[str, Topic], new: Mapping[str, int]) -> FreeHeads | None:
    """The heads of these topics, made and locked until the transaction ends, for so many new events
    of each. None: not all of them are free, or rows of one of them wait."""
    connection = connections[using]
    names = [(key, topics[key].namespace, topics[key].name) for key in sorted(topics)]
    rows = [*topics, *sorted({bundle_key(topic.pattern) for topic in topics.values()})]
    moved_on: float | None = None
    if connection.vendor == "postgresql":
        found, waits = _in_postgresql(connection, names, rows)
    elif connection.vendor == "sqlite" and connection.features.can_return_columns_from_insert:
        moved_on = clock.now()
        found, waits = _in_sqlite(connection, names, rows, new, moved_on)
    elif is_mariadb_with_json_table(connection):
        found, waits = _in_mariadb(connection, names, rows)
    else:
        found = lock_or_make_heads(using, topics).values()
        waits = PendingEvent.objects.using(using).filter(topic_key__in=rows).exists()
    heads = {head.key: head for head in found}
    return None if waits or len(heads) < len(topics) else FreeHeads(heads, moved_on)


_Found = tuple[Iterable[Head], bool]
_Names = Sequence[tuple[str, str, str]]


def _in_postgresql(connection: BaseDatabaseWrapper, names: _Names, rows: Sequence[str]) -> _Found:
    keys, namespaces, titles = (list(column) for column in zip(*names, strict=True))
    statement = f"""
        {MAKE_OR_LOCK_IN_POSTGRESQL}
        SELECT free.*, EXISTS (SELECT 1 FROM {{pending}} WHERE "topic_key" = ANY(%s))
        FROM (SELECT * FROM made UNION ALL SELECT * FROM locked) AS free
    """  # noqa: S608
    return _asked(connection, statement, [keys, namespaces, titles, keys, list(rows)])


def _in_sqlite(
    connection: BaseDatabaseWrapper,
    names: _Names,
    rows: Sequence[str],
    new: Mapping[str, int],
    now: float,
) -> _Found:
    """There is one write lock, and a write takes it. So the heads move on at once, unless rows wait."""
    given = json.dumps([(*name, new.get(name[0], 0)) for name in names])
    waits = "EXISTS (SELECT 1 FROM {pending} WHERE topic_key IN (SELECT value FROM json_each(%s)))"
    columns = ", ".join(f'"{name}"' for name in HEAD_COLUMNS)
    # WHERE: the parser wants one before ON CONFLICT.
    statement = f"""
        INSERT INTO {{table}} AS head
            ("key", "namespace", "name", "epoch", "last", "floor", "updated", "floor_created")
        SELECT json_extract(given.value, '$[0]'), json_extract(given.value, '$[1]'),
               json_extract(given.value, '$[2]'), generation."epoch",
               CASE WHEN {waits} THEN 0 ELSE json_extract(given.value, '$[3]') END, 0,
               CASE WHEN json_extract(given.value, '$[3]') THEN %s ELSE 0 END, 0
        FROM json_each(%s) AS given JOIN {{table}} AS generation ON generation."key" = '' WHERE 1
        ON CONFLICT ("key") DO UPDATE SET "last" = head."last" + excluded."last", "updated" =
            CASE WHEN excluded."last" THEN MAX(head."updated", excluded."updated")
            ELSE head."updated" END
        RETURNING {columns}, {waits}
    """  # noqa: S608
    listed = json.dumps(rows)
    heads, is_waiting = _asked(connection, statement, [listed, now, given, listed])
    before = list(heads)
    for head in () if is_waiting else before:
        head.last -= new.get(head.key, 0)
    return before, is_waiting


def _in_mariadb(connection: BaseDatabaseWrapper, names: _Names, rows: Sequence[str]) -> _Found:
    """A block of three: it makes what is missing, locks what is free, and looks at the rows."""
    keys = [name[0] for name in names]
    columns = ", ".join(f"`{name}`" for name in HEAD_COLUMNS)
    statement = f"""
        BEGIN NOT ATOMIC
            {MARIADB_DOES_NOT_WAIT} {MAKE_IN_MARIADB};
            SELECT {columns} FROM {{table}} WHERE `key` IN ({_marks(keys)})
                ORDER BY `id` FOR UPDATE SKIP LOCKED;
            SELECT EXISTS (SELECT 1 FROM {{pending}} WHERE `topic_key` IN ({_marks(rows)}));
        END
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(_named(connection, statement), [json.dumps(names), *keys, *rows])
        heads = [Head.from_db(connection.alias, HEAD_COLUMNS, row) for row in cursor.fetchall()]
        cursor.nextset()
        ((waits,),) = cursor.fetchall()
        while cursor.nextset():
            pass
    return heads, bool(waits)


def _asked(connection: BaseDatabaseWrapper, statement: str, values: Sequence[Any]) -> _Found:
    """Heads, each with whether rows wait."""
    with connection.cursor() as cursor:
        cursor.execute(_named(connection, statement), values)
        found = cursor.fetchall()
    heads = [Head.from_db(connection.alias, HEAD_COLUMNS, row[:-1]) for row in found]
    return heads, any(row[-1] for row in found)


def _named(connection: BaseDatabaseWrapper, statement: str) -> str:
    quote = connection.ops.quote_name
    table, pending = quote(Head._meta.db_table), quote(PendingEvent._meta.db_table)
    return statement.format(table=table, pending=pending)


def _marks(values: Sequence[object]) -> str:
    return ", ".join(["%s"] * len(values))
