"""The log in the project's own database: one row per event, one head per topic.

Numbering happens in a transaction of its own that holds the head (``heads.py``), so offsets are
contiguous and become visible in order. Readers lock nothing: they read the head first, the events
second, and notice when a trim came in between.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar

from django.db import DatabaseError, connections
from django.db.models import OuterRef, Subquery

from ..conf import live_settings
from ..core import headway
from ..core.events import Draft, Event, Position
from ..core.log import Appended, EventLog, Head, Page
from ..core.topics import History, Topic, registry
from ..exceptions import InvalidTopic, StoreError
from ..models import Head as HeadRow
from ..models import StoredEvent
from . import clock
from .blocks import Block, block_of
from .bulk_rows import insert_rows, update_rows
from .epochs import new_epoch
from .heads import (
    GENERATION,
    Patience,
    delete_rows,
    generation,
    is_transient,
    make_heads,
    read_heads,
    with_heads,
)

UNDECLARED = History(events=sys.maxsize, age=timedelta(days=1))
"""What is kept of topics that this process does not know. During a deploy another one may know them,
so how many there are does not matter."""
FIRST_ROWS = 16
"""Rows that a read asks for before it knows how large they are."""
READ_ATTEMPTS = 5
KEYS_PER_QUERY = 10_000
"""SQLite takes 32,766 parameters in one statement."""
HEADS_PER_PAGE = 500

_EVENT_COLUMNS = ("type", "data", "offset", "exclude", "created")

T = TypeVar("T")


class DatabaseLog(EventLog):
    """Events in the tables of the alias ``DJANGO_LIVE["DATABASE"]``."""

    shared = True
    uses_outbox = True

    @property
    def using(self) -> str:
        return live_settings().DATABASE

    def lives_in(self, using: str) -> bool:
        """Whether this alias is the log's own database, so that one transaction can serve both."""
        return using == self.using or _address(using) == _address(self.using)

    # -- writing -----------------------------------------------------------------------------------

    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        def write(head: HeadRow) -> Appended:
            return write_events(self.using, [(head, drafts)])[0]

        return self._holding(topic, write)

    def begin_epoch(self, topic: Topic, seen: Head) -> Head:
        def begin(head: HeadRow) -> Head:
            if head.epoch == seen.epoch:
                head.epoch = new_epoch()
                head.last = head.floor = max(head.last, seen.last)
                head.floor_created = head.updated
                head.save(using=self.using)
            return Head(head.epoch, head.last, head.floor)

        return self._holding(topic, begin)

    def _holding(self, topic: Topic, work: Callable[[HeadRow], T]) -> T:
        """``work(head)`` while this process alone may write to the topic."""
        using, patience = self.using, Patience()
        while True:
            done = with_heads(
                using, [topic.key], lambda heads: [work(head) for head in heads.values()]
            )
            if done:
                return done[0]
            if make_heads(using, {topic.key: topic}):
                continue
            if patience.is_over():
                raise StoreError(f"{topic.name} is being written to by others for too long.")
            patience.wait()

    # -- reading -----------------------------------------------------------------------------------

    def read(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        head, events = Head(""), list[Event]()
        for _ in range(READ_ATTEMPTS):
            row = self._rows([topic.key]).get(topic.key)
            if row is None:
                return Page(Head(generation(self.using)), [])
            head = Head(row.epoch, row.last, row.floor)
            start = max(after, head.floor)
            if limit < 1 or start >= head.last:
                return Page(head, [])
            events = self._events_after(row.pk, start, limit, max_bytes)
            if events and events[0].offset == start + 1:
                return Page(head, events)
            # The events are gone: trimmed since the head was read, which the next look at it shows.
        # Or deleted by somebody's hand. Then what is there begins behind them.
        floor = events[0].offset - 1 if events else head.last
        return Page(head._replace(floor=floor), events)

    def _events_after(self, head_pk: int, after: int, limit: int, max_bytes: int) -> list[Event]:
        """Contiguous events, in queries that grow with what still fits."""
        rows = StoredEvent.objects.using(self.using).filter(head_id=head_pk).order_by("offset")
        events: list[Event] = []
        size, ask = 0, FIRST_ROWS
        while len(events) < limit:
            ask = min(ask, limit - len(events))
            found = [
                Event(type=type, data=data, offset=offset, exclude=exclude, created=created)
                for type, data, offset, exclude, created in rows.filter(
                    offset__gt=events[-1].offset if events else after
                ).values_list(*_EVENT_COLUMNS)[:ask]
            ]
            for event in found:
                size += len(event.data.encode())
                if events and (size > max_bytes or event.offset != events[-1].offset + 1):
                    return events
                events.append(event)
            if len(found) < ask:
                break
            ask = 1 + (max_bytes - size) * len(events) // max(size, 1)
            if ask <= 1:
                break
        return events

    def heads(self, topics: Sequence[Topic]) -> dict[str, Head]:
        found: dict[str, Head] = {}
        for some in _slices([topic.key for topic in topics], KEYS_PER_QUERY):
            rows = read_heads(self.using, [*some, GENERATION])
            found.update((key, Head(epoch, last, floor)) for key, epoch, last, floor in rows)
        known = found.get(GENERATION)
        unborn = Head(known.epoch if known else generation(self.using))
        return {topic.key: found.get(topic.key, unborn) for topic in topics}

    def positions(self, topics: Sequence[Topic], at: float) -> dict[str, Position]:
        rows = self._rows([topic.key for topic in topics])
        unborn = Position(self._generation(rows), 0)
        answer: dict[str, Position] = {}
        spoken: list[int] = []
        for topic in topics:
            row = rows.get(topic.key)
            answer[topic.key] = Position(row.epoch, row.last) if row else unborn
            if row and row.updated > at:
                spoken.append(row.pk)
        for some in _slices(spoken, KEYS_PER_QUERY):
            answer.update(self._earlier_positions(some, at))
        return answer

    def _earlier_positions(self, pks: Sequence[int], at: float) -> Iterator[tuple[str, Position]]:
        covered = StoredEvent.objects.filter(
            head=OuterRef("pk"), offset__gt=OuterRef("floor"), created__lte=at
        )
        rows = (
            HeadRow.objects.using(self.using)
            .filter(pk__in=pks)
            .annotate(covered=Subquery(covered.order_by("-offset").values("offset")[:1]))
            .values_list("key", "epoch", "floor", "floor_created", "covered")
        )
        for key, epoch, floor, floor_created, offset in rows:
            # Where even the newest trimmed event is too new, only 0 covers nothing of it; from there
            # a reader is told that events are missing.
            trimmed = floor if floor_created <= at else 0
            yield key, Position(epoch, trimmed if offset is None else offset)

    def _rows(self, keys: Sequence[str]) -> dict[str, HeadRow]:
        """Heads by key, and the generation, in one query."""
        rows: dict[str, HeadRow] = {}
        for some in _slices(keys, KEYS_PER_QUERY):
            found = HeadRow.objects.using(self.using).filter(key__in=[*some, GENERATION])
            rows.update((row.key, row) for row in found)
        return rows

    def _generation(self, rows: dict[str, HeadRow]) -> str:
        row = rows.get(GENERATION)
        return row.epoch if row else generation(self.using)

    # -- trimming ----------------------------------------------------------------------------------

    def trim(self, *, limit: int = 500) -> int:
        removed, after = 0, 0
        while page := self._kept(after):
            for kept in page:
                after = kept.head_pk
                try:
                    removed += self._trim_topic(kept, limit)
                except DatabaseError as error:
                    # Publishers come first; the next trim finds what this one left.
                    if connections[self.using].in_atomic_block or not is_transient(error):
                        raise
        return removed

    def _kept(self, after: int) -> list[_Kept]:
        """The next topics that have event rows, by the id of their heads."""
        events = StoredEvent.objects.filter(head=OuterRef("pk")).order_by("offset")
        rows = (
            HeadRow.objects.using(self.using)
            .filter(pk__gt=after)
            .annotate(
                oldest=Subquery(events.values("offset")[:1]),
                oldest_created=Subquery(events.values("created")[:1]),
            )
            .filter(oldest__isnull=False)
            .order_by("pk")
            .values_list(
                "pk", "namespace", "name", "epoch", "last", "floor", "oldest", "oldest_created"
            )
        )
        return [_Kept(*row) for row in rows[:HEADS_PER_PAGE]]

    def _trim_topic(self, kept: _Kept, limit: int) -> int:
        removed = self._delete_between(kept, kept.oldest - 1, kept.floor, limit)
        history = _history_of(kept.namespace, kept.name)
        oldest_allowed = clock.now() - history.age.total_seconds()
        by_count = kept.last - history.events
        floor = kept.floor
        if by_count <= floor and kept.oldest_created >= oldest_allowed:
            return removed
        while True:
            expired = [
                (offset, created)
                for offset, created in StoredEvent.objects.using(self.using)
                .filter(head_id=kept.head_pk, offset__gt=floor)
                .order_by("offset")
                .values_list("offset", "created")[:limit]
                if offset <= by_count or created < oldest_allowed
            ]
            if not expired or not self._raise_floor(kept, *expired[-1]):
                return removed
            removed += self._delete_between(kept, floor, expired[-1][0], limit)
            floor = expired[-1][0]

    def _raise_floor(self, kept: _Kept, floor: int, created: float) -> bool:
        # Before the events go, so that no reader finds a hole above the floor.
        return bool(
            HeadRow.objects.using(self.using)
            .filter(pk=kept.head_pk, epoch=kept.epoch, floor__lt=floor)
            .update(floor=floor, floor_created=created)
        )

    def _delete_between(self, kept: _Kept, after: int, upto: int, limit: int) -> int:
        """Delete the events (after, upto]. One statement for 250,000 held up SQLite's publishers for
        1.8 s, so each takes ``limit``."""
        removed = 0
        for start in range(after, upto, limit):
            gone = delete_rows(
                StoredEvent.objects.using(self.using).filter(
                    head_id=kept.head_pk, offset__gt=start, offset__lte=min(start + limit, upto)
                )
            )
            headway.made(gone)
            removed += gone
        return removed

    # -- forgetting --------------------------------------------------------------------------------

    def names(self) -> Iterator[tuple[str, str]]:
        after = 0
        while page := self._kept(after):
            after = page[-1].head_pk
            yield from ((kept.namespace, kept.name) for kept in page if kept.name)

    def replace(self, topic: Topic, data: Mapping[int, str]) -> int:
        def rewrite(head: HeadRow) -> int:
            rows = StoredEvent.objects.using(self.using).filter(head_id=head.pk)
            return sum(rows.filter(offset=offset).update(data=one) for offset, one in data.items())

        return self._holding(topic, rewrite)


class _Kept(NamedTuple):
    """A topic with event rows, as a trim sees it."""

    head_pk: int
    namespace: str
    name: str
    epoch: str
    last: int
    floor: int
    oldest: int
    oldest_created: float


def _history_of(namespace: str, name: str) -> History:
    try:
        return registry.resolve(name, namespace).history or UNDECLARED
    except InvalidTopic:
        return UNDECLARED


def _address(using: str) -> tuple[object, ...]:
    settings = connections[using].settings_dict
    options = settings.get("OPTIONS", {}).get("options")  # PostgreSQL's search_path
    return (*(settings.get(part) for part in ("ENGINE", "HOST", "PORT", "NAME")), options)


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, max(len(items), 1), size):
        yield items[start : start + size]


