"""Events made from model signals: a saved object tells the topics that show it.

Must keep true: one event per object, topic and transaction, about the object's final state; nothing
after a rollback; a topic that an object has left is told, too; a fault in here is logged and does not
make the save fail.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from inspect import getattr_static
from typing import Any, ClassVar, Generic, TypeVar

from django.db import DatabaseError, connections, transaction
from django.db.backends.utils import format_number
from django.db.models import DecimalField, F, Field, FileField, Model
from django.db.models.signals import post_delete, post_init, post_save, pre_delete, pre_save
from django.utils.functional import cached_property

from ..core.events import Draft, encode_data
from ..core.outbox import Entry
from ..core.publishing import after_commit, commits_by_itself, publish_group
from ..core.topics import Topic, as_topic

logger = logging.getLogger("django_live.changes")

M = TypeVar("M", bound=Model)
Row = dict[str, Any]
"""Values of an object's columns by attribute name."""

CREATED, UPDATED, DELETED = "created", "updated", "deleted"
COMMITTED = "_live_committed"
"""Where an instance keeps the row that it was loaded from or last committed; None: there was none.
Missing where that is not known."""
COMPUTED = (cached_property, functools.cached_property)
BEFORE = "_live_before"
"""Where an instance keeps the row that its save or its deletion overwrites."""


