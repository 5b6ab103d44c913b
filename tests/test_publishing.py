"""The way in: publish() and apublish(), after the commit and never after a rollback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.translation import gettext_lazy

from django_live import Topic, apublish, apublish_many, publish, publish_many
from django_live.core import bus, commits, sending, sweeping
from django_live.core.allowance import Allowance
from django_live.core.events import Event
from django_live.core.log import get_log
from django_live.core.outbox import get_outbox
from django_live.core.sending import observed_by
from django_live.core.spare_loop import SpareLoop
from django_live.core.sweeping import sweep
from django_live.core.topics import as_topic
from django_live.exceptions import InvalidEvent, InvalidTopic, StoreError, UnknownTopic
from django_live.models import PendingEvent, StoredEvent
from tests.conftest import NewDatabase
from tests.testapp.live import BoxedTopic, EphemeralTopic, OpenTopic, OrderTopic
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import DjangoAssertNumQueries

pytestmark = pytest.mark.django_db(transaction=True)

TOPIC = OpenTopic(slug="a")
EPHEMERAL = EphemeralTopic(slug="a")


class Undo(Exception):
    """Rolls a block back."""


@contextmanager
def undone() -> Iterator[None]:
    """A transaction, or a savepoint inside one, that is rolled back."""
    try:
        with transaction.atomic():
            yield
            raise Undo
    except Undo:
        pass


def kept(topic: Topic | str = TOPIC) -> list[Any]:
    """The data of a topic's events in the log, which has no holes."""
    events = get_log().read(as_topic(topic), 0, 100_000, 10**9).events
    assert [event.offset for event in events] == list(range(1, len(events) + 1))
    return [json.loads(event.data) for event in events]


Sent = list[tuple[str, Any]]


@pytest.fixture
def sent() -> Iterator[Sent]:
    """What was sent on, as (topic, data), as it comes."""
    events: Sent = []

    def note(topic: Topic, batch: Sequence[Event]) -> None:
        events.extend((topic.name, json.loads(event.data)) for event in batch)

    with observed_by(note):
        yield events


@pytest.fixture(params=["database", "memory"])
def store(request: pytest.FixtureRequest, settings: Any) -> str:
    """On each store."""
    settings.DJANGO_LIVE = {"STORE": request.param}
    name: str = request.param
    return name


# -- after the commit ------------------------------------------------------------------------------


def test_a_fault_in_what_is_put_off_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("nobody listens")

    with commits.putting_off() as others:
        commits.tell_of_commit(lambda: done.append(1))
        commits.tell_of_commit(fail)
        commits.tell_of_commit(lambda: done.append(2))
        outlives_the_block = copy_context()
    assert (done, others.has_any) == ([], True)
    others.tell()
    assert done == [1, 2]
    assert "nobody listens" in caplog.text
    outlives_the_block.run(commits.tell_of_commit, lambda: done.append(3))
    assert done == [1, 2, 3], "nobody will tell it later"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("topic", [TOPIC, EPHEMERAL])
