"""``{% live_list %}`` in a real browser: rows come, go and change places as each viewer may see them,
and nobody who is busy with one is disturbed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page

from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

pytestmark = requires("chromium")

LIST = "/orders/"
CLEAN = """
from django.contrib.auth.models import User
from example_project.orders.models import Order
User.objects.filter(username="staff").update(is_superuser=True)
Order.objects.all().delete()
"""
PLACED = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from example_project.orders.models import Order
customer = User.objects.get(username="{name}")
with transaction.atomic():
    for number in range({count}):
        order = Order.objects.create(
            pk={first} + number, number=f"M-{{{first} + number}}", customer=customer
        )
        changed_at = timezone.now() - timedelta(hours={hours} + number)
        Order.objects.filter(pk=order.pk).update(updated_at=changed_at)
"""
CHANGED = """
from example_project.orders.models import Order
order = Order.objects.get(pk={pk})
order.status = "{status}"
order.save()
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The example project, with its log-ins."""
    with serving(tmp_path_factory.mktemp("shop"), "example_project") as site:
        yield site


@pytest.fixture
def orders(shop: Site) -> Site:
    """With 15 orders: 1 to 8 are Anna's, 11 to 17 Bert's, the lower numbers changed later."""
    shop.run(CLEAN)
    shop.run(PLACED.format(name="anna", count=8, first=1, hours=1))
    shop.run(PLACED.format(name="bert", count=7, first=11, hours=9))
    return shop


def rows(page: Page) -> Locator:
    return page.locator("tbody tr[data-live-key]")


def row(page: Page, pk: int) -> Locator:
    return page.locator(f'tr[data-live-key="order-{pk}"]')


def keys(*numbers: int) -> list[str]:
    return [f"order-{number}" for number in numbers]


def wait_for_keys(page: Page, *numbers: int) -> None:
    page.wait_for_function(
        """expected => [...document.querySelectorAll("tbody tr[data-live-key]")]
        .filter(row => row.dataset.liveChange !== "left")
        .map(row => row.dataset.liveKey).join() === expected""",
        arg=",".join(keys(*numbers)),
    )
    assert page.evaluate("window.sameDocument") is True, "the page was loaded anew"


def test_rows_come_go_and_change_places_for_those_who_may_see_them(
    orders: Site, new_context: NewContext, expect: Expect
) -> None:
    anna = orders.visit(new_context, "anna", LIST)
    staff = orders.visit(new_context, "staff", LIST)
    wait_for_keys(anna, 1, 2, 3, 4, 5, 6, 7, 8)
    wait_for_keys(staff, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12)
    anna.evaluate(
        "document.querySelectorAll('tbody tr').forEach((row, i) => { row.number = i + 1 })"
    )

    orders.run(CHANGED.format(pk=5, status="paid"))
    wait_for_keys(anna, 5, 1, 2, 3, 4, 6, 7, 8)
    wait_for_keys(staff, 5, 1, 2, 3, 4, 6, 7, 8, 11, 12)
    expect(row(anna, 5)).to_have_attribute("data-status", "paid", timeout=PATIENCE)

    orders.run(CHANGED.format(pk=17, status="paid"))
    wait_for_keys(staff, 17, 5, 1, 2, 3, 4, 6, 7, 8, 11)
    orders.run("from example_project.orders.models import Order\nOrder.objects.get(pk=2).delete()")
    wait_for_keys(staff, 17, 5, 1, 3, 4, 6, 7, 8, 11, 12)
    wait_for_keys(anna, 5, 1, 3, 4, 6, 7, 8)
    expect(anna.locator(".page-heading")).to_contain_text("7 orders", timeout=PATIENCE)
    expect(staff.locator(".page-heading")).to_contain_text("14 orders", timeout=PATIENCE)
    expect(row(anna, 2)).to_have_count(0, timeout=PATIENCE)
    numbers = anna.evaluate("[...document.querySelectorAll('tbody tr')].map(row => row.number)")
    assert numbers == [5, 1, 3, 4, 6, 7, 8], "rows that stayed were made anew"


