"""The boards in a real browser: values, a table, charts and a log that go on by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.sites import Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

pytestmark = requires("chromium")

PATH = "/boards/"
ONE_MORE = """
from django.contrib.auth.models import User
from example_project.orders.models import Order
customer = User.objects.get(username="anna")
Order.objects.create(number="M-{number}", customer=customer, status="{status}")
answer = Order.objects.filter(status="{status}").count()
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("boards"), "example_project") as site:
        yield site


def test_the_boards_go_on_by_themselves(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    page = shop.visit(new_context, "staff", PATH)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    expect(page.locator("live-chart canvas")).to_have_count(2)
    page.wait_for_function("document.querySelector('live-chart tbody tr')")
    page.wait_for_function(
        "[...document.querySelectorAll('live-value')].every(v => /\\d/.test(v.textContent))"
    )
    row = page.locator('live-table tr[data-key="paid"] td').last
    count = shop.run(ONE_MORE.format(number=9001, status="paid"))
    expect(row).to_have_text(str(count))
    expect(page.locator("live-log li").last).to_contain_text("looks at the dashboard")
    assert page.evaluate(
        """() => {
          const canvas = document.querySelector('live-chart canvas');
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return data.some((byte) => byte > 0);
        }"""
    ), "something is drawn"
    assert errors == []


def test_a_table_is_sorted_by_a_press_of_its_heading(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    page = shop.visit(new_context, "staff", PATH)
    expect(page.locator("live-table tbody tr")).to_have_count(6)
    page.get_by_role("button", name="Orders").click()
    page.get_by_role("button", name="Orders").click()
    expect(page.locator('live-table th[aria-sort="descending"]')).to_have_text("Orders")
    # The heading says it at once; the rows follow with the next frame.
    shown = page.locator("live-table tbody tr td:last-child")
    expect(shown).to_have_text(sorted(shown.all_inner_texts(), key=int, reverse=True))


def test_a_customer_sees_no_totals_of_the_shop(shop: Site, new_context: NewContext) -> None:
    page = shop.visit(new_context, "anna", PATH)
    assert page.locator("live-table").count() == 0
    code = page.evaluate(
        """() => new Promise((resolve) =>
          window.live.subscribe('@2/boards/orders', { error: ({ code }) => resolve(code) }))"""
    )
    assert code == "forbidden"


def test_without_javascript_the_page_says_the_same_once(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    with_it = shop.visit(new_context, "staff", PATH)
    expect(with_it.locator("live-table tbody tr")).to_have_count(6)
    page = shop.visit(new_context, "staff", PATH, java_script_enabled=False)
    expect(page.locator("live-table tbody tr")).to_have_count(6)
    expect(page.locator("live-chart details tbody tr").first).to_contain_text("cpu")
