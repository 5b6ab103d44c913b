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
from playwright.sync_api import BrowserContext, Page

from tests.docs.follower import PASSWORD, USER, printed_path, write
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.watcher import log_in
from tests.support.browsers import Expect, NewContext
from tests.support.http import Visitor
from tests.support.requirements import requires
from tests.support.servers import Server, free_port

pytestmark = pytest.mark.timeout(120)

TUTORIAL = ROOT / "docs/tutorial"
LATER = [block for page in sorted(TUTORIAL.glob("[2-9]*.md")) for block in blocks(page)]
"""What comes after the README's five minutes, which the first page includes."""
PRINTED = [block for block in LATER if block.language != "sh"]
LIVE = "document.documentElement.dataset.liveStatus === 'live'"
ADD_USERS = f"""
import django
django.setup()
from django.contrib.auth.models import User
User.objects.create_superuser({USER!r}, "", {PASSWORD!r})
User.objects.create_user("anna", "", {PASSWORD!r}, is_staff=True)
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
    for block in printed_path():
        if block.language != "sh":
            write(project, block)
    run(project, "manage.py", "makemigrations", "orders")
    run(project, "manage.py", "migrate", "--verbosity=0")
    for block in LATER:
        if block.language != "sh":
            write(project, block)
            continue
        for line in block.text.splitlines():
            assert line.startswith("python "), line
            run(project, *line.split()[1:])
    run(project, "manage.py", "check", "--fail-level=WARNING")
    run(project, "-c", ADD_USERS, DJANGO_SETTINGS_MODULE="mysite.settings")
    port = free_port()
    server = Server("runserver", port=port, cwd=project, log_path=folder / "server.log")
    server.env |= {"PYTHONPATH": f"{project}:{ROOT}", "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    with server:
        yield server
    shutil.rmtree(project)


@pytest.mark.parametrize("block", PRINTED, ids=str)
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
    first = add_order(visitor)
    sign_in(page.context, site, visitor)
    page.goto(f"{site.url}{first}")
    page.wait_for_function(LIVE)
    add_order(visitor)
    expect(page.get_by_text(f"{USER} has ordered").first).to_be_visible(timeout=10_000)

    page.goto(f"{site.url}/dashboard/")
    expect(page.locator("live-value")).to_contain_text(re.compile("[2-9]"), timeout=15_000)
    expect(page.locator("live-table tbody")).to_contain_text("placed", timeout=15_000)
    change = f"/admin/orders/order/{first.split('/')[2]}/change/"
    visitor.post(change, {"customer": 1, "status": "shipped"})
    expect(page.locator("live-table tbody")).to_contain_text("shipped", timeout=15_000)


@requires("chromium")
def test_two_people_talk_about_an_order(
    site: Server, new_context: NewContext, expect: Expect
) -> None:
    customer = log_in(site)
    order = add_order(customer)
    hers, annas = new_context(), new_context()
    sign_in(hers, site, customer)
    sign_in(annas, site, log_in(site, "anna"))
    page, other = hers.new_page(), annas.new_page()
    page.goto(f"{site.url}{order}")
    other.goto(f"{site.url}/chat/")
    other.get_by_role("link", name=f"Order {order.split('/')[2]}", exact=True).click()
    box, annas_box = (one.get_by_role("textbox", name="Message") for one in (page, other))
    for one in (page, other):
        one.wait_for_function(LIVE)

    annas_box.press_sequentially("It is")
    expect(page.locator("[data-part=typing]")).to_have_text("anna is writing …", timeout=10_000)
    annas_box.fill("It is on its way")
    annas_box.press("Enter")
    said = page.locator(".live-chat-message")
    expect(said).to_have_text(re.compile("It is on its way"), timeout=10_000)

    site.terminate()
    box.fill("Thank you")
    box.press("Enter")
    site.start()
    expect(other.locator(".live-chat-message").last).to_have_text(
        re.compile("Thank you"), timeout=20_000
    )
    expect(said).to_have_count(2)


def add_order(visitor: Visitor) -> str:
    """As the admin does it; the address of its page."""
    answer = visitor.post(
        "/admin/orders/order/add/", {"customer": 1, "status": "placed", "_continue": "1"}
    )
    assert answer.status == 302, answer.text
    (number,) = re.findall(r"/admin/orders/order/(\d+)/change/", answer.headers["location"])
    return f"/orders/{number}/"


def sign_in(context: BrowserContext, site: Server, visitor: Visitor) -> None:
    for cookie in visitor.cookie_header["Cookie"].split("; "):
        name, _, value = cookie.partition("=")
        known: Any = {"name": name, "value": value, "url": site.url}
        context.add_cookies([known])
