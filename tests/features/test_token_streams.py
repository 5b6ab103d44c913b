"""Answers that are read while they are written."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError

from django_live import Message, Rejected, Viewer
from django_live.core.log import get_log
from django_live.core.state import get_state
from django_live.exceptions import InvalidEvent
from django_live.features import liveness, reporter
from django_live.features.scribe import scribe
from django_live.features.token_streams import (
    AnswerTopic,
    Stopped,
    TokenStream,
    answer_ended,
    answers,
    areserve,
    find,
    reserve,
    stop,
)
from django_live.features.token_streams.folding import Folding, folded_log
from django_live.features.token_streams.markdown import as_html
from django_live.models import Answer

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


def told(stream: TokenStream) -> list[tuple[str, dict[str, Any]]]:
    page = get_log().read(AnswerTopic(id=stream.id), 0, 100_000, 10**9)
    return [(event.type, json.loads(event.data)) for event in page.events]


def row(stream: TokenStream | Answer) -> Answer:
    found = find(stream.key if isinstance(stream, Answer) else stream.id)
    assert found is not None
    return found


def read(stream: TokenStream) -> Folding:
    """What a viewer makes of it who was there from the beginning."""
    return folded_log(AnswerTopic(id=stream.id))[0]


class TestWhatIsSaid:
    def test_arrives_whole_in_order_and_in_few_events_and_rests_in_a_row(self, ann: User) -> None:
        words = [f"word{n} " for n in range(2000)]
        with TokenStream("A question", owner=ann) as stream:
            for word in words:
                stream.text(word)
        events = told(stream)
        assert events[0][0] == "begin"
        assert events[-1][0] == "end"
        assert events[-1][1]["state"] == "done"
        assert [data["n"] for _, data in events] == list(range(len(events)))
        assert len(events) < 100
        assert read(stream).text == "".join(words)
        assert (row(stream).state, row(stream).text) == ("done", "".join(words))
        assert (row(stream).title, row(stream).owner) == ("A question", str(ann.pk))

    def test_the_first_word_does_not_wait_for_more(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("Well")
            until(lambda: read(stream).text == "Well")
            assert row(stream).state == "running"

    def test_reasoning_tools_and_data(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.reasoning("Let me ")
            stream.reasoning("see.")
            call = stream.tool("search", input={"q": "mill"})
            stream.tool("search", output=["a", "b"], id=call)
            sources = stream.data("sources", [1])
            stream.data("sources", [1, 2], id=sources)
            stream.text("It is so.")
        said = read(stream)
        assert (said.reasoning, said.text) == ("Let me see.", "It is so.")
        tool = {"type": "tool", "id": call, "name": "search", "input": {"q": "mill"}}
        data = {"type": "data", "id": sources, "name": "sources", "value": [1, 2]}
        assert said.parts == [{**tool, "output": ["a", "b"]}, data]
        assert json.loads(row(stream).parts) == said.parts

    def test_data_that_is_changed_afterwards_is_told_as_it_was(self, ann: User) -> None:
        sources: list[Any] = ["a"]
        with TokenStream(owner=ann) as stream:
            stream.data("sources", sources)
            sources.append(object())
        assert [part["value"] for part in read(stream).parts] == [["a"]]
        assert row(stream).state == "done"

    def test_the_same_from_a_coroutine(self, ann: User) -> None:
        async def write() -> TokenStream:
            async with TokenStream(owner=ann) as stream:
                for word in ("one ", "two"):
                    stream.text(word)
                    await asyncio.sleep(0)
            return stream

        stream = asyncio.run(write())
        assert row(stream).text == "one two"
        answer = asyncio.run(areserve("Later", owner=ann))
        assert row(answer).state == "waiting"

    def test_what_no_store_can_keep_is_mended(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("a\0b\ud800c")
            stream.text("")
        assert row(stream).text == read(stream).text == "ab?c"

    def test_a_long_piece_goes_in_several_events(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("x" * 100_000)
        assert len(read(stream).text) == 100_000
        assert max(len(data.get("text", "")) for _, data in told(stream)) <= 16_384


class TestBadInput:
    def test_what_is_no_json_is_refused_and_the_answer_ends_as_failed(self, ann: User) -> None:
        stream = TokenStream(owner=ann)
        with pytest.raises(InvalidEvent), stream:
            stream.data("thing", object())
        assert (row(stream).state, read(stream).state) == ("failed", "failed")

    @pytest.mark.parametrize(
        "say",
        [
            lambda stream: stream.data("n", float("nan")),
            lambda stream: stream.tool("t", input="x" * 100_000),
            lambda stream: [stream.data("n", 1) for _ in range(1000)],
            lambda stream: stream.text("x" * 1_000_001),
        ],
    )
    def test_what_is_too_much_or_no_number(self, say: Any, ann: User) -> None:
        stream = TokenStream(owner=ann)
        with pytest.raises(ValueError, match=r"JSON|at most"), stream:
            say(stream)
        assert row(stream).state == "failed"

    def test_text_is_text(self, ann: User) -> None:
        stream = TokenStream(owner=ann)
        with pytest.raises(TypeError), stream:
            stream.text(b"bytes")  # type: ignore[arg-type]

    def test_ids_that_could_be_guessed(self) -> None:
        with pytest.raises(ValueError, match="is no id"):
            TokenStream(id="1")
        with pytest.raises(ValueError, match="is no id"):
            reserve(id="1")
        assert find("1") is None


class TestItsEnd:
    def test_an_error_is_shown_safely(self, ann: User) -> None:
        stream = TokenStream(owner=ann)

        def write() -> None:
            with stream:
                stream.text("So far")
                raise KeyError("hunter2")

        with pytest.raises(KeyError):
            write()
        assert (row(stream).state, row(stream).text) == ("failed", "So far")
        assert row(stream).error == "Something went wrong. We have been told what."
        assert "hunter2" not in repr(told(stream))

    def test_an_error_that_was_written_for_users(self, ann: User) -> None:
        stream = TokenStream(owner=ann)
        with pytest.raises(Rejected), stream:
            raise Rejected("Ask something else.")
        assert read(stream).error == "Ask something else."

    def test_the_writer_may_say_itself_that_it_is_over(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("a")
            stream.finish()
            stream.text("b")
        with TokenStream(owner=ann) as failed:
            failed.error("No model answers.")
        assert (row(stream).state, row(stream).text) == ("done", "a")
        assert (row(failed).state, row(failed).error) == ("failed", "No model answers.")

    def test_a_viewer_stops_it_at_once_whatever_the_writer_does(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("So far")
            until(lambda: read(stream).text)
            AnswerTopic(id=stream.id).on_message(Message("stop", None, Viewer(user=ann)))
            until(lambda: row(stream).state == "stopped")  # the writer says nothing meanwhile
            until(lambda: read(stream).state == "stopped")
            with pytest.raises(Stopped):
                stream.text("more")
            stream.text("still more")
            raise AssertionError("it does not come to this")
        assert (row(stream).text, stream.is_stopped) == ("So far", True)
        assert not stop(stream.id)

    def test_one_that_was_stopped_before_it_began(self, ann: User) -> None:
        answer = reserve(owner=ann)
        assert stop(answer.key)
        assert row(answer).state == "stopped"
        with TokenStream(id=answer.key) as stream:
            until(lambda: stream.is_stopped)
        assert row(answer).state == "stopped"

    def test_a_writer_that_hangs_ends_as_failed(self, ann: User) -> None:
        with TokenStream(owner=ann, patience=0.1) as stream:
            stream.text("So far")
            until(lambda: row(stream) if find(stream.id) else None)
            until(lambda: row(stream).state == "failed")
            with pytest.raises(Stopped):
                stream.text("at last")
        assert (row(stream).text, read(stream).state) == ("So far", "failed")

    def test_the_site_is_told_once_and_its_faults_harm_nobody(
        self, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        ended: list[tuple[str, str]] = []

        def note(answer: Answer, **kwargs: Any) -> None:
            ended.append((answer.key, answer.text))
            raise KeyError("the site's own fault")

        answer_ended.connect(note)
        try:
            with TokenStream(owner=ann) as stream:
                stream.text("yes")
        finally:
            answer_ended.disconnect(note)
        assert ended == [(stream.id, "yes")]
        assert read(stream).state == "done"
        assert "the site's own fault" in caplog.text


class TestAttempts:
    def test_a_dead_predecessor_cannot_interleave(self, ann: User) -> None:
        """Its words stand in the log between those of its successor, and nobody reads them."""
        answer = reserve(owner=ann)
        with TokenStream(id=answer.key) as old:
            old.text("old ")
            until(lambda: read(old).text == "old ")
            with TokenStream(id=answer.key) as new:
                new.text("new ")
                until(lambda: read(new).text == "new ")
                # As if the old worker had been stopped in the middle of a publish until now.
                late = {"t": old._report.claim, "n": 2, "text": "late "}
                from django_live import publish

                publish(AnswerTopic(id=answer.key), "text", late)
                new.text("and newer")
                until(lambda: read(new).text == "new and newer")
                until(lambda: old.is_stopped)
            with pytest.raises(Stopped):
                old.text("again")
        assert any(data.get("text") == "late " for _, data in told(new))
        assert (row(answer).text, row(answer).state, row(answer).attempt) == (
            "new and newer",
            "done",
            2,
        )

    def test_a_row_is_ended_once(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("a")
        claim = stream._report.claim
        assert not answers.save(stream.id, Folding(claim, 9, "failed", "b"))
        assert not answers.save(stream.id, Folding(claim - 1, 9, "done", "c"))
        assert row(stream).text == "a"

    def test_an_end_that_is_written_while_the_row_is_put_by_is_nobody_elses(
        self, ann: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two helpers of the scribe: one puts by what was said so far, the other writes the end."""
        with TokenStream(owner=ann) as stream:
            stream.text("a")
            until(lambda: read(stream).text == "a" and row(stream).state == "running")
            save = answers.save

            def late(id: str, folding: Folding) -> bool:
                if folding.state == "running":
                    stream.finish()
                    until(lambda: row(stream).state == "done")
                return save(id, folding)

            monkeypatch.setattr(answers, "save", late)
            stream._report._put_by = time.monotonic() - 3600
            stream._report.tend(time.monotonic())
        assert (row(stream).state, row(stream).text) == ("done", "a")
        assert read(stream).state == "done"
        assert not stream.is_stopped
        assert "written elsewhere" not in caplog.text


