"""Where a request comes from, and what pages of other origins are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client, RequestFactory

from django_live.transports import inbound, origins
from django_live.transports.authentication import Identity
from django_live.transports.inbound import Senders
from tests.transports.authenticators import KEYS

pytestmark = pytest.mark.django_db

APP = "https://app.example"
POLL = "/live/poll/?topic=open/a"
Use = Callable[..., None]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(inbound, "senders", Senders())
    yield
    KEYS.clear()


@pytest.fixture
def use(settings: Any) -> Use:
    """``use(CORS_ORIGINS=[…])``"""

    def use(**values: Any) -> None:
        settings.DJANGO_LIVE = values

    return use


def request_of(**headers: str) -> HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    secure = named.pop("secure", "") == "yes"
    return RequestFactory().get("/live/events/", headers=named, secure=secure)


@pytest.mark.parametrize(
    ("named", "origin", "allowed"),
    [
        ([], APP, False),
        ([APP], APP, True),
        ([APP], "http://app.example", False),
        ([APP], "https://app.example:444", False),
        ([APP], "https://app.example.evil.example", False),
        ([APP], "https://evil.example/https://app.example", False),
        ([APP], "https://app.example@evil.example", False),
        ([APP], "https://app.example/", False),
        ([APP], "null", False),
        ([APP], "", False),
        (["https://*.app.example"], "https://a.app.example", True),
        (["https://*.app.example"], "https://a.b.app.example", True),
        (["https://*.app.example"], APP, False),
        (["https://*.app.example"], "https://.app.example", False),
        (["https://*.app.example"], "https://evilapp.example", False),
        (["https://*.app.example"], "http://a.app.example", False),
        (["https://*.app.example"], "https://x@a.app.example", False),
        (["*"], "https://anything.example", True),
        (["*"], "null", True),
    ],
)
def test_origins_that_the_settings_name_are_let_in(
    named: list[str], origin: str, allowed: bool, use: Use
) -> None:
    use(CORS_ORIGINS=named)
    for site in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        assert origins.is_allowed(request_of(Origin=origin, **site)) is allowed


def test_a_page_without_tls_is_another_site_than_the_one_with() -> None:
    assert origins.is_allowed(request_of(Origin="https://testserver", secure="yes"))
    assert not origins.is_allowed(request_of(Origin="http://testserver", secure="yes"))
    assert origins.is_allowed(request_of(Origin="https://testserver"))  # behind a proxy


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": APP}])
def test_a_host_that_is_not_ours_is_refused_whatever_else_is_said(
    headers: dict[str, str], use: Use, settings: Any
) -> None:
    settings.MIDDLEWARE = []
    use(CORS_ORIGINS=[APP])
    answer = Client().get(POLL, headers={"Host": "evil.example", **headers})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "malformed-request")


# -- what browsers are told --------------------------------------------------------------------------


def preflight(path: str, origin: str = APP) -> Any:
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    return Client().options(path, headers={**headers, "Sec-Fetch-Site": "cross-site"})


@pytest.mark.parametrize("path", ["events", "poll", "send", "tickets"])
def test_a_browser_may_ask_before_it_asks(path: str, use: Use) -> None:
    use(CORS_ORIGINS=[APP])
    answer = preflight(f"/live/{path}/")
    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Origin"] == APP
    assert answer["Vary"] == "Origin"
    assert "Authorization" in answer["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer
    wanted = {"send": "GET, POST", "tickets": "POST"}.get(path, "GET")
    assert answer["Access-Control-Allow-Methods"] == wanted
    answer = preflight(f"/live/{path}/", "https://evil.example")
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer


def test_without_the_setting_nothing_is_said_of_origins() -> None:
    answer = Client().get(POLL, headers={"Origin": "http://testserver"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert preflight("/live/poll/").status_code == 405


def test_an_answer_can_be_read_by_the_page_that_asked(use: Use) -> None:
    use(CORS_ORIGINS=[APP])
    answer = Client().get(POLL, headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == APP
    assert answer["Access-Control-Expose-Headers"] == "ETag, Retry-After"
    refused = Client().get("/live/poll/", headers={"Origin": APP})
    assert refused.status_code == 400
    assert refused["Access-Control-Allow-Origin"] == APP
    own = Client().get(POLL, headers={"Origin": "http://testserver"})
    assert "Access-Control-Allow-Origin" not in own
    assert own["Vary"].startswith("Origin") or "Origin" in own["Vary"]


# -- cookies ---------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_user("staff", is_staff=True))
    return client


STAFF_ONLY = "/live/poll/?topic=customers/1/orders"


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"CORS_ORIGINS": [APP]}, 403),
        ({"CORS_ORIGINS": [APP], "CORS_CREDENTIALS": True}, 200),
        ({"CORS_ORIGINS": ["https://*.example"], "CORS_CREDENTIALS": True}, 200),
        ({"CORS_ORIGINS": ["*"]}, 403),
        ({"CORS_ORIGINS": ["*"], "CORS_CREDENTIALS": True}, 403),
    ],
)
def test_cookies_of_another_origin_count_only_where_the_settings_say_so(
    values: dict[str, Any], status: int, use: Use, client: Client
) -> None:
    use(**values)
    answer = client.get(STAFF_ONLY, headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == status
    credentials = answer.headers.get("Access-Control-Allow-Credentials")
    assert (credentials == "true") is (status == 200)
    assert not (credentials and answer["Access-Control-Allow-Origin"] == "*")
    assert client.get(STAFF_ONLY).status_code == 200, "the site's own pages"
    own = client.get(STAFF_ONLY, headers={"Origin": "http://testserver"})
    assert own.status_code == 200


def test_a_token_works_from_a_named_origin_without_cookies(use: Use) -> None:
    KEYS["k"] = Identity(User.objects.create_user("staff", is_staff=True))
    use(CORS_ORIGINS=["*"], AUTHENTICATORS=["tests.transports.authenticators.by_key"])
    headers = {"Origin": APP, "Sec-Fetch-Site": "cross-site", "X-Key": "k"}
    answer = Client().get(STAFF_ONLY, headers=headers)
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_a_message_from_another_origin_needs_a_csrf_token_and_trust(
    use: Use, client: Client, settings: Any
) -> None:
    use(CORS_ORIGINS=["https://app.example"], CORS_CREDENTIALS=True)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    headers = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}

    def say() -> Any:
        token = strict.get("/live/send/", headers=headers).json()["csrfToken"]
        body = '{"topic": "rooms/a", "type": "describe"}'
        headers_of_post = {**headers, "X-CSRFToken": token}
        return strict.post("/live/send/", body, "application/json", headers=headers_of_post)

    answer = say()
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "csrf-failed")
    settings.CSRF_TRUSTED_ORIGINS = [APP]
    assert say().status_code == 200


@pytest.mark.parametrize(
    ("named", "is_right"),
    [
        ("*", True),
        ("https://app.example", True),
        ("http://localhost:3000", True),
        ("https://*.example.com", True),
        ("app.example", False),
        ("https://app.example/", False),
        ("https://app.example/path", False),
        ("https://a.*.example", False),
        ("https://*", False),
        ("https://user@app.example", False),
        ("https://App.example", False),
        ("null", False),
        ("ftp://app.example", False),
    ],
)
def test_what_can_be_named(named: str, is_right: bool) -> None:
    assert (origins.faults(named) == "") is is_right
