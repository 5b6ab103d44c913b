"""The tutorial, followed as printed: what it says one sees is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.docs.follower import PASSWORD, USER, printed_path, write
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.watcher import log_in
from tests.support.browsers import Expect
from tests.support.requirements import requires
from tests.support.servers import Server, free_port

pytestmark = pytest.mark.timeout(120)

TUTORIAL = ROOT / "docs/tutorial"
LATER = [
    block
    for page in sorted(TUTORIAL.glob("[2-9]*.md"))
    for block in blocks(page)
    if block.language != "sh"
]
"""What is written after the README's five minutes, which the first page includes."""
ADD_USER = f"""
import django
django.setup()
from django.contrib.auth.models import User
User.objects.create_superuser({USER!r}, "", {PASSWORD!r})
"""


def run(folder: Path, *arguments: str, **env: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    kept.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": f"{folder}:{ROOT}", **env},
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The project of somebody who has followed it to the end."""
    folder = tmp_path_factory.mktemp("tutorial")
    run(folder, "-m", "django", "startproject", "mysite")
    project = folder / "mysite"
    run(project, "manage.py", "startapp", "orders")
    for block in [*printed_path(), *LATER]:
        if block.language != "sh":
            write(project, block)
    run(project, "manage.py", "makemigrations", "orders")
    run(project, "manage.py", "migrate", "--verbosity=0")
    run(project, "manage.py", "check", "--fail-level=WARNING")
    run(project, "-c", ADD_USER, DJANGO_SETTINGS_MODULE="mysite.settings")
    port = free_port()
    server = Server("runserver", port=port, cwd=project, log_path=folder / "server.log")
    server.env |= {"PYTHONPATH": f"{project}:{ROOT}", "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    with server:
        yield server
    shutil.rmtree(project)


@pytest.mark.parametrize("block", LATER, ids=str)
def test_each_block_is_a_file_or_an_edit(block: Block) -> None:
    assert block.language in ("python", "diff", "html+django")


def test_the_first_page_is_the_readmes() -> None:
    readme = (ROOT / "README.md").read_text()
    page = (TUTORIAL / "1-a-live-page.md").read_text()
    begin, end = re.findall(r':(?:start-after|end-before): "(.*)"', page)
    included = readme.partition(begin)[2].partition(end)[0]
    for block in printed_path():
        assert block.text in included


@requires("chromium")
def test_the_bell_rings_and_the_dashboard_moves(site: Server, page: Page, expect: Expect) -> None:
    visitor = log_in(site)
    assert (
        visitor.post("/admin/orders/order/add/", {"customer": 1, "status": "placed"}).status == 302
    )
    for cookie in visitor.cookie_header["Cookie"].split("; "):
        name, _, value = cookie.partition("=")
        known: Any = {"name": name, "value": value, "url": site.url}
        page.context.add_cookies([known])
    page.goto(f"{site.url}/orders/1/")
    page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
    visitor.post("/admin/orders/order/add/", {"customer": 1, "status": "placed"})
    expect(page.get_by_text(f"{USER} has ordered").first).to_be_visible(timeout=10_000)

    page.goto(f"{site.url}/dashboard/")
    expect(page.locator("live-value")).to_contain_text("2", timeout=15_000)
    expect(page.locator("live-table tbody")).to_contain_text("placed", timeout=15_000)
    visitor.post("/admin/orders/order/1/change/", {"customer": 1, "status": "shipped"})
    expect(page.locator("live-table tbody")).to_contain_text("shipped", timeout=15_000)