class TestOnAnyStore:
    """With history and without, in the database and in memory."""

    def test_outside_a_transaction_an_event_is_sent_at_once(self, topic: Topic, sent: Sent) -> None:
        publish(topic, "said", 1)
        assert sent == [(topic.name, 1)]

    def test_what_is_put_off_is_sent_when_somebody_was_answered(
        self, topic: Topic, sent: Sent
    ) -> None:
        with commits.putting_off() as others:
            with transaction.atomic():
                publish(topic, "said", 1)
            with undone():
                publish(topic, "said", 2)
            with transaction.atomic():
                publish(topic, "said", 3)
            assert sent == [], "committed, and nobody was told"
        assert sent == []
        others.tell()
        assert sorted(data for _, data in sent) == [1, 3]
        others.tell()
        publish(topic, "said", 4)
        assert [data for _, data in sent][2:] == [4]

    def test_inside_a_transaction_it_waits_for_the_commit(self, topic: Topic, sent: Sent) -> None:
        with transaction.atomic():
            with transaction.atomic():
                publish(topic, "said", 1)
            assert sent == []
        assert sent == [(topic.name, 1)]

    def test_after_a_rollback_nothing_is_sent(self, topic: Topic, sent: Sent) -> None:
        with undone():
            publish(topic, "said", 1)
        publish(topic, "said", 2)
        assert sent == [(topic.name, 2)]

    def test_a_savepoint_that_is_rolled_back_takes_its_events_along(
        self, topic: Topic, sent: Sent
    ) -> None:
        with transaction.atomic():
            publish(topic, "said", 1)
            with undone():
                publish(topic, "said", 2)
                with transaction.atomic():
                    publish(topic, "said", 3)
            with transaction.atomic():
                publish(topic, "said", 4)
                with undone():
                    publish(topic, "said", 5)
            publish(topic, "said", 6)
        assert [data for _, data in sent] == [1, 4, 6]

    def test_events_are_sent_when_only_a_released_savepoint_published(
        self, topic: Topic, sent: Sent
    ) -> None:
        with transaction.atomic():
            with undone():
                publish(topic, "said", 1)
            with transaction.atomic():
                publish(topic, "said", 2)
        assert [data for _, data in sent] == [2]

    def test_a_rolled_back_transaction_leaves_nothing_to_the_next(
        self, topic: Topic, sent: Sent
    ) -> None:
        with undone():
            publish(topic, "said", 1)
        with transaction.atomic():
            publish(topic, "said", 2)
        sweep()
        assert [data for _, data in sent] == [2]

    def test_a_failing_observer_does_not_fail_the_caller(
        self, topic: Topic, sent: Sent, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*args: Any) -> None:
            raise ZeroDivisionError("the observer is broken")

        with observed_by(fail):
            publish(topic, "said", 1)
            with transaction.atomic():
                publish(topic, "said", 2)
        assert [data for _, data in sent] == [1, 2]
        assert "the observer is broken" in caplog.text

    def test_with_autocommit_off_events_wait_for_the_sweep_after_the_commit(
        self, topic: Topic, sent: Sent
    ) -> None:
        transaction.set_autocommit(False)
        try:
            publish(topic, "said", 1)
            transaction.rollback()
            publish(topic, "said", 2)
            assert sent == []
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        sweep()
        assert [data for _, data in sent] == [2]

    def test_in_atomic_with_autocommit_off_events_are_sent_after_the_commit(
        self, topic: Topic, sent: Sent
    ) -> None:
        transaction.set_autocommit(False)
        try:
            with transaction.atomic():
                publish(topic, "said", 1)
            assert sent == []
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        assert [data for _, data in sent] == [1]

    def test_threads_publish_side_by_side(self, topic: Topic, sent: Sent) -> None:
        def work(n: int) -> None:
            try:
                with transaction.atomic():
                    publish(topic, "said", [n, 0])
                    publish(topic, "said", [n, 1])
            finally:
                connection.close()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        sweep()
        data = [data for _, data in sent]
        assert sorted(data) == [[n, m] for n in range(8) for m in (0, 1)]
        for n in range(8):
            assert data.index([n, 0]) < data.index([n, 1])


def test_events_of_one_topic_keep_their_order_and_have_no_holes() -> None:
    publish(TOPIC, "said", 1)
    with transaction.atomic():
        for n in (2, 3):
            publish("open/a", "said", n)
        publish("open/b", "said", "b")
    publish(TOPIC, "said", 4)
    assert kept() == [1, 2, 3, 4]
    assert kept("open/b") == ["b"]


def test_what_is_sent_can_be_read_by_then() -> None:
    read: list[list[Any]] = []
    with observed_by(lambda topic, events: read.append(kept(topic))), transaction.atomic():
        publish(TOPIC, "said", 1)
    assert read == [[1]]


