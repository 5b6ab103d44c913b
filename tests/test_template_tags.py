"""Template tags: what they print, escaped, the same at every rendering, with one query."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from django.contrib.staticfiles import finders
from django.http import HttpRequest
from django.template import Context, Template, TemplateSyntaxError, engines
from django.test import RequestFactory

from django_live import History, Topic
from django_live.core.topics import registry
from django_live.exceptions import InvalidTopic, UnknownTopic
from tests.testapp.live import CustomerTopic, EphemeralTopic, OpenTopic, OrderTopic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import DjangoAssertNumQueries

pytestmark = pytest.mark.django_db


class Elements(HTMLParser):
    """The elements of a page and their attributes, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def render(source: str, request: HttpRequest | None = None, **values: Any) -> str:
    template = engines["django"].from_string("{% load live %}" + source)
    return template.render(values, request or RequestFactory().get("/"))


def elements(source: str, **values: Any) -> list[tuple[str, dict[str, str | None]]]:
    return Elements(render(source, **values)).found


class HostileTopic(Topic):
    """Any text may be its name."""

    pattern = "hostile/<path:text>"
    history = History()


@pytest.fixture(scope="module", autouse=True)
def declared() -> Iterator[None]:
    """What this module declares is forgotten after it."""
    yield
    registry._classes.pop(HostileTopic.pattern, None)


HOSTILE = "\"'><script>alert(1)</script>&amp; {{ x }} ü/%20,"


# -- live_topic ------------------------------------------------------------------------------------


def test_a_topic_becomes_an_element() -> None:
    [(tag, attributes)] = elements("{% live_topic topic %}", topic=OrderTopic(pk=42))
    assert tag == "live-topic"
    assert attributes.pop("data-cursor")
    assert attributes == {"topic": "orders/42", "data-transport": "sse", "hidden": None}


def test_topics_may_be_names_and_lists() -> None:
    found = elements(
        "{% live_topic 'open/a' both %}", both=[OpenTopic(slug="b"), ("open/c", "open/d")]
    )
    assert [a["topic"] for _, a in found] == ["open/a", "open/b", "open/c", "open/d"]


def test_each_topic_has_its_own_cursor_and_all_of_them_cost_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    topics = [OpenTopic(slug=f"t{n}") for n in range(20)]
    render("{% live_topic 'open/warm' %}")  # the generation's row
    with django_assert_num_queries(1):
        found = elements("{% live_topic topics %}", topics=topics)
    assert len({a["data-cursor"] for _, a in found}) == 20


def test_a_topic_that_is_named_twice_on_a_page_is_looked_up_once(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    render("{% live_topic 'open/warm' %}")
    with django_assert_num_queries(1):
        render("{% live_topic 'open/a' %}{% live_refresh 'open/a' %}x{% endlive_refresh %}")


def test_an_interactive_topic_asks_for_a_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenTopic, "interactive", True)
    [(_, attributes)] = elements("{% live_topic 'open/a' %}")
    assert attributes["data-transport"] == "ws"


def test_an_ephemeral_topic_has_no_cursor() -> None:
    [(_, attributes)] = elements("{% live_topic topic %}", topic=EphemeralTopic(slug="a"))
    assert attributes["data-cursor"] == ""


# -- live_refresh ----------------------------------------------------------------------------------

BLOCK = "{% live_refresh topic %}<p>{{ text }}</p>{% endlive_refresh %}"


def test_a_part_of_the_page_is_put_into_an_element() -> None:
    html = render(BLOCK, topic=OrderTopic(pk=1), text="<b>")
    assert html.endswith("<p>&lt;b&gt;</p></live-refresh>")
    (tag, attributes), (inner, _) = Elements(html).found
    assert (tag, inner) == ("live-refresh", "p")
    assert attributes["topics"] == "orders%2F1"
    assert attributes["data-cursor"]


def test_several_topics_are_separated_by_spaces_and_encoded() -> None:
    [(_, attributes)] = elements(
        "{% live_refresh a b %}{% endlive_refresh %}",
        a=HostileTopic(text="with space"),
        b=CustomerTopic(pk=7),
    )
    assert attributes["topics"] == "hostile%2Fwith%20space customers%2F7%2Forders"


def test_the_id_is_the_same_at_every_rendering() -> None:
    template = Template("{% load live %}" + BLOCK)
    topic = OrderTopic(pk=1)
    pages = {
        Elements(template.render(Context({"topic": topic}))).found[0][1]["id"] for _ in range(3)
    }
    assert len(pages) == 1


def test_two_blocks_of_one_topic_have_two_ids() -> None:
    found = elements(BLOCK * 3, topic=OrderTopic(pk=1))
    ids = [a["id"] for tag, a in found if tag == "live-refresh"]
    assert ids == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"]


@pytest.mark.parametrize("how", ["part", "part only"])
def test_blocks_in_included_templates_have_ids_of_their_own(how: str) -> None:
    part = Template("{% load live %}{% live_refresh 'open/a' %}{% endlive_refresh %}")
    found = elements(
        f"{{% live_refresh 'open/a' %}}{{% include {how} %}}{{% endlive_refresh %}}"
        f"{{% include {how} %}}",
        part=part,
    )
    ids = [a["id"] for _, a in found]
    assert len(set(ids)) == len(ids) == 3


def test_blocks_in_a_loop_have_ids_of_their_own() -> None:
    found = elements(
        "{% for n in numbers %}{% live_refresh 'open/a' %}{% endlive_refresh %}{% endfor %}",
        numbers=range(3),
    )
    assert len({a["id"] for _, a in found}) == 3


