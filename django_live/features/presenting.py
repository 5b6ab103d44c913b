"""One transaction that presents objects of which there are notes: it locks them, tells what they are, and
takes the notes away.

Must keep true: a committed note is told once, about the object's final state, or is named in the
log; the last event of an object tells its last state; nobody who presents waits for a lock.

Where nobody else has the topics, the same transaction numbers the events: the notes, the objects, the
heads and the events are four round trips on each database (SQLite, PostgreSQL, MariaDB). Otherwise the
events are rows of the outbox first.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import DatabaseError, connections
from django.db.models import Model

from ..core.interruptions import is_interruption
from ..core.outbox import Entry
from ..core.publishing import own_transaction, publish_entries
from ..core.topics import registry
from ..exceptions import InvalidTopic
from ..models import PendingChange
from .audiences import Audience, Place
from .declared import by_source
from .notes import Note, row_of
from .rows import Row, loaded_columns, locked, row_from_json
from .taking import delete_notes, put_back, take_notes
from .telling import COULD_NOT_TELL, UPDATED, Telling
from .throttle import Slots, Turn

if TYPE_CHECKING:
    from .changes import Changes

logger = logging.getLogger("django_live.changes")

UNKNOWN_GRACE = 3600.0
"""Seconds that notes of unknown Changes are kept: during a deploy another release may know them."""
_GONE = Audience("", topics=lambda instance: [])


@dataclass
class Outcome:
    count: int = 0
    left: set[str] = field(default_factory=set)
    """Objects that somebody else has locked, or that could not be told of."""
    fault: Exception | None = None
    """Why they could not."""


class _Task(NamedTuple):
    """One object for one declaration, and what was noted of it, oldest first."""

    changes: Changes[Any]
    pk: Any
    key: str
    facts: list[dict[str, Any]]


class Batch:
    """Presents objects in one transaction. It waits for no lock, so it cannot be part of a deadlock:
    what others have locked is left."""

    def __init__(self, using: str, slots: Slots) -> None:
        self.using = using
        self.slots = slots
        self.skip = connections[using].features.has_select_for_update_skip_locked
        self.rows = PendingChange.objects.using(using)

    def present(self, keys: Sequence[str], turns: Mapping[str, Turn] | None = None) -> Outcome:
        """``turns``: of those of the objects that have to take turns; None: that is not known."""
        keys = self._let_wait(keys, turns)
        if not keys:
            return Outcome()
        with own_transaction(self.using) as own:
            found, are_there = take_notes(keys, self.using)
            unknown = self._unknown(found)
            tasks = list(self._tasks(found))
            objects, left = self._objects(tasks)
            told = [task for task in tasks if task.key not in left]
            entries: list[Entry] = []
            for task in told:
                entries += self._entries(task, objects.get((task.changes.uid, task.pk)))
            kept = left | unknown
            done = [n.id for n in found if are_there and n.object_key not in kept]
            if not own.number(entries, done):
                self._leave_to_outbox(entries, told)
                delete_notes(done, self.using)
            if not are_there:
                put_back([n for n in found if n.object_key in kept], self.using)
        return Outcome(len(entries), left)

    def _leave_to_outbox(self, entries: Sequence[Entry], told: Iterable[_Task]) -> None:
        if entries:
            about = [(t.changes.uid, t.changes.model._meta.label, t.pk) for t in told]
            publish_entries(entries, using=self.using, through_outbox=True, about=about)

    def _let_wait(self, keys: Sequence[str], turns: Mapping[str, Turn] | None) -> list[str]:
        """The objects whose turn it is. Of those that were told of a moment ago only what must not
        wait is told: that they have come to a topic or have left one."""
        if not self.slots.are_needed():
            return list(keys)
        now = time.time()
        waiting: set[str] = set()
        turns = self._turns(keys) if turns is None else turns
        for key in keys:
            turn = turns.get(key)
            if turn is None:
                continue
            wait = turn.due - now
            if turn.moved:
                self.slots.left(key, turn.interval)  # outside of the transaction
                continue
            if wait <= 0 and (wait := self.slots.left(key, turn.interval)) > 0:
                self.rows.filter(object_key=key, due__lte=now).update(due=now + wait)
            if wait > 0:
                waiting.add(key)
                self.slots.wake(wait)
        return [key for key in keys if key not in waiting]

    def _turns(self, keys: Sequence[str]) -> dict[str, Turn]:
        turns: dict[str, Turn] = {}
        for note in self.rows.filter(object_key__in=keys):
            for changes in by_source(note.source):
                if changes.throttle is not None:
                    moved = json.loads(note.facts).get("moved", True)
                    turn = Turn(changes.throttle.total_seconds(), note.due, moved)
                    turns[note.object_key] = turn.along_with(turns.get(note.object_key))
        return turns

    def _tasks(self, notes: Iterable[PendingChange]) -> Iterator[_Task]:
        by_key: dict[str, list[PendingChange]] = {}
        for note in notes:
            by_key.setdefault(note.object_key, []).append(note)
        for key, of_object in by_key.items():
            facts = [json.loads(note.facts, parse_float=Decimal) for note in of_object]
            for changes in by_source(of_object[0].source):
                yield _Task(changes, _key_of(changes, facts[0]["pk"]), key, facts)

    def _unknown(self, notes: Iterable[PendingChange]) -> set[str]:
        """The objects whose Changes this release does not know, but perhaps another one does."""
        now = time.time()
        kept = [n for n in notes if not by_source(n.source) and n.created > now - UNKNOWN_GRACE]
        for note in kept:
            note.due = now + UNKNOWN_GRACE / 60
            self.rows.filter(pk=note.id).update(due=note.due)
        return {note.object_key for note in kept}

    def _objects(self, tasks: Sequence[_Task]) -> tuple[dict[Any, Model], set[str]]:
        """The objects as they are, locked, and the keys of those that others have locked."""
        objects: dict[Any, Model] = {}
        left: set[str] = set()
        by_changes: dict[str, list[_Task]] = {}
        for task in tasks:
            by_changes.setdefault(task.changes.uid, []).append(task)
        for uid, of_changes in by_changes.items():
            model = of_changes[0].changes.model
            rows = model._base_manager.using(self.using)
            wanted = rows.filter(pk__in=[task.pk for task in of_changes]).order_by("pk")
            if connections[self.using].features.has_select_for_update:
                wanted = locked(wanted, skip=self.skip)
            objects |= {(uid, one.pk): one for one in wanted}
            missing = {t.pk: t.key for t in of_changes if (uid, t.pk) not in objects}
            if missing and self.skip:
                there = rows.filter(pk__in=list(missing)).values_list("pk", flat=True)
                left |= {missing[pk] for pk in there}
        return objects, left

    def _entries(self, task: _Task, instance: Model | None) -> list[Entry]:
        changes = task.changes
        try:
            telling = self._telling(task, instance)
            entries = telling.entries([], None)
        except Exception as error:
            if isinstance(error, DatabaseError) or is_interruption(error):
                raise
            logger.exception(COULD_NOT_TELL, changes.uid, changes.model._meta.label, task.pk)
            return []
        interval = 0.0 if changes.throttle is None else changes.throttle.total_seconds()
        wait = self.slots.left(task.key, interval) if interval else 0.0
        if wait > 0 and (kept := [e for e in entries if e.draft.type == UPDATED]):
            changed = {name for facts in task.facts for name in facts.get("changed", ())}
            note = Note(task.pk, telling.shown_after, frozenset(changed))
            row = row_of(changes, task.key, note, is_first=True)
            row.due = time.time() + wait
            row.save(using=self.using, force_insert=True)
            self.slots.wake(wait)
            entries = [entry for entry in entries if entry not in kept]
        return entries

    def _telling(self, task: _Task, instance: Model | None) -> Telling[Any]:
        changes, first = task.changes, task.facts[0]
        after = None if instance is None else loaded_columns(instance)
        names = {name for facts in task.facts for name in facts.get("changed", ())}
        if "topics" in first:
            return Telling(
                changes,
                instance or _bare(changes, task.pk, self.using),
                None,
                after,
                self.using,
                shown_before=_places(first["topics"]),
                names=names,
            )
        old = first.get("old")
        before = None if old is None else row_from_json(changes.model, old)
        shape = instance or _from_row(changes, before, task.pk, self.using)
        return Telling(changes, shape, before, after, self.using, names=names)


def _key_of(changes: Changes[Any], pk: Any) -> Any:
    """The primary key, which JSON has changed: a UUID is text there."""
    fields = changes.model._meta.pk_fields
    values = pk if isinstance(pk, list) else [pk]
    keys = [
        getattr(f, "target_field", f).to_python(value)
        for f, value in zip(fields, values, strict=True)
    ]
    return keys[0] if len(keys) == 1 else tuple(keys)


def _places(named: Iterable[tuple[str, str]]) -> dict[str, Place]:
    found = {}
    for namespace, name in named:
        try:
            topic = registry.resolve(name, namespace)
        except InvalidTopic:  # declared no longer
            continue
        found[topic.key] = Place(topic, _GONE)
    return found


def _bare(changes: Changes[Any], pk: Any, using: str) -> Model:
    """An object that is gone, of which only the key is known."""
    fields = changes.model._meta.pk_fields
    values = pk if isinstance(pk, tuple) else (pk,)
    made: Model = changes.model.from_db(using, [f.attname for f in fields], list(values))
    return made


def _from_row(changes: Changes[Any], row: Row | None, pk: Any, using: str) -> Model:
    """An object that is gone, as it was."""
    if row is None:
        return _bare(changes, pk, using)
    names = [f.attname for f in changes.model._meta.concrete_fields if f.attname in row]
    made: Model = changes.model.from_db(using, names, [row[name] for name in names])
    return made
