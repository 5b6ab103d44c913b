"""Events made from model signals: a saved object tells the topics that show it.

Must keep true: one event per object, topic and transaction, about the object's final state; nothing
after a rollback; a topic that an object has left is told, too; a fault in here is logged and does not
make the save fail.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, TypeVar

from django.db import DatabaseError, connections, transaction
from django.db.models import F, Field, Model
from django.db.models.signals import (
    class_prepared,
    post_delete,
    post_init,
    post_save,
    pre_delete,
    pre_save,
)

from ..core.events import Draft, encode_data
from ..core.outbox import Entry
from ..core.publishing import Story, after_commit, commits_by_itself, publish_stories
from ..core.topics import Topic, as_topic
from .rows import (
    Row,
    as_model,
    changed_fields,
    fields_of,
    kept,
    key_of,
    kin,
    loaded_columns,
    locked,
    row_of,
    same_table,
    shown,
    with_row,
)

logger = logging.getLogger("django_live.changes")

M = TypeVar("M", bound=Model)

CREATED, UPDATED, DELETED = "created", "updated", "deleted"
COMMITTED = "_live_committed"
"""Where an instance keeps the row that it was loaded from or last committed; None: there was none.
Missing where that is not known."""
COULD_NOT_TELL = "%s could not tell of a change of %s %r; no event was sent."
BATCH = 500
"""Objects that are told of at once."""
BEFORE = "_live_before"
"""Where an instance keeps, by the model that is told of, the row that its save or its deletion
overwrites."""


_silent: ContextVar[tuple[type, ...]] = ContextVar("silent", default=())
_gathering: ContextVar[Gathered | None] = ContextVar("gathering", default=None)


@contextmanager
def suppress(*changes: type[Changes[Any]]) -> Iterator[None]:
    """Tell nothing of what the block does: of none of these classes, or of none at all.

    Holds for the block's own thread or task, and for what it awaits.
    """
    token = _silent.set((*_silent.get(), *(changes or (Changes,))))
    try:
        yield
    finally:
        _silent.reset(token)


class Changes(Generic[M]):
    """Tells topics what happens to a model's objects. Subclass it in an app's ``live.py``.

    The types are ``created``, ``updated`` and ``deleted``, as the topic sees it: an order that goes
    from one customer to another is ``deleted`` for the first one's topic and ``created`` for the
    second one's. The data is ``{"pk": …}`` and the ``fields``; of ``deleted`` the key alone.
    ``updated`` also names in ``changed`` which of the ``fields`` are different now.
    """

    model: type[M]
    """Whose objects: also those of its proxies, and of models that inherit from it."""
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
        return {"pk": instance.pk, **{name: shown(instance, name) for name in self.fields}}

    def when(self, instance: M, changed: frozenset[str]) -> bool:
        """Whether an update is worth telling. ``changed`` names the model's fields that are different
        from what was there before the transaction, also those that are not among ``fields``.

        Not asked about a topic that the object comes to or leaves.
        """
        return True

    # -- signals -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Listen to the model and to its kin. Done when the class is declared."""
        for sender in kin(self.model):
            self._listen_to(sender)
        class_prepared.connect(self._prepared, weak=False, dispatch_uid=_name(type(self)))

    def disconnect(self) -> None:
        """Stop listening."""
        class_prepared.disconnect(dispatch_uid=_name(type(self)))
        for sender in kin(self.model):
            for signal, _ in self._handlers(sender):
                signal.disconnect(sender=sender, dispatch_uid=_name(type(self)))

    def _prepared(self, sender: type[Model], **kwargs: Any) -> None:
        if sender in kin(self.model):  # a model that is defined later
            self._listen_to(sender)

    def _listen_to(self, sender: type[Model]) -> None:
        for signal, handler in self._handlers(sender):
            signal.connect(handler, sender, weak=False, dispatch_uid=_name(type(self)))
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
        with self._logged(instance, using):
            before = None if created and same_table(type(instance), self.model) else known
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
        if self.is_silent():
            return
        before = instance.__dict__.get(BEFORE, {}).get(self.model) or loaded_columns(instance)
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
            logger.exception(COULD_NOT_TELL, _name(type(self)), self.model._meta.label, instance.pk)

    def is_silent(self) -> bool:
        """Whether ``suppress()`` holds here."""
        return isinstance(self, _silent.get())

    @classmethod
    def listening(cls, model: type[Model]) -> list[Changes[Any]]:
        """The declarations that hear of this model's objects and are not silent here."""
        declared = cls._declared.values()
        return [one for one in declared if not one.is_silent() and model in kin(one.model)]

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

    # -- telling -----------------------------------------------------------------------------------

    def tell_rows(
        self, rows: Iterable[tuple[M, Row | None, Row | None]], gathered: Gathered
    ) -> None:
        """Tell of objects that were written without signals: each with its rows before and after."""
        for instance, before, after in rows:
            with self._logged(instance, gathered.using):
                gathered.add(Telling(self, instance, before, after).story(safely=True))

    def _tell(self, instance: M, before: Row | None, after: Row | None, using: str) -> None:
        """Publish the change from one row to the other; None stands for no row."""
        story = Telling(self, instance, before, after).story()
        gathered = _gathering.get()
        if gathered is not None and gathered.takes(using):
            gathered.add(story)
        else:
            publish_stories([story], using=using)


