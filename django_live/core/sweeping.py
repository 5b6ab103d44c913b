"""Numbering what waits in the outbox: what this process has committed, and what others left behind.

Must keep true: whoever comes next numbers what a dead process has committed; nobody who could not
number at once waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from .counting import tally
from .errands import Errands
from .outbox import Entry, Numbered, get_outbox
from .sending import send_numbered
from .topics import Topic

SWEEPS = 20
SWEEP_PAUSE = 0.05
"""How often the background looks again for rows that somebody else was numbering, and the seconds
between."""


def number_now(topics: Sequence[Topic], alias: str, also: Sequence[Entry] = ()) -> None:
    """Number and send the rows of these topics, and ``also`` after them."""
    if not send_numbered(_measured(get_outbox().number(topics, alias, also))):
        # Somebody else has the topics, or a bundle comes first. In a process without an event loop
        # nobody might look again.
        sweep_later(alias)


def number_here(
    entries: Sequence[Entry], alias: str, notes: Sequence[int] = ()
) -> list[Numbered] | None:
    """``Outbox.number_here()``, measured as what is numbered otherwise."""
    began = time.perf_counter()
    numbered = get_outbox().number_here(entries, alias, notes)
    if numbered is not None:
        tally.store_took("append", time.perf_counter() - began)
    return numbered


def _measured(batches: Iterable[Numbered]) -> Iterator[Numbered]:
    """The same, with what each took the store."""
    began = time.perf_counter()
    for batch in batches:
        tally.store_took("append", time.perf_counter() - began)
        yield batch
        began = time.perf_counter()


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


def sweep_later(using: str) -> None:
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
        # That of the log, too, where `DATABASE` names another one.
        connections.close_all()


errands = Errands(_sweep_what_waits)
"""What this process numbers in the background."""
