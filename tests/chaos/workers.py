"""The processes of the chaos tests: `python -m tests.chaos.workers ROLE JSON`.

A publisher's process forks one child after the other; a child publishes until it is done or killed.
What was committed is written to a journal in the same transactions, so it is the truth.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import django

django.setup()

from django.db import OperationalError, connection, transaction  # noqa: E402
from django.db.models import F  # noqa: E402

from django_live.core import bus  # noqa: E402
from django_live.core.events import Draft  # noqa: E402
from django_live.core.log import EventLog, get_log  # noqa: E402
from django_live.core.publishing import publish  # noqa: E402
from django_live.core.sweeping import sweep  # noqa: E402
from django_live.core.topics import History, Topic  # noqa: E402
from django_live.features.changes import Changes  # noqa: E402
from django_live.features.changes import suppress as silence  # noqa: E402
from django_live.models import PendingEvent  # noqa: E402
from django_live.stores import numbering as numbering_module  # noqa: E402
from django_live.stores.heads import delete_ids  # noqa: E402
from django_live.stores.pending import take  # noqa: E402
from tests.chaos.racing import Racer, run_race  # noqa: E402
from tests.testapp.models import Document  # noqa: E402

TOPICS = ["hot", "t1", "t2", "t3", "t4", "t5"]


class ChaosTopic(Topic):
    """Keeps all that a run publishes."""

    pattern = "chaos/<slug:slug>"
    history = History(events=10_000_000)
    slug: str


class SavedDocument(Changes[Document]):
    """Tells who has saved it last."""

    model = Document

    def topics(self, instance: Document) -> list[Topic]:
        return [ChaosTopic(slug=instance.code)]

    def data(self, instance: Document) -> str:
        return str(instance.extra["who"])


def create_tables() -> None:
    """The journal, and the row that two writers fight for."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE chaos_journal (topic text, value text, state text)")
        cursor.execute("CREATE TABLE chaos_row (id integer PRIMARY KEY, version integer)")
        cursor.execute("INSERT INTO chaos_row VALUES (1, 0)")


def journal(topic: str, value: str, state: str = "certain") -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chaos_journal (topic, value, state) VALUES (%s, %s, %s)",
            [topic, value, state],
        )


def become_certain(topic: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE chaos_journal SET state = 'certain' WHERE topic = %s AND value = %s",
            [topic, value],
        )


# -- the mechanism, and what it would be without one of its parts ----------------------------------

Publish = Callable[[str, str], None]


def publish_properly(topic: str, value: str) -> None:
    publish(ChaosTopic(slug=topic), "said", value)


def append(topic: str, value: str) -> None:
    get_log().append(ChaosTopic(slug=topic), [Draft("said", json.dumps(value))])


def publish_after_commit_without_outbox(topic: str, value: str) -> None:
    def later() -> None:
        time.sleep(random.uniform(0, 0.02))
        append(topic, value)

    transaction.on_commit(later)


def delete_rows_after_the_commit() -> None:
    def delete_slowly(ids: list[int], using: str) -> None:
        time.sleep(random.uniform(0, 0.02))
        delete_ids(PendingEvent, ids, using)

    def take_and_delete_later(topics: Any, using: str, **options: Any) -> Any:
        with transaction.atomic(using):
            taken = take(topics, using, **options)
            transaction.set_rollback(True, using)  # the rows stand again
        ids = [row.id for row in taken.rows]
        transaction.on_commit(lambda: delete_slowly(ids, using), using)
        return taken

    setattr(numbering_module, "take", take_and_delete_later)  # noqa: B010 - it is not the module's to export


# -- publishers ------------------------------------------------------------------------------------


class RollBack(Exception):
    """Ends a transaction, or a savepoint, on purpose."""


@dataclass
class Publisher:
    """One life of a publishing process."""

    name: str
    transactions: int
    mechanism: str
    report: Callable[[str], None]
    number: int = 0

    def run(self) -> None:
        for _ in range(self.transactions):
            kind = random.random()
            if kind < 0.2 and self.mechanism in ("outbox", "delete-later"):
                self.publish_alone()
            else:
                self.publish_in_transaction(rolls_back=kind > 0.85)
            self.report("done")

    def next_value(self) -> str:
        self.number += 1
        return f"{self.name}:{self.number}"

    def publish_alone(self) -> None:
        topic, value = "hot", self.next_value()
        journal(topic, value, "possible")
        publish_properly(topic, value)
        become_certain(topic, value)

    def publish_in_transaction(self, *, rolls_back: bool) -> None:
        told = [("hot", self.next_value())]
        told += [(topic, self.next_value()) for topic in random.sample(TOPICS[1:], 2)]
        if self.mechanism == "before-commit":
            for topic, value in told:
                append(topic, value)
        with contextlib.suppress(RollBack), transaction.atomic():
            self.tell(*told[0])
            with contextlib.suppress(RollBack), transaction.atomic():
                self.tell("hot", self.next_value())
                if random.random() < 0.5:
                    self.report("savepoint")
                    raise RollBack
            for topic, value in told[1:]:
                self.tell(topic, value)
            if rolls_back:
                self.report("rollback")
                raise RollBack

    def tell(self, topic: str, value: str) -> None:
        journal(topic, value)
        if self.mechanism == "no-outbox":
            publish_after_commit_without_outbox(topic, value)
        elif self.mechanism != "before-commit":
            publish_properly(topic, value)


