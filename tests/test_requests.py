"""What a client asks for: read without trust, decided without telling more than it may."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.http import Http404, HttpRequest
from django.test import Client, RequestFactory, override_settings

from django_live import History, Topic, Viewer, live_position
from django_live.core.events import Position, place_text
from django_live.core.topics import as_topic, registry
from django_live.exceptions import InvalidTopic, UnknownTopic
from django_live.transports.authentication import user_of_session
from django_live.transports.requests import Plan, Refused, plan_of, viewer_of
from django_live.transports.sse import events
from tests.testapp.live import OpenTopic, OrderTopic
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db


def asked(query: str = "", user: Any = None, **headers: str) -> HttpRequest:
    """A request as it comes out of the site's middleware."""
    request = RequestFactory().get(f"/live/events/?{query}", headers=headers)
    request.user = user or AnonymousUser()
    request.session = SessionStore()
    return request


def planned(*topics: str, user: Any = None, **headers: str) -> Plan:
    return plan_of(asked(urlencode([("topic", t) for t in topics]), user, **headers))


def refused(request: HttpRequest) -> tuple[int, list[tuple[str, str]]]:
    with pytest.raises(Refused) as caught:
        plan_of(request)
    return caught.value.status, [(r.code, r.topic) for r in caught.value.refusals]


# -- what was asked for ----------------------------------------------------------------------------

LONG = "x" * 201


@pytest.mark.parametrize(
    ("query", "status", "codes"),
    [
        pytest.param("", 400, [("no-topics", "")], id="no topic"),
        pytest.param("topics=open/a", 400, [("no-topics", "")], id="another parameter"),
        pytest.param("topic=", 403, [("malformed-topic", "")], id="an empty name"),
        pytest.param("topic=%20open/a", 403, [("malformed-topic", " open/a")], id="spaces"),
        pytest.param("topic=open/a%0a", 403, [("malformed-topic", "open/a\n")], id="newline"),
        pytest.param("topic=open/a%00", 403, [("malformed-topic", "open/a\0")], id="nul"),
        pytest.param("topic=a%1bb", 403, [("malformed-topic", "a\x1bb")], id="escape"),
        pytest.param(
            "topic=a%e2%80%aeb", 403, [("malformed-topic", "a\u202eb")], id="right to left"
        ),
        pytest.param("topic=a%ff%feb", 403, [("forbidden", "a\ufffd\ufffdb")], id="no UTF-8"),
        pytest.param("topic=%ed%a0%80", 403, [("forbidden", "\ufffd" * 3)], id="a surrogate"),
        pytest.param(f"topic={LONG}", 403, [("malformed-topic", LONG[:200])], id="long"),
        pytest.param(f"topic={'x' * 100_000}", 403, [("malformed-topic", "x" * 200)], id="longer"),
        pytest.param("topic=nothing/here", 403, [("forbidden", "nothing/here")], id="unknown"),
        pytest.param("topic=orders/01", 403, [("forbidden", "orders/01")], id="other spelling"),
        pytest.param("topic=orders/x", 403, [("forbidden", "orders/x")], id="no number"),
        pytest.param(
            f"topic=orders/{'9' * 150}",
            403,
            [("forbidden", f"orders/{'9' * 150}")],
            id="huge number",
        ),
        pytest.param(
            "topic=../../etc/passwd", 403, [("forbidden", "../../etc/passwd")], id="a path"
        ),
        pytest.param("%ff=%fe&;&&=&topic", 403, [("malformed-topic", "")], id="nonsense"),
    ],
)
def test_a_request_for_nothing_that_can_be_opened_is_refused(
    query: str, status: int, codes: list[tuple[str, str]]
) -> None:
    assert refused(asked(query)) == (status, codes)


def test_more_fields_than_django_reads_are_a_malformed_request() -> None:
    query = urlencode([("topic", f"open/{n}") for n in range(10_000)])
    assert refused(asked(query)) == (400, [("malformed-request", "")])


def test_a_refusal_becomes_an_answer() -> None:
    answer = Client().get("/live/events/?topic=open/a")  # under WSGI
    assert answer.status_code == 501
    assert answer.json()["errors"][0]["code"] == "no-streaming"
    answer = Client().post("/live/events/?topic=open/a")
    assert (answer.status_code, answer["Allow"]) == (405, "GET")


