"""What is particular to MariaDB: isolation, locks of deletes, text, large packets."""

from __future__ import annotations

import threading
import time as real_time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction

from django_live.core.events import Draft
from django_live.core.outbox import Entry
from django_live.core.topics import Topic
from django_live.exceptions import StoreError
from django_live.models import Head, PendingEvent, StateEntry
from django_live.stores import heads
from django_live.stores.database import DatabaseLog
from django_live.stores.outbox import DatabaseOutbox
from django_live.stores.state_database import DatabaseState
from tests.stores.aliases import mariadb_elsewhere
from tests.support.mariadb_url import MariadbServer
from tests.support.requirements import requires

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [
    requires("mariadb"),
    pytest.mark.any_database,
    pytest.mark.django_db(transaction=True),
]

PLENTY = 10_000_000
LEVELS = ["read uncommitted", "read committed", "repeatable read", "serializable", None]


@pytest.fixture
def mariadb(settings: Settings) -> Iterator[str]:
    """The alias of a database that holds log, state and outbox."""
    with mariadb_elsewhere() as alias:
        settings.DJANGO_LIVE = {"DATABASE": alias}
        yield alias


def entry(topic: Topic, data: str = "1") -> Entry:
    return Entry(topic, Draft(type="said", data=data))


@contextmanager
def open_caller(topic: Topic, using: str) -> Iterator[None]:
    """Somebody's transaction that has published and does not commit while the block runs."""
    written, enough = threading.Event(), threading.Event()

    class RollBack(Exception):
        pass

    def stay_open() -> None:
        with suppress(RollBack), transaction.atomic(using):
            DatabaseOutbox().add([entry(topic)], using)
            written.set()
            enough.wait(30)
            raise RollBack
        connections[using].close()

    thread = threading.Thread(target=stay_open)
    thread.start()
    assert written.wait(10)
    try:
        yield
    finally:
        enough.set()
        thread.join(10)


# -- locks -----------------------------------------------------------------------------------------


def test_numbering_waits_for_no_open_caller(
    mariadb: str, room: Topic, room_class: type[Topic], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = DatabaseOutbox()
    list(outbox.number([room], mariadb, also=[entry(room)]))
    with open_caller(room_class(title="other"), mariadb), open_caller(room, mariadb):
        # The second time as MariaDB 10.5.
        for first_with_json_table in ((10, 6), (99, 0)):
            monkeypatch.setattr(heads, "_FIRST_WITH_JSON_TABLE", first_with_json_table)
            for count in (1, 2, 50):
                with transaction.atomic(mariadb):
                    outbox.add([entry(room)] * count, mariadb)
                began = real_time.monotonic()
                (batch,) = outbox.number([room], mariadb)
                assert real_time.monotonic() - began < 5
                assert len(batch.appended.events) == count
                assert PendingEvent.objects.using(mariadb).count() == 0


def test_a_delete_by_a_list_of_keys_would_wait(mariadb: str, room: Topic) -> None:
    """The control: what `delete_ids` does not do."""
    with connections[mariadb].cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout = 1")
    with open_caller(room, mariadb):
        with transaction.atomic(mariadb):
            ids = DatabaseOutbox().add([entry(room)] * 2, mariadb)
        listed = [*ids, *range(10**6, 10**6 + 50)]
        rows = PendingEvent.objects.using(mariadb).filter(pk__in=listed)
        with pytest.raises(OperationalError, match="1205"):
            rows._raw_delete(mariadb)


def test_entries_of_one_map_are_deleted_while_another_is_changed(mariadb: str) -> None:
    state = DatabaseState()
    state.set("a", {"x": "1", "y": "1"})
    changed, enough = threading.Event(), threading.Event()

    def stay_open() -> None:
        with transaction.atomic(mariadb):
            state.set("b", {"x": "1", "y": "1"})
            changed.set()
            enough.wait(30)
        connections[mariadb].close()

    thread = threading.Thread(target=stay_open)
    thread.start()
    try:
        assert changed.wait(10)
        began = real_time.monotonic()
        assert state.delete("a", ["x", "y"]).removed == {"x", "y"}
        assert real_time.monotonic() - began < 5
    finally:
        enough.set()
        thread.join(10)
    assert StateEntry.objects.using(mariadb).count() == 2


# -- isolation -------------------------------------------------------------------------------------


def test_numbering_reads_committed_whatever_the_project_runs(mariadb: str, room: Topic) -> None:
    for number, level in enumerate(LEVELS):
        connections[mariadb].close()
        connections[mariadb].settings_dict["OPTIONS"]["isolation_level"] = level
        assert sees_what_others_commit(f"numbering {number}", mariadb, numbering=True), level
        # The project's own transactions are as strict as before. None is the server's default.
        weak = level in ("read uncommitted", "read committed")
        assert sees_what_others_commit(f"own {number}", mariadb, numbering=False) is weak, level
        list(DatabaseOutbox().number([room], mariadb, also=[entry(room)]))
        assert DatabaseLog().heads([room])[room.key].last == number + 1


def sees_what_others_commit(key: str, using: str, *, numbering: bool) -> bool:
    """Whether a second look in a transaction finds what another one committed after the first."""

    def make_a_head() -> None:
        Head.objects.using(using).create(key=key, epoch="e")
        connections[using].close()

    others = Head.objects.using(using).filter(key=key)
    with heads.numbering(using) if numbering else transaction.atomic(using):
        assert not others.exists()
        thread = threading.Thread(target=make_a_head)
        thread.start()
        # At SERIALIZABLE a plain look locks, and the other one waits for the end.
        thread.join(1)
        seen = others.exists()
    thread.join(10)
    return seen


# -- what it can hold ------------------------------------------------------------------------------


def test_what_does_not_fit_into_a_packet_is_refused_and_harms_nothing(
    mariadb: str, room: Topic
) -> None:
    with MariadbServer.from_environment().cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        packet = int(cursor.fetchone()[0])
    log = DatabaseLog()
    large = '"%s"' % ("x" * (packet - 100_000))
    log.append(room, [Draft("said", large)])
    assert log.read(room, 0, limit=1, max_bytes=PLENTY).events[0].data == large
    with pytest.raises((StoreError, DatabaseError)):
        log.append(room, [Draft("said", '"%s"' % ("x" * packet))])
    connections[mariadb].close()  # the server hangs up on who sends too much
    assert log.append(room, [Draft("said", "1")]).events[0].offset == 2


def test_what_is_together_larger_than_a_packet_goes_in_parts(mariadb: str, room: Topic) -> None:
    outbox, data = DatabaseOutbox(), '"%s"' % ("x" * 4_000_000)
    with transaction.atomic(mariadb):
        outbox.add([entry(room, data)] * 6, mariadb)
    numbered = list(outbox.number([room], mariadb))
    assert [event.offset for batch in numbered for event in batch.appended.events] == [*range(1, 7)]


def test_times_are_exact_to_the_microsecond(mariadb: str) -> None:
    state = DatabaseState()
    assert state.using == mariadb
    assert any(round(state._now() * 1e6) % 100 for _ in range(20)), "only four digits are left"
    assert abs(state._now() - real_time.time()) < 60
