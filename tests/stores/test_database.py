"""What is particular to the log in the project's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_live.core.events import Draft
from django_live.core.log import Head
from django_live.core.topics import History, Topic, registry
from django_live.exceptions import StoreError
from django_live.models import Head as HeadRow
from django_live.models import StoredEvent
from django_live.stores import heads
from django_live.stores.database import FIRST_ROWS, DatabaseLog
from tests.contracts.conftest import FakeClock, in_threads
from tests.stores.aliases import alias_elsewhere, postgresql_elsewhere, sqlite_at
from tests.support.requirements import requires
from tests.support.statements import statements_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)

PLENTY = 10_000_000


@pytest.fixture
def log() -> DatabaseLog:
    return DatabaseLog()


def drafts(count: int, data: str = "1") -> list[Draft]:
    return [Draft("said", data)] * count


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements of the block, without those that begin and end transactions."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield found
    found.extend(statements_of(captured))


# -- how many statements ---------------------------------------------------------------------------


def test_heads_of_many_topics_are_one_query(log: DatabaseLog, room_class: type[Topic]) -> None:
    topics = [room_class(title=str(n)) for n in range(900)]
    log.append(topics[0], drafts(1))
    with statements() as found:
        assert len(log.heads(topics)) == 900
    assert len(found) == 1


def test_positions_of_quiet_topics_are_one_query(
    log: DatabaseLog, room_class: type[Topic], time: FakeClock
) -> None:
    topics = [room_class(title=str(n)) for n in range(50)]
    for topic in topics:
        log.append(topic, drafts(1))
    with statements() as quiet:
        log.positions(topics, time())
    with statements() as spoken:
        log.positions(topics, time() - 1)
    assert (len(quiet), len(spoken)) == (1, 2)


def test_a_read_is_a_few_queries(log: DatabaseLog, room: Topic) -> None:
    log.append(room, drafts(1000))
    with statements() as found:
        assert len(log.read(room, 0, limit=1000, max_bytes=PLENTY).events) == 1000
    assert len(found) == 3
    with statements() as found:
        log.read(room, 1000, limit=1000, max_bytes=PLENTY)
    assert len(found) == 1


def test_a_read_does_not_load_what_does_not_fit(log: DatabaseLog, room: Topic) -> None:
    log.append(room, drafts(100, '"%s"' % ("x" * 10_000)))
    with statements() as found:
        assert len(log.read(room, 0, limit=100, max_bytes=50_000).events) == 4
    assert len(found) == 2
    assert found[-1].endswith(f"LIMIT {FIRST_ROWS}")


def test_an_append_is_a_few_statements(log: DatabaseLog, room: Topic) -> None:
    log.append(room, drafts(1))
    with statements() as found:
        log.append(room, drafts(3))
    # Locking a head takes SQLite one statement more; the others are sent both writes as one.
    assert len(found) == {"sqlite": 4, "postgresql": 2, "mysql": 2}[connection.vendor]


def test_the_head_is_the_first_thing_a_numbering_touches(log: DatabaseLog, room: Topic) -> None:
    log.append(room, drafts(1))
    with statements() as found:
        log.append(room, drafts(1))
    assert "django_live_head" in found[0]
    assert found[0].startswith("UPDATE") or found[0].endswith("UPDATE SKIP LOCKED")


# -- reading while others change the log -----------------------------------------------------------


def test_a_trim_between_head_and_events_is_noticed(
    log: DatabaseLog, room: Topic, room_class: type[Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(room, drafts(20))
    room_class.history = History(events=5)
    read_events = log._events_after

    def trim_first(*args: Any) -> Any:
        log.trim()
        return read_events(*args)

    monkeypatch.setattr(log, "_events_after", trim_first)
    page = log.read(room, 3, limit=2, max_bytes=PLENTY)
    assert (page.head.last, page.head.floor) == (20, 15)
    assert [event.offset for event in page.events] == [16, 17]


@pytest.mark.parametrize(("deleted", "floor", "left"), [((4, 5), 5, [6, 7]), ((1, 7), 7, [])])
def test_rows_deleted_by_hand_are_told_as_trimmed(
    log: DatabaseLog, room: Topic, deleted: tuple[int, int], floor: int, left: list[int]
) -> None:
    log.append(room, drafts(7))
    StoredEvent.objects.filter(offset__range=deleted).delete()
    page = log.read(room, 3, limit=10, max_bytes=PLENTY)
    assert page.head.floor == floor
    assert [event.offset for event in page.events] == left


def test_a_page_ends_before_a_hole(log: DatabaseLog, room: Topic) -> None:
    log.append(room, drafts(7))
    StoredEvent.objects.filter(offset=5).delete()
    page = log.read(room, 2, limit=10, max_bytes=PLENTY)
    assert [event.offset for event in page.events] == [3, 4]


def test_the_epoch_of_unborn_topics_is_read_each_time(log: DatabaseLog, room: Topic) -> None:
    before = log.heads([room])[room.key]
    HeadRow.objects.all().delete()
    assert log.heads([room])[room.key].epoch != before.epoch


def test_of_two_that_make_the_first_head_at_once_one_wins(log: DatabaseLog, room: Topic) -> None:
    epochs = in_threads(4, lambda _: log.heads([room])[room.key].epoch)
    assert len(set(epochs)) == 1
    appended = in_threads(4, lambda _: log.append(room, drafts(1)))
    assert sorted(answer.events[0].offset for answer in appended) == [1, 2, 3, 4]
    assert {answer.epoch for answer in appended} == set(epochs)


def test_an_append_in_a_callers_transaction_is_refused(log: DatabaseLog, room: Topic) -> None:
    with pytest.raises(StoreError, match="default"), transaction.atomic():
        log.append(room, drafts(1))
    assert log.heads([room])[room.key].last == 0


# -- trimming --------------------------------------------------------------------------------------


def test_the_floor_is_raised_before_events_go(
    log: DatabaseLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=5)
    log.append(room, drafts(25))
    with statements() as found:
        assert log.trim(limit=10) == 20
    changes = [sql.split()[0] for sql in found if not sql.startswith("SELECT")]
    assert changes == ["UPDATE", "DELETE", "UPDATE", "DELETE"]


def test_a_trim_that_was_killed_is_finished_by_the_next(
    log: DatabaseLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=5)
    log.append(room, drafts(25))

    class Killed(BaseException):
        pass

    def die_at_delete(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("DELETE"):
            raise Killed
        return execute(sql, *rest)

    with pytest.raises(Killed), connection.execute_wrapper(die_at_delete):
        log.trim()
    assert StoredEvent.objects.count() == 25
    page = log.read(room, 0, limit=100, max_bytes=PLENTY)
    assert page.head == Head(page.head.epoch, last=25, floor=20)
    assert [event.offset for event in page.events] == list(range(21, 26))
    room_class.history = History(events=1000)
    assert log.trim(limit=6) == 20
    assert StoredEvent.objects.count() == 5


def test_a_floor_is_never_lowered_nor_raised_in_another_life(
    log: DatabaseLog, room: Topic, room_class: type[Topic]
) -> None:
    log.append(room, drafts(25))
    (slow,) = log._kept(0)
    room_class.history = History(events=5)
    log.trim()
    assert not log._raise_floor(slow, 10, 0.0)
    assert log.heads([room])[room.key].floor == 20
    head = log.begin_epoch(room, log.heads([room])[room.key])
    log.append(room, drafts(5))
    assert not log._raise_floor(slow, 28, 0.0)
    assert log.heads([room])[room.key] == head._replace(last=30)


def test_what_a_new_epoch_left_behind_is_removed(log: DatabaseLog, room: Topic) -> None:
    log.append(room, drafts(7))
    log.begin_epoch(room, log.heads([room])[room.key])
    assert log.trim() == 7
    assert StoredEvent.objects.count() == 0


def test_topics_that_nobody_here_declares_keep_one_day(log: DatabaseLog, time: FakeClock) -> None:
    with registry.isolated():

        class New(Topic):
            pattern = "new"
            history = History(events=3)

        log.append(New(), drafts(10))
    assert log.trim() == 0
    time.advance(timedelta(days=1).total_seconds() + 1)
    assert log.trim() == 10


def test_a_trim_with_nothing_to_do_is_one_query(log: DatabaseLog, room: Topic) -> None:
    log.append(room, drafts(7))
    with statements() as found:
        log.trim()
    assert len(found) == 2  # the page, and the empty one after it


def test_a_trim_makes_way_for_writers(
    log: DatabaseLog, room: Topic, room_class: type[Topic]
) -> None:
    room_class.history = History(events=5)
    log.append(room, drafts(25))

    def busy(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE"):
            raise OperationalError("database is locked")
        return execute(sql, *rest)

    with connection.execute_wrapper(busy):
        assert log.trim() == 0
    assert log.trim() == 20


# -- aliases and faults ----------------------------------------------------------------------------


def test_two_aliases_of_one_database_are_one(
    log: DatabaseLog, settings: Settings, tmp_path: Path
) -> None:
    assert log.lives_in("default")
    with alias_elsewhere(sqlite_at(tmp_path / "other.sqlite3")) as alias:
        assert not log.lives_in(alias)
        connections[alias].settings_dict = connections["default"].settings_dict | {"USER": "x"}
        assert log.lives_in(alias)
        settings.DJANGO_LIVE = {"DATABASE": alias}
        assert log.lives_in("default")


@pytest.mark.parametrize(
    ("cause", "arguments", "transient"),
    [
        (SimpleNamespace(sqlstate="40001"), ("could not serialize access",), True),
        (SimpleNamespace(sqlstate="40P01"), ("deadlock detected",), True),
        (SimpleNamespace(pgcode="40P01"), ("deadlock detected",), True),
        (SimpleNamespace(), (1213, "Deadlock found"), True),
        (SimpleNamespace(), (1205, "Lock wait timeout exceeded"), True),
        (SimpleNamespace(), (1020, "Record has changed since last read"), True),
        (SimpleNamespace(), ("database is locked",), True),
        (SimpleNamespace(), ("database table is locked: x",), True),
        (SimpleNamespace(sqlstate="08006"), ("connection lost",), False),
        (SimpleNamespace(), (1146, "Table doesn't exist"), False),
        (SimpleNamespace(), (), False),
    ],
)
def test_which_errors_are_worth_another_try(
    cause: Any, arguments: tuple[Any, ...], transient: bool
) -> None:
    class Cause(Exception):
        pass

    error = OperationalError(*arguments)
    error.__cause__ = Cause()
    error.__cause__.__dict__.update(vars(cause))
    assert heads.is_transient(error) is transient


def test_another_try_is_made_and_other_errors_are_not_hidden(log: DatabaseLog, room: Topic) -> None:
    faults = [OperationalError("database is locked"), OperationalError("database is locked")]

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if faults and "INSERT INTO" in sql:
            raise faults.pop()
        return execute(sql, *rest)

    log.append(room, drafts(1))
    with connection.execute_wrapper(fail):
        assert log.append(room, drafts(1)).events[0].offset == 2
        faults.append(OperationalError("disk full"))
        with pytest.raises(DatabaseError, match="disk full"):
            log.append(room, drafts(1))


@requires("postgresql")
def test_numbering_reads_committed_whatever_the_project_runs() -> None:
    from psycopg import IsolationLevel

    with postgresql_elsewhere(isolation_level=IsolationLevel.SERIALIZABLE) as alias:
        assert [_isolation(alias), _isolation(alias, numbering=True), _isolation(alias)] == [
            "serializable",
            "read committed",
            "serializable",
        ]


def _isolation(alias: str, *, numbering: bool = False) -> str:
    transaction_of = heads.numbering(alias) if numbering else transaction.atomic(alias)
    with transaction_of, connections[alias].cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        row = cursor.fetchone()
    return str(row[0])
