"""Station 2: the contract of the outbox, rows that an event rests in until its log has numbered it.

Must keep true: a row is written in the caller's transaction, so it commits or vanishes with what it
tells of; every committed row is numbered, once, even when the process that wrote it is gone; rows of
one topic are numbered in the order in which they were written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from .blocks import BlockVariable
from .bundles import Bundle
from .events import Draft
from .log import Appended
from .topics import Topic

told_of = BlockVariable[Callable[[], str]]("told_of", default=str)
"""What the rows that are being numbered tell of, as words for the log; "" where nobody knows."""


class Entry(NamedTuple):
    """One event on its way in."""

    topic: Topic
    draft: Draft


class Numbered(NamedTuple):
    """Events that were numbered just now and have to be sent. Topics without history have the
    offset 0 and the epoch ``""``."""

    topic: Topic
    appended: Appended


class Outbox(ABC):
    """Rows in the project's own database. ``using`` is the alias of the caller's transaction."""

    @abstractmethod
    def add(self, entries: Sequence[Entry], using: str) -> list[int]:
        """Write the rows, in order, inside the caller's transaction. Their ids, in order."""

    @abstractmethod
    def add_bundles(self, bundles: Sequence[Bundle], using: str) -> list[int]:
        """Write a row for each bundle, inside the caller's transaction. Their ids, in order. Only
        ``sweep()`` numbers them, and later rows of topics that they may concern wait for it."""

    @abstractmethod
    def opened(self, ids: Sequence[int], using: str) -> dict[int, list[Entry]]:
        """Those of the bundles that still stand, by id, and what they hold."""

    @abstractmethod
    def pending(self, ids: Sequence[int], using: str) -> dict[int, Entry]:
        """Those of the rows that still stand (a savepoint may have been rolled back), by id, in the
        order in which they were written. Rows of topics that nothing declares are left out."""

    @abstractmethod
    def remove(self, ids: Sequence[int], using: str) -> None:
        """Take back rows that were written earlier in the caller's transaction."""

    @abstractmethod
    def number(
        self, topics: Sequence[Topic], using: str, also: Sequence[Entry] = ()
    ) -> Iterator[Numbered]:
        """Number *every* committed row of these topics, and after them ``also``, which never were
        rows. Each batch is committed before it is yielded.

        While another process numbers one of the topics, ``also`` become rows, which it may take
        along. After ``DJANGO_LIVE["NUMBERING_WAIT"]``, or when the log does not take them, rows are
        left to the sweep. Raises ``StoreError`` inside a caller's transaction, which could
        take back what was sent. Rows that a bundle comes before are left to the sweep, too.
        """

    @abstractmethod
    def numbering(self, using: str) -> AbstractContextManager[bool]:
        """A transaction, and whether ``number_here()`` may be asked in it. Not inside a caller's
        transaction, which could take back what was sent."""

    @abstractmethod
    def number_here(
        self, entries: Sequence[Entry], using: str, notes: Sequence[int] = ()
    ) -> list[Numbered] | None:
        """Number these events inside ``numbering()``, and delete the notes with these ids. They are
        to be sent when the transaction has ended.

        None: nothing was done, and they have to become rows. For rows of their topics wait, or
        somebody else numbers one of them, or the log is elsewhere, or they are too many.
        """

    def aliases(self) -> list[str]:
        """The databases that may hold rows."""
        return [DEFAULT_DB_ALIAS]

    @abstractmethod
    def waits(self, using: str) -> bool:
        """Whether there are committed rows."""

    def waiting(self, using: str) -> int | None:
        """How many committed events wait; None: that is not known without looking into them."""
        return None

    @abstractmethod
    def sweep(self, using: str) -> Iterator[Numbered]:
        """Number the rows that others left behind, passing by topics that somebody is numbering."""


@cache
def get_outbox() -> Outbox:
    """The outbox of this project."""
    outbox: Outbox = import_string("django_live.stores.outbox.DatabaseOutbox")()
    return outbox