def test_an_order_that_goes_to_another_customer_leaves_one_list_and_enters_the_other(
    orders: Site, new_context: NewContext
) -> None:
    anna = orders.visit(new_context, "anna", LIST)
    bert = orders.visit(new_context, "bert", LIST)
    orders.run(
        "from django.contrib.auth.models import User\n"
        "from example_project.orders.models import Order\n"
        "order = Order.objects.get(pk=3)\n"
        "order.customer = User.objects.get(username='bert')\n"
        "order.save()\n"
    )
    wait_for_keys(anna, 1, 2, 4, 5, 6, 7, 8)
    wait_for_keys(bert, 3, 11, 12, 13, 14, 15, 16, 17)


def test_the_pages_shift_and_the_pager_follows(
    orders: Site, new_context: NewContext, expect: Expect
) -> None:
    second = orders.visit(new_context, "staff", f"{LIST}?page=2")
    wait_for_keys(second, 13, 14, 15, 16, 17)
    expect(second.locator(".pager")).to_contain_text("Page 2 of 2", timeout=PATIENCE)

    orders.run(PLACED.format(name="anna", count=6, first=21, hours=0))
    wait_for_keys(second, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16)
    expect(second.locator(".pager")).to_contain_text("Page 2 of 3", timeout=PATIENCE)

    # The page that is shown ceases to exist: the last one that there is takes its place.
    orders.run(
        "from example_project.orders.models import Order\n"
        "for order in Order.objects.exclude(pk__in=[1, 2]): order.delete()"
    )
    wait_for_keys(second, 1, 2)
    expect(second.locator(".pager")).to_have_count(0, timeout=PATIENCE)


def test_a_list_becomes_empty_and_fills_again(
    orders: Site, new_context: NewContext, expect: Expect
) -> None:
    paid = orders.visit(new_context, "bert", f"{LIST}?status=paid")
    expect(paid.locator("tbody")).to_contain_text("No orders here", timeout=PATIENCE)
    orders.run(CHANGED.format(pk=12, status="paid"))
    wait_for_keys(paid, 12)
    expect(paid.locator("tbody")).not_to_contain_text("No orders here", timeout=PATIENCE)
    orders.run(CHANGED.format(pk=12, status="packed"))
    expect(paid.locator("tbody")).to_contain_text("No orders here", timeout=PATIENCE)
    expect(rows(paid)).to_have_count(0, timeout=PATIENCE)


def test_who_may_no_longer_see_the_rows_loses_them(
    orders: Site, new_context: NewContext, expect: Expect
) -> None:
    staff = orders.visit(new_context, "staff", LIST)
    expect(rows(staff)).to_have_count(10, timeout=PATIENCE)
    orders.run(
        "from django.contrib.auth.models import User\n"
        "staff = User.objects.get(username='staff')\n"
        "staff.is_superuser = False\n"
        "staff.save()\n"
    )
    expect(staff.locator("tbody")).to_contain_text("No orders here", timeout=PATIENCE)
    expect(rows(staff)).to_have_count(0, timeout=PATIENCE)
    assert staff.evaluate("window.sameDocument") is True


def test_who_fills_in_a_form_in_a_row_goes_on_while_the_row_moves(
    orders: Site, new_context: NewContext, expect: Expect
) -> None:
    staff = orders.visit(new_context, "staff", LIST)
    row(staff, 12).locator("summary").click()
    field = row(staff, 12).locator("textarea")
    field.type("half a ")
    staff.evaluate(
        "document.querySelector('textarea:focus').addEventListener('blur', () => { window.blurred = true })"
    )

    orders.run(CHANGED.format(pk=12, status="packed"))
    wait_for_keys(staff, 12, 1, 2, 3, 4, 5, 6, 7, 8, 11)
    staff.keyboard.type("note")
    expect(field).to_have_value("half a note", timeout=PATIENCE)
    expect(field).to_be_focused(timeout=PATIENCE)
    assert staff.evaluate("window.blurred") is None

    # And while it leaves the page: it stays until the writer has left it.
    for pk in (1, 2, 3, 4, 5, 6, 7, 8, 11, 13):
        orders.run(CHANGED.format(pk=pk, status="packed"))
    expect(row(staff, 12)).to_have_attribute("data-live-change", "left", timeout=PATIENCE)
    staff.keyboard.type("!")
    expect(field).to_have_value("half a note!", timeout=PATIENCE)
    row(staff, 12).locator("button").click()
    staff.wait_for_url(f"{orders.url}{LIST}")
    staff.wait_for_function("window.sameDocument === undefined")
    expect(row(staff, 12)).to_contain_text("half a note!", timeout=PATIENCE)


