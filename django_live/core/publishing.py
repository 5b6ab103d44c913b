"""Station 2: the way in. publish() and apublish(), after the commit of what they tell of.

Must keep true: nothing is sent before the transaction that caused it commits, and nothing after a
rollback, savepoints included (``commits.py``); a fault after the commit never turns the caller's
successful request into an error; two transactions that write the same row are told in the order of
their commits, because who numbers takes every waiting row (``sweeping.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, OperationalError, transaction

from ..exceptions import InvalidEvent
from .allowance import Allowance
from .bundles import Told, pack
from .commits import (
    NAMED,
    Bundled,
    Commit,
    after_commit,
    commits_by_itself,
    savepoints_of,
    tell_of_commit,
)
from .events import Draft, check_key, check_type, encode_data, known_connection
from .log import get_log
from .outbox import Entry, Numbered, get_outbox
from .sending import append_direct, send_numbered
from .sweeping import number_here, number_now
from .topics import Topic, as_topic


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
    publish_entries(_entries(items), using=using, on_commit=on_commit)


async def apublish_many(items: Iterable[Item], **options: Any) -> None:
    """``publish_many()`` for async callers; the same arguments and errors."""
    await sync_to_async(publish_many)(list(items), **options)


Item = tuple[Topic | str, str] | tuple[Topic | str, str, Any] | Mapping[str, Any]


def _entries(items: Iterable[Item]) -> list[Entry]:
    resolve = cache(as_topic)  # a name is looked up once
    return [_entry(item, resolve) for item in items]


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
    await _publish_in_thread(topic, type, data, **options)


# Made once: making it costs 10 µs, a fifth of the way to the thread and back.
_publish_in_thread = sync_to_async(publish)


def publish_entries(
    entries: Sequence[Entry],
    *,
    using: str | None = None,
    on_commit: bool = True,
    through_outbox: bool = False,
    about: Iterable[Hashable] = (),
) -> None:
    """What publish() does, for several events of one cause. ``through_outbox`` asks for rows in the
    caller's transaction whatever the topics say; ``about`` are things that they tell of, which the log
    names when something fails."""
    alias = using or DEFAULT_DB_ALIAS
    connection = transaction.get_connection(alias)
    waits = on_commit or commits_by_itself(connection)
    boxed: list[Entry] = []
    direct: list[Entry] = []
    for entry in entries:
        is_boxed = through_outbox or goes_through_outbox(entry.topic, waits)
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
        commit.about += islice(about, NAMED + 1)
        commit.will_number(boxed)
    if direct:
        after_commit(lambda: tell_of_commit(lambda: _deliver_now([], direct, alias)), alias)


class NumberingFailed(OperationalError):
    """A deadlock, or somebody who makes one of the topics just now, has ended the transaction before its
    commit. Without numbering it may succeed."""


class OwnTransaction:
    """A transaction that tells of what it did as its last step."""

    def __init__(self, using: str, *, may_number: bool) -> None:
        self._numbered: Sequence[Numbered] = ()
        self._using = using
        self._may_number = may_number

    def publish_many(self, items: Iterable[Item]) -> None:
        """Publish these: numbered at once where that is possible, else by way of the outbox."""
        entries = _entries(items)
        if not self.number(entries):
            publish_entries(entries, using=self._using)

    def number(self, entries: Sequence[Entry], notes: Sequence[int] = ()) -> bool:
        """Number these and delete the notes with these ids. False: nothing was done, and they have to
        become rows. Once, and nothing is published in this transaction after it. Raises
        ``NumberingFailed``."""
        if not (entries and self._may_number):
            return False
        try:
            numbered = number_here(entries, self._using, notes)
        except OperationalError as error:
            raise NumberingFailed(*error.args) from error
        self._numbered = numbered or ()
        return numbered is not None

    def send(self) -> None:
        """Send what was numbered. After the commit."""
        send_numbered(self._numbered)


@contextmanager
def own_transaction(using: str, *, numbers: bool = True) -> Iterator[OwnTransaction]:
    """A transaction of our own, in which events need not be rows first. They are sent when it has
    committed. Inside a caller's transaction it is a savepoint, and they are rows; also without
    ``numbers``."""
    with get_outbox().numbering(using) as may_number:
        own = OwnTransaction(using, may_number=may_number and numbers)
        yield own
    tell_of_commit(own.send)


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
    savepoints = savepoints_of(connection)
    for story, removed, own in zip(stories, told, entries_of, strict=True):
        ids = list(islice(added, len(own)))
        commit.note(story.group, added=ids, removed=removed, savepoints=savepoints)
    commit.will_number(entries)


def publish_bundles(told: Told, type: str, *, subject: tuple[str, ...], using: str) -> None:
    """Publish very many events inside a transaction: a few rows, which the background numbers after
    the commit. They are about things that have no story in it yet: their groups are the ``subject``
    with the key of each.

    Raises ``InvalidEvent`` for data that is no JSON, and then nothing is published.
    """
    packed = pack(told, type)
    ids = get_outbox().add_bundles([bundle for bundle, _ in packed], using)
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        commit = Commit.of(connection)
        for id, (_, keys) in zip(ids, packed, strict=True):
            commit.note_bundle(id, Bundled(subject, keys))
        commit.will_number(())


def _open_bundles(commit: Commit, groups: Iterable[Hashable], using: str) -> None:
    """Make rows of the bundles that hold these things, so that a second story can replace the first."""
    ids = commit.bundles_of(groups)
    if not ids:
        return
    outbox = get_outbox()
    rows: dict[Hashable, list[int]] = {}
    for id, entries in outbox.opened(ids, using).items():
        groups = commit.bundles[id].groups()
        if len(entries) != len(groups):
            continue  # a topic in it cannot be made: which event is whose is not known
        outbox.remove([id], using)
        for group, row in zip(groups, outbox.add(entries, using), strict=True):
            rows.setdefault(group, []).append(row)
        commit.will_number(entries)
    # The bundles stay known: a savepoint that is rolled back brings them back.
    savepoints = savepoints_of(transaction.get_connection(using))
    for group, added in rows.items():
        commit.first_of(group, None)
        commit.note(group, added=added, savepoints=savepoints)


def goes_through_outbox(topic: Topic, waits: bool) -> bool:
    """Whether an event of this topic is a row first. ``waits``: it is sent after a commit."""
    # Rows in a transaction cannot be numbered before it commits; who does not wait has none, unless
    # the log itself is in that database.
    return (topic.outbox and waits) or (topic.history is not None and get_log().uses_outbox)


def _leave_to_sweep(entries: Sequence[Entry], alias: str) -> None:
    """With autocommit off Django has no hook for the commit; so everything goes through the outbox."""
    if entries:
        get_outbox().add(entries, alias)


def _deliver_now(boxed: Sequence[Entry], direct: Sequence[Entry], alias: str) -> None:
    with Allowance().in_force():
        if boxed:
            topics = list({entry.topic.key: entry.topic for entry in boxed}.values())
            number_now(topics, alias, also=boxed)
        send_numbered(append_direct(direct))
