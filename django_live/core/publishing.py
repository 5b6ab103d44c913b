"""Station 2: the way in. publish() and apublish(), after the commit of what they tell of.

Must keep true: nothing is sent before the transaction that caused it commits, and nothing after a
rollback, savepoints included; a fault after the commit never turns the caller's successful request
into an error; two transactions that write the same row are told in the order of their commits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from . import bus
from .background import background
from .events import Draft, Event, check_key, check_type, encode_data, known_connection
from .log import Appended, get_log
from .outbox import Entry, Numbered, get_outbox
from .topics import Topic, as_topic

logger = logging.getLogger("django_live.publishing")

SEND_TIMEOUT = 2.0
"""Seconds a sync caller waits for the channel layer. Later the event is found in the log."""

REMEMBERED = 10_000
"""Things whose stories one transaction keeps in memory. Those beyond are told at each change."""
MANY_TOPICS = 1000
"""Topics that one transaction keeps in memory. If it has more, whatever is pending is numbered."""

Observer = Callable[[Topic, Sequence[Event]], None]


def publish(
    topic: Topic | str,
    type: str,
    data: Any = None,
    *,
    namespace: str = "",
    using: str | None = None,
    on_commit: bool = True,
    exclude: str | None = None,
    conflate: str = "",
    idempotency_key: str = "",
) -> None:
    """Tell everybody who is subscribed to ``topic`` that ``type`` happened.

    ``topic`` is a Topic or the name of one; ``data`` is anything Django's JSON encoder takes. Inside a
    transaction (of the database ``using``) the event is sent after the commit and never after a
    rollback; ``on_commit=False`` sends it at once. ``exclude`` is the id of a connection that is
    spared. For topics without history ``conflate`` names what the event is the newest value of.

    Raises ``UnknownTopic``, ``InvalidTopic``, ``InvalidEvent``; outside a transaction also
    ``StoreError`` when the event could not be kept. ``RuntimeError`` inside a running event loop: use
    ``apublish`` there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(
            "publish() would block the event loop that runs here. Use `await apublish(…)`."
        )
    draft = Draft(
        type=check_type(type),
        data=encode_data(data),
        exclude=known_connection(exclude),
        conflate=check_key("conflate", conflate),
        idempotency_key=check_key("idempotency_key", idempotency_key),
    )
    publish_entries([Entry(as_topic(topic, namespace), draft)], using=using, on_commit=on_commit)


async def apublish(topic: Topic | str, type: str, data: Any = None, **options: Any) -> None:
    """``publish()`` for async callers; the same arguments and errors."""
    await sync_to_async(publish)(topic, type, data, **options)


def publish_entries(
    entries: Sequence[Entry],
    *,
    using: str | None = None,
    on_commit: bool = True,
    through_outbox: bool = False,
) -> None:
    """What publish() does, for several events of one cause. ``through_outbox`` asks for rows in the
    caller's transaction whatever the topics say."""
    alias = using or DEFAULT_DB_ALIAS
    connection = transaction.get_connection(alias)
    waits = on_commit or commits_by_itself(connection)
    boxed: list[Entry] = []
    direct: list[Entry] = []
    for entry in entries:
        is_boxed = through_outbox or _goes_through_outbox(entry.topic, waits)
        (boxed if is_boxed else direct).append(entry)
    if not on_commit or commits_by_itself(connection):
        _deliver_now(boxed, direct, alias)
        return
    if not connection.in_atomic_block:
        _leave_to_sweep([*boxed, *direct], alias)
        return
    if boxed:
        commit = Commit.of(connection)
        commit.note(None, added=get_outbox().add(boxed, alias))
        commit.will_number(boxed)
    if direct:
        after_commit(lambda: _deliver_now([], direct, alias), alias)


