# ruff: noqa: ARG001 - a fixture that a test only needs to be in force
"""Polls: the stream's events, cursors, reasons and codes, one answer at a time."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.test import Client, RequestFactory

from django_live import History, Topic, Viewer
from django_live.core import bus, sweeping
from django_live.core.events import Draft, Event, Position, encode_data, place_text
from django_live.core.log import get_log
from django_live.core.runtime import runtime
from django_live.core.topics import as_topic, registry
from django_live.stores.memory import MemoryLog
from django_live.transports import polling, sse
from django_live.transports.polling import ANSWER_EVENTS, CollectingSink
from tests.core.fakes import until
from tests.transports.driver import Browser, SteppedBrowser, tell

Site = Callable[..., Any]


class Poll(Browser):
    """One poll; a browser that hangs up when the ``async with`` ends."""

    def __init__(
        self,
        application: Any,
        *topics: str,
        path: str = "/live/poll/",
        headers: dict[str, str] | None = None,
        method: str = "GET",
        **query: Any,
    ) -> None:
        sent = {"accept": "application/json", **(headers or {})}
        super().__init__(application, *topics, path=path, headers=sent, method=method)
        if query:
            self.scope["query_string"] += b"&" + urlencode(query).encode()  # type: ignore[operator]

    async def answered(self) -> Self:
        await self.ended()
        assert self.is_complete
        return self

    @property
    def answer(self) -> Any:
        assert self.status == 200, self.body
        assert int(self.headers["content-length"]) == len(self.body)
        return json.loads(self.body)

    @property
    def heard(self) -> list[tuple[str, Any]]:
        return [(frame["event"], frame["data"]) for frame in self.answer["frames"]]

    async def held(self) -> Self:
        await self.until(lambda: bool(runtime().hub.connections))
        return self


async def ask(application: Any, *topics: str, **kwargs: Any) -> Poll:
    async with Poll(application, *topics, **kwargs) as poll:
        return await poll.answered()


def record(name: str, *values: Any) -> None:
    """Append without telling anybody: a poll looks for itself."""
    drafts = [Draft("said", encode_data(value)) for value in values]
    get_log().append(as_topic(name), drafts)


async def held(poll: Poll) -> None:
    """Wait until the poll is held and its subscriptions are live."""
    await until(
        lambda: any(
            c.subscriptions and all(s.state == s.LIVE for s in c.subscriptions.values())
            for c in runtime().hub.connections.values()
        )
    )
    assert not poll.messages, "nothing is written before the answer"


@pytest.fixture
def lively(settings_in_force: Any) -> Iterator[None]:
    """A topic with a snapshot and without history, and one whose snapshot can fail."""
    with registry.isolated():

        class Gauge(Topic):
            pattern = "gauge/<slug:slug>"
            value = 1

            def can_subscribe(self, viewer: Viewer) -> bool:
                return True

            def snapshot(self) -> Any:
                return {"value": Gauge.value}

        class Board(Topic):
            pattern = "board/<slug:slug>"
            history = History(events=5)

            def can_subscribe(self, viewer: Viewer) -> bool:
                return True

            def snapshot(self) -> Any:
                if self.kwargs["slug"] == "broken":
                    raise ValueError("no")
                return {"orders": 3}

        yield


# -- short -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_first_poll_answers_the_position_and_no_events(site: Site) -> None:
    application = site()
    record("open/a", 1, 2)
    first = await ask(application, "open/a")
    assert first.answer == {
        "frames": [],
        "cursor": first.answer["cursor"],
        "retry_after": 2.0,
        "more": False,
    }
    record("open/a", 3, 4)
    second = await ask(application, "open/a", cursor=first.answer["cursor"])
    assert second.answer["frames"] == [
        {"event": "said", "topic": "open/a", "data": 3},
        {"event": "said", "topic": "open/a", "data": 4},
    ]
    again = await ask(application, "open/a", lastEventId=first.answer["cursor"])
    assert again.body == second.body, "a lost answer is had again"
    assert again.headers["content-type"] == "application/json"
    assert "no-store" in again.headers["cache-control"]
    header = {"last-event-id": second.answer["cursor"]}
    third = await ask(application, "open/a", headers=header)
    assert third.heard == []


@pytest.mark.asyncio
async def test_a_client_may_change_between_stream_and_polls_with_one_cursor(site: Site) -> None:
    application = site()
    async with Browser(application, "open/a", "open/b") as stream:
        await stream.opened()
        await tell("open/a", "said", 1)
        await stream.until(stream.said)
        cursor = stream.events("said")[0].id or ""
    record("open/a", 2)
    record("open/b", 3)
    polled = await ask(application, "open/a", "open/b", cursor=cursor)
    assert polled.heard == [("said", 2), ("said", 3)]
    record("open/a", 4)
    resumed = {"last-event-id": polled.answer["cursor"]}
    async with Browser(application, "open/a", "open/b", headers=resumed) as stream:
        await stream.until(stream.said)
        assert stream.said() == [4]
        assert not stream.events("stream-reset")


@pytest.mark.asyncio
async def test_an_answer_is_bounded_and_says_that_there_is_more(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "open/a", "open/b")).answer["cursor"]
    record("open/a", *range(1200))
    record("open/b", *range(5000, 5100))
    received: list[int] = []
    more = True
    while more:
        polled = await ask(application, "open/a", "open/b", cursor=cursor)
        assert len(polled.heard) <= ANSWER_EVENTS
        received += [data for _, data in polled.heard]
        cursor, more = polled.answer["cursor"], polled.answer["more"]
        assert polled.answer["retry_after"] == (0 if more else 2)
    assert [n for n in received if n < 5000] == list(range(1200))
    assert [n for n in received if n >= 5000] == list(range(5000, 5100))
    assert received.index(5000) < ANSWER_EVENTS, "one busy topic does not keep out another"


@pytest.mark.asyncio
async def test_large_events_come_a_few_at_a_time(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "open/a")).answer["cursor"]
    record("open/a", *["x" * 100_000] * 4)
    polled = await ask(application, "open/a", cursor=cursor)
    assert (len(polled.heard), polled.answer["more"]) == (2, True)


@pytest.mark.asyncio
async def test_only_the_topics_that_moved_are_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = site()
    asked: list[str] = []
    heads, read = MemoryLog.heads, MemoryLog.read
    topics = [f"open/{n}" for n in range(10)]
    cursor = (await ask(application, *topics)).answer["cursor"]
    record("open/3", 1)

    def counted_heads(self: Any, topics: Any) -> Any:
        asked.append(f"heads of {len(topics)}")
        return heads(self, topics)

    def counted_read(self: Any, topic: Topic, *args: Any) -> Any:
        asked.append(topic.name)
        return read(self, topic, *args)

    monkeypatch.setattr(MemoryLog, "heads", counted_heads)
    monkeypatch.setattr(MemoryLog, "read", counted_read)
    polled = await ask(application, *topics, cursor=cursor)
    assert polled.heard == [("said", 1)]
    mine = [what for what in asked if not what.startswith("heads of 1") or what == "heads of 10"]
    assert mine == ["heads of 10", "open/3"]


@pytest.mark.asyncio
async def test_where_nothing_came_the_tag_is_enough(site: Site) -> None:
    conditional = "django.middleware.http.ConditionalGetMiddleware"
    application = site(MIDDLEWARE=[conditional, *settings.MIDDLEWARE])
    first = await ask(application, "open/a")
    tag, cursor = first.headers["etag"], first.answer["cursor"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        same = await ask(application, "open/a", cursor=cursor, headers={"if-none-match": known})
        assert (same.status, same.body) == (304, b"")
        assert same.headers["etag"] == tag
        assert same.headers["retry-after"] == "2"
    other = await ask(application, "open/a", cursor=cursor, headers={"if-none-match": '"other"'})
    assert other.heard == []
    newcomer = await ask(application, "open/a", headers={"if-none-match": tag})
    assert newcomer.answer["cursor"] == cursor
    record("open/a", 1)
    news = await ask(application, "open/a", cursor=cursor, headers={"if-none-match": tag})
    assert news.heard == [("said", 1)]
    # Who goes back to an older cursor gets the events again, whatever tag it shows.
    back = {"if-none-match": news.headers["etag"]}
    again = await ask(application, "open/a", cursor=cursor, headers=back)
    assert again.heard == [("said", 1)]


@pytest.mark.asyncio
async def test_resets_have_the_reasons_of_the_stream(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "small/a")).answer["cursor"]
    record("small/a", *range(30))
    get_log().trim()
    topic = as_topic("small/a")
    head = get_log().heads([topic])[topic.key]
    made_up = place_text(topic.key, Position(head.epoch, 3))[:-8] + "AAAAAAAA"
    old_life = place_text(topic.key, Position("Xold", 3))
    for given, reason in (
        (cursor, "trimmed"),
        (made_up, "unknown-cursor"),
        (old_life, "epoch"),
        ("null", "unknown-cursor"),
    ):
        polled = await ask(application, "small/a", cursor=given)
        told = [data for event, data in polled.heard if event == "stream-reset"]
        assert told == [{"topic": "small/a", "reason": reason, "snapshot": False}]
        unreadable = [data["code"] for event, data in polled.heard if event == "stream-error"]
        assert unreadable == (["malformed-cursor"] if given == "null" else [])
        assert polled.answer["cursor"] == place_text(topic.key, head.position)


@pytest.mark.asyncio
async def test_a_log_that_was_set_back_begins_a_new_epoch(site: Site) -> None:
    application = site()
    record("open/a", 1)
    topic = as_topic("open/a")
    head = get_log().heads([topic])[topic.key]
    ahead = place_text(topic.key, Position(head.epoch, 7))
    polled = await ask(application, "open/a", cursor=ahead)
    ((event, data),) = polled.heard
    assert (event, data["reason"]) == ("stream-reset", "epoch")
    assert get_log().heads([topic])[topic.key].epoch != head.epoch
    record("open/a", 2)
    following = await ask(application, "open/a", cursor=polled.answer["cursor"])
    assert following.heard == [("said", 2)]


@pytest.mark.asyncio
async def test_a_snapshot_comes_to_newcomers_and_after_a_reset(site: Site, lively: None) -> None:
    application = site()
    first = await ask(application, "board/a")
    assert first.heard == [("stream-snapshot", {"orders": 3})]
    record("board/a", *range(20))
    get_log().trim()
    lost = await ask(application, "board/a", cursor=first.answer["cursor"])
    assert [event for event, _ in lost.heard] == ["stream-reset", "stream-snapshot"]
    assert lost.answer["frames"][0]["data"]["snapshot"] is True
    assert (await ask(application, "board/a", cursor=lost.answer["cursor"])).heard == []


@pytest.mark.asyncio
async def test_a_snapshot_that_fails_costs_its_topic_only(site: Site, lively: None) -> None:
    application = site()
    polled = await ask(application, "board/broken", "open/a", wait=5)
    ((event, data),) = polled.heard
    assert (event, data["topic"], data["code"]) == ("stream-error", "board/broken", "unavailable")
    assert polled.answer["cursor"].count(",") == 0, "only of the other topic"
    assert polled.answer["retry_after"] == 2


@pytest.mark.asyncio
async def test_short_polls_of_a_topic_without_history(site: Site, lively: None) -> None:
    application = site()
    first = await ask(application, "gauge/a")
    assert first.heard == [("stream-snapshot", {"value": 1})]
    cursor, tag = first.answer["cursor"], first.headers["etag"]
    known = {"if-none-match": tag}
    assert (await ask(application, "gauge/a", cursor=cursor, headers=known)).status == 304
    type(as_topic("gauge/a")).value = 2  # type: ignore[attr-defined]
    changed = await ask(application, "gauge/a", cursor=cursor, headers=known)
    assert changed.heard == [("stream-snapshot", {"value": 2})]

    nothing = await ask(application, "ephemeral/a")
    assert nothing.heard == []
    resumed = await ask(application, "ephemeral/a", cursor=nothing.answer["cursor"])
    ((event, data),) = resumed.heard
    assert (event, data["reason"]) == ("stream-reset", "not-resumable")


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    application = site()

    def away(*args: Any) -> Any:
        raise ConnectionError("no store")

    with monkeypatch.context() as broken:
        broken.setattr(MemoryLog, "heads", away)
        polled = await ask(application, "open/a", wait=5)
    assert polled.status == 503
    assert json.loads(polled.body)["errors"][0]["code"] == "unavailable"
    assert polled.headers["retry-after"] == "2"


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topics", "kwargs", "status", "code"),
    [
        ([], {}, 400, "no-topics"),
        (["unknown/topic"], {}, 403, "forbidden"),
        (["customers/1/orders"], {}, 403, "forbidden"),
        (["a\nb"], {}, 403, "malformed-topic"),
        (["open/a"], {"headers": {"sec-fetch-site": "cross-site"}}, 403, "cross-site"),
        (["open/a"], {"headers": {"origin": "https://elsewhere.example"}}, 403, "cross-site"),
        (["open/a"], {"method": "OPTIONS"}, 405, "method-not-allowed"),
        (["open/a"], {"method": "HEAD"}, 405, "method-not-allowed"),
        (["open/a"], {"wait": "soon"}, 400, "malformed-request"),
        (["open/a"], {"wait": "-1"}, 400, "malformed-request"),
        (["open/a"], {"wait": "nan"}, 400, "malformed-request"),
        (["open/a"] * 1001, {}, 400, "malformed-request"),
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_answered_is_told_in_json(
    site: Site,
    topics: list[str],
    kwargs: Any,
    status: int,
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "django_live")
    polled = await ask(site(), *topics, **kwargs)
    assert polled.status == status
    assert not [record for record in caplog.records if record.name.startswith("django_live")]
    if kwargs.get("method") == "HEAD":
        return
    (error,) = json.loads(polled.body)["errors"]
    assert error["code"] == code
    assert "no-store" in polled.headers["cache-control"]


@pytest.mark.parametrize("cursor", ["null", "x" * 20_000, "a,b,c", "\0", "ü", "a" * 12 + ".x.1.y"])
@pytest.mark.asyncio
async def test_a_cursor_that_cannot_be_read_begins_anew(site: Site, cursor: str) -> None:
    application = site()
    polled = await ask(application, "open/a", cursor=cursor, wait=5)
    assert [event for event, _ in polled.heard] == ["stream-error", "stream-reset"]
    record("open/a", 1)
    following = await ask(application, "open/a", cursor=polled.answer["cursor"])
    assert following.heard == [("said", 1)]


@pytest.mark.asyncio
async def test_what_was_refused_is_told_beside_the_others(site: Site) -> None:
    application = site()
    names = ["open/a", "unknown/topic", *(f"open/{n}" for n in range(50))]
    polled = await ask(application, *names)
    told = {(data["topic"], data["code"]) for _, data in polled.heard}
    assert told == {
        ("unknown/topic", "forbidden"),
        ("open/48", "too-many-topics"),
        ("open/49", "too-many-topics"),
    }


# -- under WSGI ------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_short_polling_works_under_wsgi(
    settings_in_force: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "sweep", lambda *args: 0)
    client = Client()
    first = client.get("/live/poll/", {"topic": "open/w", "wait": "30"}).json()
    record("open/w", 1)
    asked: dict[str, Any] = {"topic": "open/w", "cursor": first["cursor"], "wait": 30}
    second = client.get("/live/poll/", asked).json()
    assert second["frames"] == [{"event": "said", "topic": "open/w", "data": 1}]
    began = time.monotonic()
    third = client.get("/live/poll/", {**asked, "cursor": second["cursor"]}).json()
    assert third == {**second, "frames": [], "retry_after": 2.0}
    assert time.monotonic() - began < 5, "nothing is held"


@pytest.mark.django_db
def test_an_empty_poll_costs_one_query(django_assert_num_queries: Any) -> None:
    def asked(cursor: str = "") -> Any:
        names = [f"open/{n}" for n in range(20)]
        request = RequestFactory().get("/live/poll/", {"topic": names, "cursor": cursor})
        return json.loads(polling.poll(request).content)

    first = asked()
    with django_assert_num_queries(1):
        second = asked(first["cursor"])
    assert second["cursor"] == first["cursor"]
    assert second["frames"] == []


def test_the_stream_names_the_polling_address_under_wsgi() -> None:
    response = sse.events(RequestFactory().get("/some/live/events/", {"topic": "open/a"}))
    assert response.status_code == 501
    body = json.loads(response.content)  # type: ignore[attr-defined]
    assert body["poll"] == "/some/live/poll/"


# -- long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Poll, type("SteppedPoll", (Poll, SteppedBrowser), {})])
@pytest.mark.asyncio
async def test_a_held_poll_is_answered_with_what_comes(site: Site, kind: type[Poll]) -> None:
    application = site()
    cursor = (await ask(application, "open/a", "open/b", wait=25)).answer["cursor"]
    async with kind(application, "open/a", "open/b", cursor=cursor, wait=25) as poll:
        await held(poll)
        began = time.monotonic()
        await tell("open/b", "said", {"text": "é\n "})
        await poll.answered()
        assert time.monotonic() - began < 1
        assert poll.heard == [("said", {"text": "é\n "})]
        assert poll.answer["retry_after"] == 0
    assert not runtime().hub.connections
    record("open/a", 2)
    following = await ask(application, "open/a", "open/b", cursor=poll.answer["cursor"], wait=25)
    assert following.heard == [("said", 2)]
    assert poll.receives_cancelled <= 1


@pytest.mark.asyncio
async def test_events_of_one_transaction_come_in_one_answer(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "open/a")).answer["cursor"]
    async with Poll(application, "open/a", cursor=cursor, wait=25) as poll:
        await held(poll)
        topic = as_topic("open/a")
        written = get_log().append(topic, [Draft("said", str(n)) for n in range(50)])
        bus.send_local(bus.envelopes(topic.key, written.epoch, written.events))
        await poll.answered()
    assert [data for _, data in poll.heard] == list(range(50))


@pytest.mark.asyncio
async def test_a_wait_without_events_ends_in_time(site: Site) -> None:
    application = site()
    first = await ask(application, "open/a")
    cursor, tag = first.answer["cursor"], first.headers["etag"]
    began = time.monotonic()
    polled = await ask(application, "open/a", cursor=cursor, wait=0.5)
    assert 0.4 < time.monotonic() - began < 5
    assert polled.answer == {"frames": [], "cursor": cursor, "retry_after": 0, "more": False}
    assert polled.headers["etag"] == tag
    known = {"if-none-match": tag}
    same = await ask(application, "open/a", cursor=cursor, wait=0.2, headers=known)
    assert (same.status, same.body) == (304, b"")
    assert "content-length" not in same.headers
    assert same.headers["retry-after"] == "0"


@pytest.mark.asyncio
async def test_what_waits_already_is_answered_at_once(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "open/a")).answer["cursor"]
    record("open/a", 1)
    polled = await ask(application, "open/a", cursor=cursor, wait=25)
    assert polled.heard == [("said", 1)]
    assert polled.answer["retry_after"] == 0


@pytest.mark.parametrize("keeps_the_place", [True, False])
@pytest.mark.asyncio
async def test_what_comes_between_the_look_and_the_wait_is_not_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch, keeps_the_place: bool
) -> None:
    """It came after the view read the log, and before the hub knew of the topic. The negative
    control waits from where the log stands by then."""
    application = site()
    cursor = (await ask(application, "open/a")).answer["cursor"]
    look = polling.read_now

    def then_something_comes(plan: Any) -> Any:
        answer = look(plan)
        record("open/a", 1)
        if not keeps_the_place:
            plan.requests[0].place = None
        return answer

    monkeypatch.setattr(polling, "read_now", then_something_comes)
    polled = await ask(application, "open/a", cursor=cursor, wait=25 if keeps_the_place else 0.5)
    assert polled.heard == ([("said", 1)] if keeps_the_place else [])


@pytest.mark.asyncio
async def test_only_some_polls_are_decided_at_a_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that Django handles takes a thread; that many begin together must not make that many."""
    application = site(DJANGO_LIVE={"ADMISSION": 2})
    cursor = (await ask(application, "open/a")).answer["cursor"]
    look, now, most = polling.read_now, 0, 0

    def counted(plan: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.01)  # long enough for another thread to come by
        now -= 1
        return look(plan)

    monkeypatch.setattr(polling, "read_now", counted)
    polls = [ask(application, "open/a", cursor=cursor, wait=0.5) for _ in range(12)]
    assert all(polled.heard == [] for polled in await asyncio.gather(*polls))
    assert most <= 2


