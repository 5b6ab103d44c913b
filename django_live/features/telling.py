"""What is to be told of one object that changed, and the batches in which it is published.

Must keep true: one event per object, topic and transaction, about the object's final state; a topic
that an object has left is told, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import Model

from ..core.blocks import BlockVariable
from ..core.events import Draft, encode_data
from ..core.interruptions import is_interruption, raise_interruption
from ..core.outbox import Entry
from ..core.publishing import Story, publish_stories
from .audiences import Place, places, shielded
from .rows import Row, as_model, changed_fields, fields_of, key_of, with_row

if TYPE_CHECKING:
    from .changes import Changes

logger = logging.getLogger("django_live.changes")

M = TypeVar("M", bound=Model)

CREATED, UPDATED, DELETED = "created", "updated", "deleted"
COULD_NOT_TELL = "%s could not tell of a change of %s %r; no event was sent."
BATCH = 500
"""Objects that are told of at once."""

_gathering = BlockVariable["Gathered | None"]("gathering", default=None)


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
    with _gathering.holding(one):
        yield one
        one.flush()


def publish_story(story: Story, using: str) -> None:
    """Publish now, or with the batch that is being gathered."""
    gathering = _gathering.get()
    if gathering is not None and gathering.takes(using):
        gathering.add(story)
    else:
        publish_stories([story], using=using)


def shown_with(changes: Changes[M], instance: M, row: Row | None, using: str) -> dict[str, Place]:
    """Where the object is shown with this row, by the topic's key."""
    if row is None:
        return {}
    with shielded(using):
        one = with_row(instance, row)
        return {} if changes.is_deleted(one) else places(changes, one)


class Telling(Generic[M]):
    """What is to be told of one object that went from one row to another; None stands for no row.

    Where the row before is not known any more, ``shown_before`` says where the object was, and
    ``names`` what has changed.
    """

    def __init__(
        self,
        changes: Changes[M],
        instance: Model,
        before: Row | None,
        after: Row | None,
        using: str,
        *,
        shown_before: Mapping[str, Place] | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self.changes = changes
        self.using = using
        self.instance = with_row(as_model(instance, changes.model), after or before or {})
        self.before = before
        self.after = after
        pk = key_of(self.instance, changes.model)
        self.group = (changes.uid, changes.model._meta.label, pk)
        self.key = {"pk": pk}
        self.names = frozenset(names)
        self.shown_before = self.shown(before) if shown_before is None else dict(shown_before)
        self.shown_after = self.shown(after)
        self._data: dict[str, Any] = {}
        for place in self.shown_after.values():
            self._data_for(place)  # a fault has to show now

    def shown(self, row: Row | None) -> dict[str, Place]:
        return shown_with(self.changes, self.instance, row, self.using)

    def story(self, *, safely: bool = False) -> Story:
        """For publishing. ``safely``: a fault costs this object's events, not those of others."""
        return Story(self.group, self._entries_safely if safely else self.entries, self.before)

    def _entries_safely(self, told: Sequence[Entry], first: Row | None) -> Sequence[Entry]:
        try:
            return self.entries(told, first)
        except Exception as error:
            if isinstance(error, DatabaseError) or is_interruption(error):
                raise
            label = self.changes.model._meta.label
            logger.exception(COULD_NOT_TELL, self.changes.uid, label, self.key["pk"])
            return told

    def entries(self, told: Sequence[Entry], first: Row | None) -> list[Entry]:
        """What a transaction has to tell of the object, in place of what it has told so far.

        ``first`` is the row before the *transaction*, as far as that is known, and ``told`` knows
        better than it where the object was.
        """
        shown_first: Mapping[str, Place] = self.shown_before
        if first is None and not told:
            first = self.before  # a creation that was rolled back
        elif first is not None and first is not self.before:
            first = (self.before or {}) | first
            shown_first = self.shown(first)
        types_told = {entry.topic.key: entry.draft.type for entry in told}
        topics = {e.topic.key: e.topic for e in told}
        topics |= {key: place.topic for key, place in {**shown_first, **self.shown_after}.items()}
        is_told = self._readers(first)
        entries = []
        for topic_key, topic in topics.items():
            if topic_key in types_told:
                was_there = types_told[topic_key] != CREATED
            else:
                was_there = topic_key in shown_first
            if topic_key not in self.shown_after:
                if was_there:
                    data = encode_data(self.changes.farewell(self.key))
                    entries.append(Entry(topic, Draft(DELETED, data)))
            elif not was_there:
                data = self._encoded(CREATED, self.shown_after[topic_key], first)
                entries.append(Entry(topic, Draft(CREATED, data)))
            elif is_told(self.shown_after[topic_key]):
                data = self._encoded(UPDATED, self.shown_after[topic_key], first)
                entries.append(Entry(topic, Draft(UPDATED, data)))
        return entries

    # -- what is said ------------------------------------------------------------------------------

    def _data_for(self, place: Place) -> Any:
        audience = place.audience
        if audience.name not in self._data:
            with shielded(self.using):
                self._data[audience.name] = audience.present(self.changes, self.instance)
        return self._data[audience.name]

    def _encoded(self, type: str, place: Place, first: Row | None) -> str:
        """The data as JSON, made once for all topics of an audience."""
        known = f"{type} {place.audience.name}"
        cached: dict[str, str] = self.__dict__.setdefault("_json", {})
        changed = self._changed(first) if type == UPDATED else frozenset()
        if type == UPDATED:
            known += " " + " ".join(sorted(changed))
        if known not in cached:
            data = self._data_for(place)
            if type == UPDATED and isinstance(data, dict) and "changed" not in data:
                paths = frozenset(self.changes.related_paths())
                names = place.audience.names(data, self._with_attnames(changed), paths)
                data = data if names is None else {**data, "changed": names}
            cached[known] = encode_data(data)
        return cached[known]

    def _changed(self, first: Row | None) -> frozenset[str]:
        """The names of the fields that differ from the row before, and of the related paths."""
        fields = changed_fields(self.instance, first or {}, self.after or {})
        return self.names | {field.name for field in fields}

    def _with_attnames(self, changed: frozenset[str]) -> frozenset[str]:
        return changed | {f.attname for f in fields_of(self.instance) if f.name in changed}

    def _readers(self, first: Row | None) -> Callable[[Place], bool]:
        """Whether the readers in a place hear of this update. Asked once for each audience."""
        answers: dict[str, bool] = {}

        def is_told(place: Place) -> bool:
            if "" not in answers:
                answers[""] = self._is_wanted(
                    "when()", lambda: self.changes.when(self.instance, self._changed(first))
                )
            name = f"audience {place.audience.name}"
            if name not in answers:
                paths = frozenset(self.changes.related_paths())
                answers[name] = answers[""] and self._is_wanted(
                    f"when() of the audience {place.audience.name!r}",
                    lambda: place.audience.is_told(
                        self.changes, self.instance, self._changed(first), paths
                    ),
                )
            return answers[name]

        return is_told

    def _is_wanted(self, who: str, ask: Callable[[], Any]) -> bool:
        try:
            with shielded(self.using):
                return bool(ask())
        except Exception as error:
            raise_interruption(error)
            logger.exception("%s.%s failed; the update is told.", self.changes.uid, who)
            return True
