"""Writes of many rows, which send no signals, told all the same: row by row, in batches.

Must keep true: what is told commits or vanishes with the rows; at most a batch of rows is in memory,
and of the others their keys; each statement does what Django's own does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models import Manager, Model, QuerySet, RestrictedError
from django.db.models.deletion import Collector

from .changes import BATCH, COMMITTED, Gathered, gathered, suppress
from .hearing import Hearer, listening
from .packing import MANY, told_packed
from .rows import Row, columns_of, locked, row_of, take_write_lock

__all__ = ["LiveManager", "LiveQuerySet", "suppress"]

logger = logging.getLogger("django_live.changes")

M = TypeVar("M", bound=Model)


class LiveQuerySet(QuerySet[M]):
    """A queryset whose ``update()``, ``bulk_create()``, ``bulk_update()`` and ``delete()`` are told
    by the ``Changes`` of its model, and heard by its rules of notifications. Give it to a model with ``LiveManager`` or ``as_manager()``."""

    def update(self, **kwargs: Any) -> int:
        told_by = listening(self.model)
        if not told_by or self.query.is_sliced or self.query.combinator:
            return super().update(**kwargs)
        self._for_write = True
        count = 0
        with _one_transaction(self.db) as told:
            take_write_lock(self.model, self.db)
            keys = self.order_by("pk").values_list("pk", flat=True)
            for batch in _batches(dict.fromkeys(keys)):
                before = self._rows(batch, lock=True)
                count += super(LiveQuerySet, self.filter(pk__in=batch)).update(**kwargs)
                after = self._rows(batch)
                rows = [
                    (after.get(key, was), columns_of(was), columns_of(after.get(key)))
                    for key, was in before.items()
                ]
                _tell([row for row in rows if row[1] != row[2]], told_by, told)
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        told_by = listening(self.model)
        objs = list(objs)
        # batch_size, ignore_conflicts, update_conflicts: which rows are new is not known then.
        if not told_by or any(args[1:3]) or _has_conflicts(kwargs):
            return super().bulk_create(objs, *args, **kwargs)
        self._for_write = True
        with _one_transaction(self.db) as told:
            made = super().bulk_create(objs, *args, **kwargs)
            for batch in _batches(made):
                usual = told_by
                if len(made) >= MANY:
                    usual = [one for one in told_by if not told_packed(one, batch, self.db)]
                for one in batch:
                    # The next save has to look: there is no hook for each of so many.
                    one.__dict__.pop(COMMITTED, None)
                if usual:
                    _tell([(one, None, row) for one, row in self._rows_made(batch)], usual, told)
        return made

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        self._for_write = True
        with _one_transaction(self.db):  # the signals tell
            if not listening(self.model) or not self._can_be_read_in_parts():
                return super().delete()
            return self._delete_in_parts()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _can_be_read_in_parts(self) -> bool:
        """Whether it is not one of those that Django refuses to delete."""
        query = self.query
        is_odd = query.is_sliced or query.combinator or query.distinct_fields
        return not is_odd and self._fields is None  # type: ignore[attr-defined]

    def _delete_in_parts(self) -> tuple[int, dict[str, int]]:
        """Django reads all that it deletes into memory, because somebody listens."""
        plain = self.order_by().select_related(None)
        first = list(plain[: BATCH + 1])
        if len(first) <= BATCH:
            return self._delete_these(first)
        counts: Counter[str] = Counter()
        for batch in _batches(list(plain.values_list("pk", flat=True))):
            try:
                counts.update(self._delete_these(list(self._rows(batch).values()))[1])
            except RestrictedError:  # by rows that belong to a later part
                counts.update(super().delete()[1])
                break
        return sum(counts.values()), dict(counts)

    def _delete_these(self, rows: list[M]) -> tuple[int, dict[str, int]]:
        collector = Collector(using=self.db, origin=self)
        collector.collect(rows)
        self._result_cache = None
        return collector.delete()

    def _rows(self, keys: Sequence[Any], *, lock: bool = False) -> dict[Any, M]:
        """The objects with these keys as they are now, by key. ``lock``: until the commit."""
        rows = self.model._base_manager.using(self.db).filter(pk__in=keys).order_by("pk")
        if lock and connections[self.db].features.has_select_for_update:
            rows = locked(rows)
        return {one.pk: one for one in rows}

    def _rows_made(self, made: Sequence[M]) -> Iterator[tuple[M, Row]]:
        """The objects of a bulk_create with their rows."""
        known = {id(one): row_of(one, created=True) for one in made if one.pk is not None}
        read = self._rows([one.pk for one in made if known.get(id(one), 0) is None])
        for one in made:
            row = known.get(id(one)) or columns_of(read.get(one.pk))
            if row is not None:
                yield one, row
        if len(known) < len(made):
            logger.warning(
                "%d new objects of %s are not told: this database does not say their keys.",
                len(made) - len(known),
                self.model._meta.label,
            )


LiveManager = Manager.from_queryset(LiveQuerySet, "LiveManager")


@contextmanager
def _one_transaction(using: str) -> Iterator[Gathered]:
    with transaction.atomic(using=using, savepoint=False), gathered(using) as told:
        yield told


def _tell(
    rows: Sequence[tuple[M, Row | None, Row | None]],
    told_by: Sequence[Hearer[Any]],
    told: Gathered,
) -> None:
    for changes in told_by:
        changes.tell_rows(rows, told)
    told.flush()


def _has_conflicts(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs.get("ignore_conflicts") or kwargs.get("update_conflicts"))


def _batches(things: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(things)
    while batch := list(islice(rest, BATCH)):
        yield batch
