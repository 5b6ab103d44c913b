"""What is particular to the outbox in the project's database."""

from __future__ import annotations

import logging
import threading
import time as real_time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_live.core.events import Draft
from django_live.core.log import Appended, get_log
from django_live.core.log import Head as LogHead
from django_live.core.outbox import Entry, Numbered
from django_live.core.topics import Topic, as_topic
from django_live.exceptions import StoreError
from django_live.models import Head, PendingEvent, StoredEvent
from django_live.stores import numbering
from django_live.stores.heads import generation, lock_heads
from django_live.stores.memory import MemoryLog
from django_live.stores.outbox import DatabaseOutbox
from tests.stores.aliases import WITH_SERVERS
from tests.support.requirements import require
from tests.support.statements import statements_of

if TYPE_CHECKING:
    from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

PLENTY = 10_000_000
USING = "default"


@pytest.fixture
def outbox() -> DatabaseOutbox:
    return DatabaseOutbox()


def entry(topic: Topic, text: str = "x") -> Entry:
    return Entry(topic, Draft(type="said", data=f'"{text}"'))


def commit(outbox: DatabaseOutbox, *entries: Entry, using: str = USING) -> None:
    with transaction.atomic(using):
        outbox.add(entries, using)


def kept(topic: Topic) -> list[str]:
    return [event.data for event in get_log().read(topic, 0, PLENTY, PLENTY).events]


# -- how many statements ---------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("known", [True, False], ids=["known topics", "new topics"])
def test_statements_of_a_publish(
    outbox: DatabaseOutbox, room_class: type[Topic], count: int, known: bool
) -> None:
    """At most one in the caller's transaction and four after it, whatever the number of topics."""
    connection = connections[USING]
    rooms = [room_class(title=f"{n}") for n in range(count)]
    generation(USING)  # the first event of a new database makes it
    if known:
        list(outbox.number(rooms, USING, also=[entry(room) for room in rooms]))
    with CaptureQueriesContext(connection) as inside:
        commit(outbox, *(entry(room) for room in rooms))
    assert len(statements_of(inside)) == 1
    with CaptureQueriesContext(connection) as after:
        numbered = list(outbox.number(rooms, USING))
    assert len(numbered) == count
    assert len(statements_of(after)) <= 4, statements_of(after)
    with CaptureQueriesContext(connection) as alone:
        list(outbox.number(rooms, USING, also=[entry(room) for room in rooms]))
    assert len(statements_of(alone)) <= 4


@pytest.mark.django_db(transaction=True)
def test_the_callers_transaction_never_touches_a_head(outbox: DatabaseOutbox, room: Topic) -> None:
    with CaptureQueriesContext(connections[USING]) as captured:
        commit(outbox, entry(room))
    assert not [sql for sql in statements_of(captured) if Head._meta.db_table in sql]


@pytest.mark.django_db(transaction=True)
def test_a_quiet_sweep_is_one_query(outbox: DatabaseOutbox) -> None:
    with CaptureQueriesContext(connections[USING]) as captured:
        assert list(outbox.sweep(USING)) == []
    assert len(captured) == 1


