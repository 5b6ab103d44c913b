"""Who a request is from: sessions, tokens that authenticators know, and tickets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.test import Client, RequestFactory
from rest_framework_simplejwt.tokens import AccessToken

from django_live import Topic, Viewer
from django_live.core.topics import registry
from django_live.transports import inbound
from django_live.transports.authentication import Identity
from django_live.transports.inbound import Senders
from django_live.transports.requests import Refused, plan_of, viewer_of
from tests.transports.authenticators import KEYS, SEEN

pytestmark = pytest.mark.django_db

OURS = "tests.transports.authenticators."
JWT = "rest_framework_simplejwt.authentication.JWTAuthentication"
TICKETS = "/live/tickets/"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(inbound, "senders", Senders())
    yield
    KEYS.clear()
    SEEN.clear()


@pytest.fixture
def anna() -> User:
    return User.objects.create_user("anna", password="pw")


@pytest.fixture
def authenticators(settings: Any) -> Callable[..., None]:
    """``authenticators(name, …)``: those in force, "session" last; ``more`` are other settings."""

    def use(*names: str, **more: Any) -> None:
        settings.DJANGO_LIVE = {"AUTHENTICATORS": [*names, "session"], **more}

    return use


class MineTopic(Topic):
    """For the user whose key it names, and whose token says "read"."""

    pattern = "mine/<int:pk>"

    def can_subscribe(self, viewer: Viewer) -> bool:
        return viewer.user.pk == self.kwargs["pk"] and viewer.can("read")

    def can_send(self, viewer: Viewer) -> bool:
        return viewer.user.pk == self.kwargs["pk"] and viewer.can("write")

    def on_message(self, message: Any) -> str:
        return str(message.viewer.user.username)


@pytest.fixture(scope="module", autouse=True)
def declared() -> Iterator[None]:
    yield
    registry._classes.pop(MineTopic.pattern, None)


def asked(
    *topics: str, session_of: User | None = None, headers: dict[str, str] | None = None
) -> HttpRequest:
    query = "&".join(f"topic={topic}" for topic in topics)
    request = RequestFactory().get(f"/live/events/?{query}", headers=headers)
    request.user = session_of or AnonymousUser()
    request.session = SessionStore()
    return request


def refused(request: HttpRequest) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        plan_of(request)
    return caught.value.status, caught.value.refusals[0].code


def told(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


# -- tokens ----------------------------------------------------------------------------------------


def test_a_function_says_who_it_is(anna: User, authenticators: Callable[..., None]) -> None:
    for name in ("by_name", "in_a_coroutine"):
        authenticators(OURS + name)
        plan = plan_of(asked(f"mine/{anna.pk}", headers={"X-Name": "anna"}))
        assert plan.viewer.user == anna
        assert plan.viewer.session_key is None
        assert plan.viewer.can("anything")


def test_who_has_no_token_is_asked_for_a_session(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "by_key")
    assert viewer_of(asked(session_of=anna)).user_id == str(anna.pk)
    assert viewer_of(asked()).user.is_anonymous


def test_a_token_that_is_no_good_is_refused_and_not_nobody(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "by_key")
    bad = {"X-Key": "wrong"}
    assert refused(asked("open/a", headers=bad)) == (401, "not-authenticated")
    assert refused(asked("open/a", session_of=anna, headers=bad)) == (401, "not-authenticated")
    answer = Client().get("/live/poll/?topic=open/a", headers=bad)
    assert told(answer) == (401, "not-authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param(lambda anna: Identity(None), id="nobody"),
        pytest.param(lambda anna: Identity(inactive(anna)), id="inactive"),
        pytest.param(lambda anna: Identity(anna, expires=time.time() - 1), id="expired"),
    ],
)
def test_a_token_of_somebody_who_is_not_is_refused(
    identity: Callable[[User], Identity], anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "by_key")
    KEYS["k"] = identity(anna)
    assert refused(asked("open/a", headers={"X-Key": "k"})) == (401, "not-authenticated")


def inactive(user: User) -> User:
    user.is_active = False
    return user


def test_an_authenticator_that_fails_closes_the_door_and_is_logged(
    authenticators: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    authenticators(OURS + "broken")
    answer = Client().get("/live/poll/?topic=open/a")
    assert told(answer) == (503, "unavailable")
    assert "secret" not in answer.content.decode()
    assert "secret" in caplog.text


def test_scopes_bound_what_a_token_may(anna: User, authenticators: Callable[..., None]) -> None:
    authenticators(OURS + "by_key")
    KEYS["read"] = Identity(anna, frozenset({"read"}))
    KEYS["none"] = Identity(anna, frozenset())
    topic = f"mine/{anna.pk}"
    plan = plan_of(asked(topic, headers={"X-Key": "read"}))
    assert plan.viewer.scopes == {"read"}
    assert not plan.viewer.can("write")
    assert refused(asked(topic, headers={"X-Key": "none"})) == (403, "forbidden")


def test_a_viewer_is_asked_again_whether_the_token_holds(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "by_key")
    KEYS["k"] = Identity(anna, frozenset({"read", "write"}))
    viewer = plan_of(asked("open/a", headers={"X-Key": "k"})).viewer
    assert viewer._user is None
    assert viewer.refreshed().still_stands()
    KEYS["k"] = Identity(anna, frozenset({"read", "admin"}))
    fresh = viewer.refreshed()
    assert fresh.still_stands()
    assert fresh.scopes == {"read"}, "what a token allows does not grow on an open connection"
    KEYS["k"] = Identity(User.objects.create_user("bert"))
    assert not viewer.refreshed().still_stands()
    del KEYS["k"]
    assert not viewer.refreshed().still_stands()
    with pytest.raises(PermissionDenied):
        _ = viewer.refreshed().user


def test_two_connections_with_one_token_are_asked_about_once(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "by_key")
    KEYS.update(a=Identity(anna), b=Identity(anna))
    one, two = (viewer_of(asked(f"open/{n}", headers={"X-Key": "a"})) for n in (1, 2))
    assert one.identity == two.identity
    assert one.identity != viewer_of(asked("open/1", headers={"X-Key": "b"})).identity
    assert "X-Key" not in one.credential
    assert one.credential.startswith("token:")


def test_an_authenticator_sees_no_cookies_unless_it_says_so(
    authenticators: Callable[..., None],
) -> None:
    authenticators(OURS + "by_key")
    request = asked("open/a", headers={"Cookie": "key=k"})
    request.COOKIES["key"] = "k"
    viewer_of(request)
    assert SEEN[-1].COOKIES == {}
    assert "HTTP_COOKIE" not in SEEN[-1].META


# -- Django REST framework -------------------------------------------------------------------------


def bearer(user: User, **claims: Any) -> dict[str, str]:
    token = AccessToken.for_user(user)
    for name, value in claims.items():
        token[name] = value
    return {"Authorization": f"Bearer {token}"}


def test_a_jwt_class_is_used_as_it_is(anna: User, authenticators: Callable[..., None]) -> None:
    authenticators(JWT)
    headers = bearer(anna, scope="read write")
    viewer = plan_of(asked(f"mine/{anna.pk}", headers=headers)).viewer
    assert viewer.scopes == {"read", "write"}
    assert 200 < viewer.expires - time.time() < 400
    assert viewer.refreshed().still_stands()
    anna.is_active = False
    anna.save()
    assert not viewer.refreshed().still_stands()


def test_a_jwt_that_has_expired_or_is_forged_is_refused(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(JWT)
    past = bearer(anna, exp=int(time.time()) - 1)
    forged = {"Authorization": bearer(anna)["Authorization"][:-3] + "abc"}
    for headers in (past, forged, {"Authorization": "Bearer nonsense"}):
        assert refused(asked("open/a", headers=headers)) == (401, "not-authenticated")
    assert plan_of(
        asked("open/a", headers={"Authorization": "Basic YTpi"})
    ).viewer.user.is_anonymous


# -- CSRF ------------------------------------------------------------------------------------------


def say(client: Client, topic: str, **more: Any) -> Any:
    body = json.dumps({"topic": topic, "type": "say"})
    return client.post("/live/send/", body, "application/json", **more)


def test_a_token_needs_no_csrf_token_and_a_cookie_does(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "by_key")
    KEYS["k"] = Identity(anna)
    strict = Client(enforce_csrf_checks=True)
    topic = f"mine/{anna.pk}"
    assert say(strict, topic, headers={"X-Key": "k"}).json() == {"data": "anna"}
    strict.force_login(anna)
    assert told(say(strict, topic)) == (403, "csrf-failed")
    assert say(strict, topic, headers={"X-Key": "k"}).json() == {"data": "anna"}


def test_a_token_in_a_cookie_needs_a_csrf_token(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "ByCookie")
    KEYS["k"] = Identity(anna)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies["key"] = "k"
    assert told(say(strict, f"mine/{anna.pk}")) == (403, "csrf-failed")
    assert told(asks(strict)) == (403, "csrf-failed")
    token = strict.get("/live/send/").json()["csrfToken"]
    answer = say(strict, f"mine/{anna.pk}", headers={"X-CSRFToken": token})
    assert answer.json() == {"data": "anna"}


# -- tickets ---------------------------------------------------------------------------------------


@pytest.fixture
def client(anna: User) -> Client:
    """Of anna, signed in."""
    client = Client()
    client.force_login(anna)
    return client


def asks(client: Client, **more: Any) -> Any:
    """Ask for a ticket without bounds."""
    return client.post(TICKETS, "", "application/json", **more)


def ticket_of(client: Client, headers: dict[str, str] | None = None, **body: Any) -> str:
    answer = client.post(TICKETS, json.dumps(body), "application/json", headers=headers)
    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store, private"
    assert 0 < answer.json()["expires_in"] <= 60
    return str(answer.json()["ticket"])


def with_ticket(ticket: str, *topics: str) -> HttpRequest:
    query = {"ticket": ticket, "topic": list(topics)}
    request = RequestFactory().get("/live/events/", query)
    request.user, request.session = AnonymousUser(), SessionStore()
    return request


def test_a_ticket_stands_for_the_session(anna: User, client: Client) -> None:
    ticket = ticket_of(client)
    viewer = plan_of(with_ticket(ticket, f"mine/{anna.pk}")).viewer
    assert viewer.user_id == str(anna.pk)
    assert viewer.session_key == client.session.session_key
    assert str(viewer.session_key) not in ticket
    answer = Client().get("/live/poll/", {"ticket": ticket, "topic": f"mine/{anna.pk}"})
    assert answer.status_code == 200
    answer = say(
        Client(enforce_csrf_checks=True), f"mine/{anna.pk}", QUERY_STRING=f"ticket={ticket}"
    )
    assert answer.json() == {"data": "anna"}


def test_a_ticket_ends_with_the_session(client: Client) -> None:
    ticket = ticket_of(client)
    viewer = plan_of(with_ticket(ticket, "open/a")).viewer
    client.logout()
    assert refused(with_ticket(ticket, "open/a")) == (401, "not-authenticated")
    assert not viewer.refreshed().still_stands()


def test_a_ticket_is_for_its_topics_and_scopes_only(anna: User, client: Client) -> None:
    mine = f"mine/{anna.pk}"
    ticket = ticket_of(client, topics=[mine], scopes=["read"])
    viewer = plan_of(with_ticket(ticket, mine)).viewer
    assert viewer.topics == frozenset({mine})
    assert viewer.scopes == {"read"}
    assert refused(with_ticket(ticket, "open/a")) == (403, "forbidden")
    assert told(say(Client(), mine, QUERY_STRING=f"ticket={ticket}")) == (403, "forbidden")
    assert told(say(Client(), "rooms/a", QUERY_STRING=f"ticket={ticket}")) == (403, "forbidden")


def test_a_ticket_opens_nothing_that_its_user_may_not_see(client: Client) -> None:
    names = ["mine/0", "nothing/here", "django_live/control"]
    ticket = ticket_of(client, topics=names)
    for name in names:
        assert refused(with_ticket(ticket, name)) == (403, "forbidden")


def test_a_ticket_stands_for_a_token_and_ends_with_it(
    anna: User, authenticators: Callable[..., None]
) -> None:
    authenticators(OURS + "by_key")
    KEYS["k"] = Identity(anna, frozenset({"read"}), expires=time.time() + 30)
    ticket = ticket_of(Client(enforce_csrf_checks=True), {"X-Key": "k"}, scopes=["read", "write"])
    viewer = plan_of(with_ticket(ticket, f"mine/{anna.pk}")).viewer
    assert viewer.scopes == {"read"}, "no more than the token"
    assert viewer.expires < time.time() + 31
    del KEYS["k"]
    assert not viewer.refreshed().still_stands()
    assert refused(with_ticket(ticket, "open/a")) == (401, "not-authenticated")


def test_a_ticket_is_too_old_one_day(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_LIVE = {"TICKET_LIFETIME": 30}
    ticket = ticket_of(client)
    assert plan_of(with_ticket(ticket, "open/a")).requests
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    assert refused(with_ticket(ticket, "open/a")) == (401, "not-authenticated")


@pytest.mark.parametrize("ticket", ["", "x", "x" * 10_000, "a:b:c", "é", "\0", "%00"])
def test_what_is_no_ticket_opens_nothing_and_asks_no_store(
    ticket: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        assert refused(with_ticket(ticket, "open/a")) == (401, "not-authenticated")


def test_a_forged_ticket_and_one_of_another_purpose_open_nothing(client: Client) -> None:
    from django.core import signing

    ticket = ticket_of(client)
    name = ticket.split(":")[0]
    other = signing.TimestampSigner(salt="another").sign(name)
    for forged in (ticket[:-1] + ("a" if ticket[-1] != "a" else "b"), other, f"x{ticket}"):
        assert refused(with_ticket(forged, "open/a")) == (401, "not-authenticated")


def tenant_of(request: HttpRequest) -> str:
    return request.headers.get("X-Tenant", "")


def test_a_ticket_of_one_tenant_is_none_of_anothers(client: Client, settings: Any) -> None:
    settings.DJANGO_LIVE = {"NAMESPACE": f"{__name__}.tenant_of"}
    ticket = ticket_of(client, {"X-Tenant": "one"})
    request = with_ticket(ticket, "open/a")
    assert refused(request) == (401, "not-authenticated")
    request = with_ticket(ticket, "open/a")
    request.META["HTTP_X_TENANT"] = "one"
    assert plan_of(request).viewer.namespace == "one"


def test_nobody_gets_no_ticket_and_a_ticket_begets_none(client: Client) -> None:
    assert told(asks(Client())) == (401, "not-authenticated")
    ticket = ticket_of(client)
    assert told(asks(client, QUERY_STRING=f"ticket={ticket}")) == (401, "not-authenticated")
    assert told(client.get(TICKETS)) == (405, "method-not-allowed")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    assert told(asks(strict)) == (403, "csrf-failed")
    cross = asks(client, headers={"Sec-Fetch-Site": "cross-site"})
    assert told(cross) == (403, "cross-site")


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        '{"topics": "a"}',
        '{"topics": [1]}',
        '{"topics": [""]}',
        '{"scopes": {}}',
        json.dumps({"topics": ["a"] * 51}),
        json.dumps({"scopes": ["x" * 101]}),
        "x" * 70_000,
    ],
)
def test_what_cannot_be_read_gets_no_ticket(client: Client, body: str) -> None:
    answer = client.post(TICKETS, body, "application/json")
    assert told(answer) == (400, "malformed-request")


def test_a_ticket_is_not_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    ticket = ticket_of(client)
    Client().get("/live/poll/", {"ticket": ticket, "topic": "open/a"})
    Client().get("/live/poll/", {"ticket": ticket + "x", "topic": "open/a"})
    Client().get("/live/poll/", {"ticket": ticket, "topic": "nothing/here"})
    assert ticket not in caplog.text


def test_a_store_that_is_away_is_no_reason_to_let_somebody_in(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from django_live.transports import tickets

    ticket = ticket_of(client)

    def away() -> None:
        raise ConnectionError("secret")

    monkeypatch.setattr(tickets, "get_state", away)
    assert refused(with_ticket(ticket, "open/a")) == (503, "unavailable")
    assert told(asks(client)) == (503, "unavailable")
    assert "secret" in caplog.text
    assert django_settings.SECRET_KEY not in caplog.text