class Changes(Generic[M]):
    """Tells topics what happens to a model's objects. Subclass it in an app's ``live.py``.

    The types are ``created``, ``updated`` and ``deleted``, as the topic sees it: an order that goes
    from one customer to another is ``deleted`` for the first one's topic and ``created`` for the
    second one's. The data is ``{"pk": …}`` and the ``fields``; of ``deleted`` the key alone.
    """

    model: type[M]
    fields: ClassVar[Sequence[str]] = ()
    """Fields (or properties) whose values the events carry. Everybody who may see one of the topics
    sees them."""

    _declared: ClassVar[dict[str, Changes[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "model" in cls.__dict__:
            if known := cls._declared.get(_name(cls)):  # a reload declares it again
                known.disconnect()
            cls._declared[_name(cls)] = cls()
            cls._declared[_name(cls)].connect()

    def topics(self, instance: M) -> Iterable[Topic | str]:
        """The topics that show this object."""
        raise TypeError(f"{_name(type(self))} must define topics(self, instance).")

    def data(self, instance: M) -> Any:
        """What ``created`` and ``updated`` say of the object."""
        return {"pk": instance.pk, **{name: _shown(instance, name) for name in self.fields}}

    # -- signals -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Listen to the model. Done when the class is declared."""
        for signal, handler in self._handlers():
            signal.connect(handler, self.model, weak=False, dispatch_uid=_name(type(self)))
        _remember_refreshed(self.model)

    def disconnect(self) -> None:
        """Stop listening."""
        for signal, _ in self._handlers():
            signal.disconnect(sender=self.model, dispatch_uid=_name(type(self)))

    def _handlers(self) -> list[tuple[Any, Any]]:
        return [
            (post_init, self._initialised),
            (pre_save, self._will_save),
            (post_save, self._saved),
            (pre_delete, self._will_delete),
            (post_delete, self._deleted),
        ]

    def _initialised(self, instance: M, **kwargs: Any) -> None:
        # Whether it comes from the database is known only later, by _state.adding.
        instance.__dict__[COMMITTED] = _columns(instance)

    def _will_save(self, instance: M, using: str, raw: bool, **kwargs: Any) -> None:
        if raw:
            return
        if instance._state.adding and all(
            field.has_default() or field.has_db_default() for field in instance._meta.pk_fields
        ):
            instance.__dict__[BEFORE] = None  # Django inserts such a one without looking, too
        else:
            instance.__dict__[BEFORE] = self._row_before(instance, using)

    def _will_delete(self, instance: M, using: str, **kwargs: Any) -> None:
        instance.__dict__[BEFORE] = self._row_before(instance, using, whole=True)

    def _saved(
        self,
        instance: M,
        created: bool,
        using: str,
        raw: bool,
        update_fields: frozenset[str] | None = None,
        **kwargs: Any,
    ) -> None:
        known = instance.__dict__.get(BEFORE)
        if raw:  # loaddata: related rows may be missing still
            instance.__dict__.pop(COMMITTED, None)
            return
        with self._logged(instance, using):
            before: Row | None = None if created else known
            if commits_by_itself(transaction.get_connection(using)):
                # Others may have saved it since. The last one to tell has to tell the last state, so
                # the row is read and told while nobody else can change it.
                with transaction.atomic(using=using):
                    after = self._row_now(instance, using, lock=True)
                    if after is not None:
                        self._tell(instance, before, after, using)
            else:
                after = self._row_saved(instance, using, created, update_fields)
                self._tell(instance, before, after, using)
            if created:
                instance.__dict__[COMMITTED] = None
            self._remember(instance, after, using)

    def _deleted(self, instance: M, using: str, **kwargs: Any) -> None:
        before = instance.__dict__.get(BEFORE) or _columns(instance)
        with self._logged(instance, using):
            self._tell(instance, before, None, using)
            self._remember(instance, None, using)

    def _remember(self, instance: M, row: Row | None, using: str) -> None:
        """Note what is committed now, or will be with the transaction."""
        connection = transaction.get_connection(using)
        if connection.in_atomic_block or connection.get_autocommit():
            after_commit(lambda: instance.__dict__.__setitem__(COMMITTED, row), using)
        else:
            instance.__dict__.pop(COMMITTED, None)  # there is no hook: look again next time

    @contextmanager
    def _logged(self, instance: M, using: str) -> Iterator[None]:
        """A fault in here must not make the save fail that has succeeded."""
        try:
            yield
        except Exception as error:
            if isinstance(error, DatabaseError) and not commits_by_itself(
                transaction.get_connection(using)
            ):
                raise  # the caller's transaction is broken; pretending otherwise would hide it
            logger.exception(
                "%s could not tell of a change of %s %r; no event was sent.",
                _name(type(self)),
                self.model._meta.label,
                instance.pk,
            )

    # -- rows --------------------------------------------------------------------------------------

    def _row_before(self, instance: M, using: str, *, whole: bool = False) -> Row | None:
        """The row that will be overwritten: the one that the instance was loaded from, or else read
        now. ``whole``: with every column."""
        state = instance._state
        if not state.adding and state.db in (None, using) and COMMITTED in instance.__dict__:
            known: Row | None = instance.__dict__[COMMITTED]
            if known is None:
                return None
            needed = {f.attname for f in _fields(instance)} if whole else _columns(instance).keys()
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
        columns = _columns(instance)
        fields = _fields(instance)
        if (
            update_fields is not None
            or len(columns) < len(fields)
            # F("stock") - 1 was computed by the database.
            or any(hasattr(value, "resolve_expression") for value in columns.values())
            or (not created and any(field.generated for field in fields))
        ):
            return self._row_now(instance, using)
        return {f.attname: _as_loaded(f, columns[f.attname]) for f in fields}

    def _row_now(self, instance: M, using: str, *, lock: bool = False) -> Row | None:
        """The row in the database. ``lock``: nobody changes it before this transaction ends."""
        if any(getattr(instance, field.attname) is None for field in instance._meta.pk_fields):
            return None
        rows = self.model._base_manager.using(using).filter(pk=instance.pk)
        if lock and connections[using].features.has_select_for_update:
            rows = rows.select_for_update(
                of=("self",) if connections[using].features.has_select_for_update_of else (),
                no_key=connections[using].features.has_select_for_no_key_update,
            )
        elif lock:
            # SQLite has one write lock, and only a write takes it.
            key = instance._meta.pk_fields[0].attname
            rows.update(**{key: F(key)})
        row = rows.first()
        return None if row is None else _columns(row)

    # -- telling -----------------------------------------------------------------------------------

    def _tell(self, instance: M, before: Row | None, after: Row | None, using: str) -> None:
        """Publish the change from one row to the other; None stands for no row."""
        pk = _key(_with(instance, after or before or {}))
        shown_before = self._topics_of(instance, before)
        shown_after = self._topics_of(instance, after)
        key = encode_data({"pk": pk})
        data = key if after is None else encode_data(self.data(_with(instance, after)))
        publish_group(
            (_name(type(self)), pk),
            lambda told: _entries(told, shown_before, shown_after, data, key),
            using=using,
        )

    def _topics_of(self, instance: M, row: Row | None) -> dict[str, Topic]:
        if row is None:
            return {}
        topics = [as_topic(topic) for topic in self.topics(_with(instance, row))]
        return {topic.key: topic for topic in topics}


def _entries(
    told: Sequence[Entry],
    shown_before: dict[str, Topic],
    shown_after: dict[str, Topic],
    data: str,
    key: str,
) -> list[Entry]:
    """What a transaction has to tell of one object, in place of what it has told so far.

    ``told`` knows better than ``shown_before`` where the object was before the *transaction*.
    """
    types_told = {entry.topic.key: entry.draft.type for entry in told}
    topics = {entry.topic.key: entry.topic for entry in told} | shown_before | shown_after
    entries = []
    for topic_key, topic in topics.items():
        if topic_key in types_told:
            was_there = types_told[topic_key] != CREATED
        else:
            was_there = topic_key in shown_before
        if topic_key in shown_after:
            entries.append(Entry(topic, Draft(UPDATED if was_there else CREATED, data)))
        elif was_there:
            entries.append(Entry(topic, Draft(DELETED, key)))
    return entries


def _name(changes_class: type[Changes[Any]]) -> str:
    return f"{changes_class.__module__}.{changes_class.__qualname__}"


def _fields(instance: Model) -> list[Field[Any, Any]]:
    return list(instance._meta.concrete_fields)


def _key(instance: Model) -> Any:
    """The primary key as the database has it: "42" was assigned, 42 is saved."""
    keys = [_as_loaded(f, getattr(instance, f.attname)) for f in instance._meta.pk_fields]
    return keys[0] if len(keys) == 1 else tuple(keys)


def _columns(instance: Model) -> Row:
    """The values that the instance has of its own columns; deferred ones are missing."""
    loaded = instance.__dict__
    return {
        field.attname: _kept(loaded[field.attname])
        for field in instance._meta.concrete_fields
        if field.attname in loaded
    }


def _kept(value: Any) -> Any:
    """The value as it is now: JSON and arrays are changed in place."""
    return copy.deepcopy(value) if isinstance(value, dict | list | set) else value


def _with(instance: M, row: Row) -> M:
    """The instance as it is with these columns: without the related objects of other values, and
    without what it has computed."""
    changed: list[Any] = [
        field
        for field in instance._meta.concrete_fields
        if field.attname in row
        and not _is_same(instance.__dict__.get(field.attname), row[field.attname])
    ]
    if not changed:
        return instance
    other = copy.copy(instance)
    for field in changed:
        other.__dict__[field.attname] = row[field.attname]
        if field.is_relation and field.is_cached(other):
            field.delete_cached_value(other)
    for name in list(other.__dict__):
        if isinstance(getattr_static(type(other), name, None), COMPUTED):
            del other.__dict__[name]
    return other


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _shown(instance: Model, name: str) -> Any:
    """The value of a field as JSON can carry it, or of a property."""
    field = next((f for f in instance._meta.concrete_fields if f.name == name), None)
    if field is None:
        value = getattr(instance, name)
        return value() if callable(value) else value
    return _as_loaded(field, getattr(instance, field.attname))


def _as_loaded(field: Field[Any, Any], value: Any) -> Any:
    """The value as it would come from the database: "9.9" was assigned, Decimal("9.90") is saved."""
    if isinstance(field, FileField):
        return str(value)
    target: Any = getattr(field, "target_field", field)
    value = target.to_python(value)
    if isinstance(value, Decimal) and isinstance(target, DecimalField):
        places = target.decimal_places
        return Decimal(format_number(value, target.max_digits, places) or 0)
    return _kept(value)


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
            self.__dict__[COMMITTED] = _columns(self)
        elif known is not None:
            # The other columns may have been changed in memory.
            fresh = {
                field.attname: _kept(self.__dict__[field.attname])
                for field in self._meta.concrete_fields
                if {field.name, field.attname} & set(names) and field.attname in self.__dict__
            }
            self.__dict__[COMMITTED] = known | fresh

    refresh_from_db.remembers = True  # type: ignore[attr-defined]
    model.refresh_from_db = refresh_from_db  # type: ignore[method-assign]
