"""Changes that are told when their transaction is over: those of related objects, noisy ones, and
what triggers have noted.

In the transaction there is only a note (``notes.py``). Here is who presents it afterwards, and when:
the same process after the commit, an alarm of it, or any sweep; how, is in ``presenting.py``.

Must keep true: an object is noted once in a transaction, however often it changes; a fault after the
commit does not reach the caller; what cannot be told now is told later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Min, QuerySet

from ..core.commits import after_commit
from ..core.forgetting import empties
from ..core.interruptions import raise_interruption
from ..core.sweeping import sweep_also
from ..models import PendingChange
from . import alarms
from .notes import Note, object_key, row_of
from .presenting import Batch, Outcome
from .telling import BATCH
from .throttle import NoTurns, Slots, Turn

if TYPE_CHECKING:
    from .changes import Changes

logger = logging.getLogger("django_live.changes")

AT_ONCE = 100
"""Objects that one transaction presents."""
REMEMBERED = 10_000
"""Objects that one transaction keeps in memory, not to note them twice."""
NAMED = 5
"""Of them, those that a line in the log names."""
ATTEMPTS = 5
"""How often an object that somebody else has locked is tried again, before it is left to a sweep."""
PAUSE = 0.01
LATER = 0.5
"""Seconds after which this process looks again for what it has left."""
NOTED = "_live_noted"
# -- writing ---------------------------------------------------------------------------------------


@dataclass
class _Noted:
    """What one transaction has noted and still stands."""

    hooks: list[Any]
    objects: dict[str, frozenset[str]] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)
    """Of those that have to take turns."""
    named: list[str] = field(default_factory=list)
    """The first of the objects, as the log names them."""
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
            if known is None and len(noted.named) < NAMED:
                noted.named.append(f"{changes.uid} {changes.model._meta.label} {note.pk}")
        row = row_of(changes, key, note, is_first=known is None)
        rows.append(row)
        if changes.throttle is not None and key in noted.objects:
            turn = Turn(changes.throttle.total_seconds(), row.due, note.moved)
            noted.turns[key] = turn.along_with(noted.turns.get(key))
    PendingChange.objects.using(using).bulk_create(rows, batch_size=BATCH)
    if not rows:
        return
    if connection.in_atomic_block:
        if is_new:
            after_commit(lambda: _over(noted, using), using)
    elif connection.get_autocommit():
        present_now(using, list(noted.objects), noted.named, noted.turns)


def _over(noted: _Noted, using: str) -> None:
    if not noted.is_over:
        noted.is_over = True
        present_now(using, list(noted.objects), noted.named, noted.turns)
        if len(noted.objects) >= REMEMBERED:
            look_again(using, 0.0)  # there may be more


# -- presenting ------------------------------------------------------------------------------------


def present_now(
    using: str,
    keys: Sequence[str],
    named: Sequence[str],
    turns: Mapping[str, Turn] | None = None,
) -> None:
    """Tell of these objects. What cannot be told now is told later; a fault is logged with the names
    of the first of them. ``turns``: of those that have to take turns, as far as it is known."""
    fault: Exception | None
    try:
        outcome = _present(using, keys, Slots(lambda delay: look_again(using, delay)), turns=turns)
        left, fault = outcome.left, outcome.fault
    except Exception as error:
        raise_interruption(error)
        left, fault = set(keys), error
    if fault is not None and left:
        logger.warning(
            "Changes of %d objects are left to the sweep (%s). They are among those of %s.",
            len(left),
            fault,
            ", ".join([*named, *(["…"] if len(keys) > len(named) else [])]),
            exc_info=fault,
        )
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
    present_now(using, list(keys[:REMEMBERED]), [source])


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


def _present(
    using: str,
    keys: Sequence[str],
    slots: Slots,
    attempts: int = ATTEMPTS,
    turns: Mapping[str, Turn] | None = None,
) -> Outcome:
    outcome = Outcome()
    rest = iter(keys)
    while batch := list(islice(rest, AT_ONCE)):
        fault = None
        for attempt in range(attempts):
            done = _tried(using, batch, slots, turns)
            outcome.count += done.count
            batch, fault = sorted(done.left), done.fault
            if not batch or attempt == attempts - 1:
                break
            time.sleep(PAUSE * 2**attempt)
        outcome.left |= set(batch)
        outcome.fault = fault or outcome.fault
    return outcome


def _tried(
    using: str, keys: Sequence[str], slots: Slots, turns: Mapping[str, Turn] | None
) -> Outcome:
    try:
        return Batch(using, slots).present(keys, turns)
    except OperationalError as error:  # a deadlock, a snapshot that is too old, "locked"
        logger.info("Changes of %d objects are tried again (%s).", len(keys), error)
        return Outcome(left=set(keys), fault=error)


def listen_to_sweeps() -> None:
    """Have notes presented by each sweep. Asked for by the first declaration that makes notes."""
    sweep_also(present_due)
