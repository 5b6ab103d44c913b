"""A site for browsers to look at: a server, its database, and another process that saves, as a command
or a worker does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.support.browsers import NewContext
from tests.support.databases import ServerDatabase, server_database
from tests.support.servers import PROJECT_ROOT, Server

PATIENCE = 30_000
"""Milliseconds: for a machine that is busy with other things."""
OTHER_PROCESS = """
import json, sys, traceback
import django
django.setup()
for line in sys.stdin:
    names = {}
    try:
        exec(json.loads(line), names)
        answer = {"answer": names.get("answer")}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


class Site:
    def __init__(
        self, server: Server, database: ServerDatabase, other_process: subprocess.Popen[str]
    ) -> None:
        self.server = server
        self.database = database
        self.url = server.url
        self._other_process = other_process
        self._cookies: dict[str, Any] = {}

    def run(self, source: str) -> Any:
        """Run statements in the other process; what they leave in ``answer``, as JSON has it."""
        stdin, stdout = self._other_process.stdin, self._other_process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(source) + "\n")
        stdin.flush()
        told = json.loads(stdout.readline())
        assert "error" not in told, told["error"]
        return told["answer"]

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
        other_process = subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS],
            cwd=PROJECT_ROOT,
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **database.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with other_process, server:
            try:
                yield Site(server, database, other_process)
            finally:
                other_process.kill()
