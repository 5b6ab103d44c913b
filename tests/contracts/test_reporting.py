"""Jobs and token streams, on each store: what they say arrives, and a dead one is noticed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_live import Viewer
from django_live.core.log import EventLog
from django_live.core.state import get_state
from django_live.features import liveness
from django_live.features.progress import Progress, ProgressTopic, cancel, find, jobs_of, reserve
from django_live.features.scribe import scribe
from django_live.features.token_streams import AnswerTopic, TokenStream
from django_live.features.token_streams import find as find_answer
from django_live.features.token_streams.folding import folded_log


@pytest.fixture(autouse=True)
def nobody_reports_afterwards(log: EventLog) -> Iterator[None]:  # noqa: ARG001 - it is in force
    get_state.cache_clear()
    yield
    scribe.flush()


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


def until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)
    return found


def told(log: EventLog, progress: Progress) -> list[dict[str, Any]]:
    page = log.read(progress.topic, 0, 1000, 10**9)
    return [json.loads(event.data) for event in page.events]


def test_a_job_is_told_kept_listed_and_cancelled(log: EventLog, ann: User) -> None:
    job = reserve("Import", owner=ann)
    with Progress(id=job.id, total=10) as progress:
        progress.advance(4)
        until(lambda: told(log, progress) and told(log, progress)[-1]["done"] == 4)
        assert cancel(job.id)
        until(lambda: progress.is_cancelled)
        progress.check_cancelled()
    assert told(log, progress)[-1]["state"] == "cancelled"
    assert find(job.id).view["done"] == 4  # type: ignore[union-attr]
    assert [one.id for one in jobs_of(ann)] == [job.id]


def test_a_job_whose_worker_died_is_stalled_and_its_next_attempt_is_not(
    log: EventLog, ann: User
) -> None:
    with Progress("Import", owner=ann) as progress:
        until(lambda: told(log, progress))
        progress._report.ready = False
        get_state().delete(liveness.ALIVE, [progress.id])
        assert ProgressTopic(id=progress.id).can_subscribe(Viewer(user=ann))
        assert told(log, progress)[-1]["state"] == "stalled"
        with Progress(id=progress.id) as again:
            again.advance()
        progress._report.ready = True
    assert [told(log, again)[-1][key] for key in ("state", "attempt")] == ["done", 2]


def test_two_writers_of_one_answer_do_not_interleave(log: EventLog, ann: User) -> None:
    with TokenStream(owner=ann) as old:
        old.text("old ")
        until(lambda: folded_log(old.topic)[0].text)
        with TokenStream(id=old.id) as new:
            new.text("new")
            until(lambda: folded_log(new.topic)[0].text == "new")
            until(lambda: old.is_stopped)
    assert find_answer(old.id).text == "new"  # type: ignore[union-attr]
    assert folded_log(new.topic)[0].text == "new"
    assert log.read(new.topic, 0, 10, 1000).events


def test_an_answer_whose_worker_died_is_lost_and_kept(log: EventLog, ann: User) -> None:
    with TokenStream(owner=ann) as stream:
        stream.text("So far")
        until(lambda: folded_log(stream.topic)[0].text)
        stream._report.ready = False
        get_state().delete(liveness.ALIVE, [stream.id])
        assert AnswerTopic(id=stream.id).can_subscribe(Viewer(user=ann))
        stream._report.ready = True
        stream._report._put_by = 0  # it is about to learn that the row is not its own any more
        until(lambda: stream.is_stopped)
    assert find_answer(stream.id).state == "lost"  # type: ignore[union-attr]
    assert folded_log(stream.topic)[0].state == "lost"
    assert log.heads([stream.topic])
