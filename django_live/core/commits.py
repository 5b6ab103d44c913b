"""What one transaction has published, from its first event to its end.

Must keep true: what was rolled back, savepoints included, is not told; a fault after the commit does
not reach the caller.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from . import sweeping
from .allowance import Allowance
from .blocks import BlockVariable
from .interruptions import raise_interruption
from .outbox import Entry, told_of
from .topics import Topic

logger = logging.getLogger("django_live.publishing")

REMEMBERED = 10_000
"""Things whose stories one transaction keeps in memory. Those beyond are told at each change."""
MANY_TOPICS = 1000
"""Topics that one transaction keeps in memory. If it has more, or more rows than that, they are
numbered in the background: its caller does not wait."""
NAMED = 5
"""Things that a line in the log names."""


def commits_by_itself(connection: BaseDatabaseWrapper) -> bool:
    """Whether each statement is a transaction of its own: neither ``atomic`` nor autocommit off."""
    return not connection.in_atomic_block and connection.get_autocommit()


def savepoints_of(connection: BaseDatabaseWrapper) -> frozenset[str]:
    """The savepoints that are open; ``atomic(savepoint=False)`` notes a None."""
    return frozenset(filter(None, connection.savepoint_ids))


def after_commit(work: Callable[[], None], using: str) -> None:
    """``transaction.on_commit()`` for our own work: robust."""
    transaction.on_commit(AfterCommit(work, allowance=_allowance_of(using)), using=using)


def _allowance_of(using: str) -> Allowance:
    """What the hooks of one commit share: so ten events wait no longer than one."""
    hooks = (hook[1] for hook in reversed(transaction.get_connection(using).run_on_commit))
    newest = next((hook for hook in hooks if isinstance(hook, AfterCommit)), None)
    # In a test's transaction the hooks that have run are still there.
    return newest.allowance if newest and not newest.allowance.is_begun else Allowance()


# -- who is answered first --------------------------------------------------------------------------


class PutOff:
    """What was committed in a block of ``putting_off()`` and is not told yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: list[Callable[[], None]] | None = []

    def add(self, work: Callable[[], None]) -> bool:
        """Keep it for ``tell()``; False where that was called already: a thread may outlive the block
        whose context it has a copy of."""
        with self._lock:
            if self._works is not None:
                self._works.append(work)
            return self._works is not None

    @property
    def has_any(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._works)

    def tell(self) -> None:
        """Do all of it, in order; a fault of one is logged."""
        with self._lock:
            works, self._works = self._works or [], None
        with Allowance().in_force():
            for work in works:
                try:
                    work()
                except Exception as error:
                    raise_interruption(error)
                    logger.exception("What was put off after a commit has failed.")


_put_off = BlockVariable[PutOff | None]("put_off", default=None)


@contextmanager
def putting_off() -> Iterator[PutOff]:
    """Commits in this block are told by ``tell()`` of what it yields, which its caller has to call: when
    somebody waits for the commit and need not wait for the numbering, too. A process that dies in
    between has its rows in the outbox, as at any other moment before they are numbered."""
    waiting = PutOff()
    with _put_off.holding(waiting):
        yield waiting


def tell_of_commit(work: Callable[[], None]) -> None:
    """Do this now, after a commit, or when whoever waits for the commit was answered."""
    waiting = _put_off.get()
    if waiting is None or not waiting.add(work):
        work()