class Gathered:
    """What is told of many objects of one transaction, in batches."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._savepoints = self._open_savepoints()
        self._stories: dict[Any, Story] = {}

    def takes(self, using: str) -> bool:
        """Not what a savepoint may still take back."""
        return using == self.using and self._open_savepoints() == self._savepoints

    def _open_savepoints(self) -> list[str]:
        return [id for id in transaction.get_connection(self.using).savepoint_ids if id]

    def add(self, story: Story) -> None:
        if len(self._stories) >= BATCH or story.group in self._stories:
            self.flush()
        self._stories[story.group] = story

    def flush(self) -> None:
        stories, self._stories = list(self._stories.values()), {}
        if stories:
            publish_stories(stories, using=self.using)


@contextmanager
def gathered(using: str) -> Iterator[Gathered]:
    """What ``Changes`` tell in this block, inside a transaction, is written in batches."""
    one = Gathered(using)
    token = _gathering.set(one)
    try:
        yield one
        one.flush()
    finally:
        _gathering.reset(token)


class Telling(Generic[M]):
    """What is to be told of one object that went from one row to another; None stands for no row."""

    def __init__(
        self, changes: Changes[M], instance: Model, before: Row | None, after: Row | None
    ) -> None:
        self.changes = changes
        self.instance = with_row(as_model(instance, changes.model), after or before or {})
        self.before = before
        self.after = after
        pk = key_of(self.instance, changes.model)
        self.group = (_name(type(changes)), pk)
        self.key = {"pk": pk}
        self.shown_before = self._topics(before)
        self.shown_after = self._topics(after)
        self.data = None if after is None else changes.data(self.instance)

    def story(self, *, safely: bool = False) -> Story:
        """For publishing. ``safely``: a fault costs this object's events, not those of others."""
        return Story(self.group, self._entries_safely if safely else self.entries, self.before)

    def _entries_safely(self, told: Sequence[Entry], first: Row | None) -> Sequence[Entry]:
        try:
            return self.entries(told, first)
        except Exception as error:
            if isinstance(error, DatabaseError):
                raise
            names = _name(type(self.changes)), self.changes.model._meta.label
            logger.exception(COULD_NOT_TELL, *names, self.key["pk"])
            return told

    def entries(self, told: Sequence[Entry], first: Row | None) -> list[Entry]:
        """What a transaction has to tell of the object, in place of what it has told so far.

        ``first`` is the row before the *transaction*, as far as that is known, and ``told`` knows
        better than it where the object was.
        """
        shown_first = self.shown_before
        if first is None and not told:
            first = self.before  # a creation that was rolled back
        elif first is not None and first is not self.before:
            first = (self.before or {}) | first
            shown_first = self._topics(first)
        types_told = {entry.topic.key: entry.draft.type for entry in told}
        topics = {e.topic.key: e.topic for e in told} | shown_first | self.shown_after
        drafts: list[tuple[Topic, str]] = []
        for topic_key, topic in topics.items():
            if topic_key in types_told:
                was_there = types_told[topic_key] != CREATED
            else:
                was_there = topic_key in shown_first
            if topic_key in self.shown_after:
                drafts.append((topic, UPDATED if was_there else CREATED))
            elif was_there:
                drafts.append((topic, DELETED))
        data = self._data_by_type({type for _, type in drafts}, first)
        return [Entry(topic, Draft(type, data[type])) for topic, type in drafts if type in data]

    def _data_by_type(self, types: set[str], first: Row | None) -> dict[str, str]:
        """The data as JSON; no ``updated`` where nobody wants it."""
        data = {}
        if DELETED in types:
            data[DELETED] = encode_data(self.key)
        if CREATED in types:
            data[CREATED] = encode_data(self.data)
        if UPDATED in types:
            changed = changed_fields(self.instance, first or {}, self.after or {})
            names = frozenset(field.name for field in changed)
            if self._is_wanted(names):
                data[UPDATED] = encode_data(self._data_updated(changed))
        return data

    def _topics(self, row: Row | None) -> dict[str, Topic]:
        if row is None:
            return {}
        topics = [as_topic(topic) for topic in self.changes.topics(with_row(self.instance, row))]
        return {topic.key: topic for topic in topics}

    def _is_wanted(self, changed: frozenset[str]) -> bool:
        try:
            return bool(self.changes.when(self.instance, changed))
        except Exception:
            logger.exception("%s.when() failed; the update is told.", _name(type(self.changes)))
            return True

    def _data_updated(self, changed: Sequence[Field[Any, Any]]) -> Any:
        if not self.changes.fields or not isinstance(self.data, dict) or "changed" in self.data:
            return self.data
        names = {name for field in changed for name in (field.name, field.attname)}
        return {**self.data, "changed": [name for name in self.changes.fields if name in names]}


def _name(changes_class: type[Changes[Any]]) -> str:
    return f"{changes_class.__module__}.{changes_class.__qualname__}"


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