def test_only_so_many_topics_are_opened() -> None:
    plan = planned(*(f"open/{n}" for n in range(52)))
    assert [r.topic.name for r in plan.requests] == [f"open/{n}" for n in range(50)]
    assert [(r.code, r.topic) for r in plan.refusals] == [
        ("too-many-topics", "open/50"),
        ("too-many-topics", "open/51"),
    ]


def test_exactly_as_many_topics_as_allowed_are_opened() -> None:
    assert planned(*(f"open/{n}" for n in range(50))).refusals == []


@override_settings(DJANGO_LIVE={"MAX_TOPICS": 1})
def test_a_name_that_is_given_twice_counts_once() -> None:
    plan = planned("open/a", "open/a")
    assert len(plan.requests) == 1
    assert plan.refusals == []


def test_what_may_be_opened_is_opened_and_the_rest_is_named() -> None:
    plan = planned("open/a", "nothing/here", "\n", "open/b")
    assert [r.topic.name for r in plan.requests] == ["open/a", "open/b"]
    assert [r.code for r in plan.refusals] == ["forbidden", "malformed-topic"]


# -- cursors ---------------------------------------------------------------------------------------

TOPIC = OpenTopic(slug="a")


def test_a_cursor_that_this_site_gave_out_is_resumed_from() -> None:
    cursor = live_position(asked(), TOPIC)
    for plan in (
        planned("open/a", **{"Last-Event-ID": cursor}),
        plan_of(asked(f"topic=open/a&lastEventId={quote(cursor)}")),
    ):
        place = plan.requests[0].place
        assert place is not None
        assert place.genuine
        assert plan.refusals == []


def test_the_header_wins_over_the_query() -> None:
    header, query = (place_text(TOPIC.key, Position("epoch", n)) for n in (1, 2))
    plan = plan_of(asked(f"topic=open/a&lastEventId={query}", **{"Last-Event-ID": header}))
    place = plan.requests[0].place
    assert place is not None
    assert place.position == Position("epoch", 1)


@pytest.mark.parametrize(
    "cursor", ["nonsense", "1", "é", "0" * 20_000, ",".join(["a"] * 1000), "a.b.c.d", "{}", "%00"]
)
def test_a_malformed_cursor_is_reported_and_the_topics_are_opened(cursor: str) -> None:
    plan = plan_of(asked(f"topic=open/a&lastEventId={quote(cursor)}"))
    assert [(r.code, r.topic) for r in plan.refusals] == [("malformed-cursor", "")]
    place = plan.requests[0].place
    assert place is not None  # it resumes, so it will be told of a reset
    assert not place.genuine


def test_a_forged_cursor_is_not_genuine() -> None:
    genuine = place_text(TOPIC.key, Position("epoch", 7))
    forged = genuine.replace(".7.", ".8.")
    place = plan_of(asked(f"topic=open/a&lastEventId={forged}")).requests[0].place
    assert place is not None
    assert not place.genuine


@pytest.mark.parametrize("cursor", ["", ",", ",,,"])
def test_an_empty_cursor_is_none(cursor: str) -> None:
    plan = plan_of(asked(f"topic=open/a&lastEventId={cursor}"))
    assert plan.requests[0].place is None
    assert plan.refusals == []


# -- other sites -----------------------------------------------------------------------------------

