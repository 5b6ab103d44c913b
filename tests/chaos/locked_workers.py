"""A process saves, and another one has locked what its numbering needs: `python -m tests.chaos.locked_workers
ROLE JSON`. The lock is taken when the save has committed, so it hits nothing but the numbering.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import OperationalError, connection, transaction  # noqa: E402
from django.db.models import Model  # noqa: E402
from django.test import override_settings  # noqa: E402

from django_live.core.log import get_log  # noqa: E402
from django_live.core.sweeping import sweep  # noqa: E402
from django_live.core.topics import as_topic  # noqa: E402
from django_live.features.changes import Changes  # noqa: E402
from django_live.models import Head, PendingChange, PendingEvent, StoredEvent  # noqa: E402
from tests.chaos.racing import Racer  # noqa: E402
from tests.testapp.models import Order, Ticket  # noqa: E402

BUSY_TIMEOUT = 100
"""Milliseconds that SQLite waits for a lock here, in place of seconds."""
PATIENCE = 30.0


class NotedTicket(Changes[Ticket]):
    """Told with a second look, after the commit."""

    model = Ticket
    related = ("comments",)
    fields = ("title",)

    def topics(self, instance: Ticket) -> list[str]:
        return [f"open/ticket-{instance.pk}"]


def new_order() -> tuple[Model, str]:
    order = Order.objects.create(customer=User.objects.create(username=f"ann-{os.getpid()}"))
    return order, f"orders/{order.pk}"


def new_ticket() -> tuple[Model, str]:
    ticket = Ticket.objects.create(title="leak")
    return ticket, f"open/ticket-{ticket.pk}"


NEW: dict[str, Callable[[], tuple[Model, str]]] = {"order": new_order, "ticket": new_ticket}


# -- who holds the lock ----------------------------------------------------------------------------


def hold_everything(racer: Racer) -> None:
    """What the numbering has to write: SQLite's one write lock, or the rows of all heads."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            racer.pause()
            cursor.execute("ROLLBACK")
        return
    with transaction.atomic():
        list(Head.objects.select_for_update().exclude(key=""))
        racer.pause()


def meet_in_a_deadlock(racer: Racer) -> None:
    """Let nobody insert events; when the numbering waits for that, ask for the heads that it holds. The
    database makes one of the two give up: on PostgreSQL who finds it out, on MariaDB who has done less."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with transaction.atomic():
        make_many_rows()
        keep_out_new_events()
        racer.pause()
        wait_for_somebody_who_waits()
        list(Head.objects.select_for_update().exclude(key=""))
        racer.pause()


def make_many_rows() -> None:
    User.objects.bulk_create([User(username=f"weight-{os.getpid()}-{n}") for n in range(200)])


def keep_out_new_events() -> None:
    if connection.vendor == "mysql":
        list(StoredEvent.objects.select_for_update())  # and the gaps between them, at this level
        return
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL deadlock_timeout = '60s'")  # the other one finds it out first
        cursor.execute(f"LOCK TABLE {StoredEvent._meta.db_table} IN SHARE MODE")


WAITING = {
    "postgresql": "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event_type = 'Lock'",
    "mysql": "SELECT COUNT(*) FROM information_schema.INNODB_TRX AS trx "
    "JOIN information_schema.PROCESSLIST AS thread ON thread.ID = trx.trx_mysql_thread_id "
    "WHERE thread.DB = DATABASE() AND trx.trx_state = 'LOCK WAIT'",
}


def wait_for_somebody_who_waits() -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(WAITING[connection.vendor])
            if cursor.fetchone()[0]:
                return
        time.sleep(0.2)  # more often MariaDB would answer with what it has answered before
    raise SystemExit("nobody waits for a lock")


def hold_nothing(racer: Racer) -> None:
    """The control: nobody is in the way."""
    racer.pause()


HOLDS: dict[str, Callable[[Racer], None]] = {
    "lock": hold_everything,
    "deadlock": meet_in_a_deadlock,
    "nothing": hold_nothing,
}


def hold(racer: Racer, how: str) -> None:
    """In the other process: begin when the save has committed."""
    racer.pause()
    HOLDS[how](racer)


# -- who saves -------------------------------------------------------------------------------------


class Lines(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def faults_of_the_database() -> Iterator[list[str]]:
    """What the database refused meanwhile."""
    faults: list[str] = []

    def execute(execute: Callable[..., Any], *args: Any) -> Any:
        try:
            return execute(*args)
        except OperationalError as error:
            faults.append(str(error))
            raise

    with connection.execute_wrapper(execute):
        yield faults


def save_while(how: str, what: str) -> None:
    """Save, while the other process holds a lock. Print what came of it."""
    with override_settings(DJANGO_LIVE={"NUMBERING_WAIT": 0.2}):
        instance, topic = NEW[what]()
        logged = Lines()
        logging.getLogger("django_live").addHandler(logged)
        holder = Racer(partial(hold, how=how), "held")
        holder.arrive()
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")

        def lock() -> None:
            holder.go_on()
            holder.arrive()
            if how == "deadlock":
                holder.go_on()

        with faults_of_the_database() as faults:
            with transaction.atomic():
                transaction.on_commit(lock)  # the first hook: the others come after it
                instance.save()
            if how == "deadlock":
                holder.arrive()
        found = {
            "told": events(topic),
            "waits": PendingEvent.objects.exists() or PendingChange.objects.exists(),
            "faults": faults,
            "logged": logged.lines,
            "key": instance.pk,
        }
        holder.finish()
        found["later"] = sweep_until_nothing_waits(topic)
        print(json.dumps(found))  # noqa: T201


def events(topic: str) -> list[str]:
    return [event.type for event in get_log().read(as_topic(topic), 0, 100, 10**6).events]


def sweep_until_nothing_waits(topic: str) -> list[str]:
    """What a reader has in the end."""
    deadline = time.monotonic() + PATIENCE
    while PendingEvent.objects.exists() or PendingChange.objects.exists():
        if time.monotonic() > deadline:
            raise SystemExit("something is left that nobody tells")
        sweep()
        time.sleep(0.01)
    sweep()
    return events(topic)


ROLES: dict[str, Callable[..., None]] = {"save_while": save_while}


if __name__ == "__main__":
    ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