# -- numbering -------------------------------------------------------------------------------------


def write_events(
    using: str,
    batches: Sequence[tuple[HeadRow, Sequence[Draft]]],
    block: Block | None = None,
    *,
    moved_on: float | None = None,
) -> list[Appended]:
    """Number these drafts and keep them. The heads are locked by the caller's transaction.
    ``moved_on``: the time at which their rows were set to what they will be after it (``free_heads()``)."""
    now = clock.now() if moved_on is None else moved_on
    known = _events_by_uid(using, batches)
    rows: list[tuple[object, ...]] = []
    appended: list[Appended] = []
    for head, drafts in batches:
        created = max(now, head.updated)
        events: list[Event] = []
        for draft in drafts:
            uid = _uid(head, draft)
            event = known.get(uid) if uid else None
            if event is None:
                head.last += 1
                head.updated = created
                event = Event(draft.type, draft.data, head.last, draft.exclude, created)
                rows.append(
                    (head.pk, head.last, draft.type, draft.data, draft.exclude, created, uid)
                )
                if uid:
                    known[uid] = event
            events.append(event)
        appended.append(Appended(head.epoch, events))
    with block_of(using, block) as own:
        insert_rows(using, StoredEvent, _STORED_COLUMNS, rows, block=own)
        if moved_on is None:
            update_rows(
                using,
                HeadRow,
                ("last", "updated"),
                [(head.last, head.updated, head.pk) for head, _ in batches],
                block=own,
            )
    return appended


_STORED_COLUMNS = ("head_id", "offset", "type", "data", "exclude", "created", "uid")


def _uid(head: HeadRow, draft: Draft) -> str | None:
    """A digest: a collation may take two keys for one, and a key may be too long for an index. Each
    life of a log has its own."""
    if not draft.idempotency_key:
        return None
    seed = f"{head.key}\0{head.epoch}\0{draft.idempotency_key}".encode()
    return hashlib.blake2b(seed, digest_size=16).hexdigest()


def _events_by_uid(
    using: str, batches: Iterable[tuple[HeadRow, Sequence[Draft]]]
) -> dict[str, Event]:
    uids = [uid for head, drafts in batches for draft in drafts if (uid := _uid(head, draft))]
    if not uids:
        return {}
    rows = StoredEvent.objects.using(using).filter(uid__in=uids)
    return {
        uid or "": Event(type=type, data=data, offset=offset, exclude=exclude, created=created)
        for uid, type, data, offset, exclude, created in rows.values_list("uid", *_EVENT_COLUMNS)
    }