class Story(NamedTuple):
    """What a transaction has to tell of one thing, once, whatever it does to it.

    ``entries`` gets what the transaction has published under ``group`` and still stands, and the
    ``before`` of the group's first story, and answers with what takes its place. Outside a
    transaction nothing went before.
    """

    group: Hashable
    entries: Callable[[Sequence[Entry], Any], Sequence[Entry]]
    before: Any


def publish_stories(stories: Sequence[Story], *, using: str) -> None:
    """Publish through the outbox, with a few statements. Each story has another group."""
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block:
        entries = [entry for story in stories for entry in story.entries([], story.before)]
        if commits_by_itself(connection):
            _deliver_now(entries, [], using)
        else:
            _leave_to_sweep(entries, using)
        return
    outbox = get_outbox()
    commit = Commit.of(connection)
    known = [id for story in stories for id in commit.rows_of(story.group)]
    standing = outbox.pending(known, using) if known else {}
    told: list[list[int]] = []
    entries_of: list[Sequence[Entry]] = []
    for story in stories:
        told.append([id for id in commit.rows_of(story.group) if id in standing])
        first = commit.first_of(story.group, story.before)
        entries_of.append(story.entries([standing[id] for id in sorted(told[-1])], first))
    if standing:
        outbox.remove(list(standing), using)
    entries = [entry for one in entries_of for entry in one]
    added = iter(outbox.add(entries, using) if entries else [])
    savepoints = _savepoints(connection)
    for story, removed, own in zip(stories, told, entries_of, strict=True):
        ids = list(islice(added, len(own)))
        commit.note(story.group, added=ids, removed=removed, savepoints=savepoints)
    commit.will_number(entries)


def commits_by_itself(connection: BaseDatabaseWrapper) -> bool:
    """Whether each statement is a transaction of its own: neither ``atomic`` nor autocommit off."""
    return not connection.in_atomic_block and connection.get_autocommit()


def after_commit(work: Callable[[], None], using: str) -> None:
    """``transaction.on_commit()`` for our own work: robust."""
    transaction.on_commit(AfterCommit(work), using=using, robust=True)


def _goes_through_outbox(topic: Topic, waits: bool) -> bool:
    # Rows in a transaction cannot be numbered before it commits; who does not wait has none, unless
    # the log itself is in that database.
    return (topic.outbox and waits) or (topic.history is not None and get_log().uses_outbox)


def _leave_to_sweep(entries: Sequence[Entry], alias: str) -> None:
    """With autocommit off Django has no hook for the commit; so everything goes through the outbox."""
    if entries:
        get_outbox().add(entries, alias)


def _savepoints(connection: BaseDatabaseWrapper) -> frozenset[str]:
    """The savepoints that are open; ``atomic(savepoint=False)`` notes a None."""
    return frozenset(filter(None, connection.savepoint_ids))


