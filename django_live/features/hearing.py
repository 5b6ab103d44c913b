"""What a model's signals say, as rows: what was there before a save or a deletion, and what is now.

Must keep true: the row before is the one in the database, whatever the instance was given meanwhile;
a fault in here is logged and does not make the save fail.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from django.db import DatabaseError, connections, transaction
from django.db.models import F, Model
from django.db.models.signals import (
    class_prepared,
    post_delete,
    post_init,
    post_save,
    pre_delete,
    pre_save,
)

from ..core.blocks import BlockVariable
from ..core.commits import after_commit, commits_by_itself
from ..core.interruptions import raise_interruption
from .rows import Row, fields_of, kept, kin, loaded_columns, locked, row_of, same_table
from .telling import COULD_NOT_TELL, Gathered

logger = logging.getLogger("django_live.changes")

M = TypeVar("M", bound=Model)

COMMITTED = "_live_committed"
"""Where an instance keeps the row that it was loaded from or last committed; None: there was none.
Missing where that is not known."""
BEFORE = "_live_before"
"""Where an instance keeps, by the model that is told of, the row that its save or its deletion
overwrites."""

silent = BlockVariable[tuple[type, ...]]("silent", default=())

_connected: dict[str, Hearer[Any]] = {}


def listening(model: type[Model]) -> list[Hearer[Any]]:
    """Who hears of this model's objects and is not silent here: for writes that send no signals."""
    return [
        one
        for one in _connected.values()
        if one.hears_rows() and model in kin(one.model) and not one.is_silent()
    ]


