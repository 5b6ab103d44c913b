"""A feed in a real browser: what comes while somebody reads further down waits, and is counted."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import pytest
from playwright.sync_api import Page

from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.network import Network
from tests.support.requirements import requires

pytestmark = requires("chromium")

NEWS = "/news/"
STEPS = """
from django.contrib.auth.models import User
from example_project.orders.models import Order, StatusChange
order = Order.objects.filter(customer__username="{name}").order_by("pk").first()
answer = [StatusChange.objects.create(order=order, status="paid").pk for _ in range({count})]
"""
CHANGED = """
from example_project.orders.models import StatusChange
step = StatusChange.objects.get(pk={pk})
step.status = "{status}"
step.save()
"""
GONE = """
from example_project.orders.models import StatusChange
StatusChange.objects.get(pk={pk}).delete()
"""
THE_NEWEST = """
from example_project.orders.models import StatusChange
answer = list(StatusChange.objects.order_by("-changed_at", "-pk").values_list("pk", flat=True)[:12])
"""
KEYS = "[...document.querySelectorAll('[data-live-key]')].map(row => row.dataset.liveKey)"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("news"), "example_project") as site:
        yield site


def shown(page: Page) -> list[int]:
    return [int(key.removeprefix("statuschange-")) for key in page.evaluate(KEYS)]


def wait_for(page: Page, first: list[int]) -> None:
    """The first items, and no other above them."""
    page.wait_for_function(
        f"first => {KEYS}.slice(0, first.length).join() === first.join()",
        arg=[f"statuschange-{pk}" for pk in first],
    )


def test_who_reads_further_down_is_not_disturbed(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    staff = shop.visit(new_context, "staff", NEWS, viewport={"width": 700, "height": 420})
    anna = shop.visit(new_context, "anna", NEWS)
    errors: list[str] = []
    staff.on("pageerror", lambda error: errors.append(str(error)))
    before, annas = shown(staff), shown(anna)
    assert len(before) == 12

    # At the top what comes comes in, and the page has no more than it may; each sees what is theirs.
    berts = shop.run(STEPS.format(name="bert", count=2))
    wait_for(staff, [*berts[::-1], before[0]])
    assert len(shown(staff)) == 12
    ago = "document.querySelector('live-ago').shadowRoot.textContent"
    said = staff.evaluate(ago)
    staff.wait_for_function(f"{ago} !== {said!r}")

    # Further down it waits, and what is read stays where it is.
    reading = shown(staff)
    row = staff.locator("[data-live-key]").nth(8)
    row.scroll_into_view_if_needed()
    staff.wait_for_selector("live-feed[data-scrolled]")
    place = row.bounding_box()
    news = shop.run(STEPS.format(name="anna", count=3))
    link = staff.get_by_role("status").get_by_text("3 new")
    expect(link).to_be_in_viewport(timeout=PATIENCE)
    assert shown(staff) == reading
    assert row.bounding_box() == place
    wait_for(anna, [*news[::-1], annas[0]])
    assert len(shown(anna)) == 12

    # What is shown is changed and removed all the same.
    shop.run(CHANGED.format(pk=reading[6], status="cancelled"))
    shop.run(GONE.format(pk=reading[7]))
    sixth = staff.locator(f'[data-live-key="statuschange-{reading[6]}"]')
    expect(sixth).to_contain_text("Cancelled", timeout=PATIENCE)
    expect(staff.locator(f'[data-live-key="statuschange-{reading[7]}"]')).to_have_count(
        0, timeout=PATIENCE
    )
    assert shown(staff)[:7] == reading[:7]
    expect(link).to_be_in_viewport(timeout=PATIENCE)

    link.click()
    wait_for(staff, [*news[::-1], *reading[:7]])
    expect(link).to_have_count(0, timeout=PATIENCE)
    expect(staff.locator("[data-live-key]").first).to_be_in_viewport(timeout=PATIENCE)
    assert staff.evaluate("document.activeElement.dataset.part") == "items"
    assert staff.evaluate("window.sameDocument") is True
    assert errors == []


@pytest.mark.parametrize("is_scrolled", [False, True], ids=["at the top", "further down"])
def test_what_came_while_the_connection_was_lost_is_neither_lost_nor_doubled(
    shop: Site, new_context: NewContext, expect: Expect, *, is_scrolled: bool
) -> None:
    with Network(shop.server.host, shop.server.port) as network:
        site = copy(shop)
        site.url = network.url
        staff = site.visit(new_context, "staff", NEWS, viewport={"width": 700, "height": 420})
        reading = shown(staff)
        if is_scrolled:
            staff.locator("[data-live-key]").nth(8).scroll_into_view_if_needed()
            staff.wait_for_selector("live-feed[data-scrolled]")
        network.mode = "down"
        network.cut()
        staff.wait_for_function("document.documentElement.dataset.liveStatus !== 'live'")
        shop.run(STEPS.format(name="bert", count=4))
        shop.run(GONE.format(pk=reading[2]))
        network.mode = "open"
        if is_scrolled:
            expect(staff.get_by_text("4 new")).to_be_visible(timeout=PATIENCE)
            left = [pk for pk in reading if pk != reading[2]]
            wait_for(staff, left)  # a row that has left may fade for a moment
            staff.locator("h1").scroll_into_view_if_needed()  # and not the link
        newest = shop.run(THE_NEWEST)
        wait_for(staff, newest)
        assert len(shown(staff)) == 12


def test_without_javascript_it_has_pages_that_do_not_shift(
    shop: Site, new_context: NewContext
) -> None:
    page = shop.visit(new_context, "staff", NEWS, java_script_enabled=False)
    assert page.locator("live-ago time").first.inner_text().strip()
    met = [pk.get_attribute("data-live-key") for pk in page.locator("[data-live-key]").all()]
    while page.get_by_text("Older").count():
        shop.run(STEPS.format(name="bert", count=1))
        with page.expect_navigation():  # a click returns before the page is whole
            page.get_by_text("Older").click()
        met += [pk.get_attribute("data-live-key") for pk in page.locator("[data-live-key]").all()]
    assert len(met) == len(set(met)) > 24
    with page.expect_navigation():
        page.get_by_text("Newest").click()
    assert page.locator("[data-live-key]").first.get_attribute("data-live-key") not in met