class AfterCommit:
    """A commit hook that runs once, also where a test runs it early (``settle``)."""

    def __init__(self, work: Callable[[], None], commit: Commit | None = None) -> None:
        self.commit = commit
        # Django's report of a failing robust hook wants one.
        self.__qualname__ = getattr(work, "__qualname__", repr(work))
        self._work: Callable[[], None] | None = work

    def __call__(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()


class Commit:
    """What one transaction has published; found again as long as that transaction lives.

    Django has no hook for a rollback. But it forgets the commit hooks of what was rolled back: so the
    object hangs on its own hooks, and a transaction without one of them begins with a new object.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.topics: dict[str, Topic] = {}
        self.numbered = False
        self.first: dict[Hashable, Any] = {}
        """By group the ``before`` of its first story."""
        self._rows: dict[Hashable, dict[int, frozenset[str]]] = {}
        """By group the ids of its rows, and the savepoints whose rollback would bring a removed row
        back. Rows that stand have none."""
        self._group_of: dict[int, Hashable] = {}

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

    def will_number(self, entries: Iterable[Entry]) -> None:
        """Number these topics' rows after the commit. Asked for at every publish, because a
        savepoint that is rolled back takes its hooks along; the first that runs serves all."""
        for entry in entries:
            if len(self.topics) <= MANY_TOPICS:
                self.topics.setdefault(entry.topic.key, entry.topic)
        hook = AfterCommit(self.number, commit=self)
        transaction.on_commit(hook, using=self.alias, robust=True)

    def number(self) -> None:
        if self.numbered:
            return
        self.numbered = True
        outbox = get_outbox()
        if len(self.topics) > MANY_TOPICS:
            send_numbered(outbox.sweep(self.alias))
        else:
            send_numbered(outbox.number(list(self.topics.values()), self.alias))


def _deliver_now(boxed: Sequence[Entry], direct: Sequence[Entry], alias: str) -> None:
    if boxed:
        topics = list({entry.topic.key: entry.topic for entry in boxed}.values())
        send_numbered(get_outbox().number(topics, alias, also=boxed))
    for entry in direct:
        send_numbered([Numbered(entry.topic, append_direct(entry))])


def append_direct(entry: Entry) -> Appended:
    """Number one event without the outbox; without a log it keeps the offset 0."""
    if entry.topic.history is None:
        draft = entry.draft
        event = Event(
            type=draft.type, data=draft.data, exclude=draft.exclude, conflate=draft.conflate
        )
        return Appended("", [event])
    return get_log().append(entry.topic, [entry.draft])


# -- sending what has been numbered ----------------------------------------------------------------

_observers: list[Observer] = []


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Also tell ``observer`` what this process sends, for tests."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def send_numbered(batches: Iterable[Numbered]) -> None:
    """Send numbered events to every process. A layer that fails is logged and costs no event: topics
    with history are read from the log."""
    for topic, appended in batches:
        _show_observers(topic, appended.events)
        messages = list(bus.envelopes(topic.key, appended.epoch, appended.events))
        try:
            if not bus.reaches_other_processes():
                bus.send_local(messages)
            else:
                _send_and_wait(messages)
        except Exception as error:
            logger.warning(
                "%d events of %s were not sent over the channel layer (%s: %s). Those of topics with "
                "history arrive from the log.",
                len(appended.events),
                topic.name,
                error.__class__.__name__,
                error,
            )


def _send_and_wait(messages: Sequence[bus.Envelope]) -> None:
    sending = background.submit(bus.send(messages))
    try:
        sending.result(timeout=SEND_TIMEOUT)
    except TimeoutError:
        sending.cancel()  # else those that wait behind it would pile up in memory
        raise


def _show_observers(topic: Topic, events: Sequence[Event]) -> None:
    for observer in _observers:
        try:
            observer(topic, events)
        except Exception:
            logger.exception("%r failed.", observer)


def settle(using: str = DEFAULT_DB_ALIAS) -> None:
    """For tests inside a transaction that never commits: what was published in it so far counts as
    committed."""
    for _, hook, _ in list(transaction.get_connection(using).run_on_commit):
        if isinstance(hook, AfterCommit):
            hook()
    sweep(using)


def sweep_everywhere() -> dict[str, int]:
    """``sweep()`` on each database that has an outbox; how many events, by alias. Raises the first
    fault when all of them were tried."""
    counts: dict[str, int] = {}
    faults: list[Exception] = []
    for alias in get_outbox().aliases():
        try:
            counts[alias] = sweep(alias)
        except Exception as error:
            faults.append(error)
    if faults:
        raise faults[0]
    return counts


def sweep(using: str | None = None) -> int:
    """Number and send the outbox rows that other processes left behind. How many events."""
    count = 0

    def counted(batches: Iterable[Numbered]) -> Iterator[Numbered]:
        nonlocal count
        for batch in batches:
            count += len(batch.appended.events)
            yield batch

    send_numbered(counted(get_outbox().sweep(using or DEFAULT_DB_ALIAS)))
    return count
