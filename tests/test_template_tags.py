"""Template tags: what they print, escaped, the same at every rendering, with one query."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.staticfiles import finders
from django.core.exceptions import SynchronousOnlyOperation
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.template import Context, Engine, Template, TemplateSyntaxError, engines
from django.test import RequestFactory
from django.utils import translation
from django.utils.functional import SimpleLazyObject

from django_live import History, Topic, live_due, live_position
from django_live.core.events import Cursor
from django_live.core.topics import registry
from django_live.exceptions import InvalidTopic, UnknownTopic
from tests.testapp.live import CustomerTopic, EphemeralTopic, OpenTopic, OrderTopic
from tests.testapp.models import Place, Restaurant

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


# -- live_list -------------------------------------------------------------------------------------

LIST = (
    "<table><tbody>{% live_list rows topics='open/a' as row %}"
    "<tr><td>{{ forloop.counter }}</td><td>{{ row.name }}</td></tr>"
    "{% empty %}<tr><td>none</td></tr>{% endlive_list %}</tbody></table>"
)


def places(*names: str) -> list[Place]:
    return [Place(pk=number, name=name) for number, name in enumerate(names, 1)]


def keys(html: str) -> list[str | None]:
    return [a["data-live-key"] for _, a in Elements(html).found if "data-live-key" in a]


def test_a_list_is_a_loop_whose_rows_have_keys() -> None:
    html = render(LIST, rows=places("<b>", "y"))
    assert '<tr data-live-key="place-1"><td>1</td><td>&lt;b&gt;</td></tr>' in html
    assert keys(html) == ["place-1", "place-2"]


def test_the_lists_own_element_may_stand_in_a_table_and_comes_last() -> None:
    html = render(LIST, rows=places("x"))
    assert html.endswith("</tr><template" + html.rpartition("<template")[2])
    assert html.endswith("></template></tbody></table>")
    [attributes] = [a for tag, a in Elements(html).found if tag == "template"]
    assert attributes.pop("data-cursor")
    assert str(attributes.pop("id")).startswith("live-")
    assert attributes == {"topics": "open%2Fa", "data-transport": "sse"}


@pytest.mark.parametrize("rows", [[], None, Place.objects.none()])
def test_an_empty_list_shows_its_empty_part_and_is_live(rows: Any) -> None:
    html = render(LIST, rows=rows)
    assert "<tr><td>none</td></tr><template" in html
    assert keys(html) == []


def test_a_queryset_is_read_once_and_after_the_position(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    Place.objects.bulk_create(places("x", "y"))
    render(LIST, rows=[])
    with django_assert_num_queries(2) as queries:
        html = render(LIST, rows=Place.objects.order_by("-pk"))
    assert keys(html) == ["place-2", "place-1"]
    assert "testapp_place" in queries[1]["sql"]


def test_a_page_of_a_paginator_is_a_list() -> None:
    Place.objects.bulk_create(places(*"abcde"))
    page = Paginator(Place.objects.order_by("pk"), 2).get_page(2)
    assert keys(render(LIST, rows=page)) == ["place-3", "place-4"]


def test_options_are_those_of_a_refresh() -> None:
    html = render(
        "{% live_list rows topics=both id='my-list' debounce=50 jitter=9 as row %}{% endlive_list %}",
        rows=[],
        both=[OpenTopic(slug="a"), "open/b"],
    )
    [(_, attributes)] = Elements(html).found
    assert attributes["id"] == "my-list"
    assert attributes["topics"] == "open%2Fa open%2Fb"
    assert (attributes["debounce"], attributes["jitter"]) == ("50", "9")


def test_a_list_inside_of_a_refresh_needs_no_topics() -> None:
    rows = "{% live_list rows as row %}<li>{{ row }}</li>{% endlive_list %}"
    html = render(
        f"{{% live_refresh 'open/a' %}}<ul>{rows}</ul>{{% endlive_refresh %}}", rows=places("x")
    )
    assert keys(html) == ["place-1"]
    assert "<template" not in html
    with pytest.raises(TemplateSyntaxError, match="is not live"):
        render(f"{{% live_refresh 'open/a' %}}{{% endlive_refresh %}}{rows}", rows=[])


def test_a_list_in_an_included_template_knows_of_the_refresh_around_it() -> None:
    part = Template("{% load live %}{% live_list rows as row %}<li></li>{% endlive_list %}")
    html = render(
        "{% live_refresh 'open/a' %}{% include part with rows=rows only %}{% endlive_refresh %}",
        rows=places("x"),
        part=part,
    )
    assert keys(html) == ["place-1"]


def test_lists_inside_of_rows_have_keys_of_their_own() -> None:
    html = render(
        "{% live_list groups topics='open/a' key=group.0 as group %}<li>{{ forloop.counter }}<ul>"
        "{% live_list group.1 as row %}<li>{{ forloop.parentloop.counter }}</li>{% endlive_list %}"
        "</ul></li>{% endlive_list %}",
        groups=[("a", places("x")), ("b", places("x", "y"))],
    )
    assert keys(html) == ["a", "place-1", "b", "place-1", "place-2"]
    assert '<li data-live-key="b">2<ul>' in html
    assert '<li data-live-key="place-2">2</li>' in html


def test_other_rows_say_what_they_are_known_by() -> None:
    source = "{% live_list rows topics='open/a' key=row.sku as row %}<li></li>{% endlive_list %}"
    assert keys(render(source, rows=[{"sku": HOSTILE}, {"sku": 0}])) == [HOSTILE, "0"]


def test_a_row_that_is_there_twice_is_two_rows() -> None:
    row = places("x")
    assert keys(render(LIST, rows=row * 3)) == ["place-1", "place-1~2", "place-1~3"]


def test_rows_of_two_models_are_not_mixed_up() -> None:
    html = render(LIST, rows=[Place(pk=1), Restaurant(pk=1)])
    assert keys(html) == ["place-1", "restaurant-1"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("\n  <!-- a <b> -->\n<li class='x'>", "<li data-live-key=\"place-1\" class='x'>"),
        ("<x-row/>", '<x-row data-live-key="place-1"/>'),
        ("<li>", '<li data-live-key="place-1">'),
    ],
)
def test_the_key_goes_to_the_rows_element(row: str, expected: str) -> None:
    source = "{% live_list rows topics='open/a' as row %}" + row + "{% endlive_list %}"
    assert expected in render(source, rows=places("x"))


def test_a_row_may_decide_to_be_nothing() -> None:
    source = (
        "{% live_list rows topics='open/a' as row %}"
        "{% if row.name == 'y' %}<li></li>{% endif %}{% endlive_list %}"
    )
    assert keys(render(source, rows=places("x", "y"))) == ["place-2"]


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("rows", [[{"name": "x"}], [Place(name="unsaved")], ["text"]])
def test_rows_without_a_key_are_an_error(rows: Any, debug: bool) -> None:
    engine = Engine(debug=debug, libraries={"live": "django_live.templatetags.live"})
    template = engine.from_string("{% load live %}" + LIST)
    with pytest.raises(TemplateSyntaxError, match="Add key="):
        template.render(Context({"rows": rows}))


def test_a_row_that_is_no_element_is_an_error() -> None:
    source = "{% live_list rows topics='open/a' as row %}{{ row.name }}<br>{% endlive_list %}"
    with pytest.raises(TemplateSyntaxError, match=r"has to be one element.*'x<br>'"):
        render(source, rows=places("x"))


@pytest.mark.parametrize(
    "source",
    [
        "{% live_list %}{% endlive_list %}",
        "{% live_list rows %}{% endlive_list %}",
        "{% live_list as row %}{% endlive_list %}",
        "{% live_list rows other topics='open/a' as row %}{% endlive_list %}",
        "{% live_list rows topics='open/a' as 1 %}{% endlive_list %}",
        "{% live_list rows topics='open/a' as row more %}{% endlive_list %}",
        "{% live_list rows topic='open/a' as row %}{% endlive_list %}",
        "{% live_list rows id='x' as row %}{% endlive_list %}",
        "{% live_list rows topics='open/a' as row %}",
        "{% live_list rows topics='open/a' as row %}{% empty %}{% empty %}{% endlive_list %}",
    ],
)
def test_a_list_that_is_written_wrongly_is_a_syntax_error(source: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        render(source, rows=[])


@pytest.mark.parametrize("wrong", [None, "", 42])
def test_a_list_without_a_topic_is_a_syntax_error(wrong: Any) -> None:
    source = "{% live_list rows topics=wrong as row %}{% endlive_list %}"
    with pytest.raises(TemplateSyntaxError, match="topic"):
        render(source, rows=[], wrong=wrong)


def test_cached_fragments_show_what_they_show_and_ids_that_are_given_stay(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    source = (
        "{% load cache %}{% cache 60 test_template_tags %}"
        "{% live_refresh 'open/a' id='cached' %}{{ text }}{% endlive_refresh %}{% endcache %}"
        "{% live_refresh 'open/a' id='fresh' %}{{ text }}{% endlive_refresh %}"
    )
    render(source, text="one")
    html = render(source, text="two")
    assert [a["id"] for _, a in Elements(html).found] == ["cached", "fresh"]
    assert ">one</live-refresh>" in html
    assert ">two</live-refresh>" in html


@pytest.mark.parametrize("place", ["view", "page"])
@pytest.mark.django_db(transaction=True)
def test_an_async_view_reads_positions_and_rows_where_it_may(place: str) -> None:
    """Both ways of the documentation: everything read before render(), or render() in a thread."""
    Place.objects.bulk_create(places("x"))
    request = RequestFactory().get("/")

    async def view() -> str:
        if place == "page":
            return await sync_to_async(render)(LIST, request, rows=Place.objects.all())
        await sync_to_async(live_position)(request, "open/a")
        return render(LIST, request, rows=[row async for row in Place.objects.all()])

    html = async_to_sync(view)()
    assert keys(html) == ["place-1"]
    [attributes] = [a for tag, a in Elements(html).found if tag == "template"]
    assert attributes["data-cursor"]


# -- live_due --------------------------------------------------------------------------------------


def test_a_page_needs_all_of_its_parts() -> None:
    assert live_due(RequestFactory().get("/"))
    assert live_due(RequestFactory().get("/"), "orders")


@pytest.mark.parametrize(
    ("header", "due"),
    [
        ("orders", True),
        ("a,orders,b", True),
        ("a, orders", True),
        ("order", False),
        ("", False),
        (quote(HOSTILE, safe=""), False),
    ],
)
def test_a_refresh_needs_what_it_asks_for(header: str, due: bool) -> None:
    request = RequestFactory().get("/", headers={"X-Live-Refresh": header})
    assert live_due(request, "totals", "orders") is due
    assert not live_due(request)


def test_any_id_can_be_asked_for() -> None:
    request = RequestFactory().get("/", headers={"X-Live-Refresh": quote(HOSTILE, safe="")})
    assert live_due(request, HOSTILE)


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
        "data-more": "/static/django_live/live-more.js",
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


def test_the_scripts_and_the_style_sheet_are_where_the_tags_say() -> None:
    for name in ("live.js", "live-more.js", "live-status.css"):
        assert finders.find(f"django_live/{name}")


def shared(
    source: str = "{% live_client %}", session_key: str | None = "session-1", user: Any = None
) -> Any:
    request: Any = RequestFactory().get("/")
    request.session = SessionStore(session_key)
    if user is not None:
        request.user = user
    return Elements(render(source, request)).found[0][1].get("data-share")


def test_pages_of_one_session_share_a_connection_and_others_do_not() -> None:
    keys = [shared(), shared(session_key="session-2"), shared(session_key=None)]
    keys += [shared(user=User(pk=1)), shared(user=User(pk=2))]
    assert all(keys)
    assert len(set(keys)) == len(keys)
    assert shared() == shared()
    assert "session-1" not in shared()


def test_who_shares_may_be_chosen_or_nobody() -> None:
    assert shared("{% live_client share=False %}") is None
    assert shared("{% live_client share='' %}") is None
    assert shared("{% live_client share='anna' %}") == shared("{% live_client share='anna' %}")
    assert shared("{% live_client share='anna' %}") != shared("{% live_client share='bert' %}")


def known(user: Any, session_key: str | None = "session-1") -> Any:
    request: Any = RequestFactory().get("/")
    request.session = SessionStore(session_key)
    request.user = user
    return Elements(render("{% live_client %}", request)).found[0][1].get("data-known")


def test_a_page_says_that_it_is_somebodys() -> None:
    """So that it never comes as a visitor, also when it comes for the first time."""
    mark = known(SimpleLazyObject(lambda: User(pk=1)))
    assert Cursor.parse(mark).known
    assert mark == known(User(pk=2), session_key=None), "it does not say whose"
    for visitor in (AnonymousUser(), SimpleLazyObject(AnonymousUser)):
        assert known(visitor) is None
    read = SimpleLazyObject(lambda: User(pk=1))
    assert read.is_authenticated
    assert known(read, session_key=None), "known without a session, and read already"
    assert "data-known" not in render("{% live_client %}")


def test_pages_of_visitors_and_of_somebody_do_not_share() -> None:
    assert shared(user=SimpleLazyObject(lambda: User(pk=1))) != shared(
        user=SimpleLazyObject(AnonymousUser)
    )


def test_in_a_coroutine_nobody_is_read() -> None:
    def read() -> User:
        raise SynchronousOnlyOperation

    assert known(SimpleLazyObject(read)) is None


def test_for_a_visitor_without_a_session_nothing_is_read(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    request: Any = RequestFactory().get("/")
    request.session = SessionStore(None)
    request.user = SimpleLazyObject(lambda: pytest.fail("the user was read"))
    with django_assert_num_queries(0):
        assert "data-share" in render("{% live_client %}", request)
    assert not request.session.accessed


def test_the_status_speaks_the_readers_language_and_brings_its_style_sheet() -> None:
    link, status = elements("{% live_status %}")
    assert link[1] == {"rel": "stylesheet", "href": "/static/django_live/live-status.css"}
    assert status[0] == "live-status"
    assert status[1]["role"] == "status"
    assert status[1]["aria-live"] == "polite"
    assert status[1]["data-text-stale"] == "Connection lost. Trying to reconnect …"
    with translation.override("de"):
        german = elements("{% live_status %}")[1][1]
    assert german["data-text-stale"] == "Verbindung verloren. Neuer Versuch läuft …"
    assert german["data-text-stopped"] != status[1]["data-text-stopped"]