class Hearer(Generic[M]):
    """Hears of every change of a model's objects that Django sends a signal for."""

    model: type[M]
    """Whose objects: also those of its proxies, and of models that inherit from it."""
    tells_the_row = True
    """Whether a save in autocommit is heard with the row locked, because the row will be told."""

    @property
    def uid(self) -> str:
        """Names it: the same after a reload, and in every process."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def is_silent(self) -> bool:
        """Whether ``suppress()`` holds here."""
        return isinstance(self, silent.get())

    def hears_rows(self) -> bool:
        """Whether it is to be told of what is written without signals."""
        return True

    def will_change(self, instance: M, before: Row | None, using: str) -> None:
        """A save or a deletion of the object begins. ``before``: its row; None: there is none."""

    def changed(self, instance: M, before: Row | None, after: Row | None, using: str) -> None:
        """The object went from one row to the other; None stands for no row."""
        raise NotImplementedError

    def tell_rows(
        self, rows: Iterable[tuple[M, Row | None, Row | None]], gathered: Gathered
    ) -> None:
        """The same for many objects, which were written without signals."""
        raise NotImplementedError

    # -- signals -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Listen to the model and to its kin."""
        _connected[self.uid] = self
        for sender in kin(self.model):
            self._listen_to(sender)
        class_prepared.connect(self._prepared, weak=False, dispatch_uid=self.uid)

    def disconnect(self) -> None:
        """Stop listening."""
        _connected.pop(self.uid, None)
        class_prepared.disconnect(dispatch_uid=self.uid)
        for sender in kin(self.model):
            for signal, _ in self._handlers(sender):
                signal.disconnect(sender=sender, dispatch_uid=self.uid)

    def _prepared(self, sender: type[Model], **kwargs: Any) -> None:
        if sender in kin(self.model):  # a model that is defined later
            self._listen_to(sender)

    def _listen_to(self, sender: type[Model]) -> None:
        for signal, handler in self._handlers(sender):
            signal.connect(handler, sender, weak=False, dispatch_uid=self.uid)
        _remember_refreshed(sender)

    def _handlers(self, sender: type[Model]) -> list[tuple[Any, Any]]:
        handlers: list[tuple[Any, Any]] = [
            (post_init, self._initialised),
            (pre_save, self._will_save),
            (post_save, self._saved),
        ]
        if same_table(sender, self.model):
            # When the object of a model that inherits is deleted, there is a signal for each of its
            # tables; when it is saved there is one.
            handlers += [(pre_delete, self._will_delete), (post_delete, self._deleted)]
        return handlers

    def _initialised(self, instance: M, **kwargs: Any) -> None:
        # Whether it comes from the database is known only later, by _state.adding.
        instance.__dict__[COMMITTED] = loaded_columns(instance)

    def _will_save(self, instance: M, using: str, raw: bool, **kwargs: Any) -> None:
        if raw or self.is_silent():
            return
        before: Row | None
        if instance._state.adding and not same_table(type(instance), self.model):
            before = self._row_of_model(
                instance, using
            )  # may be there before the inheriting one is
        elif instance._state.adding and all(
            field.has_default() or field.has_db_default() for field in instance._meta.pk_fields
        ):
            before = None  # Django inserts such a one without looking, too
        else:
            before = self._row_before(instance, using)
        instance.__dict__.setdefault(BEFORE, {})[self.model] = before
        with self.logged(instance, using):
            self.will_change(instance, before, using)

    def _will_delete(self, instance: M, using: str, **kwargs: Any) -> None:
        if self.is_silent():
            return
        before: Row | None
        if all(same_table(sender, self.model) for sender in kin(self.model)):
            before = self._row_before(instance, using, whole=True)
        else:
            # Django may have made it of an inheriting object, with what was not saved there.
            before = self._row_now(instance, using)
        instance.__dict__.setdefault(BEFORE, {})[self.model] = before
        with self.logged(instance, using):
            self.will_change(instance, before or loaded_columns(instance), using)

    def _saved(
        self,
        instance: M,
        created: bool,
        using: str,
        raw: bool,
        update_fields: frozenset[str] | None = None,
        **kwargs: Any,
    ) -> None:
        known: Row | None = instance.__dict__.get(BEFORE, {}).get(self.model)
        if raw or self.is_silent():  # loaddata: related rows may be missing still
            instance.__dict__.pop(COMMITTED, None)
            return
        with self.logged(instance, using):
            before = None if created and same_table(type(instance), self.model) else known
            if self.tells_the_row and commits_by_itself(transaction.get_connection(using)):
                # Others may have saved it since. The last one to tell has to tell the last state, so
                # the row is read and told while nobody else can change it.
                with transaction.atomic(using=using):
                    after = self._row_now(instance, using, lock=True)
                    if after is not None:
                        self.changed(instance, before, after, using)
            else:
                after = self._row_saved(instance, using, created, update_fields)
                self.changed(instance, before, after, using)
            if created:
                instance.__dict__[COMMITTED] = None
            self._remember(instance, after, using)

    def _deleted(self, instance: M, using: str, **kwargs: Any) -> None:
        if self.is_silent():
            return
        before = instance.__dict__.get(BEFORE, {}).get(self.model) or loaded_columns(instance)
        with self.logged(instance, using):
            self.changed(instance, before, None, using)
            # Whether it stays deleted is looked up when it is saved again. A hook that notes it would keep
            # each of a million objects until the commit.
            instance.__dict__.pop(COMMITTED, None)

    def _remember(self, instance: M, row: Row | None, using: str) -> None:
        """Note what is committed now, or will be with the transaction."""
        connection = transaction.get_connection(using)
        if connection.in_atomic_block or connection.get_autocommit():
            after_commit(lambda: instance.__dict__.__setitem__(COMMITTED, row), using)
        else:
            instance.__dict__.pop(COMMITTED, None)  # there is no hook: look again next time

    @contextmanager
    def logged(self, instance: Model, using: str) -> Iterator[None]:
        """A fault in here must not make the save fail that has succeeded."""
        try:
            yield
        except Exception as error:
            raise_interruption(error)
            if isinstance(error, DatabaseError) and not commits_by_itself(
                transaction.get_connection(using)
            ):
                raise  # the caller's transaction is broken; pretending otherwise would hide it
            label = self.model._meta.label
            logger.exception(COULD_NOT_TELL, self.uid, label, instance.pk)

    # -- rows --------------------------------------------------------------------------------------

    def _row_before(self, instance: M, using: str, *, whole: bool = False) -> Row | None:
        """The row that will be overwritten: the one that the instance was loaded from, or else read
        now. ``whole``: with every column."""
        state = instance._state
        if not state.adding and state.db in (None, using) and COMMITTED in instance.__dict__:
            known: Row | None = instance.__dict__[COMMITTED]
            if known is None:
                # Made in this transaction, or in a savepoint of it that was rolled back: then the row
                # that stood before it stands again.
                return self._row_now(instance, using)
            needed = (
                {f.attname for f in fields_of(instance)}
                if whole
                else loaded_columns(instance).keys()
            )
            keys = {field.attname for field in instance._meta.pk_fields}
            if not needed - known.keys() and all(
                known[name] == instance.__dict__.get(name) for name in keys
            ):
                return known
        return self._row_now(instance, using)

    def _row_saved(
        self, instance: M, using: str, created: bool, update_fields: frozenset[str] | None
    ) -> Row | None:
        """The row as it has just been saved. It is read where the instance does not know it all."""
        row = None if update_fields is not None else row_of(instance, created=created)
        return self._row_now(instance, using) if row is None else row

    def _row_now(self, instance: M, using: str, *, lock: bool = False) -> Row | None:
        """The row in the database. ``lock``: nobody changes it before this transaction ends."""
        if any(getattr(instance, field.attname) is None for field in instance._meta.pk_fields):
            return None
        model = type(instance)
        rows = model._base_manager.using(using).filter(pk=instance.pk)
        if lock and connections[using].features.has_select_for_update:
            rows = locked(rows)
        elif lock:
            # SQLite has one write lock, and only a write takes it.
            key = instance._meta.pk_fields[0].attname
            rows.update(**{key: F(key)})
        row = rows.first()
        return None if row is None else loaded_columns(row)

    def _row_of_model(self, instance: Model, using: str) -> Row | None:
        """The row that an object of an inheriting model has in the model's own table."""
        keys = {f.attname: getattr(instance, f.attname) for f in self.model._meta.pk_fields}
        if None in keys.values():
            if instance.pk is None:
                return None
            keys = {"pk": instance.pk}
        row = self.model._base_manager.using(using).filter(**keys).first()
        return None if row is None else loaded_columns(row)


def _remember_refreshed(model: type[Model]) -> None:
    """``refresh_from_db()`` replaces what an instance was loaded with, and there is no signal for it."""
    original = model.refresh_from_db
    if getattr(original, "remembers", False):
        return

    @functools.wraps(original)
    def refresh_from_db(self: Model, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        names = kwargs.get("fields", args[1] if len(args) > 1 else None)
        known = self.__dict__.get(COMMITTED)
        if names is None and transaction.get_connection(self._state.db).in_atomic_block:
            # Perhaps the row as this very transaction has saved it, which is not committed.
            self.__dict__.pop(COMMITTED, None)
        elif names is None:
            self.__dict__[COMMITTED] = loaded_columns(self)
        elif known is not None:
            # The other columns may have been changed in memory.
            fresh = {
                field.attname: kept(self.__dict__[field.attname])
                for field in self._meta.concrete_fields
                if {field.name, field.attname} & set(names) and field.attname in self.__dict__
            }
            self.__dict__[COMMITTED] = known | fresh

    refresh_from_db.remembers = True  # type: ignore[attr-defined]
    model.refresh_from_db = refresh_from_db  # type: ignore[method-assign]
