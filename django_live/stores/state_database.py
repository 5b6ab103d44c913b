"""The shared state in the project's own database.

A change of a map locks the map's row, a lease and a counter theirs; renewing locks nothing but the
entries themselves. Time is the database's, so the clocks of the hosts need not agree.

Inside a caller's transaction maps and counters are part of it: a rollback takes them back, and others
wait for its end. A lease is refused there, for nobody may hold what a rollback can undo.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from django.db import DatabaseError, connections, models, transaction
from django.db.models import Exists, FilteredRelation, OuterRef, Q

from ..conf import live_settings
from ..core.state import (
    ABSENT,
    MOST_ENTRIES,
    Changes,
    Count,
    Entries,
    Entry,
    Lease,
    SharedState,
)
from ..exceptions import StoreError
from ..models import Lease as LeaseRow
from ..models import StateCounter, StateEntry, StateMap
from . import clock
from .counters import count_at_once, counts_at_once
from .heads import (
    Patience,
    delete_ids,
    delete_rows,
    is_in_callers_transaction,
    is_transient,
    numbering,
)
from .versions import REMEMBERED, digest, map_full, next_version

AT_ONCE = 1000
"""Rows that one statement names."""
LOCK_ATTEMPTS = 3

T = TypeVar("T")
Row = TypeVar("Row", StateMap, StateCounter, LeaseRow)


class _Known(NamedTuple):
    """An entry that is there."""

    pk: int
    version: int


class DatabaseState(SharedState):
    """Rows in the alias ``DJANGO_LIVE["DATABASE"]``."""

    shared = True

    @property
    def using(self) -> str:
        return live_settings().DATABASE

    # -- maps --------------------------------------------------------------------------------------

    def change(
        self,
        name: str,
        entries: Mapping[str, str] | None = None,
        delete: Collection[str] = (),
        *,
        ttl: float | None = None,
        expect: Mapping[str, int] | None = None,
        fence: int = 0,
        most: int = MOST_ENTRIES,
    ) -> Changes | None:
        entries, expected = entries or {}, expect or {}

        def work() -> Changes | None:
            row = self._locked(StateMap, name)
            now = self._now()
            found = self._live(row, {*entries, *delete, *expected}, now)
            if 0 < fence < row.fence or any(
                (found[key].version if key in found else ABSENT) != version
                for key, version in expected.items()
            ):
                return None
            added = frozenset(entries.keys() - found.keys())
            removed = frozenset((found.keys() & {*delete}) - entries.keys())
            if added and self._count_live(row, now) + len(added) - len(removed) > most:
                raise map_full(name, most)
            row.fence = max(row.fence, fence)
            if entries or removed:
                row.version = next_version(row.version, now)
            row.save(using=self.using)
            self._delete([found[key].pk for key in removed])
            self._upsert(row, entries, None if ttl is None else now + ttl)
            return Changes(row.version, added, removed)

        return self._run(work)

    def items(self, name: str, keys: Collection[str] | None = None) -> Entries:
        live = _live_at(self._now(), "entries__")
        if keys is None:
            return self._read(name, live)
        entries: dict[str, Entry] = {}
        versions: list[int] = []
        for some in _slices([digest(name, key) for key in keys]):
            part = self._read(name, live & Q(entries__uid__in=some))
            versions.append(part.version)
            entries.update(part.entries)
        return Entries(min(versions, default=0), entries)

    def _read(self, name: str, condition: Q) -> Entries:
        """In one statement, so that the version and the entries are of one moment."""
        rows = (
            StateMap.objects.using(self.using)
            .filter(key=digest(name))
            .annotate(live=FilteredRelation("entries", condition=condition))
            .values_list("version", "live__key", "live__value", "live__version")
        )
        found = list(rows)
        version = found[0][0] if found else 0
        return Entries(
            version, {key: Entry(value, own) for _, key, value, own in found if key is not None}
        )

    def renew(self, keys: Mapping[str, Collection[str]], ttl: float) -> dict[str, frozenset[str]]:
        uids = {digest(name, key): (name, key) for name, some in keys.items() for key in some}

        def work() -> set[str]:
            now = self._now()
            missing: set[str] = set()
            for some in _slices(sorted(uids)):
                rows = self._entries().filter(_live_at(now), uid__in=some)
                if rows.update(expires=now + ttl) < len(some):
                    missing.update({*some} - {*rows.values_list("uid", flat=True)})
            return missing

        missing = self._run(work)
        return {
            name: frozenset(key for key in some if digest(name, key) in missing)
            for name, some in keys.items()
        }

    def sweep(self, name: str, *, limit: int = 500) -> Changes:
        def work() -> Changes:
            if not StateMap.objects.using(self.using).filter(key=digest(name)).exists():
                return Changes(0)
            row = self._locked(StateMap, name)
            now = self._now()
            rows = self._entries().filter(map=row, expires__lte=now).order_by("expires")
            expired = list(rows.values_list("pk", "key")[:limit])
            if expired:
                self._delete([pk for pk, _ in expired])
                row.version = next_version(row.version, now)
                row.save(using=self.using)
            return Changes(row.version, removed=frozenset(key for _, key in expired))

        return self._run(work)

    def _entries(self) -> models.QuerySet[StateEntry]:
        return StateEntry.objects.using(self.using)

    def _live(self, row: StateMap, keys: Collection[str], now: float) -> dict[str, _Known]:
        found: dict[str, _Known] = {}
        for some in _slices([digest(row.name, key) for key in keys]):
            rows = self._entries().filter(_live_at(now), uid__in=some)
            for key, pk, version in rows.values_list("key", "pk", "version"):
                found[key] = _Known(pk, version)
        return found

    def _count_live(self, row: StateMap, now: float) -> int:
        return self._entries().filter(_live_at(now), map=row).count()

    def _upsert(self, row: StateMap, entries: Mapping[str, str], expires: float | None) -> None:
        has_target = connections[self.using].features.supports_update_conflicts_with_target
        self._entries().bulk_create(
            [
                StateEntry(
                    map=row,
                    uid=digest(row.name, key),
                    key=key,
                    value=value,
                    version=row.version,
                    expires=expires,
                )
                for key, value in entries.items()
            ],
            batch_size=AT_ONCE,
            update_conflicts=True,
            unique_fields=["uid"] if has_target else None,
            update_fields=["value", "version", "expires"],
        )

    def _delete(self, pks: Sequence[int]) -> None:
        for some in _slices(pks):
            delete_ids(StateEntry, some, self.using)

    # -- counters ----------------------------------------------------------------------------------

    def count(self, name: str, amount: int = 1, *, ttl: float) -> Count:
        def work() -> Count:
            if counts_at_once(self.using):
                return count_at_once(self.using, name, amount, ttl)
            row = self._locked(StateCounter, name)
            now = self._now()
            if row.expires <= now:
                row.value, row.expires = 0, now + ttl
            row.value += amount
            row.save(using=self.using)
            return Count(row.value, row.expires - now)

        return self._run(work)

    # -- leases ------------------------------------------------------------------------------------

    def acquire(self, name: str, holder: str, ttl: float) -> Lease | None:
        def work() -> Lease | None:
            row = self._locked(LeaseRow, name)
            now = self._now()
            is_held = row.holder and row.expires > now
            if is_held and row.holder != holder:
                return None
            if not is_held:
                row.holder, row.token = holder, next_version(row.token, now)
            row.expires = now + ttl
            row.save(using=self.using)
            return Lease(holder, row.token, ttl)

        return self._run(work, alone=True)

    def extend(self, name: str, token: int, ttl: float) -> bool:
        def work() -> bool:
            now = self._now()
            return bool(self._held(name, now).filter(token=token).update(expires=now + ttl))

        return self._run(work, alone=True)

    def release(self, name: str, token: int) -> bool:
        def work() -> bool:
            return bool(self._held(name, self._now()).filter(token=token).update(holder=""))

        return self._run(work, alone=True)

    def lease(self, name: str) -> Lease | None:
        now = self._now()
        row = self._held(name, now).first()
        return Lease(row.holder, row.token, row.expires - now) if row else None

    def _held(self, name: str, now: float) -> models.QuerySet[LeaseRow]:
        rows = LeaseRow.objects.using(self.using).filter(key=digest(name), expires__gt=now)
        return rows.exclude(holder="")  # empty: it was given back

    # -- housekeeping ------------------------------------------------------------------------------

    def purge(self, *, limit: int = 500) -> int:
        before = self._now() - REMEMBERED
        removed = 0
        expired = Q(expires__lte=before)
        for model in (StateEntry, StateCounter, LeaseRow):
            removed += self._purge(model._default_manager.filter(expired), limit)
        entries = StateEntry.objects.filter(map=OuterRef("pk"))
        empty = StateMap.objects.filter(~Exists(entries), version__lte=clock.microseconds(before))
        return removed + self._purge(empty, limit)

    def _purge(self, rows: models.QuerySet[models.Model], limit: int) -> int:
        rows = rows.using(self.using)
        removed = 0
        while True:
            pks = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
            if pks:
                # With its conditions again: what came to life in between stays.
                removed += self._run(lambda pks=pks: delete_rows(rows.filter(pk__in=pks)))  # type: ignore[misc]
            if len(pks) < limit:
                return removed

    # -- transactions ------------------------------------------------------------------------------

    def _run(self, work: Callable[[], T], *, alone: bool = False) -> T:
        """``work()`` in a transaction, again where the database asks for that."""
        patience = Patience()
        while True:
            try:
                with self._transaction(alone):
                    return work()
            except DatabaseError as error:
                if connections[self.using].in_atomic_block or not is_transient(error):
                    raise StoreError(f"The database refused: {error}") from error
                if patience.is_over():
                    raise StoreError(f"The database is busy for too long: {error}") from error
                patience.wait()

    def _transaction(self, alone: bool) -> AbstractContextManager[None]:
        if not is_in_callers_transaction(self.using):
            return numbering(self.using)
        if alone:
            raise StoreError(
                "A lease cannot be taken or given inside a transaction, which may be rolled back. "
                "Do it before or after the transaction."
            )
        return transaction.atomic(using=self.using)

    def _locked(self, model: type[Row], name: str) -> Row:
        """The row of this name, made if it has to be, locked until the transaction ends."""
        rows = model._default_manager.using(self.using).filter(key=digest(name))
        for _ in range(LOCK_ATTEMPTS):
            if connections[self.using].features.has_select_for_update:
                row = rows.select_for_update().first()
            else:
                # SQLite has one write lock, and a write as the first statement waits for it.
                rows.update(name=name)
                row = rows.first()
            if row is not None:
                return row
            model._default_manager.using(self.using).bulk_create(
                [model(key=digest(name), name=name)], ignore_conflicts=True
            )
        raise StoreError(
            f"{name!r} was made by somebody whom this transaction does not see. Read it outside of "
            "the transaction, or with the isolation level READ COMMITTED."
        )

    def _now(self) -> float:
        """Seconds since 1970 by the database's clock; SQLite's is this host's."""
        instead = clock.instead_of_the_servers()
        expression = clock.SERVERS_NOW.get(connections[self.using].vendor)
        if instead is not None or expression is None:
            return clock.now() if instead is None else instead
        with connections[self.using].cursor() as cursor:
            cursor.execute(f"SELECT {expression}")
            return round(float(cursor.fetchone()[0]), 6)


def _live_at(now: float, path: str = "") -> Q:
    return Q(**{f"{path}expires__isnull": True}) | Q(**{f"{path}expires__gt": now})


def _slices(items: Iterable[T]) -> Iterator[list[T]]:
    listed = list(items)
    for start in range(0, len(listed), AT_ONCE):
        yield listed[start : start + AT_ONCE]