# -- on_commit=False -------------------------------------------------------------------------------


def test_an_event_without_history_may_be_sent_before_the_commit(sent: Sent) -> None:
    with undone():
        publish(EPHEMERAL, "said", 1, on_commit=False)
        assert sent == [("ephemeral/a", 1)]


def test_an_event_in_the_transactions_own_database_cannot(sent: Sent) -> None:
    with transaction.atomic():
        with pytest.raises(StoreError, match="on_commit=True"):
            publish(TOPIC, "said", 1, on_commit=False)
        publish(TOPIC, "said", 2)  # the caller's transaction is as it was
    assert [data for _, data in sent] == [2]
    assert kept() == [2]


def test_a_memory_store_takes_it_before_the_commit(settings: Any, sent: Sent) -> None:
    settings.DJANGO_LIVE = {"STORE": "memory"}
    with undone():
        publish(TOPIC, "said", 1, on_commit=False)
    assert sent == [("open/a", 1)]


def test_outside_a_transaction_it_changes_nothing(sent: Sent) -> None:
    publish(TOPIC, "said", 1, on_commit=False)
    assert sent == [("open/a", 1)]


# -- the outbox ------------------------------------------------------------------------------------


BOXED = BoxedTopic(slug="a")


def test_a_topic_may_ask_for_the_outbox_with_a_memory_store(settings: Any, sent: Sent) -> None:
    settings.DJANGO_LIVE = {"STORE": "memory"}
    with transaction.atomic():
        publish(BOXED, "said", 1)
        publish(TOPIC, "said", 2)
        assert [row.name for row in PendingEvent.objects.all()] == ["boxed/a"]
    assert sorted(sent) == [("boxed/a", 1), ("open/a", 2)]
    assert kept(BOXED) == [1]
    assert not PendingEvent.objects.exists()


def test_outside_a_transaction_the_outbox_is_passed_through(settings: Any, sent: Sent) -> None:
    settings.DJANGO_LIVE = {"STORE": "memory"}
    publish(BOXED, "said", 1)
    assert sent == [("boxed/a", 1)]
    assert not PendingEvent.objects.exists()


def test_who_does_not_wait_for_the_commit_does_without_the_outbox(
    settings: Any, sent: Sent
) -> None:
    settings.DJANGO_LIVE = {"STORE": "memory"}
    with undone():
        publish(BOXED, "said", 1, on_commit=False)
        assert not PendingEvent.objects.exists()
    assert sent == [("boxed/a", 1)]


@pytest.fixture
def order(transactional_db: None, django_user_model: type[User]) -> Order:  # noqa: ARG001
    """Ann's order."""
    return Order.objects.create(customer=django_user_model.objects.create_user("ann"))


