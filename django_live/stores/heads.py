"""Heads of the database store: making them, locking them, and the transaction that numbers.

Everything that differs between databases is in this file. Must keep true: who holds a topic's head
is the only one who numbers that topic; a head is never touched in a caller's transaction.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import DatabaseError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from ..conf import live_settings
from ..core.topics import Topic
from ..exceptions import StoreError
from ..models import Head
from .blocks import Block, block_of
from .bulk_rows import insert_rows
from .epochs import new_epoch

GENERATION = ""
"""Key of the row whose epoch is the epoch of every topic that was never written to."""

# PostgreSQL: serialization failure, deadlock, lock not available.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03"})
# MariaDB: deadlock, lock wait timeout, record has changed since last read.
_TRANSIENT_NUMBERS = frozenset({1213, 1205, 1020})
_FIRST_WITH_JSON_TABLE = (10, 6)
"""Of MariaDB; every MySQL that Django supports has it."""


T = TypeVar("T")


# -- making ----------------------------------------------------------------------------------------


def generation(using: str) -> str:
    """The epoch of unborn topics. Never kept in memory: a flush has to change it."""
    rows = Head.objects.using(using).filter(key=GENERATION).values_list("epoch", flat=True)
    found = rows.first()
    if found is not None:
        return found
    proposed = new_epoch()
    Head.objects.using(using).bulk_create(
        [Head(key=GENERATION, epoch=proposed)], ignore_conflicts=True
    )
    # A caller's transaction with a snapshot may not see the row that won. Then a client gets an
    # epoch that nobody else knows, once: it costs that client a reset.
    return rows.first() or proposed


def make_heads(using: str, topics: Mapping[str, Topic | None]) -> bool:
    """Give those of these keys a row that have none; whether there were any. ``None`` in the place of
    a topic makes a row that is only a lock."""
    known = Head.objects.using(using).filter(key__in=list(topics)).values_list("key", flat=True)
    missing = sorted(topics.keys() - set(known))
    if not missing:
        return False
    epoch = generation(using)
    connection = connections[using]
    if is_mariadb_with_json_table(connection):
        try:
            _make_in_mariadb(connection, {key: topics[key] for key in missing})
        except DatabaseError as error:
            if connection.in_atomic_block or not is_transient(error):
                raise
            return False  # somebody else is making one of them
        return True
    names = [
        (topic.namespace, topic.name) if (topic := topics[key]) else ("", "") for key in missing
    ]
    insert_rows(
        using,
        Head,
        ("key", "namespace", "name", "epoch", "last", "floor", "updated", "floor_created"),
        [(key, *name, epoch, 0, 0, 0.0, 0.0) for key, name in zip(missing, names, strict=True)],
        ignore_conflicts=True,
    )
    return True


# -- reading ---------------------------------------------------------------------------------------


def read_heads(using: str, keys: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Key, epoch, last and floor of those that exist. In SQL: each process asks this two or three times
    a second, and the ORM takes 0.25 ms of 0.28 to put the question together."""
    connection = connections[using]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(name) for name in ("key", "epoch", "last", "floor"))
    marks = ", ".join(["%s"] * len(keys))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} FROM {quote(Head._meta.db_table)} WHERE {quote('key')} IN ({marks})",  # noqa: S608
            keys,
        )
        return list(cursor.fetchall())


# -- locking ---------------------------------------------------------------------------------------


class Patience:
    """How long one call waits for another process: 1 to 20 ms at a time, ``NUMBERING_WAIT`` in all.

    A numberer that hung for 4 s then costs a publisher 1 s.
    """

    def __init__(self) -> None:
        self._deadline = time.monotonic() + live_settings().NUMBERING_WAIT
        self._pause = 0.001

    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def wait(self) -> float:
        """How many seconds that were."""
        pause = self._pause * random.uniform(0.5, 1.0)
        time.sleep(pause)
        self._pause = min(self._pause * 2, 0.02)
        return pause