class TestADeadWriter:
    def test_a_look_that_is_out_of_date_ends_nobody_who_lives(self, ann: User) -> None:
        """Its viewers were there first, and missed it twice; it begins just when that is judged."""
        answer = reserve(owner=ann)
        with TokenStream(id=answer.key) as stream:
            stream.text("Here ")
            until(lambda: row(stream).state == "running")
            AnswerTopic(id=answer.key).found_dead()
            assert row(stream).state == "running"
            stream.text("I am.")
        assert (row(stream).state, row(stream).text) == ("done", "Here I am.")
        assert read(stream).state == "done"

    def test_ends_as_lost_and_what_it_said_is_kept(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("So far")
            until(lambda: read(stream).text)
            stream._report.ready = False  # nobody gives signs of life, or writes, for it
            get_state().delete(liveness.ALIVE, [stream.id])
            assert AnswerTopic(id=stream.id).can_subscribe(Viewer(user=ann))
            assert (row(stream).state, row(stream).text) == ("lost", "So far")
            assert read(stream).state == "lost"
            AnswerTopic(id=stream.id).found_dead()
            assert [type for type, _ in told(stream)].count("end") == 1
            # It was only asleep: its row is not its own any more, and it hears of it.
            stream._report.ready = True
            stream._report._put_by = 0
            until(lambda: stream.is_stopped)
        assert row(stream).state == "lost"

    def test_an_end_that_was_written_and_not_told_is_told(self, ann: User) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("So far")
            until(lambda: read(stream).text)
            stream._report.ready = False
            Answer.objects.update(state="done", text="So far")
            AnswerTopic(id=stream.id).found_dead()
            assert read(stream).state == "done"
            stream._report.ready = True


class TestFaults:
    def test_a_database_that_is_away_at_the_end_is_told_when_it_is_back(
        self, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from django_live.features.token_streams import report

        monkeypatch.setattr(report, "AGAIN", 0.05)
        monkeypatch.setattr(reporter, "LAST_WORD", 0.1)

        def away(*args: Any) -> bool:
            raise DatabaseError("no database")

        with TokenStream(owner=ann) as stream:
            stream.text("yes")
            until(lambda: read(stream).text)
            monkeypatch.setattr(answers, "save", away)
        until(lambda: read(stream).state == "done")
        assert row(stream).state == "running"
        monkeypatch.undo()
        until(lambda: row(stream).state == "done")

    def test_a_log_that_is_away_costs_no_word(
        self, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError("no log")

        with TokenStream(owner=ann) as stream:
            stream.text("one ")
            until(lambda: read(stream).text)
            monkeypatch.setattr("django_live.features.scribe.publish_many", away)
            for word in ("two ", "three "):
                stream.text(word)
                until(lambda: scribe.is_failing)
            monkeypatch.undo()
            until(lambda: read(stream).text == "one two three ")
        numbers = [data["n"] for _, data in told(stream)]
        assert numbers == list(range(len(numbers)))


class TestWhoMayRead:
    def test_the_owner_and_those_with_the_permission_only(self, ann: User, bob: User) -> None:
        answer = reserve(owner=ann)
        topic = AnswerTopic(id=answer.key)
        assert topic.can_subscribe(Viewer(user=ann))
        for other in (bob, AnonymousUser()):
            assert not topic.can_subscribe(Viewer(user=other))
            assert not topic.can_send(Viewer(user=other))
        assert not AnswerTopic(id="0123456789abcdef").can_subscribe(Viewer(user=ann))
        assert not AnswerTopic(namespace="acme", id=answer.key).can_subscribe(Viewer(user=ann))
        assert not topic.can_subscribe(Viewer(user=ann, scopes=frozenset()))
        with pytest.raises(PermissionDenied):
            topic.on_message(Message("continue", None, Viewer(user=ann)))

    def test_what_was_said_goes_with_its_owner(self, ann: User, bob: User) -> None:
        answer = reserve(owner=ann)
        topic = AnswerTopic(id=answer.key)
        said = {"t": 1, "n": 1, "text": "secret"}
        assert topic.forget(bob, "text", said) == said
        assert topic.forget(ann, "text", said)["text"] == ""


class TestMarkdown:
    def test_is_rendered(self) -> None:
        html = as_html("# Hello\n\n- *one*\n\n```py\nx < 1\n```\n\n| a |\n|---|\n| b |\n")
        for part in ("<h1>Hello</h1>", "<em>one</em>", "x &lt; 1", "<td>b</td>"):
            assert part in html

    @pytest.mark.parametrize(
        "evil",
        [
            "<script>alert(1)</script>",
            "[x](javascript:alert(1))",
            "![x](https://evil.example/?secret)",
            '<img src=x onerror="alert(1)">',
            "<iframe src=https://evil.example></iframe>",
            '[x](https://a.example "onmouseover=alert(1)")<b onclick=alert(1)>',
        ],
    )
    def test_nothing_in_it_runs_or_loads(self, evil: str) -> None:
        import re

        html = as_html(evil)
        assert not re.search(r"<(script|img|iframe)|<[^>]*\son\w+=|href=\"javascript", html)

    def test_without_the_packages_it_is_escaped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from django_live.features.token_streams import markdown

        monkeypatch.setattr(markdown, "is_available", lambda: False)
        assert as_html("a\n\n<b>") == "<p>a</p>\n\n<p>&lt;b&gt;</p>"
