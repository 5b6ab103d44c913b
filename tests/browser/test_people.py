"""Presence and notifications in a real browser: the page of the example, in several browsers at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

pytestmark = requires("chromium")

COUNTER = "/people/"
SHIPPED = """
from example_project.orders.models import Order
order = Order.objects.filter(customer__username="anna").exclude(status="shipped").first()
order.status = "shipped"
order.save()
answer = order.number
"""
NOTE = """
from django.contrib.auth.models import User
from django_live.notifications import notify
notify(User.objects.get(username="{user}"), "{title}", body="{body}", kind="note", url="{url}")
"""
CLEAN = """
from django_live.notifications.models import Notification
Notification.objects.all().delete()
"""
MANY = """
from django.contrib.auth.models import User
from django_live.notifications.models import Notification
anna = User.objects.get(username="anna")
rows = [Notification(recipient=anna, kind="note", title=f"old {n}") for n in range(120)]
Notification.objects.bulk_create(rows)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("counter"), "example_project") as site:
        yield site


@pytest.fixture(autouse=True)
def patient(expect: Expect) -> Iterator[None]:
    options: Any = expect
    options.set_options(timeout=PATIENCE)
    yield
    options.set_options(timeout=None)


@pytest.fixture(autouse=True)
def nothing_told(shop: Site) -> None:
    shop.run(CLEAN)


def members(page: Page) -> list[str]:
    return page.locator(".live-presence-name").all_inner_texts()


def test_people_come_and_go_once_over_tabs_and_reloads(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    anna = shop.visit(new_context, "anna", COUNTER)
    expect(anna.locator(".live-presence-name")).to_have_text(["Anna Lindqvist"])
    heard = "window.heard = []; document.addEventListener('live:presence', ({ detail }) => "
    heard += "window.heard.push(...detail.joined.map(m => '+' + m.info.name), ...detail.left.map(m => '-' + m.info.name)))"
    anna.evaluate(heard)
    bert = shop.visit(new_context, "bert", COUNTER)
    expect(anna.locator(".live-presence-name")).to_have_text(["Anna Lindqvist", "Bert Hagemann"])
    expect(anna.locator("[data-live-count]")).to_have_text("Here now: 2")
    expect(bert.locator(".live-presence-name")).to_have_text(["Anna Lindqvist", "Bert Hagemann"])

    second = bert.context.new_page()
    second.goto(shop.url + COUNTER)
    bert.reload()
    expect(bert.locator(".live-presence-name")).to_have_count(2)
    assert anna.evaluate("window.heard") == ["+Bert Hagemann"]

    bert.context.close()
    expect(anna.locator(".live-presence-name")).to_have_text(["Anna Lindqvist"])
    assert anna.evaluate("window.heard") == ["+Bert Hagemann", "-Bert Hagemann"]
    assert anna.evaluate("window.sameDocument") is True


def test_a_page_without_javascript_shows_who_is_here(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    anna = shop.visit(new_context, "anna", COUNTER)
    expect(anna.locator(".live-presence-name")).to_have_text(["Anna Lindqvist"])
    plain = shop.visit(new_context, "staff", COUNTER, java_script_enabled=False)
    assert "Anna Lindqvist" in members(plain)


def test_a_saved_order_rings_its_customers_bell_in_every_tab(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    first = shop.visit(new_context, "anna", COUNTER)
    phone = shop.visit(new_context, "anna", COUNTER, viewport={"width": 390, "height": 800})
    bert = shop.visit(new_context, "bert", COUNTER)
    expect(first.locator("[data-live-badge]")).to_be_hidden()
    number = shop.run(SHIPPED)
    for page in (first, phone):
        expect(page.locator("[data-live-badge]")).to_have_text("1")
        expect(page.locator(".live-notification-toast")).to_contain_text(
            f"Order {number} is on its way"
        )
    assert bert.locator("[data-live-badge]").is_hidden()

    first.locator("[data-live-bell]").click()
    expect(first.locator(".live-notification-item")).to_contain_text(
        f"Order {number} is on its way"
    )
    shop.run(NOTE.format(user="anna", title="Another", body="", url=""))
    expect(first.locator(".live-notification-item")).to_have_count(2)
    expect(phone.locator("[data-live-badge]")).to_have_text("2")

    first.locator(".live-notification-item", has_text="Another").get_by_role("button").click()
    expect(phone.locator("[data-live-badge]")).to_have_text("1")
    first.get_by_role("button", name="Mark all as read").click()
    for page in (first, phone):
        expect(page.locator("[data-live-badge]")).to_be_hidden()
    expect(first.locator(".live-notification-item[data-unread]")).to_have_count(0)
    assert first.evaluate("window.sameDocument") is True


def test_the_bell_is_used_with_the_keyboard(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    anna = shop.visit(new_context, "anna", COUNTER)
    shop.run(NOTE.format(user="anna", title="Hello", body="text", url="/"))
    bell = anna.locator("[data-live-bell]")
    expect(bell).to_have_attribute("aria-label", "Notifications, 1 unread")
    bell.focus()
    anna.keyboard.press("Space")
    expect(anna.locator("#live-bell-panel-title")).to_be_focused()
    expect(bell).to_have_attribute("aria-expanded", "true")
    anna.keyboard.press("Escape")
    expect(anna.locator("[data-live-panel]")).to_be_hidden()
    expect(bell).to_be_focused()
    anna.keyboard.press("Enter")
    expect(anna.locator("[data-live-panel]")).to_be_visible()
    anna.locator(".live-notification-item a").focus()
    anna.keyboard.press("Enter")
    anna.wait_for_url(f"{shop.url}/")
    expect(anna.locator("[data-live-badge]")).to_be_hidden()


def test_hostile_text_is_text_everywhere(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    anna = shop.visit(new_context, "anna", COUNTER)
    hostile = "<img src=x onerror=document.title='hacked'>"
    shop.run(NOTE.format(user="anna", title=hostile, body=hostile, url="javascript:alert(1)"))
    toast = anna.locator(".live-notification-toast")
    expect(toast).to_contain_text(hostile)
    assert toast.locator("a, img").count() == 0
    anna.locator("[data-live-bell]").click()
    item = anna.locator(".live-notification-item")
    expect(item).to_contain_text(hostile)
    assert item.locator("a, img").count() == 0
    assert anna.title() != "hacked"


def test_the_page_of_notifications_is_live_and_works_without_javascript(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    page = shop.visit(new_context, "anna", "/notifications/")
    shop.run(NOTE.format(user="anna", title="Fresh", body="", url=""))
    expect(page.locator(".live-notification-item")).to_contain_text("Fresh")

    plain = shop.visit(new_context, "anna", COUNTER, java_script_enabled=False)
    expect(plain.locator("[data-live-badge]")).to_have_text("1")
    plain.locator("[data-live-bell]").click()
    plain.wait_for_url(f"{shop.url}/notifications/")
    plain.get_by_role("button", name="Mark all as read").click()
    expect(plain.locator(".live-notification-item[data-unread]")).to_have_count(0)
    expect(page.locator(".live-notification-item[data-unread]")).to_have_count(0)


def test_more_than_a_hundred_are_not_counted(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    shop.run(MANY)
    anna = shop.visit(new_context, "anna", COUNTER)
    expect(anna.locator("[data-live-badge]")).to_have_text("99+")
    anna.locator("[data-live-bell]").click()
    expect(anna.locator(".live-notification-item")).to_have_count(10)