def lock_heads(using: str, keys: Collection[str]) -> dict[str, Head]:
    """Those of these heads that exist and are free, locked until the transaction ends, by key."""
    heads = Head.objects.using(using).filter(key__in=list(keys)).order_by("pk")
    features = connections[using].features
    if features.has_select_for_update:
        # no_key: an event's foreign key to its head must not wait. In the order of the ids: two
        # that lock several heads cannot deadlock.
        locked = heads.select_for_update(
            skip_locked=features.has_select_for_update_skip_locked,
            no_key=features.has_select_for_no_key_update,
        )
    else:
        # SQLite has one write lock. A write as the first statement waits for it; a read first, and
        # the write after it would fail at once when another process wrote in between.
        heads.order_by().update(last=F("last"))
        locked = heads
    return {head.key: head for head in locked}


def lock_or_make_heads(using: str, topics: Mapping[str, Topic | None]) -> dict[str, Head]:
    """``lock_heads()`` that also makes those that do not exist, in one statement where the database
    can do that, and in two on MariaDB. Others, and a database without any head yet, need
    ``make_heads()``."""
    connection = connections[using]
    keys = sorted(topics)
    names = [(topic.namespace, topic.name) if (topic := topics[key]) else ("", "") for key in keys]
    if connection.vendor == "postgresql":
        given: list[Any] = [keys, [name for name, _ in names], [name for _, name in names], keys]
        statement = _MAKE_AND_LOCK_IN_POSTGRESQL
    elif connection.vendor == "sqlite" and connection.features.can_return_columns_from_insert:
        given = [json.dumps([(key, *name) for key, name in zip(keys, names, strict=True)])]
        statement = _MAKE_AND_LOCK_IN_SQLITE
    else:
        heads = lock_heads(using, keys)
        missing = {key: topics[key] for key in keys if key not in heads}
        if missing and is_mariadb_with_json_table(connection):
            heads.update(_make_in_mariadb(connection, missing))
        return heads
    return _heads_of(connection, statement, given)


def _heads_of(connection: BaseDatabaseWrapper, statement: str, given: list[Any]) -> dict[str, Head]:
    with connection.cursor() as cursor:
        cursor.execute(
            statement.format(table=connection.ops.quote_name(Head._meta.db_table)), given
        )
        found = [Head.from_db(connection.alias, HEAD_COLUMNS, row) for row in cursor.fetchall()]
    return {head.key: head for head in found}


def _make_in_mariadb(
    connection: BaseDatabaseWrapper, topics: Mapping[str, Topic | None]
) -> dict[str, Head]:
    """Those of these heads that did not exist. Error 1205 when somebody else is making one of them."""
    given = [
        (key, topic.namespace, topic.name) if (topic := topics[key]) else (key, "", "")
        for key in sorted(topics)
    ]
    return _heads_of(connection, _MAKE_AND_RETURN_IN_MARIADB, [json.dumps(given)])


HEAD_COLUMNS = [field.attname for field in Head._meta.concrete_fields]
_RETURNED = ", ".join(f'"{name}"' for name in HEAD_COLUMNS)
_MADE = '("key", "namespace", "name", "epoch", "last", "floor", "updated", "floor_created")'
MAKE_OR_LOCK_IN_POSTGRESQL = f"""
    WITH made AS (
        INSERT INTO {{table}} {_MADE}
        SELECT given."key", given."namespace", given."name", generation."epoch", 0, 0, 0, 0
        FROM unnest(%s::varchar[], %s::varchar[], %s::varchar[]) AS given ("key", "namespace", "name")
        JOIN {{table}} AS generation ON generation."key" = ''
        WHERE NOT EXISTS (SELECT 1 FROM {{table}} AS known WHERE known."key" = given."key")
        ORDER BY given."key"
        ON CONFLICT DO NOTHING RETURNING {_RETURNED}
    ), locked AS (
        SELECT {_RETURNED} FROM {{table}} WHERE "key" = ANY(%s)
        ORDER BY "id" FOR NO KEY UPDATE SKIP LOCKED
    )
"""  # noqa: S608
_MAKE_AND_LOCK_IN_POSTGRESQL = (
    f"{MAKE_OR_LOCK_IN_POSTGRESQL} SELECT * FROM made UNION ALL SELECT * FROM locked"  # noqa: S608
)
# SQLite has one write lock, which a write takes. WHERE: the parser wants one before ON CONFLICT.
_MAKE_AND_LOCK_IN_SQLITE = f"""
    INSERT INTO {{table}} {_MADE}
    SELECT json_extract(given.value, '$[0]'), json_extract(given.value, '$[1]'),
           json_extract(given.value, '$[2]'), generation."epoch", 0, 0, 0, 0
    FROM json_each(%s) AS given JOIN {{table}} AS generation ON generation."key" = '' WHERE 1
    ON CONFLICT ("key") DO UPDATE SET "last" = "last" RETURNING {_RETURNED}
"""  # noqa: S608

