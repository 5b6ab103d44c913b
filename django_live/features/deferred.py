"""Changes that are told when their transaction is over: those of related objects, noisy ones, and
what triggers have noted.

In the transaction there is only a note, that the object changed and where it was shown. Whoever
presents it afterwards, the same process or any sweep, locks the object and tells its state.

Must keep true: a committed note is told once, about the object's final state, or is named in the
log; the last event of an object tells its last state; nobody who presents makes a writer wait for
more than that, and never for another lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Min, Model, QuerySet

from ..core.events import encode_data
from ..core.forgetting import empties
from ..core.outbox import Entry
from ..core.publishing import after_commit, publish_entries, sweep_also
from ..core.topics import registry
from ..exceptions import InvalidTopic
from ..models import PendingChange
from . import alarms
from .audiences import Audience, Place
from .declared import by_source
from .rows import Row, loaded_columns, locked, row_from_json, take_write_lock
from .telling import BATCH, COULD_NOT_TELL, UPDATED, Telling
from .throttle import NoTurns, Slots, cooling_until

if TYPE_CHECKING:
    from .changes import Changes

logger = logging.getLogger("django_live.changes")

AT_ONCE = 100
"""Objects that one transaction presents."""
REMEMBERED = 10_000
"""Objects that one transaction keeps in memory, not to note them twice."""
ATTEMPTS = 5
"""How often an object that somebody else has locked is tried again, before it is left to a sweep."""
PAUSE = 0.01
LATER = 0.5
"""Seconds after which this process looks again for what it has left."""
UNKNOWN_GRACE = 3600.0
"""Seconds that notes of unknown Changes are kept: during a deploy another release may know them."""
NOTED = "_live_noted"
_GONE = Audience("", topics=lambda instance: [])


class Note(NamedTuple):
    """That an object changed. ``topics``: where it was shown before; None: that was noted earlier."""

    pk: Any
    topics: Mapping[str, Place] | None
    changed: frozenset[str]
    moved: bool = False
    """Whether it may have come to a topic or have left one."""


# -- writing ---------------------------------------------------------------------------------------


@dataclass
class _Noted:
    """What one transaction has noted and still stands."""

    hooks: list[Any]
    objects: dict[str, frozenset[str]] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    """Those with triggers that it has written to."""
    is_over: bool = False

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> _Noted:
        """The object of the open transaction. Django begins a new list of hooks whenever something
        is rolled back and when a transaction ends: then nothing is remembered."""
        known: _Noted | None = getattr(connection, NOTED, None)
        if known is None or known.is_over or known.hooks is not connection.run_on_commit:
            known = cls(connection.run_on_commit)
            setattr(connection, NOTED, known)
        return known


def is_noted(changes: Changes[Any], pk: Any, using: str) -> bool:
    """Whether the open transaction has noted where this object was."""
    connection = transaction.get_connection(using)
    return connection.in_atomic_block and (
        object_key(changes.uid, pk) in _Noted.of(connection).objects
    )


def write_notes(changes: Changes[Any], notes: Iterable[Note], using: str) -> None:
    """Note that these objects changed, and have them told after the commit."""
    connection = transaction.get_connection(using)
    noted = _Noted.of(connection) if connection.in_atomic_block else _Noted([])
    rows: list[PendingChange] = []
    is_new = not noted.objects
    for note in notes:
        key = object_key(changes.uid, note.pk)
        names = note.changed | ({""} if note.moved else set())
        known = noted.objects.get(key)
        if known is not None and names <= known:
            continue
        if known is not None or len(noted.objects) < REMEMBERED:
            noted.objects[key] = names | (known or frozenset())
        rows.append(_row(changes, key, note, is_first=known is None))
    PendingChange.objects.using(using).bulk_create(rows, batch_size=BATCH)
    if not rows:
        return
    if connection.in_atomic_block:
        if is_new:
            after_commit(lambda: _over(noted, using), using)
    elif connection.get_autocommit():
        present_now(using, list(noted.objects))


def _over(noted: _Noted, using: str) -> None:
    if not noted.is_over:
        noted.is_over = True
        present_now(using, list(noted.objects))
        if len(noted.objects) >= REMEMBERED:
            look_again(using, 0.0)  # there may be more


def _row(changes: Changes[Any], key: str, note: Note, *, is_first: bool) -> PendingChange:
    facts: dict[str, Any] = {"pk": note.pk, "changed": sorted(note.changed), "moved": note.moved}
    if is_first:
        places = (note.topics or {}).values()
        facts["topics"] = [[place.topic.namespace, place.topic.name] for place in places]
    return PendingChange(
        source=changes.uid,
        object_key=key,
        facts=encode_data(facts),
        due=0.0 if note.moved or changes.throttle is None else cooling_until(key),
        created=time.time(),
    )


def object_key(source: str, pk: Any) -> str:
    """Stands for one object of one source."""
    text = f"{source}\0{encode_data(pk)}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# -- presenting ------------------------------------------------------------------------------------


def present_now(using: str, keys: Sequence[str]) -> None:
    """Tell of these objects. What cannot be told now is told later; a fault is logged."""
    try:
        left = _present(using, keys, Slots(lambda delay: look_again(using, delay))).left
    except Exception:
        logger.exception("Changes of %d objects are left to the sweep.", len(keys))
        left = set(keys)
    if left:
        look_again(using, LATER)


def present_table_after_commit(using: str, source: str) -> None:
    """Have told, with the commit, what a trigger notes of this table in the open transaction."""
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        noted = _Noted.of(connection)
        if source in noted.tables:
            return
        noted.tables.add(source)

        def work() -> None:
            noted.tables.discard(source)
            _present_table(using, source)

        after_commit(work, using)
    elif connection.get_autocommit():
        _present_table(using, source)


def _present_table(using: str, source: str) -> None:
    """Tell of what a trigger has noted of one table."""
    rows = PendingChange.objects.using(using).filter(source=source, due__lte=time.time())
    keys = rows.order_by("object_key").values_list("object_key", flat=True).distinct()
    present_now(using, list(keys[:REMEMBERED]))


def look_again(using: str, delay: float) -> None:
    """Present what is due after so many seconds, if this process still lives. If not, or if it
    fails, a sweep does."""
    if transaction.get_connection(using).in_atomic_block:
        return  # a TestCase: another thread would not see what never commits

    def work() -> None:
        try:
            present_due(using)
            waiting = PendingChange.objects.using(using).filter(due__gt=0)
            due = waiting.aggregate(next=Min("due"))["next"]
            if due is not None:
                look_again(using, max(due - time.time(), LATER))
        except Exception as error:
            logger.warning("Changes that had to wait are left to the sweep (%s).", error)

    alarms.wake(using, delay, work)


def present_due(using: str) -> int:
    """Tell of every object that somebody has noted and nobody told of. How many events."""
    rows = PendingChange.objects.using(using).filter(due__lte=time.time())
    return _present_all(using, rows, Slots(lambda delay: look_again(using, delay)))


@empties
def present_everything(using: str) -> int:
    """Tell of every object that somebody has noted, also of those whose turn it is not yet. How many
    notes are left: others have them, or nothing here knows what they are about."""
    rows = PendingChange.objects.using(using).all()
    _present_all(using, rows, NoTurns())
    return rows.count()


def _present_all(using: str, rows: QuerySet[PendingChange], slots: Slots) -> int:
    count, last = 0, ""
    while True:
        page = rows.filter(object_key__gt=last).values_list("object_key", flat=True)
        keys = list(page.order_by("object_key").distinct()[:AT_ONCE])
        if not keys:
            return count
        last = keys[-1]
        count += _present(using, keys, slots, attempts=1).count


@dataclass
class _Outcome:
    count: int = 0
    left: set[str] = field(default_factory=set)
    """Objects that somebody else has locked."""


def _present(using: str, keys: Sequence[str], slots: Slots, attempts: int = ATTEMPTS) -> _Outcome:
    outcome = _Outcome()
    rest = iter(keys)
    while batch := list(islice(rest, AT_ONCE)):
        for attempt in range(attempts):
            done = _tried(using, batch, slots)
            outcome.count += done.count
            batch = sorted(done.left)
            if not batch or attempt == attempts - 1:
                break
            time.sleep(PAUSE * 2**attempt)
        outcome.left |= set(batch)
    return outcome


def _tried(using: str, keys: Sequence[str], slots: Slots) -> _Outcome:
    try:
        return _Batch(using, slots).present(keys)
    except OperationalError as error:  # a deadlock, a snapshot that is too old, "locked"
        logger.info("Changes of %d objects are tried again (%s).", len(keys), error)
        return _Outcome(left=set(keys))


class _Task(NamedTuple):
    """One object for one declaration, and what was noted of it, oldest first."""

    changes: Changes[Any]
    pk: Any
    key: str
    facts: list[dict[str, Any]]


class _Batch:
    """Presents objects in one transaction. It waits for no lock, so it cannot be part of a deadlock:
    what others have locked is left."""

    def __init__(self, using: str, slots: Slots) -> None:
        self.using = using
        self.slots = slots
        self.skip = connections[using].features.has_select_for_update_skip_locked
        self.rows = PendingChange.objects.using(using)

    def present(self, keys: Sequence[str]) -> _Outcome:
        keys = self._let_wait(keys)
        if not keys:
            return _Outcome()
        with transaction.atomic(using=self.using):
            take_write_lock(PendingChange, self.using)
            notes = self.rows.filter(object_key__in=keys).order_by("id")
            if connections[self.using].features.has_select_for_update:
                notes = notes.select_for_update(skip_locked=self.skip)
            found = list(notes)
            unknown = self._unknown(found)
            tasks = list(self._tasks(found))
            objects, left = self._objects(tasks)
            entries: list[Entry] = []
            for task in tasks:
                if task.key not in left:
                    entries += self._entries(task, objects.get((task.changes.uid, task.pk)))
            if entries:
                publish_entries(entries, using=self.using, through_outbox=True)
            self._delete([n.id for n in found if n.object_key not in left | unknown])
        return _Outcome(len(entries), left)

    def _let_wait(self, keys: Sequence[str]) -> list[str]:
        """The objects whose turn it is. Of those that were told of a moment ago only what must not
        wait is told: that they have come to a topic or have left one."""
        if not self.slots.are_needed():
            return list(keys)
        now = time.time()
        due: dict[str, float] = {}
        moved: set[str] = set()
        interval: dict[str, float] = {}
        for note in self.rows.filter(object_key__in=keys):
            key = note.object_key
            due[key] = min(due.get(key, note.due), note.due)
            if json.loads(note.facts).get("moved", True):
                moved.add(key)
            for changes in by_source(note.source):
                if changes.throttle is not None:
                    interval[key] = changes.throttle.total_seconds()
        waiting: dict[str, float] = {}
        for key, seconds in interval.items():
            if key in moved or due[key] <= now:
                waiting[key] = self.slots.left(key, seconds)
            else:
                waiting[key] = due[key] - now
        waiting = {key: wait for key, wait in waiting.items() if wait > 0 and key not in moved}
        for key, wait in waiting.items():
            self.rows.filter(object_key=key, due__lte=now).update(due=now + wait)
            self.slots.wake(wait)
        return [key for key in keys if key not in waiting]

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
            self.rows.filter(pk=note.id).update(due=now + UNKNOWN_GRACE / 60)
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
            if isinstance(error, DatabaseError):
                raise
            logger.exception(COULD_NOT_TELL, changes.uid, changes.model._meta.label, task.pk)
            return []
        interval = 0.0 if changes.throttle is None else changes.throttle.total_seconds()
        wait = self.slots.left(task.key, interval) if interval else 0.0
        if wait > 0 and (kept := [e for e in entries if e.draft.type == UPDATED]):
            changed = {name for facts in task.facts for name in facts.get("changed", ())}
            note = Note(task.pk, telling.shown_after, frozenset(changed))
            row = _row(changes, task.key, note, is_first=True)
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

    def _delete(self, ids: Sequence[int]) -> None:
        # MariaDB would scan the table for a list of ids, and wait for the writers of other rows.
        size = 1 if connections[self.using].vendor == "mysql" else 500
        for start in range(0, len(ids), size):
            self.rows.filter(pk__in=ids[start : start + size]).delete()


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


def listen_to_sweeps() -> None:
    """Have notes presented by each sweep. Asked for by the first declaration that makes notes."""
    sweep_also(present_due)
