"""Jobs that tell how far they are."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import BaseCommand, call_command
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from django_live import Message, Rejected, Viewer
from django_live.core.log import get_log
from django_live.core.state import get_state
from django_live.features import liveness, reporter
from django_live.features.progress import (
    Cancelled,
    JobsTopic,
    Progress,
    ProgressTopic,
    areserve,
    bounds,
    cancel,
    find,
    jobs_of,
    reserve,
)
from django_live.features.progress.pace import Pace
from django_live.features.scribe import scribe

if TYPE_CHECKING:
    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nobody_reports_afterwards() -> Iterator[None]:
    yield
    scribe.flush()


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)
    return found


def told(progress: Progress) -> list[dict[str, Any]]:
    """What viewers were told of it, in order."""
    import json

    page = get_log().read(progress.topic, 0, 1000, 10**9)
    assert {event.type for event in page.events} <= {"progressed"}
    return [json.loads(event.data) for event in page.events]


def view_of(progress: Progress) -> dict[str, Any]:
    job = find(progress.id)
    assert job is not None
    return job.view


class TestWhatIsTold:
    def test_the_first_word_and_the_last_and_few_between(self, ann: User) -> None:
        with Progress("Import", total=50_000, owner=ann, unit="rows") as progress:
            until(lambda: told(progress))
            for _ in progress.track(range(50_000)):
                pass
        said = told(progress)
        assert said[0]["state"] == "running"
        assert said[-1]["state"] == "done"
        assert (said[-1]["done"], said[-1]["total"], said[-1]["fraction"]) == (50_000, 50_000, 1.0)
        assert len(said) < 50, "it was not throttled"
        assert view_of(progress)["done"] == 50_000

    def test_a_job_of_no_time_says_that_it_is_done(self, ann: User) -> None:
        with Progress("Nothing", total=0, owner=ann) as progress:
            pass
        assert told(progress)[-1]["state"] == "done"
        assert told(progress)[-1]["fraction"] == 1.0

    def test_message_fields_result_and_link(self, ann: User) -> None:
        with Progress("Import", owner=ann) as progress:
            progress.update(message="half way", rows=7, price=Decimal("1.50"))
            progress.finish(result={"rows": 7}, link="/orders/")
        last = told(progress)[-1]
        assert (last["message"], last["fields"]) == ("half way", {"rows": 7, "price": "1.50"})
        assert (last["result"], last["link"]) == ({"rows": 7}, "/orders/")

    def test_each_line_of_the_log_is_told_once_and_the_last_hundred_are_kept(
        self, ann: User
    ) -> None:
        with Progress("Import", owner=ann) as progress:
            progress.log("first")
            until(lambda: any(one["lines"] for one in told(progress)))
            for n in range(120):
                progress.log(f"line {n}", level="warning")
        texts = [line["text"] for one in told(progress) for line in one["lines"]]
        assert texts == ["first", *(f"line {n}" for n in range(20, 120))]
        assert len(view_of(progress)["lines"]) == 100
        assert view_of(progress)["lines"][-1]["level"] == "warning"

    def test_numbers_of_words_only_grow(self, ann: User) -> None:
        with Progress("Import", total=10, owner=ann) as progress:
            for _ in progress.track(range(10)):
                time.sleep(0.03)
        numbers = [one["seq"] for one in told(progress)]
        assert numbers == sorted(set(numbers))

    def test_nothing_is_part_of_the_callers_transaction(
        self, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            reporter, "LAST_WORD", 0.05
        )  # SQLite has one writer, and that is the caller
        with transaction.atomic():
            User.objects.create_user("carl")
            with Progress("Import", owner=ann) as progress:
                progress.advance(3)
            transaction.set_rollback(True)
        assert not User.objects.filter(username="carl").exists()
        until(lambda: told(progress) and told(progress)[-1]["done"] == 3)


class TestCounting:
    def test_it_never_goes_backwards(self, ann: User) -> None:
        with Progress("Import", total=10, owner=ann) as progress:
            progress.update(6)
            progress.update(2)
            assert progress.done == 6
            before = progress.fraction
            progress.update(total=1000)
            assert progress.fraction == before == 0.6

    def test_steps_are_so_many_units_of_what_is_around_them(self, ann: User) -> None:
        with Progress("Import", total=4, owner=ann) as progress:
            with progress.step("Read", weight=1) as read:
                for _ in read.track([1, 2]):
                    pass
                assert progress.fraction == 0.25
            with progress.step("Write", weight=3, total=3) as write:
                write.advance()
                assert progress.fraction == pytest.approx(0.5)
                with write.step("A batch", total=2) as batch:
                    batch.advance(1, "one of two")
                    assert progress.fraction == pytest.approx(0.625)
                    titles = [step["title"] for step in progress.look()["steps"]]
                    assert titles == ["Write", "A batch"]
            assert progress.done == 4

    def test_without_a_total_there_is_no_fraction(self, ann: User) -> None:
        with Progress("Import", owner=ann) as progress:
            progress.advance(5)
            assert progress.fraction is None
            until(lambda: told(progress)[-1:] and told(progress)[-1]["done"] == 5)
            assert told(progress)[-1]["fraction"] is None

    def test_the_total_is_taken_from_what_has_a_length(self, ann: User) -> None:
        with Progress("Import", owner=ann) as progress:
            assert [*progress.track("abc")] == ["a", "b", "c"]
            assert (progress.done, progress.total) == (3, 3)
        with Progress("Import", owner=ann) as progress:
            assert [*progress.track(iter("abc"), total=3)] == ["a", "b", "c"]
            assert progress.total == 3
        with Progress("Import", owner=ann) as progress:
            assert [*progress.track(User.objects.all())] == [ann]
            assert progress.total is None, "nobody asked for a query"

    def test_threads_may_count_together(self, ann: User) -> None:
        with Progress("Import", total=4000, owner=ann) as progress:

            def count() -> None:
                for _ in range(1000):
                    progress.advance()

            threads = [threading.Thread(target=count) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert progress.done == 4000

    @pytest.mark.parametrize(
        "bad", [math.nan, math.inf, -math.inf, -1, "7", None, True, 10**400, Decimal("NaN"), []]
    )
    def test_what_is_no_number_harms_nobody(
        self, bad: Any, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Progress("Import", total=bad, owner=ann) as progress:
            assert progress.total is None
            progress.update(total=10)
            progress.advance(bad)
            progress.update(2)
            progress.update(bad)
            with progress.step("Part", total=bad, weight=bad) as step:
                step.advance(bad)
            assert progress.done == 2
        assert told(progress)[-1]["state"] == "done"
        assert "is no amount" in caplog.text

    def test_fields_that_cannot_be_sent_are_left_out(
        self, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Unspeakable:
            def __str__(self) -> str:
                raise RuntimeError("no text")

        with Progress("Import", owner=ann) as progress:
            progress.update(
                message=Unspeakable(), good=1, huge="x" * 100_000, thing=object(), nan=math.nan
            )
            progress.finish(result=object(), link="javascript:alert(1)")
        last = told(progress)[-1]
        assert (last["fields"], last["message"]) == ({"good": 1}, "")
        assert (last["result"], last["link"], last["state"]) == (None, "", "done")
        assert "huge, thing, nan cannot be sent" in caplog.text

    def test_a_result_that_is_changed_afterwards_is_told_as_it_was(self, ann: User) -> None:
        result: list[Any] = ["a"]
        with Progress("Import", owner=ann) as progress:
            progress.finish(result)
            result.append(object())
        assert told(progress)[-1]["result"] == ["a"]

    def test_a_field_by_a_name_that_cannot_be_sent_is_left_out(self, ann: User) -> None:
        with Progress("Import", owner=ann) as progress:
            progress.update(**{"rows": [1], "\ud800": 2})
        assert told(progress)[-1]["fields"] == {"rows": [1]}

    def test_fields_that_are_being_sent_are_nobody_elses(self) -> None:
        rows: list[Any] = [1]
        kept, refused = bounds.fields({"rows": rows})
        rows.append(object())
        assert (kept, refused) == ({"rows": [1]}, [])

    def test_who_says_what_cannot_be_sent_keeps_nobody_else_waiting(
        self, ann: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            Progress("Hostile", owner=ann) as hostile,
            Progress("Innocent", owner=ann) as innocent,
            caplog.at_level(logging.ERROR, "django_live.scribe"),
        ):
            until(lambda: told(hostile) and told(innocent))
            collect = hostile._report.collect

            def poisoned(now: float) -> Any:
                items = collect(now)
                return [{**item, "data": {"bad": object()}} for item in items]

            monkeypatch.setattr(hostile._report, "collect", poisoned, raising=False)
            hostile.update(message="never told")
            scribe.wake(hostile._report)
            innocent.update(message="told")
            scribe.wake(innocent._report)
            until(lambda: told(innocent)[-1]["message"] == "told")
            until(lambda: hostile.id in caplog.text)
            monkeypatch.setattr(hostile._report, "collect", collect)
            hostile.update(message="told again")
        assert told(hostile)[-1]["message"] == "told again"
        assert told(hostile)[-1]["state"] == "done"
        seqs = [one["seq"] for one in told(innocent)]
        assert seqs == sorted(set(seqs))

    def test_huge_texts_are_cut(self, ann: User) -> None:
        with Progress("T" * 999, owner=ann) as progress:
            progress.update(message="m\0\ud800" * 9999)
            progress.log("l" * 9999)
        last = told(progress)[-1]
        assert [len(last["title"]), len(last["message"])] == [200, 500]
        assert "\0" not in last["message"]
        assert len(last["lines"][0]["text"]) == 500


class TestItsEnd:
    def test_an_error_is_shown_safely_and_whole_to_staff_only(self, ann: User) -> None:
        with pytest.raises(KeyError), Progress("Import", owner=ann) as progress:
            raise KeyError("the password is hunter2")
        last = told(progress)[-1]
        assert last["state"] == "failed"
        assert last["error"] == "Something went wrong. We have been told what."
        assert not any("hunter2" in repr(one) for one in told(progress))
        job = find(progress.id)
        assert job is not None
        assert "hunter2" in job.traceback
        assert "hunter2" not in repr(job.view)

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (Rejected("Row 7 has no price."), "Row 7 has no price."),
            (ValidationError(["One.", "Two."]), "One. Two."),
        ],
    )
    def test_an_error_that_was_written_for_users_is_shown(
        self, error: Exception, words: str, ann: User
    ) -> None:
        with pytest.raises(type(error)), Progress("Import", owner=ann) as progress:
            raise error
        assert told(progress)[-1]["error"] == words

    def test_a_job_may_say_itself_that_it_has_failed(self, ann: User) -> None:
        with Progress("Import", owner=ann) as progress:
            progress.fail("The file is empty.")
        assert (told(progress)[-1]["state"], told(progress)[-1]["error"]) == (
            "failed",
            "The file is empty.",
        )

    def test_a_generator_that_raises(self, ann: User) -> None:
        def rows() -> Iterator[int]:
            yield 1
            raise OSError("disk")

        with pytest.raises(OSError, match="disk"), Progress("Import", owner=ann) as progress:
            for _ in progress.track(rows()):
                pass
        assert (told(progress)[-1]["state"], told(progress)[-1]["done"]) == ("failed", 1)

    def test_cancel_reaches_track_and_the_with_takes_it(self, ann: User) -> None:
        reached_end = False
        with Progress("Import", owner=ann) as progress:
            until(lambda: find(progress.id))
            assert cancel(progress.id)
            for _ in progress.track(iter(lambda: time.sleep(0.01), 0)):
                pass
            reached_end = True
        assert not reached_end
        assert told(progress)[-1]["state"] == "cancelled"
        assert not cancel(progress.id), "it is over"

    def test_a_job_may_refuse_to_be_cancelled(self, ann: User) -> None:
        with Progress("Import", owner=ann, cancellable=False) as progress:
            until(lambda: find(progress.id))
            assert not cancel(progress.id)
            progress.check_cancelled()

    def test_a_job_that_was_cancelled_before_it_began_stops_at_once(self, ann: User) -> None:
        job = reserve("Import", owner=ann)
        assert cancel(job.id)
        with Progress(id=job.id) as progress:
            until(lambda: progress.is_cancelled)
            progress.check_cancelled()
        assert view_of(progress)["state"] == "cancelled"


class TestAsynchronously:
    def test_the_same_with_async_for_and_async_with(self, ann: User) -> None:
        async def rows() -> AsyncIterator[int]:
            for n in range(3):
                await asyncio.sleep(0)
                yield n

        async def work() -> Progress:
            async with Progress("Import", total=5, owner=ann) as progress:
                assert [n async for n in progress.track(rows())] == [0, 1, 2]
                async with progress.step("Rest", weight=2) as rest:
                    assert [n async for n in rest.track([1, 2])] == [1, 2]
            return progress

        progress = asyncio.run(work())
        assert (told(progress)[-1]["state"], told(progress)[-1]["done"]) == ("done", 5)

    def test_a_coroutine_that_is_cancelled_says_so(self, ann: User) -> None:
        async def work() -> Progress:
            progress = Progress("Import", owner=ann)
            began = asyncio.Event()

            async def job() -> None:
                async with progress:
                    began.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(job())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return progress

        assert told(asyncio.run(work()))[-1]["state"] == "cancelled"

    def test_a_coroutine_reserves(self, ann: User) -> None:
        job = asyncio.run(areserve("Import", owner=ann))
        assert find(job.id) is not None

    def test_what_comes_asynchronously_is_refused_by_a_plain_for(self, ann: User) -> None:
        async def rows() -> AsyncIterator[int]:
            yield 1

        with (
            pytest.raises(TypeError, match="async for"),
            Progress("Import", owner=ann) as progress,
        ):
            [*progress.track(rows())]


class TestAttempts:
    def test_a_task_that_is_tried_again_counts_on(self, ann: User) -> None:
        job = reserve("Import", owner=ann, unit="rows")
        assert job.view["state"] == "waiting"
        with Progress(id=job.id) as first:
            first.advance(5)
            first.fail("The disk is full.")
        with Progress(id=job.id) as second:
            second.advance(2)
        said = told(second)
        assert [said[-1][key] for key in ("attempt", "done", "state")] == [2, 2, "done"]
        assert (said[-1]["title"], said[-1]["unit"]) == ("Import", "rows")
        assert said[-1]["error"] == ""
        numbers = [one["seq"] for one in said]
        assert numbers == sorted(set(numbers))
        assert find(job.id).access.owner == str(ann.pk)  # type: ignore[union-attr]

    def test_an_attempt_that_was_taken_for_dead_is_stopped_and_overwrites_nothing(
        self, ann: User
    ) -> None:
        job = reserve("Import", owner=ann)
        with Progress(id=job.id) as old:
            until(lambda: find(job.id).view["attempt"] == 1)  # type: ignore[union-attr]
            with Progress(id=job.id) as new:
                until(lambda: find(job.id).view["attempt"] == 2)  # type: ignore[union-attr]
                old.update(99)
                until(lambda: old.is_cancelled)
                with pytest.raises(Cancelled):
                    old.check_cancelled()
                new.update(3)
        assert [one["done"] for one in told(new) if one["attempt"] == 2][-1] == 3
        assert view_of(new)["done"] == 3
        assert view_of(new)["state"] == "done"

    @pytest.mark.parametrize("id", ["", "short", "with space 0123456789", "ü" * 20, "x" * 65, 7])
    def test_ids_that_could_be_guessed_are_refused(self, id: Any) -> None:
        with pytest.raises(ValueError, match="is no id"):
            Progress("Import", id=id)
        with pytest.raises(ValueError, match="is no id"):
            reserve("Import", id=id)


class TestWhoMaySee:
    def allowed(self, user: Any, id: str, **options: Any) -> bool:
        namespace = options.pop("topic_namespace", "")
        topic = ProgressTopic(namespace=namespace, id=id)
        return topic.can_subscribe(Viewer(user=user, **options))

    def test_the_owner_and_those_with_the_permission(self, ann: User, bob: User) -> None:
        mine = reserve("Import", owner=ann, permission="auth.view_user")
        assert self.allowed(ann, mine.id)
        assert not self.allowed(bob, mine.id)
        assert not self.allowed(AnonymousUser(), mine.id)
        bob.user_permissions.add(Permission.objects.get(codename="view_user"))
        assert self.allowed(User.objects.get(pk=bob.pk), mine.id)

    def test_a_job_without_an_owner_is_nobodys(self, ann: User) -> None:
        assert not self.allowed(ann, reserve("Import").id)
        assert not self.allowed(AnonymousUser(), reserve("Import").id)

    def test_unknown_ids_and_other_tenants(self, ann: User) -> None:
        assert not self.allowed(ann, "0123456789abcdef")
        job = reserve("Import", owner=ann, namespace="acme")
        assert not self.allowed(ann, job.id)
        assert self.allowed(ann, job.id, topic_namespace="acme", namespace="acme")

    def test_a_token_needs_the_scope(self, ann: User) -> None:
        job = reserve("Import", owner=ann)
        assert not self.allowed(ann, job.id, scopes=frozenset({"orders:read"}))
        assert self.allowed(ann, job.id, scopes=frozenset({"live:progress"}))

    def test_messages(self, ann: User, bob: User) -> None:
        job = reserve("Import", owner=ann)
        topic = ProgressTopic(id=job.id)
        assert topic.can_send(Viewer(user=ann))
        assert not topic.can_send(Viewer(user=bob))
        with pytest.raises(PermissionDenied):
            topic.on_message(Message("explode", None, Viewer(user=ann)))
        topic.on_message(Message("cancel", None, Viewer(user=ann)))
        assert find(job.id).view["state"] == "cancelled"  # type: ignore[union-attr]
        assert topic.snapshot()["state"] == "cancelled"

    def test_my_jobs(self, ann: User, bob: User, heard: Heard) -> None:
        ids = [reserve("One", owner=ann).id, reserve("Two", owner=ann).id]
        reserve("Bob's", owner=bob)
        with Progress("Three", owner=ann) as three:
            pass
        assert [job.id for job in jobs_of(ann)] == [three.id, *reversed(ids)]
        assert [job.id for job in jobs_of(ann, most=1)] == [three.id]
        topic = JobsTopic(owner=str(ann.pk))
        assert [type for type, _ in heard(topic)] == ["listed"] * 3
        assert topic.can_subscribe(Viewer(user=ann))
        assert not topic.can_subscribe(Viewer(user=bob))


class TestALostWorker:
    def test_a_look_that_is_out_of_date_stalls_nobody_who_lives(self, ann: User) -> None:
        with Progress("Import", total=2, owner=ann) as progress:
            until(lambda: (job := find(progress.id)) and job.view["state"] == "running")
            progress.topic.found_dead()
            job = find(progress.id)
            assert job is not None
            assert job.view["state"] == "running"

    def test_is_stalled_once_its_lease_is_over_and_comes_back_with_its_next_word(
        self, ann: User
    ) -> None:
        with Progress("Import", total=9, owner=ann) as progress:
            until(lambda: told(progress))
            progress._report.ready = False  # nobody gives signs of life, or writes, for it
            get_state().delete(liveness.ALIVE, [progress.id])
            assert ProgressTopic(id=progress.id).can_subscribe(Viewer(user=ann))
            assert told(progress)[-1]["state"] == "stalled"
            assert view_of(progress)["state"] == "stalled"
            ProgressTopic(id=progress.id).found_dead()
            assert [one["state"] for one in told(progress)].count("stalled") == 1
            progress.advance()
            progress._report.ready = True
            scribe.wake(progress._report)
            until(lambda: told(progress)[-1]["state"] == "running")
        assert told(progress)[-1]["state"] == "done"

    def test_a_job_that_hangs_longer_than_its_patience_is_stalled(self, ann: User) -> None:
        with Progress("Import", owner=ann, patience=0.2) as progress:
            until(lambda: told(progress))
            until(lambda: not liveness.is_alive(progress.id))


class TestFaults:
    def test_store_and_state_that_are_away_cost_the_job_nothing(
        self, ann: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def away(*args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("no store")

        monkeypatch.setattr(get_state().__class__, "change", away)
        monkeypatch.setattr(get_state().__class__, "items", away)
        began = time.monotonic()
        with Progress("Import", owner=ann) as progress:
            for _ in progress.track(range(10_000)):
                pass
        assert time.monotonic() - began < reporter.LAST_WORD, "the job waited"
        assert progress.done == 10_000
        assert "They go on" in caplog.text
        monkeypatch.undo()
        until(lambda: told(progress) and told(progress)[-1]["state"] == "done")

    def test_a_store_that_comes_back_hears_of_the_job(
        self, ann: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)

        def away(*args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("no store")

        with Progress("Import", owner=ann) as progress:
            until(lambda: told(progress))
            monkeypatch.setattr("django_live.features.scribe.publish_many", away)
            progress.advance(4)
            until(lambda: scribe.is_failing)
            monkeypatch.undo()
            until(lambda: told(progress)[-1]["done"] == 4)
            until(lambda: not scribe.is_failing)
        assert "can be written again" in caplog.text


class TestPace:
    def test_the_rate_is_that_of_the_last_half_minute(self) -> None:
        pace = Pace()
        for second in range(100):
            pace.note(second, second * 10, None)
        for second in range(100, 140):
            pace.note(second, 1000 + (second - 100) * 2, None)
        assert pace.rate == pytest.approx(2.0)
        assert pace.left is None

    def test_the_time_left_follows_the_fraction(self) -> None:
        pace = Pace()
        assert (pace.rate, pace.left) == (None, None)
        pace.note(0.0, 0, None)
        for second in range(1, 11):
            pace.note(float(second), second, second / 20)
        assert pace.left == pytest.approx(10.0)

    def test_a_job_that_stands_still_has_none(self) -> None:
        pace = Pace()
        for second in range(100):
            pace.note(float(second), 5, 0.5)
        assert (pace.rate, pace.left) == (0.0, None)

    def test_it_keeps_no_more_than_its_window(self) -> None:
        pace = Pace()
        for tick in range(10_000):
            pace.note(tick * 0.2, tick, None)
        assert len(pace._samples) < 200


class TestWhereItRuns:
    def test_in_a_view_and_in_a_management_command_it_is_the_same(
        self, ann: User, capsys: pytest.CaptureFixture[str]
    ) -> None:
        begun: list[Progress] = []

        def import_rows(terminal: bool) -> None:
            with Progress("Import", total=3, owner=ann, terminal=terminal) as progress:
                begun.append(progress)
                for _ in progress.track(range(3)):
                    pass

        def view(_: HttpRequest) -> HttpResponse:
            import_rows(terminal=False)
            return HttpResponse(begun[-1].id)

        class Command(BaseCommand):
            def handle(self, *args: Any, **options: Any) -> None:
                import_rows(terminal=True)

        assert view(RequestFactory().get("/")).content.decode() == begun[0].id
        assert capsys.readouterr().err == ""
        call_command(Command())
        assert "3/3" in capsys.readouterr().err
        for progress in begun:
            last = told(progress)[-1]
            assert (last["state"], last["done"], last["fraction"]) == ("done", 3, 1.0)


class TestInTheTerminal:
    def test_it_is_drawn_where_it_is_wanted(
        self, ann: User, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Progress("Import", total=1_000_000, owner=ann, terminal=True, unit="rows") as progress:
            progress.update(1_000_000, "[nearly] there")
            progress.log("[a] line")
            until(lambda: any(one["lines"] for one in told(progress)))
        drawn = capsys.readouterr().err
        assert "Import" in drawn
        assert "1000000/1000000 rows" in drawn
        assert "[nearly] there" in drawn
        assert "[a] line" in drawn

    def test_a_title_that_looks_like_markup_is_text(
        self, ann: User, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Progress("Import [/b]", total=1, owner=ann, terminal=True, unit="[/x]"):
            pass
        drawn = capsys.readouterr().err
        assert "Import [/b]" in drawn
        assert "[/x]" in drawn

    def test_and_nowhere_else(self, ann: User, capsys: pytest.CaptureFixture[str]) -> None:
        with Progress("Import", owner=ann):
            pass
        assert capsys.readouterr().err == ""
