"""Writes of many rows at once, and silence."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import F, RestrictedError, Value
from django.db.models.deletion import Collector
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext

from django_live.core import commits, sweeping
from django_live.features import changes
from django_live.features.bulk import LiveManager, LiveQuerySet
from django_live.features.changes import suppress
from django_live.features.hearing import listening
from django_live.models import PendingEvent
from tests.features.test_changes import undone
from tests.support.databases import ServerDatabase
from tests.testapp.live import CustomerTopic, OrderChanges, OrderTopic
from tests.testapp.models import Note, Order

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


def orders() -> LiveQuerySet[Order]:
    """What a site's `Order.objects` would be with the mixin."""
    return LiveQuerySet(Order)


@pytest.fixture
def five(ann: User, heard: Heard) -> list[Order]:
    """Five orders of Ann's; her topic was heard up to here."""
    made = [Order.objects.create(customer=ann, total=n) for n in range(5)]
    heard(CustomerTopic(pk=ann.pk))
    return made


def types(told: list[tuple[str, Any]]) -> list[str]:
    return [type for type, _ in told]


# -- bulk_create -----------------------------------------------------------------------------------


def test_objects_made_at_once_are_created(ann: User, heard: Heard) -> None:
    made = orders().bulk_create([Order(customer=ann, total=str(n)) for n in range(3)])
    assert heard(CustomerTopic(pk=ann.pk)) == [
        ("created", {"pk": one.pk, "status": "new", "total": f"{n}.00"})
        for n, one in enumerate(made)
    ]
    assert types(heard(OrderTopic(pk=made[1].pk))) == ["created"]


def test_what_the_database_computes_for_a_new_object_is_read(ann: User, heard: Heard) -> None:
    status = Concat(Value("very "), Value("new"))
    orders().bulk_create([Order(customer=ann), Order(customer=ann, status=status)])
    told = heard(CustomerTopic(pk=ann.pk))
    assert [data["status"] for _, data in told] == ["new", "very new"]


def test_objects_made_at_once_may_be_saved_again(ann: User, bob: User, heard: Heard) -> None:
    [order] = orders().bulk_create([Order(customer=ann)])
    order.customer = bob
    order.save()
    assert types(heard(CustomerTopic(pk=ann.pk))) == ["created", "deleted"]
    assert types(heard(CustomerTopic(pk=bob.pk))) == ["created"]


def test_made_and_saved_in_one_transaction_is_one_event(ann: User, heard: Heard) -> None:
    with transaction.atomic():
        made = orders().bulk_create([Order(customer=ann) for _ in range(2)])
        made[0].status = "paid"
        made[0].save()
    told = heard(CustomerTopic(pk=ann.pk))
    assert sorted(data["status"] for type, data in told if type == "created") == ["new", "paid"]
    assert len(told) == 2


def test_nothing_made_at_once_is_told_after_a_rollback(ann: User, heard: Heard) -> None:
    with undone():
        orders().bulk_create([Order(customer=ann) for _ in range(3)])
    assert heard(CustomerTopic(pk=ann.pk)) == []


def test_objects_that_cannot_be_made_are_not_told(
    five: list[Order], ann: User, heard: Heard
) -> None:
    with pytest.raises(IntegrityError):
        orders().bulk_create([Order(customer=ann), Order(pk=five[0].pk, customer=ann)])
    assert heard(CustomerTopic(pk=ann.pk)) == []