CROSS_SITE = (403, [("cross-site", "")])


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "nonsense"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, False),
        ({"Origin": "http://testserver"}, True),
        ({"Origin": "http://testserver:81"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://evil.example/http://testserver"}, False),
        ({"Origin": "http://testserver@evil.example"}, False),
        ({"Origin": "http://testserver.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "testserver"}, False),
        ({"Origin": "http://[::1"}, False),
    ],
)
def test_pages_of_other_sites_open_nothing(headers: dict[str, str], allowed: bool) -> None:
    request = asked("topic=open/a", **headers)
    if allowed:
        assert len(plan_of(request).requests) == 1
    else:
        assert refused(request) == CROSS_SITE


def test_a_host_that_is_not_ours_is_a_malformed_request() -> None:
    request = asked("topic=open/a", Origin="http://evil.example", Host="evil.example")
    assert refused(request) == (400, [("malformed-request", "")])


# -- who may see it --------------------------------------------------------------------------------


class Decided(Topic):
    """Answers what the test wants; declared where ``declared`` is asked for."""

    pattern = "decided/<slug:slug>"
    history = History()


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """`decide(lambda topic, viewer: …)` puts this in the place of can_subscribe."""
    return lambda answer: monkeypatch.setattr(Decided, "can_subscribe", answer)


@pytest.fixture(scope="module", autouse=True)
def declared() -> Iterator[None]:
    """What this module declares is forgotten after it."""
    yield
    registry._classes.pop(Decided.pattern, None)


def raising(error: Exception) -> Callable[..., Any]:
    def can_subscribe(*args: Any) -> Any:
        raise error

    return can_subscribe


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda topic, viewer: False, id="no"),
        pytest.param(lambda topic, viewer: None, id="nothing"),
        pytest.param(raising(PermissionDenied()), id="denied"),
        pytest.param(raising(Http404("no such thing")), id="not found"),
        pytest.param(raising(Order.DoesNotExist()), id="does not exist"),
        pytest.param(raising(ObjectDoesNotExist()), id="does not exist either"),
    ],
)
def test_a_forbidden_topic_and_an_unknown_one_look_alike(
    answer: Any, decide: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    decide(answer)

    def body(name: str) -> bytes:
        request = asked(f"topic={name}")
        with pytest.raises(Refused) as caught:
            plan_of(request)
        from django_live.transports.requests import refusal_response

        response = refusal_response(caught.value)
        return str(sorted(response.items())).encode() + response.content

    forbidden, unknown = body("decided/one"), body("unknown/one")
    assert forbidden.replace(b"decided", b"unknown") == unknown
    assert not caplog.records


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("secret"),
        InvalidTopic("secret"),
        UnknownTopic("secret"),
        RuntimeError("secret"),
        Order.MultipleObjectsReturned("secret"),
        KeyError("secret"),
    ],
)
def test_a_permission_that_fails_is_no_and_is_logged(
    error: Exception, decide: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    decide(raising(error))
    request = asked("topic=decided/a")
    with pytest.raises(Refused) as caught:
        plan_of(request)
    assert caught.value.status == 503
    assert [r.code for r in caught.value.refusals] == ["unavailable"]
    assert "secret" not in json.dumps([r.as_json() for r in caught.value.refusals])
    [record] = caplog.records
    assert (record.name, record.levelno) == ("django_live.requests", logging.ERROR)
    assert "decided/a" in record.getMessage()
    assert "secret" in caplog.text


def test_a_name_that_a_converter_fails_on_is_no_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Decided, "parts_of", raising(ZeroDivisionError("secret")))
    assert refused(asked("topic=decided/a")) == (503, [("unavailable", "decided/a")])
    assert "secret" in caplog.text


def test_a_topic_that_fails_does_not_close_the_others(decide: Callable[[Any], None]) -> None:
    decide(raising(ZeroDivisionError()))
    plan = planned("decided/a", "open/a")
    assert [r.topic.name for r in plan.requests] == ["open/a"]
    assert [(r.code, r.topic) for r in plan.refusals] == [("unavailable", "decided/a")]


def test_a_topic_that_fails_keeps_its_place_for_when_it_can_be_opened(
    decide: Callable[[Any], None],
) -> None:
    decide(raising(ZeroDivisionError()))
    place = place_text(registry.resolve("decided/a").key, Position("epoch", 7))
    plan = planned("decided/a", "open/a", **{"Last-Event-ID": place})
    assert plan.kept_places == [place]


async def says_no(*args: Any) -> bool:
    return False


async def says_yes(*args: Any) -> bool:
    return True


def plainly_wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    """As decorators are that know nothing of async."""

    @wraps(method)
    def wrapper(*args: Any) -> Any:
        return method(*args)

    return wrapper


