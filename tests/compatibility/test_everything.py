"""One site with all of it: it is seen in a browser, and by plain HTTP."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.browsers import Expect
from tests.support.databases import ServerDatabase, server_database
from tests.support.http import Visitor
from tests.support.requirements import requires
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader, StreamEndedError

pytestmark = pytest.mark.any_database

EMAIL, PASSWORD = "anna@example.com", "a password of the tests"
SETTINGS, APPLICATION = "tests.compatibility.settings", "tests.compatibility.asgi:application"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerDatabase]:
    folder = tmp_path_factory.mktemp("site")
    with server_database("sqlite", folder, SETTINGS) as made:
        static = str(folder / "static")
        database = dataclasses.replace(made, env={**made.env, "TEST_STATIC_ROOT": static})
        database.manage("collectstatic", "--no-input", "--verbosity", "0")
        database.python(
            "from tests.compatibility.members.models import Member\n"
            f"Member.objects.create_user({EMAIL!r}, {PASSWORD!r}, motto='before')"
        )
        yield database


@pytest.fixture(scope="module", params=["root_path", "FORCE_SCRIPT_NAME"])
def server(request: pytest.FixtureRequest, database: ServerDatabase) -> Iterator[Server]:
    env = dict(database.env)
    if request.param == "FORCE_SCRIPT_NAME":
        env["TEST_SCRIPT_NAME"] = "/site"
    with Server("uvicorn", APPLICATION, env=env) as server:
        yield server


def sign_in(server: Server) -> Visitor:
    visitor = Visitor(server.url)
    visitor.get("/site/accounts/login/")
    answer = visitor.post("/site/accounts/login/", {"login": EMAIL, "password": PASSWORD})
    assert answer.status == 302, answer.text
    return visitor


def say(database: ServerDatabase, motto: str) -> None:
    database.python(
        "from tests.compatibility.members.models import Member\n"
        f"member = Member.objects.get(email={EMAIL!r})\n"
        f"member.motto = {motto!r}\n"
        "member.save()"
    )


def test_every_address_has_the_prefix_and_every_file_its_hash(server: Server) -> None:
    page = sign_in(server).get("/site/")
    addresses = re.findall(r'(?:src|href|data-[a-z]+)="(/[^"]*)"', page.text)
    assert len(addresses) >= 4
    assert [address for address in addresses if not address.startswith("/site/")] == []
    files = [one for one in addresses if one.startswith("/site/static/")]
    assert [one for one in files if not re.search(r"\.[0-9a-f]{12}\.(js|css)$", one)] == []
    for file in files:
        answer = Visitor(server.url).get(file, headers={"Accept-Encoding": "gzip"})
        assert answer.status == 200, file
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"


def test_a_stream_of_a_user_of_its_own_model_ends_with_their_session(
    server: Server, database: ServerDatabase
) -> None:
    """Signed in and out by django-allauth; the key is a UUID, and there are no groups."""
    visitor = sign_in(server)
    pk = database.python(
        "from tests.compatibility.members.models import Member\n"
        f"print(Member.objects.get(email={EMAIL!r}).pk)"
    ).strip()
    path = f"/site/live/events/?topic=members/{pk}"
    with SSEReader(server.host, server.port, path, visitor.cookie_header) as reader:
        assert reader.next_frame().event == "stream-open"
        say(database, f"told at {server.port}")
        assert f"told at {server.port}" in (reader.next_event().data or "")
        visitor.post("/site/accounts/logout/", {})
        with pytest.raises(StreamEndedError):
            reader.wait_for(lambda frame: False, 5)
    with SSEReader(server.host, server.port, path) as reader:
        assert reader.status == 403


@requires("chromium")
def test_a_page_under_a_strict_policy_is_live(
    server: Server, database: ServerDatabase, page: Page, expect: Expect
) -> None:
    errors: list[str] = []

    def heard(message: Any) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("console", heard)
    page.goto(f"{server.url}/site/accounts/login/")
    page.fill("input[name=login]", EMAIL)
    page.fill("input[name=password]", PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{server.url}/site/")
    # Not by wait_for_function(): the policy forbids eval.
    expect(page.locator("html")).to_have_attribute("data-live-status", "live", timeout=10_000)
    say(database, f"seen at {server.port}")
    expect(page.locator("strong")).to_have_text(f"seen at {server.port}", timeout=5_000)
    # There is no favicon.
    assert [one for one in errors if "status of 404" not in one] == []