@pytest.mark.asyncio
async def test_a_client_that_gives_up_is_forgotten_and_asks_again(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "open/a")).answer["cursor"]
    async with Poll(application, "open/a", cursor=cursor, wait=25) as poll:
        await held(poll)
        poll.hang_up()
        await poll.ended()
        assert not poll.messages
    assert not runtime().hub.connections
    await tell("open/a", "said", 1)
    assert (await ask(application, "open/a", cursor=cursor, wait=25)).heard == [("said", 1)]


@pytest.mark.asyncio
async def test_a_revoked_topic_ends_the_wait(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "open/a", "open/b")).answer["cursor"]
    async with Poll(application, "open/a", "open/b", cursor=cursor, wait=25) as poll:
        await held(poll)
        (connection,) = runtime().hub.connections.values()
        subscription = connection.subscriptions[as_topic("open/a").key]
        runtime().subscribing.end(subscription, "revoked", "No more.")
        await tell("open/a", "said", "secret")
        await poll.answered()
    ((event, data),) = poll.heard
    assert (event, data["topic"], data["code"]) == ("stream-error", "open/a", "revoked")
    assert poll.answer["retry_after"] == 2


@pytest.mark.asyncio
async def test_a_drain_ends_waiting_polls(site: Site) -> None:
    application = site()
    cursor = (await ask(application, "open/a")).answer["cursor"]
    async with Poll(application, "open/a", cursor=cursor, wait=25) as poll:
        await held(poll)
        await runtime().drain()
        await poll.answered()
        assert poll.heard == []
        assert poll.answer["cursor"] == cursor
        assert 0 <= poll.answer["retry_after"] <= 2
    late = await ask(application, "open/a", cursor=cursor, wait=25)
    assert late.answer["cursor"] == cursor


