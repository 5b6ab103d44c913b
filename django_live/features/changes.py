"""Events made from model signals: a saved object tells the topics that show it.

Must keep true: one event per object, topic and transaction, about the object's final state; nothing
after a rollback; a topic that an object has left is told, too; a fault in here is logged and does not
make the save fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from django.db import connections, router
from django.db.models import Model, Q
from django.db.models.signals import post_delete, post_save

from ..core.topics import Topic
from .audiences import Audience, presented
from .conditions import matches
from .declared import DECLARED, TABLE
from .deferred import is_noted, listen_to_sweeps, present_table_after_commit, write_notes
from .hearing import COMMITTED, Hearer, silent
from .notes import Note
from .related import LinkWatch, Watch, watches
from .rows import Row, as_model, changed_fields, key_of, with_row
from .telling import BATCH, Gathered, Telling, gathered, publish_story, shown_with

__all__ = [
    "BATCH",
    "COMMITTED",
    "Audience",
    "Changes",
    "Gathered",
    "gathered",
    "suppress",
]

M = TypeVar("M", bound=Model)

SHOWN = "_live_shown"
"""Where an instance keeps, by declaration, the topics that show it before a change."""


@contextmanager
def suppress(*changes: type[Hearer[Any]]) -> Iterator[None]:
    """Tell nothing of what the block does: of none of these classes (``Changes`` or rules of
    notifications), or of no ``Changes`` at all.

    Holds for the block's own thread or task, and for what it awaits.
    """
    with silent.holding((*silent.get(), *(changes or (Changes,)))):
        yield


class Changes(Hearer[M]):
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
    serializer_class: ClassVar[Any] = None
    """A serializer of Django REST framework that makes the data, in place of ``fields``."""
    audiences: ClassVar[Sequence[Audience]] = ()
    """Readers who see the object differently, each with their own topics; in place of ``topics()``,
    ``fields`` and ``data()``."""
    related: ClassVar[Sequence[str] | Mapping[str, Sequence[str] | None]] = ()
    """Paths to other objects whose changes are updates of this one, ``["lines", "lines__product"]``;
    as a dict with the fields that matter at the path's end, ``{"customer": ["name"]}``."""
    deleted_when: ClassVar[Any] = None
    """When an object counts as deleted though its row is there: a ``Q`` of its own columns, or a
    method of the object."""
    throttle: ClassVar[timedelta | None] = None
    """Tell of updates of an object once in this time at most: the first at once, the last at the end."""
    triggers: ClassVar[bool] = False
    """True: the table has ``LiveTriggers``; they note what is written, whoever writes it. On databases
    other than PostgreSQL signals are heard all the same."""

    _declared: ClassVar[dict[str, Changes[Any]]] = DECLARED

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "model" in cls.__dict__:
            one = cls()
            if known := cls._declared.get(one.uid):  # a reload declares it again
                known.disconnect()
            cls._declared[one.uid] = one
            one.connect()

    def __init__(self) -> None:
        self.watches: list[Watch | LinkWatch] = []

    def topics(self, instance: M) -> Iterable[Topic | str]:
        """The topics that show this object."""
        raise TypeError(f"{self.uid} must define topics(self, instance).")

    def namespace(self, instance: M) -> str | None:
        """The tenant whose topics these are, for those that do not name one. Must be defined where
        ``DJANGO_LIVE["NAMESPACE"]`` is set."""
        return None

    def data(self, instance: M) -> Any:
        """What ``created`` and ``updated`` say of the object."""
        return presented(instance, self.fields, self.serializer_class)

    def farewell(self, key: dict[str, Any]) -> Any:
        """What ``deleted`` says: of an object that is gone, or is shown no more, its key alone."""
        return key

    def when(self, instance: M, changed: frozenset[str]) -> bool:
        """Whether an update is worth telling. ``changed`` names the model's fields that are different
        from what was there before the transaction, also those that are not among ``fields``, and the
        ``related`` paths.

        Not asked about a topic that the object comes to or leaves.
        """
        return True

    # -- what is declared --------------------------------------------------------------------------

    def audiences_in_force(self) -> Sequence[Audience]:
        """The declared audiences, or the one of ``topics()`` and ``data()``."""
        if self.audiences:
            return self.audiences
        return [
            Audience(
                "",
                topics="topics",
                fields=self.fields,
                data="data",
                serializer_class=self.serializer_class,
            )
        ]

    def related_paths(self) -> Sequence[str]:
        return list(self.related)

    def is_deferred(self) -> bool:
        """Whether it is told when the transaction is over, from a note that was made in it."""
        return bool(self.related) or self.throttle is not None or self.hears_triggers()

    def hears_rows(self) -> bool:
        return not self.hears_triggers()

    def hears_triggers(self) -> bool:
        """Whether triggers note what is written, and signals are not asked."""
        if not self.triggers:
            return False
        return connections[router.db_for_write(self.model)].vendor == "postgresql"

    def is_usable(self) -> bool:
        """Whether the model has a table. If not, a check says so."""
        model: Any = self.model
        return (
            isinstance(model, type)
            and issubclass(model, Model)
            and not model._meta.abstract
            and not model._meta.swapped
        )

    def is_deleted(self, instance: M) -> bool:
        """Whether the object counts as deleted."""
        rule = self.deleted_when
        if rule is None:
            return False
        return matches(rule, instance) if isinstance(rule, Q) else bool(rule(instance))

    # -- hearing -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Listen to the model, to its kin and to what is related. Done when the class is declared."""
        if not self.is_usable():
            return
        super().connect()
        paths = self.related if isinstance(self.related, Mapping) else dict.fromkeys(self.related)
        self.watches = watches(self, paths)
        for watch in self.watches:
            watch.connect()
        if self.is_deferred():
            listen_to_sweeps()

    def disconnect(self) -> None:
        """Stop listening."""
        if self.is_usable():
            super().disconnect()
            for watch in self.watches:
                watch.disconnect()

    def _handlers(self, sender: type[Model]) -> list[tuple[Any, Any]]:
        if self.hears_triggers():
            return [(post_save, self._written), (post_delete, self._written)]
        return super()._handlers(sender)

    def _written(self, using: str, **kwargs: Any) -> None:
        """The trigger has made a note: have it told with the commit, and not by the next sweep."""
        present_table_after_commit(using, TABLE + self.model._meta.db_table)

    def will_change(self, instance: M, before: Row | None, using: str) -> None:
        if self.related and self.is_deferred() and before is not None:
            # When it is deleted, what it was related to cannot be asked any more.
            one = with_row(as_model(instance, self.model), before)
            known = is_noted(self, key_of(one, self.model), using)
            shown = None if known else shown_with(self, one, before, using)
            instance.__dict__.setdefault(SHOWN, {})[self.uid] = shown

    def changed(self, instance: M, before: Row | None, after: Row | None, using: str) -> None:
        if self.is_deferred():
            write_notes(self, [self._note(instance, before, after, using)], using)
        else:
            publish_story(Telling(self, instance, before, after, using).story(), using)

    def tell_rows(
        self, rows: Iterable[tuple[M, Row | None, Row | None]], gathered: Gathered
    ) -> None:
        """Tell of objects that were written without signals: each with its rows before and after."""
        using = gathered.using
        notes: list[Note] = []
        for instance, before, after in rows:
            with self.logged(instance, using):
                if self.is_deferred():
                    notes.append(self._note(instance, before, after, using))
                else:
                    telling = Telling(self, instance, before, after, using)
                    gathered.add(telling.story(safely=True))
        write_notes(self, notes, using)

    def _note(self, instance: M, before: Row | None, after: Row | None, using: str) -> Note:
        one = with_row(as_model(instance, self.model), after or before or {})
        pk = key_of(one, self.model)
        changed = frozenset(f.name for f in changed_fields(one, before or {}, after or {}))
        moved = before is None or after is None
        shown = instance.__dict__.get(SHOWN, {}).pop(self.uid, None)
        if shown is None and (self.throttle is not None or not is_noted(self, pk, using)):
            shown = shown_with(self, one, before, using)
        if self.throttle is not None and shown is not None:
            moved = moved or shown.keys() != shown_with(self, one, after, using).keys()
        return Note(pk, shown, changed, moved=moved)
