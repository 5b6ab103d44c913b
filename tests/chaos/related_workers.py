"""The processes of `test_related_order.py`: `python -m tests.chaos.related_workers ROLE JSON`.

Two processes change what belongs to one ticket: each its own rows, so neither waits for the other.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import django

django.setup()

from django.db import OperationalError, connection, transaction  # noqa: E402

from django_live.core.events import Draft, encode_data  # noqa: E402
from django_live.core.log import get_log  # noqa: E402
from django_live.core.sweeping import sweep  # noqa: E402
from django_live.core.topics import History, Topic  # noqa: E402
from django_live.features.changes import Changes  # noqa: E402
from django_live.features.changes import suppress as silence  # noqa: E402
from django_live.models import PendingChange  # noqa: E402
from tests.chaos.racing import Racer, run_race  # noqa: E402
from tests.testapp.models import Comment, Label, Ticket  # noqa: E402

State = dict[str, list[str]]


class RacedTicket(Topic):
    """Shows one ticket."""

    pattern = "raced/<int:pk>"
    history = History(events=10_000_000)
    pk: int


class RacedChanges(Changes[Ticket]):
    """A ticket with all that belongs to it."""

    model = Ticket
    related = ["labels", "comments"]

    def topics(self, instance: Ticket) -> list[Topic]:
        return [RacedTicket(pk=instance.pk)]

    def data(self, instance: Ticket) -> State:
        return state_of(instance.pk)


def state_of(pk: int) -> State:
    comments = Comment.objects.filter(ticket_id=pk).values_list("text", flat=True)
    labels = Label.objects.filter(tickets=pk).values_list("name", flat=True)
    return {"labels": sorted(labels), "comments": sorted(comments)}


# -- a race whose steps are decided ----------------------------------------------------------------


def change(racer: Racer, mechanism: str, kind: str, pk: int) -> None:
    """Add a label or a comment to the ticket, in one transaction.

    `changes` has it told as it should be; `as-seen` tells after the commit what the transaction
    itself has seen, which is what a signal handler would do.
    """
    who = f"by-{os.getpid()}"
    with transaction.atomic():
        # The first hook of the commit: the others come after it.
        transaction.on_commit(lambda: racer.stop_at("committed"))
        if mechanism == "changes":
            add(kind, pk, who)
        else:
            with silence():
                add(kind, pk, who)
            seen = Draft("updated", encode_data(state_of(pk)))
            transaction.on_commit(lambda: append(pk, seen))
        racer.stop_at("begun")


def add(kind: str, pk: int, who: str) -> None:
    if kind == "labels":
        Ticket.objects.get(pk=pk).labels.add(Label.objects.create(name=who))
    else:
        Comment.objects.create(ticket_id=pk, text=who)


def append(pk: int, draft: Draft) -> None:
    get_log().append(RacedTicket(pk=pk), [draft])


def everything(runs: list[tuple[str, str, str]], writers: int, transactions: int) -> None:
    """The races, and a few writers. Print how all of it ended."""
    found = {"races": race(runs), "writers": many_writers(writers, transactions)}
    print(json.dumps(found))  # noqa: T201 - the test reads it


def race(runs: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """For each (where the first one stops, mechanism, kind): two processes change a ticket. What it is
    in the end, and what readers were told."""
    found = []
    for stops_at, mechanism, kind in runs:
        with silence():
            pk = Ticket.objects.create(title="raced").pk
        run_race(partial(change, mechanism=mechanism, kind=kind, pk=pk), stops_at)
        found.append(ending(pk, kind))
    return found


def ending(pk: int, kind: str) -> dict[str, Any]:
    sweep_until_nothing_waits()
    told = [json.loads(event.data)[kind] for event in events(pk)]
    return {"state": state_of(pk)[kind], "told": told}


def events(pk: int) -> list[Any]:
    return list(get_log().read(RacedTicket(pk=pk), 0, 10_000, 10**8).events)


def sweep_until_nothing_waits() -> None:
    deadline = time.monotonic() + 60
    sweep()
    while PendingChange.objects.exists():
        if time.monotonic() > deadline:
            raise SystemExit("notes are left that nobody presents")
        time.sleep(0.02)
        sweep()


# -- many writers, some of which die ---------------------------------------------------------------


class RollBack(Exception):
    """Ends a transaction on purpose."""


def write(name: str, pks: list[int], transactions: int, dies: bool) -> None:
    """Add comments and labels to tickets, sometimes in vain; in the end perhaps die between a commit
    and the telling."""
    rng = random.Random(name)
    for number in range(transactions):
        who = f"{name}-{number}"
        is_last = number == transactions - 1
        # In one order: two that write the same tickets in another order would be a deadlock.
        chosen = {pk: rng.choice(["labels", "comments"]) for pk in sorted(rng.sample(pks, 2))}
        rolls_back = not is_last and rng.random() < 0.2
        while not written(chosen, who, dies=dies and is_last, rolls_back=rolls_back):
            time.sleep(rng.uniform(0, 0.02))


def written(chosen: dict[int, str], who: str, *, dies: bool, rolls_back: bool) -> bool:
    """Whether the database has let this happen: with a rollback journal SQLite refuses one of two that
    have read and want to write."""
    try:
        with suppress(RollBack), transaction.atomic():
            if dies:
                transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
            for pk, kind in chosen.items():
                add(kind, pk, who)
            if rolls_back:
                raise RollBack
    except OperationalError:
        return False
    return True


def write_with_deaths(writers: int, transactions: int) -> None:
    """The writers alone, for longer."""
    print(json.dumps(many_writers(writers, transactions)))  # noqa: T201


def many_writers(writers: int, transactions: int) -> dict[str, Any]:
    """Run so many writers at once, every second of which is killed. How they ended, and of each ticket
    what it is in the end and what readers were told."""
    with silence():
        pks = [Ticket.objects.create(title="raced").pk for _ in range(3)]
    racers = []
    connection.close()
    for number in range(writers):
        pid = os.fork()
        if pid == 0:
            os._exit(_status_of(partial(write, f"w{number}", pks, transactions, number % 2 == 1)))
        racers.append(pid)
    endings = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in racers]
    sweep_until_nothing_waits()
    found = [
        {"state": state_of(pk), "told": [json.loads(event.data) for event in events(pk)]}
        for pk in pks
    ]
    return {"endings": endings, "tickets": found}


def _status_of(work: Callable[[], None]) -> int:
    import traceback

    try:
        work()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


ROLES: dict[str, Callable[..., None]] = {
    "everything": everything,
    "write_with_deaths": write_with_deaths,
}


if __name__ == "__main__":
    ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
