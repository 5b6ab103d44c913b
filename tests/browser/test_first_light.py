"""An order saved in the admin changes another person's page, in a real browser, over real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.sites import Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

pytestmark = requires("chromium")

SAVE_STATUS = """
from example_project.orders.models import Order
order = Order.objects.get(pk={pk})
order.status = "{status}"
order.save()
"""
ORDER_OF = """
from example_project.orders.models import Order
orders = Order.objects.filter(customer__username="{user}").exclude(status="delivered")
answer = orders.order_by("pk").first().pk
"""


@pytest.fixture(scope="module", params=["uvicorn", "runserver"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("shop"), "example_project", request.param) as site:
        yield site


def log_in(context: BrowserContext, site: Site, user: str) -> Page:
    page = context.new_page()
    page.goto(f"{site.url}/login/")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", f"demo-{user}")
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{site.url}/")
    return page


def wait_until_live(page: Page) -> None:
    page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")


def test_a_save_in_the_admin_is_on_the_customers_screen_at_once(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    pk = site.run(ORDER_OF.format(user="anna"))
    anna = log_in(new_context(), site, "anna")
    bert = log_in(new_context(), site, "bert")
    staff = log_in(new_context(), site, "staff")
    wait_until_live(anna)
    wait_until_live(bert)
    row = anna.locator(f"#order-{pk}")
    assert row.get_attribute("data-status") != "delivered"
    anna.evaluate("window.sameDocument = true")
    berts_page = bert.locator("main").inner_html()

    staff.goto(f"{site.url}/admin/orders/order/{pk}/change/")
    staff.select_option("select[name=status]", "delivered")
    staff.click("input[name=_save]")

    expect(row).to_have_attribute("data-status", "delivered", timeout=5_000)
    assert anna.evaluate("window.sameDocument") is True, "the page was loaded anew"
    assert bert.locator(f"#order-{pk}").count() == 0
    assert bert.locator("main").inner_html() == berts_page


def test_a_page_catches_up_with_what_was_saved_while_the_server_was_dead(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    pk = site.run(ORDER_OF.format(user="anna"))
    anna = site.visit(new_context, "anna", "/")

    site.server.kill()
    anna.wait_for_function("document.documentElement.dataset.liveStatus === 'stale'")
    site.run(SAVE_STATUS.format(pk=pk, status="delivered"))
    site.server.start()

    row = anna.locator(f"#order-{pk}")
    expect(row).to_have_attribute("data-status", "delivered", timeout=20_000)
    wait_until_live(anna)
    assert anna.evaluate("window.sameDocument") is True, "the page was loaded anew"


def test_a_page_that_may_not_see_an_order_is_refused_its_topic(
    site: Site, new_context: NewContext
) -> None:
    pk = site.run(ORDER_OF.format(user="anna"))
    bert = site.visit(new_context, "bert", "/")
    answer = bert.evaluate(
        "topic => fetch('/live/events/?topic=' + topic).then(r => r.json().then(b => [r.status, b]))",
        f"orders/{pk}",
    )
    assert answer[0] == 403
    assert answer[1]["errors"][0]["code"] == "forbidden"
