"""Station 2: the way in. publish() and apublish(), after the commit of what they tell of.

Must keep true: nothing is sent before the transaction that caused it commits, and nothing after a
rollback, savepoints included; a fault after the commit never turns the caller's successful request
into an error; two transactions that write the same row are told in the order of their commits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..exceptions import InvalidEvent
from . import bus
from .background import background
from .bundles import Told, pack
from .errands import Errands
from .events import Draft, Event, check_key, check_type, encode_data, known_connection
from .log import Appended, get_log
from .outbox import Entry, Numbered, get_outbox, told_of
from .topics import Topic, as_topic

logger = logging.getLogger("django_live.publishing")

SEND_TIMEOUT = 1.5
"""Seconds a sync caller waits for the channel layer, whatever it sends. Later the events are found in
the log."""
MESSAGES_AT_ONCE = 200
BYTES_AT_ONCE = 1024 * 1024
"""Messages, and data in them, that are handed on together."""

REMEMBERED = 10_000
"""Things whose stories one transaction keeps in memory. Those beyond are told at each change."""
MANY_TOPICS = 1000
"""Topics that one transaction keeps in memory. If it has more, or more rows than that, they are
numbered in the background: its caller does not wait."""
NAMED = 5
"""Things that a line in the log names."""
SWEEPS = 20
SWEEP_PAUSE = 0.05
"""How often the background looks again for rows that somebody else was numbering, and the seconds
between."""

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
    refuse_event_loop("publish")
    draft = _draft(type, data, exclude, conflate, idempotency_key)
    publish_entries([Entry(as_topic(topic, namespace), draft)], using=using, on_commit=on_commit)


def publish_many(
    items: Iterable[Item], *, using: str | None = None, on_commit: bool = True
) -> None:
    """``publish()`` for many events at once: in their order, with a few statements or round trips.

    An item is ``(topic, type)``, ``(topic, type, data)``, or a dict with those arguments of
    ``publish()`` that speak of the event. If one of them is not right, nothing is published. Inside a
    transaction all are sent after the commit or none; outside, each topic gets all of its events or
    none. Raises what ``publish()`` raises; then some topics may have theirs, and items with an
    ``idempotency_key`` can be published again.
    """
    refuse_event_loop("publish_many")
    resolve = cache(as_topic)  # a name is looked up once
    entries = [_entry(item, resolve) for item in items]
    publish_entries(entries, using=using, on_commit=on_commit)


async def apublish_many(items: Iterable[Item], **options: Any) -> None:
    """``publish_many()`` for async callers; the same arguments and errors."""
    await sync_to_async(publish_many)(list(items), **options)


Item = tuple[Topic | str, str] | tuple[Topic | str, str, Any] | Mapping[str, Any]


def _entry(item: Item, resolve: Callable[[Topic | str, str], Topic]) -> Entry:
    if isinstance(item, Mapping):
        return _entry_of(resolve, **item)
    if not isinstance(item, tuple | list):
        raise InvalidEvent(f"{item!r} is neither (topic, type, data) nor a dict.")
    return _entry_of(resolve, *item)


def _entry_of(
    resolve: Callable[[Topic | str, str], Topic],
    topic: Topic | str,
    type: str,
    data: Any = None,
    *,
    namespace: str = "",
    exclude: str | None = None,
    conflate: str = "",
    idempotency_key: str = "",
) -> Entry:
    draft = _draft(type, data, exclude, conflate, idempotency_key)
    return Entry(topic if isinstance(topic, Topic) else resolve(topic, namespace), draft)


def _draft(type: str, data: Any, exclude: str | None, conflate: str, idempotency_key: str) -> Draft:
    return Draft(
        type=check_type(type),
        data=encode_data(data),
        exclude=known_connection(exclude),
        conflate=check_key("conflate", conflate),
        idempotency_key=check_key("idempotency_key", idempotency_key),
    )


def refuse_event_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"{name}() would block the event loop that runs here. Use `await a{name}(…)`."
    )


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
    _open_bundles(commit, [story.group for story in stories], using)
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


def publish_bundles(told: Iterable[Told], *, using: str, names: Sequence[str] = ()) -> None:
    """Publish very many events inside a transaction: a few rows, which the background numbers after
    the commit. They are about things that have no story in it yet; ``names`` as for ``pack()``.

    Raises ``InvalidEvent`` for data that is no JSON, and then nothing is published.
    """
    packed = pack(told, names)
    ids = get_outbox().add_bundles([bundle for bundle, _ in packed], using)
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        commit = Commit.of(connection)
        for id, (_, groups) in zip(ids, packed, strict=True):
            commit.note_bundle(id, groups)
        commit.will_number(())


def _open_bundles(commit: Commit, groups: Iterable[Hashable], using: str) -> None:
    """Make rows of the bundles that hold these things, so that a second story can replace the first."""
    ids = commit.bundles_of(groups)
    if not ids:
        return
    outbox = get_outbox()
    rows: dict[Hashable, list[int]] = {}
    for id, entries in outbox.opened(ids, using).items():
        groups = commit.bundles[id]
        if len(entries) != len(groups):
            continue  # a topic in it cannot be made: which event is whose is not known
        outbox.remove([id], using)
        for group, row in zip(groups, outbox.add(entries, using), strict=True):
            rows.setdefault(group, []).append(row)
        commit.will_number(entries)
    # The bundles stay known: a savepoint that is rolled back brings them back.
    savepoints = _savepoints(transaction.get_connection(using))
    for group, added in rows.items():
        commit.first_of(group, None)
        commit.note(group, added=added, savepoints=savepoints)


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
        self.rows = 0
        self.has_bundles = False
        self.first: dict[Hashable, Any] = {}
        """By group the ``before`` of its first story."""
        self._rows: dict[Hashable, dict[int, frozenset[str]]] = {}
        """By group the ids of its rows, and the savepoints whose rollback would bring a removed row
        back. Rows that stand have none."""
        self._group_of: dict[int, Hashable] = {}
        self.bundles: dict[int, list[Hashable]] = {}
        """By bundle the group of each of its events."""
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

    def note_bundle(self, id: int, groups: list[Hashable]) -> None:
        """Remember which things a bundle tells of, an event each."""
        self.has_bundles = True
        if sum(map(len, self.bundles.values())) < 2 * REMEMBERED:
            self.bundles[id] = groups

    def bundles_of(self, groups: Iterable[Hashable]) -> list[int]:
        """The bundles that tell of these things; perhaps they were opened, or rolled back."""
        wanted = set(groups) if self.bundles else set()
        found = []
        for id, own in self.bundles.items() if wanted else ():
            if id not in self._bundled:
                self._bundled[id] = frozenset(own)
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
        hook = AfterCommit(self.number, commit=self)
        transaction.on_commit(hook, using=self.alias, robust=True)

    def number(self) -> None:
        if self.numbered:
            return
        self.numbered = True
        if max(len(self.topics), self.rows) > MANY_TOPICS:
            _sweep_later(self.alias)
            return
        topics = list(self.topics.values())
        if topics:
            token = told_of.set(self._subjects)
            try:
                _number(topics, self.alias)
            except Exception:
                # Their rows are committed: the sweep, or the next publish, tells them.
                logger.exception("The events of %s are left to the sweep.", self._subjects())
            finally:
                told_of.reset(token)
        if self.has_bundles:
            _sweep_later(self.alias)

    def _subjects(self) -> str:
        """What this transaction told of, for a line in the log: the changes with the key of the
        object, else the topics."""
        groups = [" ".join(map(str, one)) for one in self.first if isinstance(one, tuple)]
        names = groups or [topic.name for topic in self.topics.values()]
        return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _deliver_now(boxed: Sequence[Entry], direct: Sequence[Entry], alias: str) -> None:
    if boxed:
        topics = list({entry.topic.key: entry.topic for entry in boxed}.values())
        _number(topics, alias, also=boxed)
    send_numbered(append_direct(direct))


def _number(topics: Sequence[Topic], alias: str, also: Sequence[Entry] = ()) -> None:
    if not send_numbered(get_outbox().number(topics, alias, also)):
        # Somebody else has the topics, or a bundle comes first. In a process without an event loop
        # nobody might look again.
        _sweep_later(alias)


def append_direct(entries: Sequence[Entry]) -> Iterator[Numbered]:
    """Number events without the outbox; without a log they keep the offset 0."""
    by_topic: dict[str, list[Entry]] = {}
    for entry in entries:
        by_topic.setdefault(entry.topic.key, []).append(entry)
    kept: list[tuple[Topic, list[Draft]]] = []
    for of_topic in by_topic.values():
        topic, drafts = of_topic[0].topic, [entry.draft for entry in of_topic]
        if topic.history is not None:
            kept.append((topic, drafts))
            continue
        events = [
            Event(type=draft.type, data=draft.data, exclude=draft.exclude, conflate=draft.conflate)
            for draft in drafts
        ]
        yield Numbered(topic, Appended("", events))
    for start in range(0, len(kept), MESSAGES_AT_ONCE):
        some = kept[start : start + MESSAGES_AT_ONCE]
        for (topic, _), appended in zip(some, get_log().append_many(some), strict=True):
            yield Numbered(topic, appended)


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


def send_numbered(batches: Iterable[Numbered]) -> int:
    """Send numbered events to every process; how many. A layer that fails is logged and costs no
    event: topics with history are read from the log."""
    count = 0
    sending = _Sending()
    try:
        for topic, appended in batches:
            count += len(appended.events)
            _show_observers(topic, appended.events)
            sending.add(topic, appended)
    finally:
        # What is numbered is sent, also where the numbering of the next has failed.
        sending.finish()
    return count


class _Sending:
    """Hands messages on, several at a time, and stops waiting for a layer that does not answer."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._names: dict[str, str] = {}
        self._messages: list[bus.Envelope] = []
        self._size = 0

    def add(self, topic: Topic, appended: Appended) -> None:
        self._names[topic.key] = topic.name
        for message in bus.envelopes(topic.key, appended.epoch, appended.events):
            self._messages.append(message)
            self._size += bus.size_of(message)
            if len(self._messages) >= MESSAGES_AT_ONCE or self._size >= BYTES_AT_ONCE:
                self._hand_on()

    def finish(self) -> None:
        if self._messages:
            self._hand_on()

    def _hand_on(self) -> None:
        messages, self._messages, self._size = self._messages, [], 0
        try:
            if not bus.reaches_other_processes():
                bus.send_local(messages)
            else:
                self._send_and_wait(messages)
        except Exception as error:
            names = {self._names[message["key"]] for message in messages}
            logger.warning(
                "%d events of %s were not sent over the channel layer (%s: %s). Those of topics with "
                "history arrive from the log.",
                sum(len(message["events"]) for message in messages),
                ", ".join(names) if len(names) == 1 else f"{len(names)} topics",
                error.__class__.__name__,
                error,
            )

    def _send_and_wait(self, messages: Sequence[bus.Envelope]) -> None:
        began = time.monotonic()
        if self._deadline is None:
            self._deadline = began + SEND_TIMEOUT
        if began >= self._deadline:
            raise TimeoutError("it has not answered before")
        sending = background.submit(bus.send(messages))
        try:
            sending.result(timeout=self._deadline - began)
        except TimeoutError:
            sending.cancel()  # else those that wait behind it would pile up in memory
            raise
        self._deadline += time.monotonic() - began  # it answers


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
    alias = using or DEFAULT_DB_ALIAS
    count = 0
    try:
        for work in _also_at_sweeps:
            count += work(alias)
    finally:
        count += send_numbered(get_outbox().sweep(alias))
    return count


_also_at_sweeps: list[Callable[[str], int]] = []


def sweep_also(work: Callable[[str], int]) -> None:
    """Have ``work(alias)`` done at each sweep, too; it answers how many events it has told."""
    if work not in _also_at_sweeps:
        _also_at_sweeps.append(work)


def _sweep_later(using: str) -> None:
    """Sweep where nobody waits for it; in a test's transaction, which no other thread sees into, now."""
    if transaction.get_connection(using).in_atomic_block:
        sweep(using)
    else:
        errands.ask(using)


def _sweep_what_waits(using: str) -> None:
    try:
        for _ in range(SWEEPS):
            sweep(using)
            if not get_outbox().waits(using):
                return
            time.sleep(SWEEP_PAUSE)  # for those who number some of it
    finally:
        connections[using].close()


errands = Errands(_sweep_what_waits)
"""What this process numbers in the background."""
