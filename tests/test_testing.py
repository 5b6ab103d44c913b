"""The test helpers, as a project that uses django_live would use them."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Coroutine
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client, TestCase, TransactionTestCase

from django_live import apublish, publish
from django_live.core.hooks import HOOK_THREADS, STORE_THREADS
from django_live.core.log import get_log
from django_live.core.runtime import running_runtime
from django_live.core.sweeping import sweep
from django_live.exceptions import UnknownTopic
from django_live.models import PendingEvent
from django_live.testing import PublishedEvent, assert_published, capture_events, open_sse
from tests.asgi import application
from tests.testapp.live import CustomerTopic, OpenTopic, OrderTopic
from tests.testapp.models import Order


class TestInATestCase(TestCase):
    """Nothing commits, and the helpers see to it that this does not show."""

    ann: User
    order: Order

    @classmethod
    def setUpTestData(cls) -> None:
        cls.ann = User.objects.create_user("ann")
        cls.order = Order.objects.create(customer=cls.ann, total=5)

    def setUp(self) -> None:
        self.mine = Order.objects.create(customer=self.ann)

    def test_what_the_block_publishes_is_captured(self) -> None:
        with capture_events() as events:
            publish("open/a", "said", 1)
            assert events == []  # nothing has committed
        assert events == [PublishedEvent("open/a", "said", 1)]

    def test_what_was_published_before_the_block_is_not(self) -> None:
        publish("open/a", "said", "before")
        with capture_events() as events:
            publish("open/a", "said", "inside")
        publish("open/a", "said", "after")
        assert [event.data for event in events] == ["inside"]

    def test_an_object_that_was_made_for_the_test_is_updated_not_created(self) -> None:
        for order in (self.mine, self.order, Order.objects.get(pk=self.order.pk)):
            order.status = "paid"
            with assert_published(OrderTopic(pk=order.pk), "updated", count=1) as events:
                order.save()
            assert {event.type for event in events} == {"updated"}

    def test_and_so_it_is_in_every_other_test_of_the_class(self) -> None:
        self.test_an_object_that_was_made_for_the_test_is_updated_not_created()

    def test_without_settling_what_was_before_would_be_captured_too(self) -> None:
        """Negative control."""
        publish("open/a", "said", "before")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("django_live.testing.events.settle", lambda using: None)
            with capture_events() as events:
                publish("open/a", "said", "inside")
        assert [e.data for e in events if e.topic == "open/a"] == ["before", "inside"]

    def test_a_rolled_back_savepoint_publishes_nothing(self) -> None:
        def fail() -> None:
            with transaction.atomic():
                publish("open/a", "said")
                raise ZeroDivisionError

        with assert_published("open/a", count=0), pytest.raises(ZeroDivisionError):
            fail()

    def test_blocks_may_follow_each_other_and_stand_in_each_other(self) -> None:
        with capture_events() as outer:
            publish("open/a", "said", 1)
            with capture_events() as inner:
                publish("open/a", "said", 2)
            publish("ephemeral/a", "said", 3)
        with capture_events() as later:
            publish("open/a", "said", 4)
        assert [event.data for event in outer] == [1, 2, 3]
        assert [event.data for event in inner] == [2]
        assert [event.data for event in later] == [4]

    def test_a_block_inside_djangos_own_capture(self) -> None:
        done: list[str] = []
        with self.captureOnCommitCallbacks(execute=True):
            transaction.on_commit(lambda: done.append("before"))
            with capture_events() as events:
                publish("open/a", "said", 1)
            transaction.on_commit(lambda: done.append("after"))
        assert [event.data for event in events] == [1]
        assert done == ["before", "after"]

    def test_djangos_own_capture_inside_a_block(self) -> None:
        with capture_events() as events, self.captureOnCommitCallbacks(execute=True):
            publish("open/a", "said", 1)
            publish("ephemeral/a", "said", 2)
        assert sorted(event.data for event in events) == [1, 2]

    def test_a_view_is_captured(self) -> None:
        self.client.force_login(self.ann)
        address = f"/orders/{self.order.pk}/change/"
        with assert_published(
            OrderTopic(pk=self.order.pk),
            "updated",
            {
                "pk": self.order.pk,
                "status": "paid",
                "total": Decimal("5.00"),
                "changed": ["status"],
            },
            count=1,
        ):
            assert self.client.post(address, {"status": "paid"}).status_code == 204

    def test_events_are_pending_until_somebody_looks(self) -> None:
        sweep()
        publish("open/a", "said", 1)
        assert get_log().read(OpenTopic(slug="a"), 0, 10, 10**6).events == []
        assert PendingEvent.objects.count() == 1

    def test_the_block_tells_of_an_error_inside_it(self) -> None:
        with pytest.raises(ZeroDivisionError), assert_published("open/a"):
            raise ZeroDivisionError

    def test_an_async_test(self) -> None:
        async def work() -> None:
            await apublish("open/a", "said", 1)

        with assert_published("open/a", "said", 1):
            async_to_sync(work)()


class TestInATransactionTestCase(TransactionTestCase):
    """Commits are real."""

    def test_what_the_block_publishes_is_captured_as_it_happens(self) -> None:
        with capture_events() as events:
            with transaction.atomic():
                publish("open/a", "said", 1)
            assert [event.data for event in events] == [1]
        publish("open/a", "said", 2)
        assert len(events) == 1

    def test_a_block_inside_a_transaction_says_where_it_belongs(self) -> None:
        with (
            transaction.atomic(),
            pytest.raises(RuntimeError, match=r"around transaction\.atomic"),
            capture_events(),
        ):
            raise AssertionError("not reached")

    def test_another_thread_is_heard(self) -> None:
        def work() -> None:
            try:
                publish("open/a", "said", 1)
            finally:
                connection.close()

        with assert_published("open/a", count=1):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(10)


# -- with pytest -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_pytest_without_transactions() -> None:
    with assert_published(OpenTopic(slug="a"), "said", {"day": date(2026, 1, 31)}):
        publish("open/a", "said", {"day": date(2026, 1, 31)})


@pytest.mark.django_db(transaction=True)
def test_pytest_with_transactions() -> None:
    with assert_published(OpenTopic(slug="a"), "said", (1, 2), count=1):
        publish("open/a", "said", [1, 2])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("expected", "wanted"),
    [
        ({"type": "paid"}, "paid on open/a, at least once"),
        ({"type": "said", "data": 2}, "said on open/a with 2, at least once"),
        ({"count": 2}, "an event on open/a, 2 times"),
        ({"count": 0}, "an event on open/a, 0 times"),
    ],
)
def test_a_failure_says_what_was_expected_and_what_was_published(
    expected: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(AssertionError) as caught, assert_published("open/a", **expected):
        publish("open/a", "said", 1)
    event = "PublishedEvent(topic='open/a', type='said', data=1)"
    assert str(caught.value) == f"Expected {wanted}; published were:\n  {event}"


@pytest.mark.django_db
def test_a_failure_says_that_nothing_was_published() -> None:
    with (
        pytest.raises(AssertionError, match="published were:\n  nothing"),
        assert_published("open/a"),
    ):
        pass


@pytest.mark.django_db
def test_a_misspelled_topic_is_no_topic_on_which_nothing_happens() -> None:
    with pytest.raises(UnknownTopic), assert_published("opne/a", count=0):
        pass


# -- open_sse --------------------------------------------------------------------------------------


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As an async test runs, with the warnings that a leak causes turned into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        async def checked() -> None:
            await work()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert left == set()
            assert running_runtime() is None
            await sync_to_async(lambda: connection.close())()

        asyncio.run(checked(), debug=False)
        gc.collect()


@pytest.fixture
def ann(transactional_db: None) -> User:  # noqa: ARG001
    """A customer."""
    return User.objects.create_user("ann", password="pw")


@pytest.mark.django_db(transaction=True)
class TestOpenSse:
    """A stream of the project's own application, without a server."""

    def test_what_is_published_arrives(self) -> None:
        async def work() -> None:
            async with open_sse(application, "open/a", OpenTopic(slug="b")) as stream:
                assert stream.status == 200
                assert stream.headers["content-type"].startswith("text/event-stream")
                # The topics are joined by now: what the test publishes next is not missed.
                assert b"event: stream-open" in stream.body
                opened = await stream.event("stream-open")
                assert opened.data["topics"] == ["open/a", "open/b"]
                await apublish("open/b", "said", {"n": 1})
                event = await stream.event()
                assert (event.event, event.topic, event.data) == ("said", "open/b", {"n": 1})
                assert event.id

        run(work)

    def test_a_stream_is_resumed_with_a_cursor(self) -> None:
        async def work() -> None:
            async with open_sse(application, "open/a") as stream:
                cursor = (await stream.event("stream-open")).id
            await apublish("open/a", "said", 1)
            async with open_sse(application, "open/a", cursor=cursor) as stream:
                assert (await stream.event("said")).data == 1

        run(work)

    def test_as_a_user(self, ann: User) -> None:
        topic = OrderTopic(pk=Order.objects.create(customer=ann).pk)

        async def work() -> None:
            async with open_sse(application, topic, user=ann) as stream:
                assert stream.status == 200
            async with open_sse(application, topic) as stream:
                assert stream.status == 403
                assert stream.json()["errors"][0]["code"] == "forbidden"

        run(work)

    def test_with_the_cookies_of_a_client(self, ann: User) -> None:
        client = Client()
        client.force_login(ann)

        async def work() -> None:
            async with open_sse(application, CustomerTopic(pk=ann.pk), client=client) as stream:
                assert stream.status == 200

        run(work)

    def test_waiting_for_what_does_not_come_ends(self) -> None:
        async def work() -> None:
            async with open_sse(application, "open/a") as stream:
                with pytest.raises(TimeoutError):
                    await stream.event("never", timeout=0.05)

        run(work)

    def test_a_test_that_fails_inside_the_block_shows_its_own_failure(self) -> None:
        async def work() -> None:
            with pytest.raises(ZeroDivisionError):
                async with open_sse(application, "open/a"):
                    raise ZeroDivisionError

        run(work)

    def test_two_streams_side_by_side(self) -> None:
        async def work() -> None:
            async with (
                open_sse(application, "open/a") as one,
                open_sse(application, "open/a") as two,
            ):
                await apublish("open/a", "said", 1)
                assert [(await stream.event()).data for stream in (one, two)] == [1, 1]

        run(work)

    def test_many_streams_cost_no_threads(self) -> None:
        async def work() -> None:
            before = threading.active_count()
            for _ in range(40):
                async with open_sse(application, "open/a") as stream:
                    await stream.event("stream-open")
            assert threading.active_count() <= before + HOOK_THREADS + STORE_THREADS

        run(work)

    def test_it_is_used_in_loop_after_loop(self) -> None:
        for _ in range(3):
            self.test_what_is_published_arrives()

    def test_an_application_that_fails_shows_its_own_error(self) -> None:
        async def broken(*args: Any) -> None:
            raise ZeroDivisionError("the application is broken")

        async def silent(*args: Any) -> None:
            pass

        async def work() -> None:
            with pytest.raises(ZeroDivisionError, match="the application is broken"):
                async with open_sse(broken, "open/a"):
                    pass
            with pytest.raises(RuntimeError, match="no response"):
                async with open_sse(silent, "open/a"):
                    pass

        run(work)