@pytest.mark.asyncio
async def test_topics_without_history_are_heard_while_waiting(site: Site, lively: None) -> None:
    application = site()
    names = ("gauge/a", "ephemeral/a")
    first = await ask(application, *names, wait=25)
    cursor = first.answer["cursor"]
    told = await ask(application, *names, cursor=cursor, wait=25)
    assert [event for event, _ in told.heard] == ["stream-snapshot", "stream-reset"]
    assert told.answer["retry_after"] == 2, "who shows no tag gets no busy loop"
    known = {"if-none-match": told.headers["etag"]}
    for name in names:
        async with Poll(application, *names, cursor=cursor, wait=25, headers=known) as poll:
            await held(poll)
            key = as_topic(name).key
            bus.send_local(bus.envelopes(key, "", [Event("said", encode_data(name))]))
            await poll.answered()
        assert poll.heard == [("said", name)]
        known = {"if-none-match": poll.headers["etag"]}


@pytest.mark.asyncio
async def test_what_was_refused_ends_no_wait_of_who_knows_it(site: Site) -> None:
    application = site()
    names = ("open/a", "unknown/topic")
    first = await ask(application, *names, wait=25)
    assert first.heard[0][1]["code"] == "forbidden"
    known = {"if-none-match": first.headers["etag"]}
    cursor = first.answer["cursor"]
    async with Poll(application, *names, cursor=cursor, wait=25, headers=known) as poll:
        await held(poll)
        await tell("open/a", "said", 1)
        await poll.answered()
    assert poll.heard == [("said", 1)]