# -- in a TestCase ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("store", ["memory", "database"])
def test_a_test_case_can_number_in_its_own_transaction(
    outbox: DatabaseOutbox,
    room: Topic,
    store: str,
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    settings.DJANGO_LIVE = {"STORE": store}
    batches: list[Numbered] = []
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        outbox.add([entry(room, "a"), entry(room, "b")], USING)
        transaction.on_commit(lambda: batches.extend(outbox.number([room], USING)))
    assert kept(room) == ['"a"', '"b"']
    assert [event.offset for event in batches[0].appended.events] == [1, 2]
    assert list(outbox.sweep(USING)) == []


# -- a log that is elsewhere, and fails ------------------------------------------------------------


class UnreliableLog(MemoryLog):
    """Fails as it is told to, before or after it has appended."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise StoreError("not reachable")
        appended = super().append(topic, drafts)
        if fault == "after":
            raise ConnectionResetError("nobody knows whether it arrived")
        return appended


@pytest.fixture
def unreliable(settings: Settings) -> UnreliableLog:
    settings.DJANGO_LIVE = {"STORE": f"{__name__}.UnreliableLog"}
    log = get_log()
    assert isinstance(log, UnreliableLog)
    return log


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", ["before", "after"])
def test_what_a_log_did_not_take_is_taken_later_once(
    outbox: DatabaseOutbox,
    room: Topic,
    unreliable: UnreliableLog,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    unreliable.faults = [fault, fault]
    commit(outbox, entry(room, "a"), entry(room, "b"))
    with caplog.at_level(logging.WARNING, "django_live"):
        assert list(outbox.number([room], USING)) == []
        assert list(outbox.number([room], USING, also=[entry(room, "c")])) == []
    assert "left to the sweep" in caplog.text
    assert PendingEvent.objects.count() == 3
    (batch,) = outbox.sweep(USING)
    assert [event.data for event in batch.appended.events] == ['"a"', '"b"', '"c"']
    assert kept(room) == ['"a"', '"b"', '"c"']
    assert PendingEvent.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_one_topics_fault_is_not_anothers(
    outbox: DatabaseOutbox, room: Topic, room_class: type[Topic], unreliable: UnreliableLog
) -> None:
    other = room_class(title="kitchen")
    unreliable.faults = ["before"]
    commit(outbox, entry(room), entry(other))
    assert [batch.topic for batch in outbox.number([room, other], USING)] == [other]
    assert [batch.topic for batch in outbox.sweep(USING)] == [room]


class AskedLog(MemoryLog):
    """Notes what it is asked, and whether a transaction is held meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, bool]] = []
        self.answers = True

    def heads(self, topics: Sequence[Topic]) -> dict[str, LogHead]:
        self.asked.append(("heads", connections[USING].in_atomic_block))
        if not self.answers:
            raise StoreError("did not answer in time")
        return super().heads(topics)

    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        self.asked.append(("append", connections[USING].in_atomic_block))
        return super().append(topic, drafts)


@pytest.fixture
def asked(settings: Settings) -> AskedLog:
    settings.DJANGO_LIVE = {"STORE": f"{__name__}.AskedLog"}
    log = get_log()
    assert isinstance(log, AskedLog)
    return log


@pytest.mark.django_db(transaction=True)
def test_a_log_that_does_not_answer_is_waited_for_outside_of_a_transaction(
    outbox: DatabaseOutbox, room: Topic, asked: AskedLog
) -> None:
    """On SQLite all who write would wait with it: three processes kept a fourth out for 20 seconds."""
    asked.answers = False
    commit(outbox, entry(room))
    assert list(outbox.number([room], USING)) == []
    assert list(outbox.sweep(USING)) == []
    assert asked.asked == [("heads", False)] * 2
    asked.answers = True
    assert len(list(outbox.sweep(USING))) == 1
    assert asked.asked[2:] == [("heads", False), ("append", True)]


