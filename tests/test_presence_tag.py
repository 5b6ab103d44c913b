"""``{% live_presence %}``, as a server writes it."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory
from django.utils import translation

from django_live.features import attendance
from django_live.features.seats import Seats

pytestmark = pytest.mark.django_db


def rendered(
    tag: str = '{% live_presence "halls/blue" %}', user: object = None, **context: object
) -> str:
    request = RequestFactory().get("/")
    request.user = user or User(pk=1)  # type: ignore[assignment]
    template = Template("{% load live_presence %}" + tag)
    return template.render(Context({"request": request, **context}))


def test_it_names_the_topic_and_its_companion_and_brings_its_files_once() -> None:
    html = rendered('{% live_presence "halls/blue" %}{% live_presence "halls/red" idle=60 %}')
    assert 'topic="halls/blue"' in html
    assert 'presence="live/presence/halls/blue"' in html
    assert 'data-idle="60"' in html
    assert html.count("live-presence.js") == 1
    assert "<script>" not in html
    assert "style=" not in html


def test_who_only_looks_on_does_not_subscribe_to_the_topic() -> None:
    html = rendered('{% live_presence "halls/blue" join=False %}')
    assert ' topic="' not in html
    assert "Here now: 0" in html


def test_members_are_there_before_any_script_and_their_names_are_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seat = {"c": ["a"], "i": {"name": "<b>Ann</b>"}}
    entries = {"m p 7": [seat, 1], "s a 7": ["away", 2]}
    monkeypatch.setattr(Seats, "snapshot", lambda self, topic: {"version": 2, "entries": entries})
    html = rendered()
    assert "&lt;b&gt;Ann&lt;/b&gt;" in html
    assert "<b>Ann" not in html
    assert re.search(r'data-member="7" data-state="away"', html)
    with translation.override("de"):
        german = rendered()
    assert "Gerade da: 1" in german
    assert "abwesend" in german


@pytest.fixture
def somebody_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"m p 7": [{"c": ["a"], "i": {"name": "Ann"}}, 1]}
    monkeypatch.setattr(Seats, "snapshot", lambda self, topic: {"version": 1, "entries": entries})


@pytest.mark.usefixtures("somebody_is_here")
@pytest.mark.parametrize("join", ["True", "False"])
def test_members_are_shown_to_those_who_may_subscribe(join: str) -> None:
    tag = '{% live_presence "halls/blue" join=' + join + " %}"
    assert "Ann" in rendered(tag)
    assert rendered(tag, AnonymousUser()) == ""
    with pytest.raises(TemplateSyntaxError, match="needs `request`"):
        Template("{% load live_presence %}" + tag).render(Context())


@pytest.mark.usefixtures("somebody_is_here")
def test_where_it_cannot_be_decided_the_element_asks_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> bool:
        raise OSError("no database")

    monkeypatch.setattr("tests.testapp.live.HallTopic.can_subscribe", fail)
    html = rendered()
    assert 'topic="halls/blue"' in html
    assert "Ann" not in html
    assert "Here now: 0" in html


@pytest.mark.usefixtures("somebody_is_here")
@pytest.mark.asyncio
async def test_a_template_in_a_coroutine_is_still_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Ann" in rendered(), "what needs no thread is answered at once"

    async def allow(*args: object) -> bool:
        return True

    monkeypatch.setattr("tests.testapp.live.HallTopic.can_subscribe", allow)
    html = rendered()
    assert 'topic="halls/blue"' in html
    assert "Ann" not in html


def test_a_store_that_is_away_costs_the_list_and_not_the_page(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise OSError("no store")

    monkeypatch.setattr(Seats, "snapshot", fail)
    assert "Here now: 0" in rendered()
    assert "could not be read" in caplog.text


def test_a_topic_without_presence_says_what_to_do() -> None:
    with pytest.raises(TemplateSyntaxError, match=r"presence = Presence\(\)"):
        rendered('{% live_presence "open/x" %}')


def test_a_connection_is_not_shown_by_its_id() -> None:
    assert attendance.short("0123456789abcdef") not in "0123456789abcdef"
    assert len(attendance.short("x")) == 12


def test_a_user_without_a_name_is_shown_by_the_name_to_log_in_with() -> None:
    from django_live.features.presence import name_of

    assert name_of(User(username="ann")) == {"name": "ann"}
    assert name_of(User(username="ann", first_name="Ann", last_name="Lee")) == {"name": "Ann Lee"}