@pytest.mark.parametrize(
    "middleware",
    [
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        "django.middleware.cache.UpdateCacheMiddleware",
    ],
)
@pytest.mark.asyncio
async def test_the_sites_middleware_does_no_harm(site: Site, middleware: str) -> None:
    application = site(MIDDLEWARE=[middleware, *settings.MIDDLEWARE])
    first = await ask(application, "open/a")
    cursor = first.answer["cursor"]
    known = {"if-none-match": first.headers["etag"], "accept-encoding": "gzip"}
    async with Poll(application, "open/a", cursor=cursor, wait=25, headers=known) as poll:
        await held(poll)
        await tell("open/a", "said", "x" * 1000)
        await poll.answered()
    assert poll.heard == [("said", "x" * 1000)]
    assert "x-django-live-hold" not in poll.headers
    assert "content-encoding" not in poll.headers


@pytest.mark.asyncio
async def test_without_the_wrapper_a_long_poll_is_a_short_one(settings_in_force: Any) -> None:
    application = get_asgi_application()
    first = await ask(application, "open/a")
    polled = await ask(application, "open/a", cursor=first.answer["cursor"], wait=25)
    assert polled.heard == []
    assert polled.answer["retry_after"] == 2


@pytest.mark.asyncio
async def test_what_is_collected_is_bounded() -> None:
    sink = CollectingSink([], "old")
    line = b'{"event":"said"' + b" " * 60_000 + b"}\n#new\n"
    taken = [sink.write(line) for _ in range(6)]
    assert taken == [True] * 4 + [False] * 2
    assert len(sink.lines) == 5
    assert sink.is_full
    assert sink.cursor == "new"