def test_an_id_may_be_given() -> None:
    [(_, attributes)] = elements(
        "{% live_refresh 'open/a' id=name %}{% endlive_refresh %}", name="the-order"
    )
    assert attributes["id"] == "the-order"


@pytest.mark.parametrize(
    "source",
    [
        "{% live_refresh %}{% endlive_refresh %}",
        "{% live_refresh id='x' %}{% endlive_refresh %}",
        "{% live_refresh 'open/a' ids='x' %}{% endlive_refresh %}",
        "{% live_refresh 'open/a' %}",
    ],
)
def test_a_block_that_is_written_wrongly_is_a_syntax_error(source: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        render(source)


# -- escaping --------------------------------------------------------------------------------------


def test_hostile_names_stay_inside_their_attributes() -> None:
    topic = HostileTopic(text=HOSTILE)
    found = elements(
        "{% live_topic topic %}{% live_refresh topic id=name %}{% endlive_refresh %}",
        topic=topic,
        name=HOSTILE,
    )
    (_, topic_attributes), (_, refresh_attributes) = found
    assert [tag for tag, _ in found] == ["live-topic", "live-refresh"]
    assert topic_attributes["topic"] == topic.name
    assert refresh_attributes["id"] == HOSTILE
    assert " " not in str(refresh_attributes["topics"])
    assert unquote(str(refresh_attributes["topics"])) == topic.name


@pytest.mark.parametrize("autoescape", ["on", "off"])
def test_escaping_does_not_depend_on_autoescape(autoescape: str) -> None:
    html = render(
        f"{{% autoescape {autoescape} %}}{{% live_topic topic %}}{{% endautoescape %}}",
        topic=HostileTopic(text=HOSTILE),
    )
    assert "<script>" not in html


# -- mistakes --------------------------------------------------------------------------------------

TAGS = ["{% live_topic topic %}", BLOCK]


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("tag", TAGS)
def test_an_undeclared_topic_is_an_error_as_a_wrong_url_is(
    tag: str, debug: bool, settings: Any
) -> None:
    settings.DEBUG = debug
    with pytest.raises(UnknownTopic, match=r"No Topic declares 'nobody/declares/this'.*live\.py"):
        render(tag, topic="nobody/declares/this")


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("wrong", [None, "", 42, object(), {"a": 1}])
def test_what_is_no_topic_is_a_syntax_error(tag: str, wrong: Any) -> None:
    with pytest.raises(TemplateSyntaxError, match="is not a topic"):
        render(tag, topic=wrong)


@pytest.mark.parametrize("tag", TAGS)
def test_a_variable_that_the_view_forgot_is_a_syntax_error(tag: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="is not a topic"):
        render(tag)


@pytest.mark.parametrize("tag", TAGS)
def test_a_topic_of_an_unsaved_object_says_so(tag: str) -> None:
    with pytest.raises(InvalidTopic, match="makes 'orders/None'"):
        render(tag, topic=OrderTopic(pk=None))


@pytest.mark.parametrize("tag", TAGS)
def test_a_context_without_a_request_is_enough(tag: str) -> None:
    html = Template("{% load live %}" + tag).render(Context({"topic": OrderTopic(pk=1)}))
    assert Elements(html).found[0][1]["data-cursor"]


def tenant_of(request: HttpRequest) -> str:
    return request.headers.get("X-Tenant", "")


def test_names_are_the_requests_tenants(settings: Any) -> None:
    settings.DJANGO_LIVE = {"NAMESPACE": f"{__name__}.tenant_of"}
    cursors = {
        render("{% live_topic 'open/a' %}", RequestFactory().get("/", headers={"X-Tenant": name}))
        for name in ("one", "two")
    }
    assert len(cursors) == 2


# -- live_client -----------------------------------------------------------------------------------


def test_the_client_is_a_script_that_knows_the_address() -> None:
    [(tag, attributes)] = elements("{% live_client %}")
    assert tag == "script"
    assert attributes == {
        "src": "/static/django_live/live.js",
        "data-events": "/live/events/",
        "defer": None,
    }


class LazyNonce:
    """As in Django 6 and django-csp: false until it is made."""

    is_made = False

    def __str__(self) -> str:
        self.is_made = True
        return 'no"nce'

    def __bool__(self) -> bool:
        return self.is_made


@pytest.mark.parametrize("where", ["context", "request"])
@pytest.mark.parametrize("lazy", [True, False])
def test_the_client_carries_the_nonce(where: str, lazy: bool) -> None:
    nonce: Any = LazyNonce() if lazy else 'no"nce'
    request: Any = RequestFactory().get("/")
    values = {}
    if where == "context":
        values["csp_nonce"] = nonce
    else:
        request.csp_nonce = nonce
    [(_, attributes)] = Elements(render("{% live_client %}", request, **values)).found
    assert attributes["nonce"] == 'no"nce'


def test_a_nonce_that_is_none_is_left_out() -> None:
    assert "nonce" not in render("{% live_client %}", csp_nonce=None)
    assert "nonce" not in render("{% live_client %}", csp_nonce="")


def test_a_site_without_the_addresses_is_told_what_to_add(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.testapp.urls"
    with pytest.raises(TemplateSyntaxError, match=r'include\("django_live\.urls"\)'):
        render("{% live_client %}")


def test_the_script_is_where_the_tag_says() -> None:
    assert finders.find("django_live/live.js")