class AfterCommit:
    """A commit hook that runs once, also where a test runs it early (``settle``).

    What fails in it is logged. Django's own robust hooks would also keep from the caller what a signal
    handler raised.
    """

    def __init__(
        self,
        work: Callable[[], None],
        commit: Commit | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.commit = commit
        self.allowance = allowance or Allowance()
        self._work: Callable[[], None] | None = work

    def __call__(self) -> None:
        work, self._work = self._work, None
        if work is None:
            return
        try:
            with self.allowance.in_force():
                work()
        except Exception as error:
            raise_interruption(error)
            name = getattr(work, "__qualname__", repr(work))
            logger.exception("What was to be done after a commit has failed (%s).", name)


class Bundled(NamedTuple):
    """The things that a bundle tells of, an event each."""

    subject: tuple[str, ...]
    keys: list[Any]

    def groups(self) -> list[Hashable]:
        return [(*self.subject, key) for key in self.keys]


class Commit:
    """What one transaction has published; found again as long as that transaction lives.

    Django has no hook for a rollback. But it forgets the commit hooks of what was rolled back: so the
    object hangs on its own hooks, and a transaction without one of them begins with a new object.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.topics: dict[str, Topic] = {}
        self.numbered = False
        self.rows = 0
        self.has_bundles = False
        self.about: list[Hashable] = []
        """Things that it has told of without a story."""
        self.first: dict[Hashable, Any] = {}
        """By group the ``before`` of its first story."""
        self._rows: dict[Hashable, dict[int, frozenset[str]]] = {}
        """By group the ids of its rows, and the savepoints whose rollback would bring a removed row
        back. Rows that stand have none."""
        self._group_of: dict[int, Hashable] = {}
        self.bundles: dict[int, Bundled] = {}
        self._bundled: dict[int, frozenset[Hashable]] = {}

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> Commit:
        """The object of the transaction that is open on this connection."""
        for hook in reversed(connection.run_on_commit):
            commit = getattr(hook[1], "commit", None)
            if isinstance(commit, cls) and not commit.numbered:
                return commit
        return cls(connection.alias)

    def rows_of(self, group: Hashable) -> list[int]:
        """The rows of a group that may stand; a savepoint may have been rolled back."""
        # SQLite gives the id of a rolled-back row out again: the row may be another group's now.
        return [id for id in self._rows.get(group, ()) if self._group_of[id] == group]

    def first_of(self, group: Hashable, before: Any) -> Any:
        """The ``before`` of this group's first story, which this one may be."""
        if group not in self.first and len(self.first) < REMEMBERED:
            self.first[group] = before
        return self.first.get(group, before)

    def note(
        self,
        group: Hashable,
        *,
        added: Iterable[int],
        removed: Iterable[int] = (),
        savepoints: frozenset[str] = frozenset(),
    ) -> None:
        """Remember which rows were written and removed inside these savepoints."""
        if group not in self.first:
            # Nobody will ask for them; but SQLite may give out again what was another group's.
            self._group_of.update((id, None) for id in added if id in self._group_of)
            return
        rows = self._rows.get(group, {}) | dict.fromkeys(removed, savepoints)
        # What was removed in savepoints that are all released by now cannot come back.
        self._rows[group] = {id: left for id in rows if (left := rows[id] & savepoints)}
        for id in added:
            self._rows[group][id] = frozenset()
            self._group_of[id] = group

    def note_bundle(self, id: int, bundled: Bundled) -> None:
        """Remember which things a bundle tells of."""
        self.has_bundles = True
        if sum(len(known.keys) for known in self.bundles.values()) < 2 * REMEMBERED:
            self.bundles[id] = bundled

    def bundles_of(self, groups: Iterable[Hashable]) -> list[int]:
        """The bundles that tell of these things; perhaps they were opened, or rolled back."""
        wanted = set(groups) if self.bundles else set()
        found = []
        for id, own in self.bundles.items() if wanted else ():
            if id not in self._bundled:
                self._bundled[id] = frozenset(own.groups())
            if not wanted.isdisjoint(self._bundled[id]):
                found.append(id)
        return found

    def will_number(self, entries: Iterable[Entry]) -> None:
        """Number these topics' rows after the commit. Asked for at every publish, because a
        savepoint that is rolled back takes its hooks along; the first that runs serves all."""
        for entry in entries:
            self.rows += 1
            if len(self.topics) <= MANY_TOPICS:
                self.topics.setdefault(entry.topic.key, entry.topic)
        hook = AfterCommit(self.number, commit=self, allowance=_allowance_of(self.alias))
        transaction.on_commit(hook, using=self.alias)

    def number(self) -> None:
        if self.numbered:
            return
        self.numbered = True
        tell_of_commit(self._number)

    def _number(self) -> None:
        if max(len(self.topics), self.rows) > MANY_TOPICS:
            sweeping.sweep_later(self.alias)
            return
        topics = list(self.topics.values())
        if topics:
            try:
                with told_of.holding(self._subjects):
                    sweeping.number_now(topics, self.alias)
            except Exception as error:
                raise_interruption(error)
                # Their rows are committed: the sweep, or the next publish, tells them.
                logger.exception("The events of %s are left to the sweep.", self._subjects())
        if self.has_bundles:
            sweeping.sweep_later(self.alias)

    def _subjects(self) -> str:
        """What this transaction told of, for a line in the log: the changes with the key of the
        object, else the topics."""
        told = [*self.first, *self.about]
        groups = [" ".join(map(str, one)) for one in told if isinstance(one, tuple)]
        names = groups or [topic.name for topic in self.topics.values()]
        return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def settle(using: str = DEFAULT_DB_ALIAS) -> None:
    """For tests inside a transaction that never commits: what was published in it so far counts as
    committed."""
    for _, hook, _ in list(transaction.get_connection(using).run_on_commit):
        if isinstance(hook, AfterCommit):
            hook()
    sweeping.sweep(using)
