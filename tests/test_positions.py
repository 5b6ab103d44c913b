"""The position of a page: nothing is lost between the view's queries and the page's subscription."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest
from django.template import Context, Template
from django.test import RequestFactory, override_settings

from django_live import live_position, publish
from django_live.core import positions
from django_live.core.events import Cursor
from django_live.core.log import get_log
from django_live.core.positions import BEGAN_SCOPE, page_cursor
from django_live.core.topics import Topic
from django_live.exceptions import UnknownTopic
from django_live.middleware import LiveMiddleware
from django_live.stores import clock
from tests.testapp.live import EphemeralTopic, OpenTopic

pytestmark = pytest.mark.django_db(transaction=True)

TOPIC = OpenTopic(slug="a")
OTHER = OpenTopic(slug="b")


@pytest.fixture(autouse=True, params=["database", "memory"])
def store(request: pytest.FixtureRequest, settings: Any) -> None:
    """On each store."""
    settings.DJANGO_LIVE = {"STORE": request.param, "CLOCK_SKEW": 0}


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`at(1000.0)`: it is then now, for the stores and for whoever notes when a request began."""

    def set_clocks(now: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: now)
        monkeypatch.setattr("time.time", lambda: now)

    return set_clocks


def seen_after(cursor: str, topic: Topic = TOPIC) -> list[Any]:
    """What a client hears that subscribes with this cursor."""
    place = Cursor.parse(cursor).get(topic.key)
    assert place is not None
    assert place.genuine
    assert place.position is not None
    page = get_log().read(topic, place.position.offset, 100, 10**9)
    assert page.head.epoch == place.position.epoch
    return [json.loads(event.data) for event in page.events]


def rendered(request: HttpRequest | None) -> str:
    """The cursor in a page that is rendered now."""
    template = Template("{% load live %}{% live_topic 'open/a' %}")
    html = template.render(Context({"request": request} if request else {}))
    return html.partition('data-cursor="')[2].partition('"')[0]


def with_live_position(request: HttpRequest) -> HttpRequest:
    live_position(request, TOPIC)
    return request


def with_the_wrapper(request: HttpRequest) -> HttpRequest:
    import time

    request.scope = {BEGAN_SCOPE: time.time()}  # type: ignore[attr-defined]
    return request


def with_the_middleware(request: HttpRequest) -> HttpRequest:
    LiveMiddleware(lambda request: None)(request)
    return request


def with_nothing(request: HttpRequest) -> HttpRequest:
    return request


WAYS = [with_live_position, with_the_wrapper, with_the_middleware, with_nothing]


@pytest.mark.parametrize("noted", WAYS)
def test_an_event_between_the_views_query_and_the_rendering_is_not_lost(
    noted: Callable[[HttpRequest], HttpRequest], at: Callable[[float], None]
) -> None:
    at(1000.0)
    publish(TOPIC, "said", "long ago")
    at(1020.0)
    request = noted(RequestFactory().get("/"))
    # … here the view reads what the page will show …
    at(1021.0)
    publish(TOPIC, "said", "in between")
    at(1022.0)
    assert seen_after(rendered(request)) == ["in between"]


def test_a_position_as_of_the_rendering_would_lose_it(
    at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""
    import time

    monkeypatch.setattr(positions, "request_began", lambda request: time.time())
    at(1020.0)
    request = with_the_wrapper(RequestFactory().get("/"))
    at(1021.0)
    publish(TOPIC, "said", "in between")
    at(1022.0)
    assert seen_after(rendered(request)) == []


def test_without_a_request_the_last_seconds_are_repeated(at: Callable[[float], None]) -> None:
    at(1000.0)
    publish(TOPIC, "said", "long ago")
    at(1020.0)
    publish(TOPIC, "said", "just now")
    at(1029.0)
    assert seen_after(rendered(None)) == ["just now"]


def test_a_topic_that_nobody_wrote_to_has_a_position(at: Callable[[float], None]) -> None:
    at(1000.0)
    cursor = rendered(with_nothing(RequestFactory().get("/")))
    publish(TOPIC, "said", "the first")
    assert seen_after(cursor) == ["the first"]


def test_live_position_answers_with_the_cursor_of_all_topics(at: Callable[[float], None]) -> None:
    at(1000.0)
    publish(TOPIC, "said", 1)
    publish(OTHER, "said", 1)
    cursor = live_position(RequestFactory().get("/"), TOPIC, "open/b")
    publish(TOPIC, "said", 2)
    publish(OTHER, "said", 3)
    assert seen_after(cursor) == [2]
    assert seen_after(cursor, OTHER) == [3]


def test_live_position_may_be_called_for_one_topic_after_the_other() -> None:
    request = RequestFactory().get("/")
    first = live_position(request, TOPIC)
    publish(TOPIC, "said", 1)
    live_position(request, OTHER)
    assert rendered(request) == first


def test_the_first_of_two_positions_counts() -> None:
    request = RequestFactory().get("/")
    live_position(request, TOPIC)
    # … here the view reads something, and calls something that asks again …
    publish(TOPIC, "said", "in between")
    assert seen_after(live_position(request, TOPIC)) == ["in between"]
    assert seen_after(rendered(request)) == ["in between"]


def test_a_topic_without_history_has_no_position() -> None:
    request = RequestFactory().get("/")
    topic = EphemeralTopic(slug="a")
    assert live_position(request, topic) == ""
    assert page_cursor(request, [topic]) == ""


def test_live_position_refuses_a_topic_that_nobody_declares() -> None:
    with pytest.raises(UnknownTopic, match="nobody/declares"):
        live_position(RequestFactory().get("/"), "nobody/declares")


def test_a_store_that_does_not_answer_costs_the_cursor_and_not_the_page(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> Any:
        raise OSError("the store is down")

    monkeypatch.setattr(type(get_log()), "positions", fail)
    assert rendered(RequestFactory().get("/")) == ""
    assert "the store is down" in caplog.text


@override_settings()
def test_the_clocks_of_hosts_may_differ(settings: Any, at: Callable[[float], None]) -> None:
    settings.DJANGO_LIVE = {**settings.DJANGO_LIVE, "CLOCK_SKEW": 0.5}
    at(1000.0)
    request = with_the_wrapper(RequestFactory().get("/"))
    at(999.6)  # the host that numbers is behind
    publish(TOPIC, "said", "in between")
    assert seen_after(rendered(request)) == ["in between"]


def test_tenants_have_positions_of_their_own(at: Callable[[float], None]) -> None:
    at(1000.0)
    publish(OpenTopic(slug="a", namespace="one"), "said", 1)
    request = RequestFactory().get("/")
    cursors = {
        live_position(request, "open/a", namespace=namespace) for namespace in ("one", "two", "")
    }
    assert len(cursors) == 3