def test_what_is_selected_and_read_further_down_stays_where_it_is(
    orders: Site, new_context: NewContext
) -> None:
    anna = orders.visit(new_context, "anna", LIST)
    anna.set_viewport_size({"width": 900, "height": 300})
    anna.evaluate(
        """() => {
          const link = document.querySelector('[data-live-key="order-7"] a');
          link.scrollIntoView({ block: "center" });
          getSelection().selectAllChildren(link);
        }"""
    )
    top = "document.querySelector('[data-live-key=\"order-7\"]').getBoundingClientRect().top"
    before = anna.evaluate(top)
    orders.run(PLACED.format(name="anna", count=2, first=21, hours=0))
    wait_for_keys(anna, 21, 22, 1, 2, 3, 4, 5, 6, 7, 8)
    assert anna.evaluate("getSelection().toString()") == "M-7"
    assert abs(anna.evaluate(top) - before) < 2


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_row_that_left_fades_where_motion_is_welcome(
    orders: Site, new_context: NewContext, motion: str
) -> None:
    anna = orders.visit(new_context, "anna", LIST, reduced_motion=motion)
    anna.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver(() => {
            for (const row of document.querySelectorAll("tr[data-live-change]"))
              window.seen.push([row.dataset.liveKey, row.dataset.liveChange, row.inert, row.getAnimations().length]);
          }).observe(document.querySelector("tbody"), { subtree: true, childList: true, attributes: true });
        }"""
    )
    orders.run("from example_project.orders.models import Order\nOrder.objects.get(pk=2).delete()")
    wait_for_keys(anna, 1, 3, 4, 5, 6, 7, 8)
    anna.wait_for_function("!document.querySelector('[data-live-change]')")
    seen = anna.evaluate("window.seen")
    assert seen[:1] == ([["order-2", "left", True, 1]] if motion == "no-preference" else [])


def test_without_javascript_it_is_a_list_with_pages(orders: Site, new_context: NewContext) -> None:
    page = orders.visit(new_context, "staff", LIST, java_script_enabled=False)
    assert page.locator("tbody tr").count() == 10
    page.click("text=Next")
    assert page.locator("tbody tr").count() == 5


# -- what it costs ---------------------------------------------------------------------------------

ROWS = 200
MANY = """
from decimal import Decimal
from django.contrib.auth.models import User
from tests.testapp.models import Order
customer = User.objects.create_user("anna", password="demo-anna", pk=1)
User.objects.create_user("staff", password="demo-staff", is_staff=True)
Order.objects.bulk_create(Order(pk=pk, customer=customer, total=pk) for pk in range(1, {rows} + 1))
"""
BURST = """
from django.db import transaction
from tests.testapp.models import Order
with transaction.atomic():
    for order in Order.objects.filter(pk__in={pks}):
        order.status = "{status}"
        order.save()
"""


@pytest.fixture
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("many"), "tests") as site:
        site.run(MANY.format(rows=ROWS))
        yield site


def test_a_page_of_200_rows_asks_once_per_viewer_and_burst(
    many: Site, new_context: NewContext, expect: Expect
) -> None:
    path = "/customers/1/orders/"
    viewers = [many.visit(new_context, name, path) for name in ("anna", "staff")]
    for page in viewers:
        expect(rows(page)).to_have_count(ROWS, timeout=PATIENCE)
    asked = many.requests(path)
    assert asked >= len(viewers), "the log does not tell"

    for status, pks in [("one", [77]), ("many", list(range(50, 100)))]:
        many.run(BURST.format(status=status, pks=pks))
        for page in viewers:
            expect(page.locator(f"td.status:text-is('{status}')")).to_have_count(
                len(pks), timeout=PATIENCE
            )
        asked += len(viewers)
        assert many.requests(path) == asked
