"""Events made from model signals: a saved object tells the topics that show it.

Must keep true: one event per object, topic and transaction, about the object's final state; nothing
after a rollback; a topic that an object has left is told, too; a fault in here is logged and does not
make the save fail.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import Field, Model
from django.db.models.signals import post_delete, post_init, post_save, pre_save

from ..core.events import Draft, encode_data
from ..core.outbox import Entry
from ..core.publishing import publish_group
from ..core.topics import Topic, as_topic

logger = logging.getLogger("django_live.changes")

M = TypeVar("M", bound=Model)
Row = dict[str, Any]
"""Values of an object's columns by attribute name."""

CREATED, UPDATED, DELETED = "created", "updated", "deleted"
COMMITTED = "_live_committed"
"""Where an instance keeps the row that it was loaded from or last committed."""


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
            (post_delete, self._deleted),
        ]

    def _initialised(self, instance: M, **kwargs: Any) -> None:
        if not instance._state.adding:
            instance.__dict__[COMMITTED] = _columns(instance)

    def _will_save(self, instance: M, using: str, raw: bool, **kwargs: Any) -> None:
        """Learn the row that will be overwritten, where the instance was not loaded with it."""
        if raw or instance.pk is None:
            return
        known: Row | None = instance.__dict__.get(COMMITTED)
        if known is None or _columns(instance).keys() - known.keys():
            row = self.model._base_manager.using(using).filter(pk=instance.pk).first()
            instance.__dict__[COMMITTED] = None if row is None else _columns(row)

    def _saved(
        self,
        instance: M,
        created: bool,
        using: str,
        raw: bool,
        update_fields: frozenset[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if raw:  # loaddata: related rows may be missing still
            return
        before: Row | None = None if created else instance.__dict__.get(COMMITTED)
        after = self._row_now(instance, before, using, update_fields)
        self._tell(instance, before, after, using)
        remember = functools.partial(instance.__dict__.__setitem__, COMMITTED, after)
        transaction.on_commit(lambda: remember(), using=using, robust=True)

    def _deleted(self, instance: M, using: str, **kwargs: Any) -> None:
        before = instance.__dict__.get(COMMITTED) or _columns(instance)
        self._tell(instance, before, None, using)

    def _row_now(
        self, instance: M, before: Row | None, using: str, update_fields: frozenset[str] | None
    ) -> Row:
        """The row as it has just been saved."""
        columns = _columns(instance)
        if update_fields is not None and before is not None:
            saved = {
                field.attname
                for field in self.model._meta.concrete_fields
                if field.name in update_fields or field.attname in update_fields
            }
            columns = {**before, **{name: columns[name] for name in saved if name in columns}}
        if any(hasattr(value, "resolve_expression") for value in columns.values()):
            # F("stock") - 1 was computed by the database.
            columns = _columns(self.model._base_manager.using(using).get(pk=instance.pk))
        return columns

    # -- telling -----------------------------------------------------------------------------------

    def _tell(self, instance: M, before: Row | None, after: Row | None, using: str) -> None:
        """Publish the change from one row to the other; None stands for no row."""
        try:
            shown_before = self._topics_of(instance, before)
            shown_after = self._topics_of(instance, after)
            key = encode_data({"pk": instance.pk})
            data = key if after is None else encode_data(self.data(_with(instance, after)))
            publish_group(
                (_name(type(self)), instance.pk),
                lambda told: _entries(told, shown_before, shown_after, data, key),
                using=using,
            )
        except Exception as error:
            if (
                isinstance(error, DatabaseError)
                and transaction.get_connection(using).in_atomic_block
            ):
                raise  # the caller's transaction is broken; pretending otherwise would hide it
            logger.exception(
                "%s could not tell of a change of %s %r; no event was sent.",
                _name(type(self)),
                self.model._meta.label,
                instance.pk,
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


def _columns(instance: Model) -> Row:
    """The values that the instance has of its own columns; deferred ones are missing."""
    loaded = instance.__dict__
    return {
        field.attname: loaded[field.attname]
        for field in instance._meta.concrete_fields
        if field.attname in loaded
    }


def _with(instance: M, row: Row) -> M:
    """A copy of the instance with these columns, and no related object that belongs to others."""
    if all(instance.__dict__.get(name) == value for name, value in row.items()):
        return instance
    other = copy.copy(instance)
    other._state.fields_cache = {}
    other.__dict__.update(row)
    return other


def _shown(instance: Model, name: str) -> Any:
    """The value of a field as JSON can carry it, or of a property."""
    field = next((f for f in instance._meta.concrete_fields if f.name == name), None)
    if field is None:
        value = getattr(instance, name)
        return value() if callable(value) else value
    return _as_loaded(field, getattr(instance, field.attname))


def _as_loaded(field: Field[Any, Any], value: Any) -> Any:
    """The value as it would come from the database: "9.90" was assigned, Decimal("9.90") is saved."""
    if field.get_internal_type() in ("FileField", "ImageField"):
        return str(value)
    target = getattr(field, "target_field", field)
    return target.to_python(value)


def _remember_refreshed(model: type[Model]) -> None:
    """``refresh_from_db()`` replaces what an instance was loaded with, and there is no signal for it."""
    original = model.refresh_from_db
    if getattr(original, "remembers", False):
        return

    @functools.wraps(original)
    def refresh_from_db(self: Model, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.__dict__[COMMITTED] = _columns(self)

    refresh_from_db.remembers = True  # type: ignore[attr-defined]
    model.refresh_from_db = refresh_from_db  # type: ignore[method-assign]