def die_at_a_statement(number: int) -> contextlib.AbstractContextManager[None]:
    """Kill this process before the statement with this number."""
    left = number

    def execute(execute: Callable[..., Any], *args: Any) -> Any:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*args)

    return connection.execute_wrapper(execute)


def publish_with_deaths(slot: int, transactions: int, deaths: int, mechanism: str) -> None:
    """Fork publishers until they have made this many transactions; this many are killed on the way:
    half of them at a random statement, half at a random time."""
    if mechanism == "delete-later":
        delete_rows_after_the_commit()
    counts = dict.fromkeys(("done", "savepoint", "rollback", "killed"), 0)
    life = 0
    while counts["done"] < transactions:
        life += 1
        dies = counts["killed"] < deaths
        share = max(transactions // (deaths + 1), 2)
        child = Publisher(
            f"{slot}.{life}", share if dies else transactions - counts["done"], mechanism, print
        )
        exit_code = _fork(child, counts, dies=dies)
        if exit_code not in (0, -signal.SIGKILL):
            raise SystemExit(f"publisher {child.name} failed")
        counts["killed"] += exit_code == -signal.SIGKILL
    print(json.dumps(counts))  # noqa: T201 - its parent reads it


def _run_or_exit(publisher: Publisher) -> None:
    """An error must not go on as the parent's."""
    try:
        publisher.run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _fork(publisher: Publisher, counts: dict[str, int], *, dies: bool) -> int:
    """Run one publisher in a child process, and count what it reports; its exit code."""
    read_end, write_end = os.pipe()
    by_statement = dies and random.random() < 0.5
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        reports = os.fdopen(write_end, "w")
        publisher.report = lambda what: print(what, file=reports, flush=True)
        random.seed(f"{publisher.name} {os.getpid()}")
        # It dies somewhere on its way, seldom after it: a transaction makes about 20 statements.
        last = 20 * publisher.transactions
        with (
            die_at_a_statement(random.randint(3, last))
            if by_statement
            else contextlib.nullcontext()
        ):
            _run_or_exit(publisher)
        os._exit(0)
    os.close(write_end)
    if dies and not by_statement:
        time.sleep(random.uniform(0.01, 0.02 * publisher.transactions))
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(read_end) as lines:
        for line in lines:
            counts[line.strip()] += 1
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- two writers of one row ------------------------------------------------------------------------


def write_one_row(transactions: int, mechanism: str) -> None:
    """Publish each version of the row, from inside the transaction that made it."""
    tell = publish_properly if mechanism == "outbox" else publish_after_commit_without_outbox
    for _ in range(transactions):
        with contextlib.suppress(RollBack), transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("UPDATE chaos_row SET version = version + 1 WHERE id = 1")
                cursor.execute("SELECT version FROM chaos_row WHERE id = 1")
                (version,) = cursor.fetchone()
            tell("hot", f"row:{version}")
            time.sleep(random.uniform(0, 0.004))
            if random.random() < 0.1:
                raise RollBack
            journal("hot", f"row:{version}")


# -- a race whose steps are decided ----------------------------------------------------------------


def write_the_row(racer: Racer, mechanism: str, slug: str, row: int) -> None:
    """Write the next version of the row and publish it, in one transaction.

    `outbox` does it as it should be done, `saved` by saving an object that has `Changes`; `own-rows` lets each commit number only what is its
    own; `publish-first` publishes before the row is written.
    """
    who = f"by:{os.getpid()}"
    with transaction.atomic():
        # The first hook of the commit: the others come after it.
        transaction.on_commit(lambda: racer.stop_at("committed"))
        if mechanism == "publish-first":
            publish_properly(slug, who)
        racer.stop_at("begun")
        journal(slug, who, str(save(slug, who) if mechanism == "saved" else write(row)))
        if mechanism == "own-rows":
            transaction.on_commit(lambda: append(slug, who))
        elif mechanism == "outbox":
            publish_properly(slug, who)


def write(row: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE chaos_row SET version = version + 1 WHERE id = %s", [row])
        cursor.execute("SELECT version FROM chaos_row WHERE id = %s", [row])
        (version,) = cursor.fetchone()
    return int(version)


def save(slug: str, who: str) -> int:
    document = Document.objects.get(pk=slug)
    document.extra = {"who": who}
    document.size = F("size") + 1
    document.save()
    document.refresh_from_db()
    return document.size


def race(runs: list[tuple[str, str]]) -> None:
    """For each (where the first one stops, mechanism): two processes write a row. Print in which order
    they wrote it, and in which order readers are told."""
    found = []
    for number, (stops_at, mechanism) in enumerate(runs):
        slug, row = f"race-{number}", 2 + number
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO chaos_row VALUES (%s, 0)", [row])
        with silence():
            Document.objects.create(code=slug)
        run_race(partial(write_the_row, mechanism=mechanism, slug=slug, row=row), stops_at)
        found.append(_order_of(slug))
    print(json.dumps(found))  # noqa: T201


def _order_of(slug: str) -> dict[str, list[str]]:
    sweep()
    seen: list[tuple[int, str]] = []
    _read_on(get_log(), ChaosTopic(slug=slug), seen)
    with connection.cursor() as cursor:
        cursor.execute("SELECT value, state FROM chaos_journal WHERE topic = %s", [slug])
        rows = sorted(cursor.fetchall(), key=lambda row: int(row[1]))
    return {"written": [value for value, _ in rows], "told": [who for _, who in seen]}


# -- deaths between commit and sending -------------------------------------------------------------


def kill_myself(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_inserting_events() -> contextlib.AbstractContextManager[None]:
    """In the middle of the transaction that numbers."""

    def execute(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        answer = execute(sql, *args)
        if "INSERT" in sql and "storedevent" in sql:
            kill_myself()
        return answer

    return connection.execute_wrapper(execute)


def publish_and_die(point: str) -> None:
    """Publish to the topic of this name, and be killed between the commit and the sending."""
    tell = publish_after_commit_without_outbox if point == "no-outbox" else publish_properly
    dying: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if point == "numbering":
        dying = die_after_inserting_events()
    elif point == "sending":
        setattr(bus, "envelopes", kill_myself)  # noqa: B010
    with dying, transaction.atomic():
        if point in ("committed", "no-outbox"):
            transaction.on_commit(kill_myself)
        tell(point, "life:1")
        tell(point, "life:2")


def die_at_each_point(points: list[str]) -> None:
    """A child process dies at each; print how they ended."""
    endings = []
    for point in points:
        connection.close()
        pid = os.fork()
        if pid == 0:
            publish_and_die(point)
            os._exit(0)
        endings.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(json.dumps(endings))  # noqa: T201


def sweep_and_read(slugs: list[str]) -> None:
    """Number what was left behind, and again; print how much it was, and what the log holds."""
    counts = [sweep(), sweep()]
    log = get_log()
    seen: dict[str, list[tuple[int, str]]] = {slug: [] for slug in slugs}
    for slug, found in seen.items():
        _read_on(log, ChaosTopic(slug=slug), found)
    print(json.dumps({"swept": counts, "seen": seen}))  # noqa: T201


# -- the reader ------------------------------------------------------------------------------------


def read_until(stop: str, result: str) -> None:
    """Poll the log, and sweep as every process does, until `stop` exists and all is read."""
    log = get_log()
    topics = [ChaosTopic(slug=slug) for slug in TOPICS]
    seen: dict[str, list[tuple[int, str]]] = {topic.slug: [] for topic in topics}
    swept = 0.0
    while True:
        stopping = Path(stop).exists()
        if time.monotonic() - swept > 0.3:
            with contextlib.suppress(OperationalError):
                sweep()
            swept = time.monotonic()
        found = sum(_read_on(log, topic, seen[topic.slug]) for topic in topics)
        if stopping and not found and not PendingEvent.objects.exists():
            break
        time.sleep(0.002)
    late: dict[str, list[tuple[int, str]]] = {topic.slug: [] for topic in topics}
    for topic in topics:
        while _read_on(log, topic, late[topic.slug]):
            pass
    with connection.cursor() as cursor:
        cursor.execute("SELECT topic, value, state FROM chaos_journal")
        committed = cursor.fetchall()
    Path(result).write_text(json.dumps({"live": seen, "late": late, "journal": committed}))


def _read_on(log: EventLog, topic: Topic, seen: list[tuple[int, str]]) -> int:
    page = log.read(topic, seen[-1][0] if seen else 0, 50, 100_000)
    seen.extend((event.offset, json.loads(event.data)) for event in page.events)
    return len(page.events)


ROLES: dict[str, Callable[..., None]] = {
    "die_at_each_point": die_at_each_point,
    "sweep_and_read": sweep_and_read,
    "race": race,
    "create_tables": create_tables,
    "publish_with_deaths": publish_with_deaths,
    "write_one_row": write_one_row,
    "read_until": read_until,
}


if __name__ == "__main__":
    ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