def test_when_numbering_fails_the_request_succeeds_and_the_sweep_sends_later(
    order: Order, sent: Sent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent.clear()

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the database went away")

    client = Client()
    client.force_login(order.customer)
    with monkeypatch.context() as patched:
        patched.setattr(type(get_outbox()), "number", fail)
        answer = client.post(f"/orders/{order.pk}/change/", {"status": "paid"})
    assert answer.status_code == 204
    assert "the database went away" in caplog.text
    assert sent == []
    assert PendingEvent.objects.count() == 2
    assert sweep() == 2
    assert {name for name, _ in sent} == {
        f"orders/{order.pk}",
        f"customers/{order.customer_id}/orders",
    }
    assert sweep() == 0


def test_the_next_publish_on_the_topic_sends_what_was_left_behind(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(type(get_outbox()), "number", lambda *args: iter(()))
        with transaction.atomic():
            publish(TOPIC, "said", "left behind")
    publish(TOPIC, "said", "next")
    assert [data for _, data in sent] == ["left behind", "next"]


def test_without_robust_hooks_the_request_would_fail(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""

    def forgive_nothing(error: BaseException) -> None:
        raise error

    monkeypatch.setattr(commits, "raise_interruption", forgive_nothing)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the database went away")

    monkeypatch.setattr(commits.Commit, "number", fail)
    client = Client(raise_request_exception=False)
    client.force_login(order.customer)
    assert client.post(f"/orders/{order.pk}/change/", {"status": "paid"}).status_code == 500


# -- a layer that fails ----------------------------------------------------------------------------


class FailingLayer:
    """Stands for a channel layer between processes."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        raise ConnectionError("the layer is down")


class StuckLayer:
    """Takes what it is given and never answers."""

    def __init__(self) -> None:
        self.waiting = 0

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1


def test_a_layer_that_fails_costs_no_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus, "layer_in_force", FailingLayer)
    publish(TOPIC, "said", 1)
    with transaction.atomic():
        publish(TOPIC, "said", 2)
    assert kept() == [1, 2]
    assert caplog.text.count("the layer is down") == 2


def test_a_layer_that_hangs_costs_a_bounded_wait_and_no_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = StuckLayer()
    own = SpareLoop()
    monkeypatch.setattr(bus, "layer_in_force", lambda: layer)
    monkeypatch.setattr(sending, "spare_loop", own)
    for n in range(5):
        with Allowance(for_layer=0.05).in_force():
            publish(TOPIC, "said", n)
    assert kept() == [0, 1, 2, 3, 4]
    assert caplog.text.count("were not sent over the channel layer") == 5
    own.flush(timeout=10)
    assert not own._own.unfinished
    # What is sent next comes after the cancelled sends have let go: they take turns.
    own.run(lambda: asyncio.sleep(0), 10)
    assert layer.waiting == 0


def test_the_hooks_of_a_commit_wait_no_longer_than_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = StuckLayer()
    own = SpareLoop()
    monkeypatch.setattr(bus, "layer_in_force", lambda: layer)
    monkeypatch.setattr(sending, "spare_loop", own)
    for _ in range(2):  # the second has its own
        began = time.monotonic()
        with transaction.atomic():
            for n in range(10):
                publish("ephemeral/hooks", "said", n)
        assert time.monotonic() - began < 4  # ten times a time-out is twelve
    assert caplog.text.count("were not sent over the channel layer") == 20
    assert caplog.text.count("it has not answered before") == 18
    own.flush(timeout=10)


# -- what may be published -------------------------------------------------------------------------


def test_data_is_what_djangos_json_encoder_takes() -> None:
    publish(
        TOPIC,
        "said",
        {
            "day": date(2026, 1, 31),
            "at": datetime(2026, 1, 31, tzinfo=UTC),
            "price": Decimal("9.90"),
            "id": UUID(int=1),
            "lazy": gettext_lazy("Yes"),
            "text": "ü\n\r\u2028\0😀",
            "list": (1, None, True, 1.5),
        },
    )
    assert kept() == [
        {
            "day": "2026-01-31",
            "at": "2026-01-31T00:00:00Z",
            "price": "9.90",
            "id": "00000000-0000-0000-0000-000000000001",
            "lazy": "Yes",
            "text": "ü\n\r\u2028\0😀",
            "list": [1, None, True, 1.5],
        }
    ]
    assert "\n" not in StoredEvent.objects.get().data


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "data",
    [
        float("nan"),
        {"x": float("inf")},
        {float("nan"): 1},
        {1, 2},
        object(),
        {"x": b"bytes"},
        "\ud800",
        {"\udfff": 1},
        CYCLE,
        DEEP,
        {(1, 2): 3},
    ],
    ids=lambda data: type(data).__name__,
)
def test_other_data_is_refused_before_anything_happens(data: Any) -> None:
    with transaction.atomic():
        with pytest.raises(InvalidEvent, match="cannot be sent as JSON"):
            publish(TOPIC, "said", data)
        publish(TOPIC, "said", "right")
    assert kept() == ["right"]


@pytest.mark.parametrize(
    "type",
    [
        "",
        "keep-alive",
        "open",
        "error",
        "stream-open",
        "stream-anything",
        "two words",
        "line\nfeed",
        "ü",
        "1st",
        "x" * 65,
        None,
        1,
    ],
)
def test_a_type_that_is_reserved_or_no_name_is_refused(type: Any) -> None:
    with pytest.raises(InvalidEvent):
        publish(TOPIC, type)


@pytest.mark.parametrize("type", ["a", "order.paid", "order:paid", "_x", "x" * 64, "opened"])
def test_other_types_are_names(type: str) -> None:
    publish(TOPIC, type)
    assert kept() == [None]


@pytest.mark.parametrize("topic", ["nobody/declares", "orders/x", "orders/042"])
def test_an_unknown_topic_is_refused_in_the_callers_face(topic: str) -> None:
    with pytest.raises(UnknownTopic, match=r"live\.py"):
        publish(topic, "said")


@pytest.mark.parametrize("topic", ["", " open/a", "open/a\n", "x" * 201, None, 42, OrderTopic])
def test_what_cannot_be_a_topic_is_refused(topic: Any) -> None:
    with pytest.raises(InvalidTopic):
        publish(topic, "said")


@pytest.mark.parametrize("pk", [None, "x", -1, 1.5])
def test_a_topic_of_an_impossible_object_is_refused(pk: Any) -> None:
    with pytest.raises(InvalidTopic):
        publish(OrderTopic(pk=pk), "said")


def test_the_spared_connection_is_kept_with_the_event() -> None:
    publish(TOPIC, "said", 1, exclude="c1")
    publish(TOPIC, "said", 2, exclude=None)
    events = get_log().read(TOPIC, 0, 10, 10**6).events
    assert [event.exclude for event in events] == ["c1", ""]


@pytest.mark.parametrize("exclude", ["x" * 65, "a\0b", "\ud800", "x" * 100_000])
def test_a_connection_id_that_nobody_can_have_spares_nobody(exclude: str) -> None:
    """It comes from the browser: it must not break the caller's transaction."""
    with transaction.atomic():
        publish(TOPIC, "said", 1, exclude=exclude)
    assert kept() == [1]


@pytest.mark.parametrize("option", ["conflate", "idempotency_key"])
@pytest.mark.parametrize("value", ["a\0b", "\ud800", 1])
def test_keys_that_no_store_can_keep_are_refused(option: str, value: Any) -> None:
    with transaction.atomic():
        with pytest.raises(InvalidEvent):
            publish(TOPIC, "said", 1, **{option: value})
        publish(TOPIC, "said", 2)
    assert kept() == [2]


def test_the_same_idempotency_key_is_the_same_event() -> None:
    for _ in range(2):
        publish(TOPIC, "said", 1, idempotency_key="one")
    with transaction.atomic():
        publish(TOPIC, "said", 1, idempotency_key="one")
        publish(TOPIC, "said", 2, idempotency_key="two")
    assert kept() == [1, 2]


def test_tenants_do_not_hear_each_other() -> None:
    publish("open/a", "said", 1, namespace="one")
    publish("open/a", "said", 2, namespace="two")
    assert kept(OpenTopic(slug="a", namespace="one")) == [1]
    assert kept(OpenTopic(slug="a", namespace="two")) == [2]
    assert kept() == []


# -- in an event loop ------------------------------------------------------------------------------


def test_publish_in_an_event_loop_names_apublish() -> None:
    async def work() -> None:
        publish(TOPIC, "said", 1)

    with pytest.raises(RuntimeError, match=r"await apublish\("):
        asyncio.run(work())
    assert kept() == []


def test_apublish_sends_at_once(sent: Sent) -> None:
    async_to_sync(apublish)(TOPIC, "said", 1)
    assert sent == [("open/a", 1)]


def test_apublish_belongs_to_the_transaction_of_the_sync_code_around_it(sent: Sent) -> None:
    with undone():
        async_to_sync(apublish)(TOPIC, "said", 1)
    with transaction.atomic():
        async_to_sync(apublish)(TOPIC, "said", 2, exclude="c1")
        assert sent == []
    assert sent == [("open/a", 2)]


def test_apublish_raises_what_publish_raises() -> None:
    with pytest.raises(UnknownTopic):
        async_to_sync(apublish)("nobody/declares", "said")
    with pytest.raises(InvalidEvent):
        async_to_sync(apublish)(TOPIC, "said", {1})


def test_sync_code_of_an_async_program_publishes(sent: Sent) -> None:
    async def work() -> None:
        await sync_to_async(publish)(TOPIC, "said", 1)

    async_to_sync(work)()
    assert sent == [("open/a", 1)]


# -- what it costs ---------------------------------------------------------------------------------


def test_publishing_in_a_transaction_costs_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with transaction.atomic(), django_assert_num_queries(3):
        for n in range(3):
            publish(TOPIC, "said", n)


def test_many_events_in_one_transaction_cost_no_more_each() -> None:
    """CPU time, of publishing and of what comes after the commit; quadratic would be 16 times."""

    def cost(count: int) -> tuple[float, float]:
        begun = time.thread_time()
        with transaction.atomic():
            for n in range(count):
                publish(TOPIC, "said", n)
            published = time.thread_time()
        return published - begun, time.thread_time() - published

    cost(100)
    few, many = cost(2_500), cost(10_000)
    assert sweeping.errands.flush(60)
    assert len(kept()) == 12_600
    assert not PendingEvent.objects.exists()
    for phase in (0, 1):
        assert many[phase] < 8 * few[phase]


# -- processes -------------------------------------------------------------------------------------

FORKED = """
import asyncio, os
from django.db import connections
from django_live import publish
from django_live.core.spare_loop import spare_loop
from django_live.core.log import get_log
from django_live.core.topics import as_topic

async def answer():
    return os.getpid()

publish("open/a", "said", "parent before")
assert spare_loop.run(answer, 5) == os.getpid()
connections.close_all()
child = os.fork()
if not child:
    try:
        publish("open/a", "said", "child")
        assert spare_loop.run(answer, 5) == os.getpid()
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
publish("open/a", "said", "parent after")
assert spare_loop.run(answer, 5) == os.getpid()
print([event.data for event in get_log().read(as_topic("open/a"), 0, 10, 10**6).events])
"""


def test_a_forked_child_publishes_and_has_a_loop_of_its_own(
    new_server_database: NewDatabase,
) -> None:
    printed = new_server_database("sqlite").python(FORKED)
    assert printed.strip() == str(['"parent before"', '"child"', '"parent after"'])


KILLED = """
import os
from django.db import transaction
from django_live import publish
from django_live.stores.outbox import DatabaseOutbox

DatabaseOutbox.number = lambda *args: os._exit(9)  # as kill -9 right after the commit
with transaction.atomic():
    publish("open/a", "said", "survives")
"""


def test_an_event_of_a_process_that_died_after_its_commit_is_sent_by_another(
    new_server_database: NewDatabase,
) -> None:
    database = new_server_database("sqlite")
    with pytest.raises(Exception, match=r"\b9\b"):
        database.python(KILLED)
    printed = database.python(
        "from django_live.core.sweeping import sweep\n"
        "from django_live.core.log import get_log\n"
        "from django_live.core.topics import as_topic\n"
        "print(sweep(), [e.data for e in get_log().read(as_topic('open/a'), 0, 9, 999).events])"
    )
    assert printed.strip() == "1 ['\"survives\"']"


# -- publish_many ----------------------------------------------------------------------------------


@pytest.fixture(params=["database", "memory", "redis"])
def each_store(request: pytest.FixtureRequest, settings: Any) -> None:
    """On each store, one in a Redis of the test's own among them."""
    settings.DJANGO_LIVE = {"STORE": request.param}
    if request.param == "redis":
        url = request.getfixturevalue("own_redis").url
        settings.DJANGO_LIVE = {"STORE": "redis", "REDIS_URL": url}


@pytest.mark.usefixtures("each_store")
@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "alone"])
def test_many_events_keep_their_order(sent: Sent, inside: bool) -> None:
    items: list[Any] = [(f"open/t{n % 3}", "said", n) for n in range(30)]
    items += [(EPHEMERAL, "said"), {"topic": "open/t0", "type": "said", "data": "last"}]
    with transaction.atomic() if inside else nullcontext():
        publish_many(iter(items))
        assert inside != bool(sent)
    for n in range(3):
        own = [*range(n, 30, 3), *(["last"] if n == 0 else [])]
        assert kept(f"open/t{n}") == own
        assert [data for topic, data in sent if topic == f"open/t{n}"] == own
    assert ("ephemeral/a", None) in sent


@pytest.mark.usefixtures("each_store")
def test_many_events_are_gone_after_a_rollback(sent: Sent) -> None:
    with undone():
        publish_many([(TOPIC, "said", n) for n in range(5)])
    assert (sent, kept()) == ([], [])


@pytest.mark.usefixtures("each_store")
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (("nowhere/a", "said"), UnknownTopic),
        ((TOPIC, "reset"), InvalidEvent),
        ((TOPIC, "said", object()), InvalidEvent),
        ("open/a", InvalidEvent),
        ((TOPIC,), TypeError),
        ({"topic": TOPIC, "type": "said", "on_commit": False}, TypeError),
    ],
)
def test_of_many_events_one_that_is_wrong_publishes_nothing(
    sent: Sent, wrong: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        publish_many([(TOPIC, "said", 1), wrong, (TOPIC, "said", 2)])
    assert (sent, kept()) == ([], [])


@pytest.mark.usefixtures("each_store")
def test_many_events_may_have_keys() -> None:
    items = [
        {"topic": TOPIC, "type": "said", "data": n, "idempotency_key": f"k{n % 3}"}
        for n in range(6)
    ]
    publish_many(items)
    publish_many(items)
    assert kept() == [0, 1, 2]


@pytest.mark.usefixtures("each_store")
def test_nothing_at_all_may_be_published(sent: Sent) -> None:
    publish_many([])
    assert sent == []


@pytest.mark.usefixtures("each_store")
def test_many_events_from_a_coroutine() -> None:
    async def work() -> None:
        with pytest.raises(RuntimeError, match="apublish_many"):
            publish_many([(TOPIC, "said", 1)])
        await apublish_many((TOPIC, "said", n) for n in range(3))

    async_to_sync(work)()
    assert kept() == [0, 1, 2]


def test_many_events_in_a_transaction_are_one_statement() -> None:
    publish(TOPIC, "said", 0)
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        publish_many([(TOPIC, "said", n) for n in range(1, 500)])
    written = [q["sql"] for q in captured.captured_queries if q["sql"].startswith("INSERT")]
    assert len(written) == 1
    assert kept() == list(range(500))


def test_a_layer_that_hangs_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = StuckLayer()
    own = SpareLoop()
    monkeypatch.setattr(bus, "layer_in_force", lambda: layer)
    monkeypatch.setattr(sending, "spare_loop", own)
    monkeypatch.setattr(sending, "MESSAGES_AT_ONCE", 2)
    began = time.monotonic()
    with Allowance(for_layer=0.3).in_force():
        publish_many([(f"open/t{n}", "said", n) for n in range(40)])
    assert time.monotonic() - began < 3  # 20 times the wait would be 6 seconds
    assert caplog.text.count("were not sent over the channel layer") == 20
    own.flush(timeout=10)