def test_a_fault_on_one_of_many_leaves_the_others_alone(
    ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = OrderChanges.data
    monkeypatch.setattr(
        OrderChanges,
        "data",
        lambda self, order: object() if order.status == "bad" else right(self, order),
    )
    orders().bulk_create([Order(customer=ann, status=s) for s in ("good", "bad", "better")])
    assert [d["status"] for _, d in heard(CustomerTopic(pk=ann.pk))] == ["good", "better"]
    assert Order.objects.count() == 3
    assert "could not tell" in caplog.text


# -- update, bulk_update, update_or_create ---------------------------------------------------------


def test_an_update_tells_each_row_that_it_changed(
    five: list[Order], ann: User, heard_whole: Heard
) -> None:
    heard_whole(CustomerTopic(pk=ann.pk))
    five[0].status = "paid"
    with suppress():
        five[0].save()
    assert orders().filter(total__lt=3).update(status="paid", total=F("total")) == 3
    assert heard_whole(CustomerTopic(pk=ann.pk)) == [
        (
            "updated",
            {"pk": one.pk, "status": "paid", "total": f"{n}.00", "changed": ["status"]},
        )
        for n, one in enumerate(five)
        if n in {1, 2}
    ]


def test_rows_that_an_update_moves_are_told_to_both(
    five: list[Order], ann: User, bob: User, heard: Heard
) -> None:
    orders().filter(customer=ann).update(customer=bob)
    assert types(heard(CustomerTopic(pk=ann.pk))) == ["deleted"] * 5
    assert types(heard(CustomerTopic(pk=bob.pk))) == ["created"] * 5
    assert types(heard(OrderTopic(pk=five[0].pk))) == ["created", "updated"]


def test_an_update_of_more_rows_than_a_batch(
    five: list[Order], ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_live.features.bulk.BATCH", 2)
    assert orders().filter(status="new", customer__username="ann").update(status="late") == 5
    told = heard(CustomerTopic(pk=ann.pk))
    assert [(type, d["pk"], d["status"]) for type, d in told] == [
        ("updated", one.pk, "late") for one in five
    ]


def test_an_update_that_is_rolled_back_is_not_told(
    five: list[Order], ann: User, heard: Heard
) -> None:
    with undone():
        assert orders().update(status="lost") == len(five)
    assert heard(CustomerTopic(pk=ann.pk)) == []


def test_bulk_update_tells_each_object(five: list[Order], ann: User, heard: Heard) -> None:
    for n, order in enumerate(five):
        order.status = f"step {n}"
    assert orders().bulk_update(five, ["status"], batch_size=2) == 5
    told = heard(CustomerTopic(pk=ann.pk))
    assert [d["status"] for _, d in told] == [f"step {n}" for n in range(5)]


def test_update_or_create_tells_once(five: list[Order], ann: User, heard: Heard) -> None:
    orders().update_or_create(pk=five[0].pk, defaults={"status": "paid"})
    orders().update_or_create(pk=five[4].pk + 1, defaults={"customer": ann})
    assert types(heard(CustomerTopic(pk=ann.pk))) == ["updated", "created"]


def test_async_callers(five: list[Order], ann: User, heard: Heard) -> None:
    async def work() -> None:
        await orders().filter(pk=five[0].pk).aupdate(status="paid")
        await orders().abulk_create([Order(customer=ann)])

    async_to_sync(work)()
    assert types(heard(CustomerTopic(pk=ann.pk))) == ["updated", "created"]


# -- delete ----------------------------------------------------------------------------------------


def test_rows_deleted_at_once_are_told(five: list[Order], ann: User, heard: Heard) -> None:
    keys = [one.pk for one in five]
    assert orders().filter(pk__in=keys).delete()[0] == 5
    assert sorted(data["pk"] for _, data in heard(CustomerTopic(pk=ann.pk))) == keys


def test_deleting_many_rows_writes_their_events_in_batches(
    five: list[Order], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    # The rows, their deletion, the events of all of them.
    with transaction.atomic(), django_assert_max_num_queries(3):
        assert orders().all().delete()[0] == len(five)


@pytest.mark.parametrize("size", [2, 5])
def test_rows_deleted_in_parts_are_told_and_counted_as_if_at_once(
    five: list[Order], ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("django_live.features.bulk.BATCH", size)
    keys = [one.pk for one in five]
    deleted = orders().filter(pk__in=keys).order_by("-pk").delete()
    assert deleted == (5, {"testapp.Order": 5})
    assert sorted(data["pk"] for _, data in heard(CustomerTopic(pk=ann.pk))) == keys


def test_rows_that_a_later_part_restricts_are_deleted_all_the_same(
    five: list[Order], ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_live.features.bulk.BATCH", 2)
    collect, asked = Collector.collect, []

    def refuse_a_part(self: Collector, rows: Any, **options: Any) -> None:
        asked.append(rows)
        if len(asked) == 2:
            raise RestrictedError("", set())
        collect(self, rows, **options)

    monkeypatch.setattr(Collector, "collect", refuse_a_part)
    assert orders().all().delete() == (len(five), {"testapp.Order": len(five)})
    assert len(heard(CustomerTopic(pk=ann.pk))) == len(five)


@pytest.mark.parametrize("odd", [lambda rows: rows[:2], lambda rows: rows.values("pk")])
def test_what_django_refuses_to_delete_is_refused(five: list[Order], odd: Any) -> None:
    with pytest.raises(TypeError, match="delete"):
        odd(orders().all()).delete()
    assert Order.objects.count() == len(five)


# -- many ------------------------------------------------------------------------------------------


def peak_of_making(count: int, customer: User) -> int:
    """Bytes that bulk_create() of so many takes at once, beside the objects; nothing is committed."""
    made = [Order(customer=customer) for _ in range(count)]
    gc.collect()
    with undone():
        tracemalloc.start()
        try:
            orders().bulk_create(made, batch_size=100)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_many_rows_are_told_in_bounded_memory(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what the transaction is to remember."""
    monkeypatch.setattr(commits, "REMEMBERED", 100)
    monkeypatch.setattr(commits, "MANY_TOPICS", 100)
    monkeypatch.setattr("django_live.features.bulk.BATCH", 100)
    monkeypatch.setattr(changes, "BATCH", 100)
    peak_of_making(200, ann)  # what is made once
    own = []
    for count in (500, 3000):
        with suppress():
            django = peak_of_making(count, ann)
        own.append(peak_of_making(count, ann) - django)
    # Without the bound it is 2,700,000 more.
    assert own[1] < own[0] + 1_200_000, own


def test_a_commit_of_many_topics_numbers_them_all(
    ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "MANY_TOPICS", 20)
    made = orders().bulk_create([Order(customer=ann) for _ in range(70)])
    assert sweeping.errands.flush(30)
    assert [types(heard(OrderTopic(pk=one.pk))) for one in made] == [["created"]] * 70


def test_beyond_what_a_transaction_remembers_each_change_is_told(
    ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "REMEMBERED", 1)
    with transaction.atomic():
        made = orders().bulk_create([Order(customer=ann) for _ in range(2)])
        for one in made:
            one.status = "paid"
            one.save()
    told = [types(heard(OrderTopic(pk=one.pk))) for one in made]
    assert told == [["created"], ["created", "updated"]]


# -- silence ---------------------------------------------------------------------------------------


def test_nothing_is_told_of_what_a_silent_block_does(
    five: list[Order], ann: User, heard: Heard
) -> None:
    with suppress():
        five[0].status = "paid"
        five[0].save()
        Order.objects.create(customer=ann)
        orders().bulk_create([Order(customer=ann)])
        orders().update(total=1)
        Order.objects.get(pk=five[1].pk).delete()
    assert heard(CustomerTopic(pk=ann.pk)) == []
    five[2].save()
    assert types(heard(CustomerTopic(pk=ann.pk))) == ["updated"]


def test_one_declaration_may_be_silent(five: list[Order], ann: User, heard: Heard) -> None:
    note = Note.objects.create(text="a")
    with suppress(OrderChanges):
        five[0].save()
        note.save()
    assert heard(CustomerTopic(pk=ann.pk)) == []
    assert types(heard(f"notes/{note.pk}")) == ["created", "updated"]


def test_a_move_in_silence_is_known_to_the_next_save(
    five: list[Order], ann: User, bob: User, heard: Heard
) -> None:
    order = Order.objects.get(pk=five[0].pk)
    with suppress():
        order.customer = bob
        order.save()
    order.status = "paid"
    order.save()
    assert heard(CustomerTopic(pk=ann.pk)) == []
    assert types(heard(CustomerTopic(pk=bob.pk))) == ["updated"]


def test_silence_is_one_tasks_and_one_threads_own(
    five: list[Order], ann: User, heard: Heard
) -> None:
    def save_elsewhere() -> None:
        five[1].save()
        connection.close()

    other = threading.Thread(target=save_elsewhere)
    with suppress():
        other.start()
        other.join()

    async def work() -> None:
        inside, done = asyncio.Event(), asyncio.Event()

        async def quiet() -> None:
            with suppress():
                await five[2].asave()
                inside.set()
                await done.wait()
                await sync_to_async(five[2].save)()

        task = asyncio.create_task(quiet())
        await inside.wait()
        await five[3].asave()
        done.set()
        await task

    async_to_sync(work)()
    told = [data["pk"] for _, data in heard(CustomerTopic(pk=ann.pk))]
    assert told == [five[1].pk, five[3].pk]


def test_silence_ends_with_a_fault(five: list[Order], ann: User, heard: Heard) -> None:
    with pytest.raises(ZeroDivisionError), suppress():
        _ = 1 / 0
    five[0].save()
    assert types(heard(CustomerTopic(pk=ann.pk))) == ["updated"]


def test_a_manager_of_a_models_own() -> None:
    assert isinstance(LiveManager().get_queryset(), LiveQuerySet)
    assert listening(Order)
    assert changes.BATCH == 500


# -- very many -------------------------------------------------------------------------------------


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three objects are very many."""
    monkeypatch.setattr("django_live.features.bulk.MANY", 3)


def numbered() -> None:
    """Wait for what is numbered where nobody waits for it."""
    assert sweeping.errands.flush(30)


TOTALS: list[Any] = [0, "1", "2.5", Decimal("3.10"), Decimal(4), Decimal("0.00")]


@pytest.mark.usefixtures("many")
def test_very_many_objects_are_told_as_few_are(ann: User, bob: User, heard: Heard) -> None:
    def make() -> tuple[list[Order], list[list[tuple[str, Any]]]]:
        made = [Order(customer=who, total=total) for total in TOTALS for who in (ann, bob)]
        orders().bulk_create(made)
        numbered()
        topics = [*(CustomerTopic(pk=who.pk) for who in (ann, bob)), OrderTopic(pk=made[0].pk)]
        return made, [heard(topic) for topic in topics]

    packed_orders, packed = make()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("django_live.features.bulk.told_packed", lambda *args: False)
        usual_orders, usual = make()
    shift = usual_orders[0].pk - packed_orders[0].pk
    assert shift
    for told in packed:
        assert told
        for _, data in told:
            data["pk"] += shift
    assert packed == usual


@pytest.mark.usefixtures("many")
def test_very_many_objects_cost_a_few_statements_in_the_transaction(
    ann: User, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [Order(customer=ann) for _ in range(90)]
    monkeypatch.setattr(sweeping.errands, "ask", lambda using: None)
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        orders().bulk_create(made, batch_size=1000)
        assert PendingEvent.objects.count() == 2
    told = [q for q in captured.captured_queries if PendingEvent._meta.db_table in q["sql"]]
    assert len(told) == 2  # and one is the test's own count
    assert sweeping.sweep() == 180
    assert len(heard(CustomerTopic(pk=ann.pk))) == 90


@pytest.mark.usefixtures("many")
def test_of_very_many_one_that_is_saved_again_is_told_once(
    ann: User, bob: User, heard: Heard
) -> None:
    with transaction.atomic():
        made = orders().bulk_create([Order(customer=ann) for _ in range(4)])
        made[1].status = "paid"
        made[1].save()
        with undone():
            made[2].customer = bob
            made[2].save()
        Order.objects.get(pk=made[3].pk).delete()
    numbered()
    told = {
        data["pk"]: (type, data.get("status")) for type, data in heard(CustomerTopic(pk=ann.pk))
    }
    assert told == {
        made[0].pk: ("created", "new"),
        made[1].pk: ("created", "paid"),
        made[2].pk: ("created", "new"),
    }
    assert heard(CustomerTopic(pk=bob.pk)) == []
    assert [types(heard(OrderTopic(pk=one.pk))) for one in made[:3]] == [["created"]] * 3


@pytest.mark.usefixtures("many")
def test_very_many_objects_are_not_told_after_a_rollback(ann: User, heard: Heard) -> None:
    with transaction.atomic():
        with undone():
            orders().bulk_create([Order(customer=ann) for _ in range(4)])
        [kept] = orders().bulk_create([Order(customer=ann)])
    numbered()
    assert [data["pk"] for _, data in heard(CustomerTopic(pk=ann.pk))] == [kept.pk]


@pytest.mark.usefixtures("many")
def test_of_very_many_a_later_update_comes_later(ann: User, heard: Heard) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sweeping.errands, "ask", lambda using: None)
        made = orders().bulk_create([Order(customer=ann) for _ in range(4)])
        made[2].status = "paid"
        made[2].save()
    sweeping.sweep()
    assert types(heard(OrderTopic(pk=made[2].pk))) == ["created", "updated"]
    assert types(heard(CustomerTopic(pk=ann.pk))) == [*["created"] * 4, "updated"]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("method", ["topics", "data"])
def test_a_fault_on_one_of_very_many_leaves_the_others_alone(
    ann: User,
    heard: Heard,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    right = getattr(OrderChanges, method)

    def fail(self: OrderChanges, order: Order) -> Any:
        if order.status == "bad":
            raise ZeroDivisionError
        return right(self, order)

    monkeypatch.setattr(OrderChanges, method, fail)
    orders().bulk_create([Order(customer=ann, status=s) for s in ("good", "bad", "better")])
    numbered()
    assert [d["status"] for _, d in heard(CustomerTopic(pk=ann.pk))] == ["good", "better"]
    assert "could not tell" in caplog.text


KILLED = """
import os
from django.contrib.auth.models import User
from django_live.core import sweeping
from django_live.features.bulk import LiveQuerySet
from tests.testapp.models import Order

ann = User.objects.create(pk=1, username="ann")
sweeping.errands.ask = lambda using: os._exit(9)  # as kill -9 right after the commit
LiveQuerySet(Order).bulk_create([Order(customer=ann) for _ in range(1200)])
"""
SWEPT = """
from django_live.core.log import get_log
from django_live.core.sweeping import sweep
from django_live.core.topics import as_topic
count = sweep()
events = get_log().read(as_topic("customers/1/orders"), 0, 9999, 10**9).events
offsets = [event.offset for event in events]
print(count, sweep(), len(offsets), offsets == list(range(offsets[0], offsets[0] + len(offsets))))
"""


def test_very_many_objects_of_a_process_that_died_after_its_commit_are_told_once(
    each_server_database: ServerDatabase,
) -> None:
    with pytest.raises(Exception, match=": 9"):
        each_server_database.python(KILLED)
    count, again, kept, contiguous = each_server_database.python(SWEPT).split()
    assert (count, again, kept, contiguous) == ("2400", "0", "1200", "True")