@pytest.mark.parametrize("wrap", [lambda method: method, plainly_wrapped])
def test_an_async_permission_is_awaited(
    wrap: Callable[..., Any], decide: Callable[[Any], None]
) -> None:
    decide(wrap(says_yes))
    assert len(planned("decided/a").requests) == 1
    decide(wrap(says_no))
    assert refused(asked("topic=decided/a"))[0] == 403


def test_a_topic_says_no_unless_it_says_yes() -> None:
    assert not Topic.can_subscribe(TOPIC, Viewer())


def test_an_answer_of_visible_from_that_is_no_moment_is_no(
    decide: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decide(lambda topic, viewer: True)
    monkeypatch.setattr(Decided, "visible_from", lambda topic, viewer: "yesterday")
    assert refused(asked("topic=decided/a"))[0] == 503
    assert "could not be decided" in caplog.text


def test_an_order_is_for_its_customer_and_for_staff() -> None:
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    staff = User.objects.create_user("staff", is_staff=True)
    name = OrderTopic(pk=Order.objects.create(customer=ann).pk).name
    assert len(planned(name, user=ann).requests) == 1
    assert len(planned(name, user=staff).requests) == 1
    for user in (bob, None):
        assert refused(asked(f"topic={name}", user))[1] == [("forbidden", name)]


# -- viewers ---------------------------------------------------------------------------------------


def test_a_visitor_who_is_not_logged_in() -> None:
    viewer = viewer_of(asked())
    assert (viewer.user_id, viewer.session_key) == (None, None)
    viewer.forget_user()
    assert isinstance(viewer.user, AnonymousUser)


def test_a_site_without_sessions_and_users_has_visitors_all_the_same() -> None:
    viewer = viewer_of(RequestFactory().get("/"))
    assert viewer.user.is_anonymous
    assert viewer.refreshed().user.is_anonymous


def logged_in(user: User) -> HttpRequest:
    client = Client()
    client.force_login(user)
    request = asked("topic=open/a", User.objects.get(pk=user.pk))
    request.session = SessionStore(client.session.session_key)
    return request


def test_a_viewer_is_loaded_anew_from_the_session() -> None:
    ann = User.objects.create_user("ann")
    viewer = viewer_of(logged_in(ann))
    User.objects.filter(pk=ann.pk).update(is_staff=True)
    assert not viewer.user.is_staff
    assert viewer.refreshed().user.is_staff


@pytest.mark.parametrize("how", ["logout", "password", "deleted", "inactive"])
def test_a_viewer_whose_session_is_over_is_nobody(how: str) -> None:
    ann = User.objects.create_user("ann", password="pw")
    viewer = viewer_of(logged_in(ann))
    if how == "logout":
        SessionStore(viewer.session_key).delete()
    elif how == "password":
        ann.set_password("other")
        ann.save()
    elif how == "deleted":
        ann.delete()
    else:
        User.objects.filter(pk=ann.pk).update(is_active=False)
    assert user_of_session(viewer).is_anonymous


def test_a_viewer_without_a_session_is_loaded_by_key() -> None:
    ann = User.objects.create_user("ann")
    request = asked("topic=open/a", ann)
    assert plan_of(request).viewer.user == ann
    viewer = viewer_of(request)
    User.objects.filter(pk=ann.pk).delete()
    assert viewer.refreshed().user.is_anonymous


def test_an_open_connection_keeps_no_user_in_memory() -> None:
    plan = plan_of(logged_in(User.objects.create_user("ann")))
    assert plan.viewer._user is None


def tenant_of(request: HttpRequest) -> str:
    return request.headers.get("X-Tenant", "")


def test_a_tenants_topic_is_another_tenants_unknown(settings: Any) -> None:
    settings.DJANGO_LIVE = {"NAMESPACE": f"{__name__}.tenant_of"}
    one, two = (planned("open/a", **{"X-Tenant": name}) for name in ("one", "two"))
    keys = {plan.requests[0].topic.key for plan in (one, two)}
    assert len(keys) == 2
    assert as_topic("open/a", "one").key in keys


def test_a_head_request_opens_nothing() -> None:
    assert events(RequestFactory().head("/live/events/?topic=open/a")).status_code == 405
