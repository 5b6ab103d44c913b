"""A bar in a real browser: the example's import, watched, reloaded, cancelled, and without JavaScript."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

pytestmark = requires("chromium")

ENDLESS = """
import threading, time
from django.contrib.auth.models import User
from django_live.features.progress import Progress
staff = User.objects.get(username="staff")
progress = Progress("Endless", owner=staff, total=1_000_000)
def work():
    with progress:
        progress.log("begun")
        for _ in progress.track(iter(lambda: time.sleep(0.01), 0)):
            pass
threading.Thread(target=work).start()
answer = progress.id
"""
FAILS = """
from django.contrib.auth.models import User
from django_live.features.progress import Progress
try:
    with Progress(id={id!r}) as progress:
        raise KeyError("hunter2")
except KeyError:
    pass
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site"), "example_project") as site:
        yield site


def test_an_import_is_watched_to_its_end_and_survives_a_reload(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    page = site.visit(new_context, "staff", "/import/")
    page.click("text=sample orders")
    bar = page.locator("live-progress").first
    expect(bar).to_have_attribute("data-state", "running", timeout=PATIENCE)
    expect(bar.locator("progress")).to_have_attribute("aria-valuenow", "100", timeout=PATIENCE)
    expect(bar).to_have_attribute("data-state", "done", timeout=PATIENCE)
    expect(bar.locator("[data-part=message]")).to_have_text("116 orders were placed.")
    assert bar.locator("[data-part=lines] li").count() == 4
    expect(bar.locator("[data-part=cancel]")).to_be_hidden()
    page.reload()
    expect(page.locator("live-progress").first).to_have_attribute("data-state", "done")
    expect(page.locator("[data-part=link]").first).to_have_attribute("href", "/orders/")


def test_a_job_of_another_process_comes_by_itself_and_is_cancelled(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    page = site.visit(new_context, "staff", "/import/")
    job = site.run(ENDLESS)
    bar = page.locator(f"#job-{job}")
    expect(bar).to_have_attribute("data-state", "running", timeout=PATIENCE)
    assert page.evaluate("window.sameDocument")
    expect(bar.locator("[data-part=counted]")).to_contain_text("of 1,000,000", timeout=PATIENCE)
    bar.locator("button").click()
    expect(bar).to_have_attribute("data-state", "cancelled", timeout=PATIENCE)


def test_staff_sees_the_traceback_of_an_error_and_words_for_everybody(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    job = site.run(
        "from django.contrib.auth.models import User\n"
        "from django_live.features.progress import reserve\n"
        "answer = reserve('Doomed', owner=User.objects.get(username='staff')).id"
    )
    page = site.visit(new_context, "staff", "/import/")
    bar = page.locator(f"#job-{job}")
    site.run(FAILS.format(id=job))
    expect(bar).to_have_attribute("data-state", "failed", timeout=PATIENCE)
    expect(bar.locator("[data-part=error]")).to_contain_text("Something went wrong")
    expect(bar.locator("pre")).to_contain_text("hunter2", timeout=PATIENCE)


def test_without_javascript_a_form_cancels(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    job = site.run(ENDLESS)
    page = site.visit(new_context, "staff", "/import/", java_script_enabled=False)
    bar = page.locator(f"#job-{job}")
    expect(bar.locator("progress")).to_be_visible()
    with page.expect_navigation(timeout=PATIENCE):  # or a reload would take the form's place
        bar.locator("button").click()
    deadline = time.monotonic() + PATIENCE / 1000
    while bar.get_attribute("data-state") != "cancelled" and time.monotonic() < deadline:
        page.reload()
    expect(bar).to_have_attribute("data-state", "cancelled")