@pytest.mark.django_db(transaction=True)
def test_whoever_waited_long_for_the_lock_asks_again_and_not_for_ever(
    outbox: DatabaseOutbox, room: Topic, asked: AskedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(outbox, entry(room))
    list(outbox.number([room], USING))  # makes what is to be locked
    asked.asked.clear()
    monkeypatch.setattr(numbering, "LOG_PATIENCE", 0.0)  # any wait is long
    commit(outbox, entry(room))
    assert len(list(outbox.number([room], USING))) == 1
    assert asked.asked == [("heads", False)] * (1 + numbering.DOUBTS) + [("append", True)]


@pytest.mark.django_db(transaction=True)
def test_topics_that_keep_nothing_do_not_need_the_log(
    outbox: DatabaseOutbox, asked: AskedLog
) -> None:
    topic = as_topic("ephemeral/none")
    asked.answers = False
    commit(outbox, entry(topic))
    assert len(list(outbox.number([topic], USING))) == 1
    assert asked.asked == []


# -- a topic that somebody else numbers ------------------------------------------------------------


@pytest.fixture(params=WITH_SERVERS)
def busy(
    request: pytest.FixtureRequest,
    settings: Settings,
    transactional_db: None,  # noqa: ARG001
) -> Iterator[str]:
    """The alias of a database that holds log and outbox, and where several may write at once."""
    require(request.param)
    with WITH_SERVERS[request.param]() as alias:
        settings.DJANGO_LIVE = {"DATABASE": alias, "NUMBERING_WAIT": 0.15}
        yield alias


@contextmanager
def somebody_numbers(topic: Topic, using: str) -> Iterator[threading.Event]:
    """Another thread holds the topic's head until the block, or the event it gives, ends it."""
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using):
            assert lock_heads(using, [topic.key])
            held.set()
            enough.wait(10)
        connections[using].close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        yield enough
    finally:
        enough.set()
        thread.join(10)


def test_a_stuck_numberer_costs_a_publisher_a_bounded_time(
    outbox: DatabaseOutbox, room: Topic, busy: str
) -> None:
    list(outbox.number([room], busy, also=[entry(room, "0")]))
    commit(outbox, entry(room, "1"), using=busy)
    with somebody_numbers(room, busy):
        began = real_time.monotonic()
        assert list(outbox.number([room], busy)) == []
        assert list(outbox.number([room], busy, also=[entry(room, "2")])) == []
        assert 0.3 <= real_time.monotonic() - began < 2
        assert list(outbox.sweep(busy)) == []
        with pytest.raises(StoreError, match="lobby"):
            get_log().append(room, [])
    (batch,) = outbox.sweep(busy)
    assert [event.data for event in batch.appended.events] == ['"1"', '"2"']


def test_a_sweep_passes_by_what_is_being_numbered(
    outbox: DatabaseOutbox, room: Topic, room_class: type[Topic], busy: str
) -> None:
    other = room_class(title="kitchen")
    for topic in (room, other):
        list(outbox.number([topic], busy, also=[entry(topic)]))
    commit(outbox, entry(room), entry(other), using=busy)
    with somebody_numbers(room, busy):
        assert [batch.topic for batch in outbox.sweep(busy)] == [other]
        commit(outbox, entry(other), using=busy)
        assert [batch.topic for batch in outbox.number([room, other], busy)] == [other]
    assert [batch.topic for batch in outbox.sweep(busy)] == [room]


def test_a_publisher_goes_on_as_soon_as_the_other_is_done(
    outbox: DatabaseOutbox, room: Topic, busy: str, settings: Settings
) -> None:
    settings.DJANGO_LIVE = {"DATABASE": busy, "NUMBERING_WAIT": 10.0}
    list(outbox.number([room], busy, also=[entry(room)]))
    with somebody_numbers(room, busy) as enough:
        threading.Timer(0.05, enough.set).start()
        began = real_time.monotonic()
        (batch,) = outbox.number([room], busy, also=[entry(room, "own")])
        assert real_time.monotonic() - began < 2
    assert [event.offset for event in batch.appended.events] == [2]


def test_a_publisher_whose_rows_another_took_goes_on_at_once(
    outbox: DatabaseOutbox, room: Topic, busy: str, settings: Settings
) -> None:
    settings.DJANGO_LIVE = {"DATABASE": busy, "NUMBERING_WAIT": 10.0}
    list(outbox.number([room], busy, also=[entry(room)]))
    commit(outbox, entry(room), using=busy)

    def take() -> None:
        PendingEvent.objects.using(busy).all().delete()
        connections[busy].close()

    with somebody_numbers(room, busy):
        taker = threading.Timer(0.05, take)
        taker.start()
        began = real_time.monotonic()
        assert list(outbox.number([room], busy)) == []
        assert real_time.monotonic() - began < 2
        taker.join()
    assert StoredEvent.objects.using(busy).count() == 1
