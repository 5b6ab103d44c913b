"""Heads of the database store: making them, locking them, and the transaction that numbers.

Everything that differs between databases is in this file. Must keep true: who holds a topic's head
is the only one who numbers that topic; a head is never touched in a caller's transaction.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from django.db import DatabaseError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from ..conf import live_settings
from ..core.topics import Topic
from ..exceptions import StoreError
from ..models import Head
from .epochs import new_epoch

GENERATION = ""
"""Key of the row whose epoch is the epoch of every topic that was never written to."""

# PostgreSQL: serialization failure, deadlock, lock not available.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03"})
# MariaDB: deadlock, lock wait timeout, record has changed since last read.
_TRANSIENT_NUMBERS = frozenset({1213, 1205, 1020})

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
    heads = [Head(key=key, epoch=epoch) for key in missing]
    for head in heads:
        if topic := topics[head.key]:
            head.namespace, head.name = topic.namespace, topic.name
    Head.objects.using(using).bulk_create(heads, ignore_conflicts=True)
    return True


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

    def wait(self) -> None:
        time.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, 0.02)


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


def with_heads(using: str, keys: Collection[str], work: Callable[[dict[str, Head]], T]) -> T | None:
    """``work(heads)`` in a transaction of its own that holds those of the heads that are free.

    ``None`` when the database asks to try again. Raises ``StoreError`` inside a caller's transaction.
    """
    try:
        with numbering(using):
            return work(lock_heads(using, keys))
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


def delete_ids(model: type[models.Model], ids: Sequence[int], using: str) -> None:
    """Delete the rows with these primary keys."""
    rows = model._default_manager.using(using)
    if connections[using].vendor == "mysql":
        # MariaDB scans for `id IN (…)` and so waits for the rows of every open caller: 12.7 s.
        for id in ids:
            delete_rows(rows.filter(pk=id))
    elif ids:
        delete_rows(rows.filter(pk__in=ids))
