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
from tests.support.servers import Server

PATIENCE = 30_000
"""Milliseconds: for a machine that is busy with other things."""


class Site:
    def __init__(
        self, server: Server, database: ServerDatabase, other_process: OtherProcess
    ) -> None:
        self.server = server
        self.database = database
        self.url = server.url
        self._other_process = other_process
        self._cookies: dict[str, Any] = {}

    def run(self, source: str) -> Any:
        """Run statements in the other process; what they leave in ``answer``, as JSON has it."""
        return self._other_process.run(source)

    def requests(self, path: str) -> int:
        """How often the server has answered a GET of this path, as its own log says."""
        return len(re.findall(rf'"GET {re.escape(path)}(?:\?\S*)? HTTP', self.server.log()))

    def visit(self, new_context: NewContext, user: str, path: str, **options: Any) -> Page:
        """A live page of this user's, in a browser profile with these options of its own."""
        if user not in self._cookies:
            page = _patient(new_context().new_page())
            page.goto(self.url + path)
            page.fill("input[name=username]", user)
            page.fill("input[name=password]", f"demo-{user}")
            page.press("input[name=password]", "Enter")
            page.wait_for_url(self.url + path)
            self._cookies[user] = page.context.storage_state()
            page.close()
        page = _patient(new_context(storage_state=self._cookies[user], **options).new_page())
        page.goto(self.url + path)
        if options.get("java_script_enabled", True):
            page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
            page.evaluate("window.sameDocument = true")
        return page


def _patient(page: Page) -> Page:
    page.set_default_timeout(PATIENCE)
    return page


@contextmanager
def serving(folder: Path, package: str) -> Iterator[Site]:
    """The site of `tests` or of `example_project`, over uvicorn, on SQLite."""
    with server_database("sqlite", folder, settings=f"{package}.settings") as database:
        server = Server(
            "uvicorn",
            f"{package}.asgi:application",
            env=database.env,
            options=["--access-log"],
            log_path=folder / "server.log",
        )
        with OtherProcess(database.env) as other_process, server:
            yield Site(server, database, other_process)
