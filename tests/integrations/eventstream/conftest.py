"""Two servers, the same requests."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.databases import ServerDatabase, server_database
from tests.support.servers import Server

SETTINGS = "tests.integrations.eventstream."
APPLICATION = SETTINGS + "asgi:application"


@dataclass
class Site:
    """One of the two, as its clients see it."""

    server: Server
    database: ServerDatabase
    headers: dict[str, str] = field(default_factory=dict)
    """What this client sends with everything."""
    opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def get(self, path: str, **query: Any) -> str:
        """The body of an answer, which has to be 200."""
        response = self.ask(f"{path}?{urlencode(query, doseq=True)}")
        body = response.read().decode()
        assert response.status == 200, body
        return body

    def ask(self, path: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=20)
        self.opened.callback(connection.close)
        connection.request("GET", path, headers={**self.headers, **(headers or {})})
        response = connection.getresponse()
        self.opened.callback(response.close)
        return response

    def leave(self) -> None:
        """Close everything that was asked for."""
        self.opened.close()

    def send(self, *events: tuple[Any, ...]) -> None:
        """``(channel, type, data)``, and whether the data is to be encoded."""
        full = [(*event, True)[:4] for event in events]
        self.get("/send/", events=json.dumps(full))

    def sign_in(self, name: str) -> Site:
        """The site as somebody who is signed in sees it."""
        cookie = session_cookie(self.ask(f"/sign-in/?name={name}"))
        return Site(self.server, self.database, {"Cookie": cookie}, self.opened)


def session_cookie(response: http.client.HTTPResponse) -> str:
    """The cookie of the session that an answer begins."""
    (cookie,) = (c for c in response.headers.get_all("Set-Cookie", []) if c.startswith("sessionid"))
    return cookie.split(";")[0]


def read_until(response: http.client.HTTPResponse, last: bytes) -> bytes:
    """What comes, up to the end of the frame that holds ``last``, or of the answer."""
    body = b""
    while last not in body or not body.endswith(b"\n\n"):
        piece = response.read1()
        if not piece:
            break
        body += piece
    return body


@contextmanager
def site_of(name: str, folder: Path, **env: str) -> Iterator[Site]:
    """``theirs`` or ``ours``."""
    with server_database("sqlite", folder, SETTINGS + name) as database:
        server = Server("uvicorn", APPLICATION, env={**database.env, **env})
        with server:
            yield Site(server, database)


@pytest.fixture(scope="module")
def their_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of("theirs", tmp_path_factory.mktemp("theirs")) as site:
        yield site


@pytest.fixture(scope="module")
def our_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of("ours", tmp_path_factory.mktemp("ours")) as site:
        yield site


@pytest.fixture
def theirs(their_site: Site) -> Iterator[Site]:
    yield their_site
    their_site.leave()


@pytest.fixture
def ours(our_site: Site) -> Iterator[Site]:
    yield our_site
    our_site.leave()
