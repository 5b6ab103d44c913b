"""A site for browsers to look at: a server, its database, and another process that saves, as a command
or a worker does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.support.browsers import NewContext
from tests.support.databases import ServerDatabase, server_database
from tests.support.other_process import OtherProcess
from tests.support.servers import Server, ServerName

PATIENCE = 30_000
"""Milliseconds: for a machine that is busy with other things."""

SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username={user!r}))
answer = client.session.session_key
"""


class Site:
    def __init__(
        self, server: Server, database: ServerDatabase, other_process: OtherProcess
    ) -> None:
        self.server = server
        self.database = database
        self.url = server.url
        self._other_process = other_process
        self._sessions: dict[str, str] = {}

    def run(self, source: str) -> Any:
        """Run statements in the other process; what they leave in ``answer``, as JSON has it."""
        return self._other_process.run(source)

    def requests(self, path: str) -> int:
        """How often the server has answered a GET of this path, as its own log says."""
        return len(re.findall(rf'"GET {re.escape(path)}(?:\?\S*)? HTTP', self.server.log()))

    def visit(self, new_context: NewContext, user: str, path: str, **options: Any) -> Page:
        """A live page of this user's, in a browser profile with these options of its own."""
        page = _patient(new_context(**options).new_page())
        page.context.add_cookies([self._session(user)])
        page.goto(self.url + path)
        if options.get("java_script_enabled", True):
            page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
            page.evaluate("window.sameDocument = true")
        return page

    def _session(self, user: str) -> Any:
        """The cookie of one who is signed in, over all tests. The form is another test's affair."""
        if user not in self._sessions:
            self._sessions[user] = self.run(SIGN_IN.format(user=user))
        return {"name": "sessionid", "value": self._sessions[user], "url": self.url}


def _patient(page: Page) -> Page:
    page.set_default_timeout(PATIENCE)
    return page


@contextmanager
def serving(folder: Path, package: str, by: ServerName = "uvicorn") -> Iterator[Site]:
    """The site of `tests`, or of `example_project` with its demo data, on SQLite."""
    also = ["demo_data"] if package == "example_project" else []
    with server_database("sqlite", folder, f"{package}.settings", also) as database:
        server = Server(
            by,
            f"{package}.asgi:application",
            env=database.env,
            options=["--access-log"] if by == "uvicorn" else [],
            log_path=folder / "server.log",
        )
        with OtherProcess(database.env) as other_process, server:
            yield Site(server, database, other_process)