# At READ COMMITTED what it reads is not locked, so it waits for no one who has a known head. ASCII: the
# column of heads may have any collation, and is to be found by its index. No waiting: whoever has
# inserted the same head may take long.
MARIADB_DOES_NOT_WAIT = "SET STATEMENT innodb_lock_wait_timeout = 0 FOR"
MAKE_IN_MARIADB = f"""
    INSERT IGNORE INTO {{table}} {_MADE.replace('"', "`")}
    SELECT given.head_key, given.namespace, given.topic, generation.epoch, 0, 0, 0, 0
    FROM JSON_TABLE(%s, '$[*]' COLUMNS (
        head_key VARCHAR(32) CHARACTER SET ascii PATH '$[0]',
        namespace VARCHAR(200) CHARACTER SET utf8mb4 PATH '$[1]',
        topic VARCHAR(200) CHARACTER SET utf8mb4 PATH '$[2]')) AS given
    JOIN {{table}} AS generation ON generation.`key` = ''
    WHERE NOT EXISTS (SELECT 1 FROM {{table}} AS known WHERE known.`key` = given.head_key)
    ORDER BY given.head_key
"""  # noqa: S608
_RETURNED_BY_MARIADB = ", ".join(f"`{name}`" for name in HEAD_COLUMNS)
_MAKE_AND_RETURN_IN_MARIADB = (
    f"{MARIADB_DOES_NOT_WAIT} {MAKE_IN_MARIADB} RETURNING {_RETURNED_BY_MARIADB}"
)


def wait_for_heads(using: str, keys: Collection[str]) -> dict[str, Head]:
    """``lock_heads()`` that waits for those that are not free."""
    heads = Head.objects.using(using).filter(key__in=list(keys)).order_by("pk")
    features = connections[using].features
    if not features.has_select_for_update:
        return lock_heads(using, keys)
    return {
        head.key: head
        for head in heads.select_for_update(no_key=features.has_select_for_no_key_update)
    }


def with_heads(
    using: str,
    keys: Collection[str],
    work: Callable[[dict[str, Head]], T],
    lock: Callable[[str, Any], dict[str, Head]] = lock_heads,
) -> T | None:
    """``work(heads)`` in a ``numbering_transaction()`` that holds those of the heads that are free."""
    return numbering_transaction(using, lambda: work(lock(using, keys)))


def numbering_transaction(using: str, work: Callable[[], T]) -> T | None:
    """``work()`` in a transaction of its own.

    ``None`` when the database asks to try again. Raises ``StoreError`` inside a caller's transaction.
    """
    try:
        with numbering(using):
            return work()
    except DatabaseError as error:
        if connections[using].in_atomic_block or not is_transient(error):
            raise
        return None


@contextmanager
def numbering(using: str) -> Iterator[None]:
    """The transaction that numbers. READ COMMITTED also where the project runs stricter: with 8
    publishers on one topic that was 0 retries instead of 2,841."""
    refuse_callers_transaction(using)
    connection = connections[using]
    if connection.in_atomic_block:
        with transaction.atomic(using=using):
            yield
        return
    stricter = _is_stricter(connection)
    if stricter and connection.vendor == "mysql":
        _set_read_committed(connection)  # before the transaction begins
    with transaction.atomic(using=using):
        if stricter and connection.vendor == "postgresql":
            _set_read_committed(connection)  # its first statement
        yield


