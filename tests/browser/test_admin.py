"""The admin's pages and the toasts in a real browser: they follow by themselves, without a reload, and
what is chosen stays chosen; without JavaScript the pages are there as well; with django-unfold, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.databases import server_database
from tests.support.requirements import requires
from tests.support.servers import Server

pytestmark = requires("chromium")

CONNECTIONS = "/admin/django_live/connection/"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The example project, with its log-ins."""
    with serving(tmp_path_factory.mktemp("shop"), "example_project") as site:
        site.run(
            "from django.contrib.auth.models import User\n"
            "User.objects.filter(username='staff').update(is_superuser=True)"
        )
        yield site


def row_of(page: Page, user: str) -> Any:
    return page.locator("tr[data-connection]", has_text=user)


def test_a_connection_comes_is_ended_and_goes_without_a_reload(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    boss = shop.visit(new_context, "staff", CONNECTIONS)
    expect(row_of(boss, "anna")).to_have_count(0)
    anna = shop.visit(new_context, "anna", "/orders/")
    expect(row_of(boss, "anna")).to_have_count(1, timeout=PATIENCE)
    row_of(boss, "anna").get_by_role("checkbox").check()
    # What is ticked stays so while the list is fetched again.
    with boss.expect_response(lambda response: CONNECTIONS in response.url, timeout=PATIENCE):
        pass
    expect(row_of(boss, "anna").get_by_role("checkbox")).to_be_checked()
    boss.get_by_role("button", name="Disconnect the chosen").click()
    expect(boss.locator(".messagelist")).to_contain_text("1 connection is being ended")
    expect(row_of(boss, "anna")).to_have_count(0, timeout=PATIENCE)
    anna.wait_for_function(
        "document.documentElement.dataset.liveStatus === 'stopped'", timeout=PATIENCE
    )


def test_a_broadcast_is_a_toast_on_the_pages_of_whom_it_is_for(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    anna = shop.visit(new_context, "anna", "/orders/")
    bert = shop.visit(new_context, "bert", "/orders/")
    boss = shop.visit(
        new_context, "staff", "/admin/django_live/broadcast/", java_script_enabled=False
    )
    boss.select_option("[name=kind]", "user")
    boss.fill("[name=value]", "anna")
    boss.fill("[name=text]", "<b>Tea</b> is ready")
    boss.select_option("[name=level]", "warning")
    boss.get_by_role("button", name="See how many it reaches").click()
    expect(boss.locator(".live-admin__note")).to_contain_text("1 open connections of 1 users")
    boss.get_by_role("button", name="Send").click()
    toast = anna.locator("live-messages [aria-live=assertive] .live-message")
    expect(toast).to_have_text("<b>Tea</b> is ready×", timeout=PATIENCE)
    boss.fill("[name=text]", "Hello")
    boss.get_by_role("button", name="Send").click()
    expect(bert.locator(".live-message")).to_have_text("Hello×", timeout=PATIENCE)
    toast.get_by_role("button").click()
    expect(toast).to_have_count(0)


def test_without_javascript_the_page_is_there(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    shop.visit(new_context, "bert", "/orders/")
    boss = shop.visit(new_context, "staff", CONNECTIONS, java_script_enabled=False)
    expect(row_of(boss, "bert")).to_have_count(1)
    boss.fill("[name=q]", "nobody of that name")
    boss.get_by_role("button", name="Show").click()
    expect(boss.locator(".live-admin")).to_contain_text("No connection is open that matches")


def test_with_unfold_it_is_readable_and_live_light_and_dark(
    tmp_path_factory: pytest.TempPathFactory, new_context: NewContext, expect: Expect
) -> None:
    pytest.importorskip("unfold")
    settings = "tests.admin.settings_unfold"
    with server_database("sqlite", tmp_path_factory.mktemp("unfold")) as database:
        database.python(
            "from django.contrib.auth.models import User\n"
            "User.objects.create_superuser('boss', password='demo-boss')"
        )
        env = {**database.env, "DJANGO_SETTINGS_MODULE": settings}
        with Server("uvicorn", env=env) as server:
            for scheme in ("light", "dark"):
                page = new_context(color_scheme=scheme).new_page()
                page.set_default_timeout(PATIENCE)
                page.goto(f"{server.url}/admin/login/?next={CONNECTIONS}")
                page.fill("input[name=username]", "boss")
                page.fill("input[name=password]", "demo-boss")
                page.press("input[name=password]", "Enter")
                expect(page.locator("tr[data-connection]").first).to_be_visible(timeout=PATIENCE)
                colors = page.evaluate(
                    "(() => { const style = getComputedStyle(document.querySelector('.live-admin td'));"
                    " return [style.color, getComputedStyle(document.body).backgroundColor]; })()"
                )
                assert colors[0] != colors[1]
