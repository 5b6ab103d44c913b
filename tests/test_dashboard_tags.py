"""What the tags of boards write into a page: what the board holds, safe, and readable without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory

from django_live import showing
from django_live.core.state import get_state
from django_live.core.topics import registry
from django_live.features.dashboards import add_lines, add_points, set_rows, set_value, writing
from django_live.transports.requests import Refused
from tests.features.dashboards.boards import Computed, Load, Log, Points, Rows


@pytest.fixture(autouse=True)
def boards(settings: Any, transactional_db: None) -> Iterator[None]:  # noqa: ARG001 - threads write
    settings.DJANGO_LIVE = {"STORE": "memory"}
    get_state.cache_clear()
    with registry.isolated():
        for board in (Load, Rows, Points, Log, Computed):
            for one in (board, board._paced_class, board.news_class):
                registry.register(one)
        yield
        assert writing.writer.flush()


def rendered(text: str, user: Any = None, **context: Any) -> str:
    request = RequestFactory().get("/", context.pop("query", {}))
    request.user = user or AnonymousUser()
    context["request"] = request
    return str(Template("{% load live_dashboards %}" + text).render(Context(context)))


def test_a_value_is_formatted_and_says_where_it_comes_from() -> None:
    set_value(Load(host="a"), {"cpu": 12.345})
    html = rendered('{% live_value t field="cpu" places=1 unit="%" rate=2 %}', t=Load(host="a"))
    assert 'data-topic="@2/load/a"' in html
    assert '<span data-part="value">12.3\N{NO-BREAK SPACE}%</span>' in html
    assert html.count("live-dashboards.js") == 1
    assert "data-stale=" not in html


def test_a_value_that_is_not_there_is_a_dash() -> None:
    html = rendered('{% live_value "load/a" field="a.b" %}')
    assert '<span data-part="value">\N{EN DASH}</span>' in html


def test_the_value_of_a_source_grows_stale_by_itself() -> None:
    assert 'data-stale="2.15"' in rendered("{% live_value t %}", t=Computed())


def test_a_table_has_its_rows_and_what_they_lack() -> None:
    set_rows(Rows(), {"<b>": {"cpu": 1, "name": "<script>"}, "c": {}})
    html = rendered('{% live_table "rows" "cpu:CPU, name" key="Host" caption="All" %}')
    assert (
        '<tr data-key="&lt;b&gt;"><td>&lt;b&gt;</td><td>1</td><td>&lt;script&gt;</td></tr>' in html
    )
    assert '<tr data-key="c"><td>c</td><td>\N{EN DASH}</td><td>\N{EN DASH}</td></tr>' in html
    assert '<th scope="col" data-column="cpu">CPU</th>' in html


def test_a_chart_says_the_same_in_words() -> None:
    add_points(Points(), (1.0, {"cpu": 1.5}), (2.0, {"cpu": 4}), (3.0, {"cpu": None}))
    html = rendered('{% live_chart "points" label="Processor" %}')
    assert "<tr><td>cpu</td><td>\N{EN DASH}</td><td>1.50</td><td>4.00</td></tr>" in html
    assert 'aria-label="Processor"' in html


def test_a_log_has_its_lines() -> None:
    add_lines(Log(), ("ERROR", "<oops>"))
    html = rendered('{% live_log "log" %}')
    assert 'data-level="ERROR"' in html
    assert "ERROR &lt;oops&gt;</li>" in html


@pytest.mark.parametrize(
    "tag", ['live_value "rows"', 'live_chart "points" kind="pie"', 'live_table "log" "a"']
)
def test_what_a_tag_cannot_show_is_refused(tag: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        rendered("{% " + tag + " %}")


SHOWN = {
    "live_value topic": "latest",
    "live_table topic 'secret'": "keyed",
    "live_chart topic": "window",
    "live_log topic": "lines",
}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A board of each kind that holds a secret, for ann alone."""
    asked: list[str] = []

    async def ask(self: Any, viewer: Any) -> bool:
        asked.append(self.name)
        return bool(viewer.user_id == "1")

    set_value(Load(host="a"), "secret")
    set_rows(Rows(), {"secret": {"secret": "secret"}})
    add_points(Points(), {"secret": 1})
    add_lines(Log(), "secret")
    assert writing.writer.flush()
    for board in (Load, Rows, Points, Log):
        monkeypatch.setattr(board, "can_subscribe", ask)
    found = {"latest": Load(host="a"), "keyed": Rows(), "window": Points(), "lines": Log()}
    return {**found, "asked": asked}


@pytest.mark.parametrize(("tag", "kind"), SHOWN.items())
def test_a_page_shows_a_board_to_those_who_may_subscribe_to_it(
    closed: dict[str, Any], tag: str, kind: str
) -> None:
    topic = closed[kind]
    for who in (AnonymousUser(), User(pk=2)):
        assert rendered("{% " + tag + " %}", who, topic=topic) == ""
    assert "secret" in rendered("{% " + tag + " %}", User(pk=1), topic=topic)


def test_a_board_is_asked_about_once_per_page(closed: dict[str, Any]) -> None:
    source = "{% live_value t %}{% live_value t rate=2 %}{% live_value u %}"
    assert rendered(source, User(pk=1), t=Load(host="a"), u="load/b").count("</live-value>") == 3
    assert closed["asked"] == ["load/a", "load/b"]


@pytest.mark.parametrize(("tag", "kind"), SHOWN.items())
def test_what_cannot_be_decided_is_an_element_without_contents(
    closed: dict[str, Any], tag: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> bool:
        raise OSError("no database")

    monkeypatch.setattr(type(closed[kind]), "can_subscribe", fail)
    html = rendered("{% " + tag + " %}", User(pk=1), topic=closed[kind])
    assert f'data-topic="{closed[kind].name}"' in html
    assert "secret" not in html.replace('data-column="secret">secret<', "")


def test_a_board_of_another_tenant_or_with_a_bad_ticket_is_not_shown(
    closed: dict[str, Any],  # noqa: ARG001
) -> None:
    other = Load(host="a", namespace="other")
    assert rendered("{% live_value t %}", User(pk=1), t=other) == ""
    bad = {"ticket": "no-ticket"}
    assert rendered("{% live_value t %}", User(pk=1), t=Load(host="a"), query=bad) == ""


@pytest.mark.parametrize(("status", "is_there"), [(503, True), (401, False)])
def test_a_reader_who_cannot_be_found_just_now_gets_an_element_without_contents(
    status: int, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Any) -> Any:
        raise Refused(status, [])

    monkeypatch.setattr(showing, "viewer_of", refused)
    set_value(Load(host="a"), 7)
    html = rendered('{% live_value "load/a" %}')
    assert ("live-value" in html) is is_there
    assert ">7<" not in html


def test_a_board_is_shown_to_somebody() -> None:
    with pytest.raises(TemplateSyntaxError, match="needs `request`"):
        Template("{% load live_dashboards %}{% live_value 'load/a' %}").render(Context())