def _is_stricter(connection: BaseDatabaseWrapper) -> bool:
    level = getattr(connection, "isolation_level", None)
    if connection.vendor == "postgresql":
        return getattr(level, "name", "READ_COMMITTED") != "READ_COMMITTED"
    return connection.vendor == "mysql" and level != "read committed"


def _set_read_committed(connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")


def is_in_callers_transaction(using: str) -> bool:
    """Whether what is written now can still be rolled back by somebody else. A TestCase's transaction
    is no caller's: nothing commits in it, and hooks are run in it."""
    connection = connections[using]
    connection.ensure_connection()
    if connection.in_atomic_block:
        blocks = connection.atomic_blocks
        return not any(getattr(block, "_from_testcase", False) for block in blocks)
    return not connection.get_autocommit()


def refuse_callers_transaction(using: str) -> None:
    """Raise ``StoreError`` where nothing of ours could be committed."""
    if is_in_callers_transaction(using):
        raise StoreError(
            f"Events cannot be numbered inside a transaction of {using!r} (or with autocommit off): "
            "a rollback would take back what was sent. Publish with on_commit=True, or after the "
            "transaction."
        )


def is_transient(error: DatabaseError) -> bool:
    """Whether the same transaction may succeed if it is tried again."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = error.args[0] if error.args else None
    return state in _TRANSIENT_STATES or number in _TRANSIENT_NUMBERS or "locked" in str(error)


# -- deleting --------------------------------------------------------------------------------------


def delete_rows(rows: models.QuerySet[models.Model]) -> int:
    """One DELETE, without the signals and the SELECT of ``QuerySet.delete()``: receivers that listen
    to every model would turn it into one of each per row."""
    return rows._raw_delete(rows.db)  # noqa: SLF001


def delete_ids(
    model: type[models.Model], ids: Sequence[int], using: str, block: Block | None = None
) -> None:
    """Delete the rows with these primary keys, in the block if there is one."""
    if not ids:
        return
    rows = model._default_manager.using(using)
    connection = connections[using]
    if connection.vendor == "postgresql" and block is not None:
        quote = connection.ops.quote_name
        table, key = quote(model._meta.db_table), quote(str(model._meta.pk.column))
        block.execute(f"DELETE FROM {table} WHERE {key} = ANY(%s)", [list(ids)])  # noqa: S608
    elif connection.vendor != "mysql":
        delete_rows(rows.filter(pk=ids[0]) if len(ids) == 1 else rows.filter(pk__in=ids))
    elif _has_json_table(connection):
        # MariaDB scans a small table for `id IN (…)` and so waits for the rows of every open caller:
        # 12.7 s. It looks up what it joins.
        quote = connection.ops.quote_name
        table, key = quote(model._meta.db_table), quote(str(model._meta.pk.column))
        with block_of(using, block) as own:
            own.execute(
                f"DELETE {table} FROM JSON_TABLE(%s, '$[*]' COLUMNS (id BIGINT PATH '$')) AS gone "
                f"STRAIGHT_JOIN {table} ON {table}.{key} = gone.id",
                [json.dumps([int(id) for id in ids])],
            )
    else:
        for id in ids:
            delete_rows(rows.filter(pk=id))


def _has_json_table(connection: BaseDatabaseWrapper) -> bool:
    """Of a MariaDB or a MySQL."""
    version = tuple(getattr(connection, "mysql_version", ()))
    return not getattr(connection, "mysql_is_mariadb", False) or version >= _FIRST_WITH_JSON_TABLE


def is_mariadb_with_json_table(connection: BaseDatabaseWrapper) -> bool:
    return getattr(connection, "mysql_is_mariadb", False) and _has_json_table(connection)
