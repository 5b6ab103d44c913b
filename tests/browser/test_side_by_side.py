"""The example's page "transports side by side": each column hears the same events over its own connection,
can be cut and comes back; and what is there without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

pytestmark = requires("chromium")

PATH = "/transports/"
WAYS = ("sse", "websocket", "polling")
PAINTED = """name => {
  const canvas = document.querySelector(`#way-${name} canvas`);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const middle = data.length / 2 - (data.length / 2) % (4 * canvas.width);
  return data.slice(middle, middle + 4 * canvas.width).some((value) => value > 0);
}"""
"""Whether a line crosses the middle between the rails."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("example"), "example_project") as site:
        yield site


@pytest.fixture
def page(site: Site, new_context: NewContext) -> Page:
    """Open, and quiet: it publishes nothing by itself."""
    page = site.visit(new_context, "staff", "/")
    page.goto(site.url + PATH)
    page.click("#beat-steady")
    wait_for_all(page, "element.dataset.state === 'open'")
    return page


def wait_for_all(page: Page, condition: str) -> None:
    """Until it holds for `element` of every way, and its figures `f`."""
    figures = "Object.fromEntries([...element.querySelectorAll('[data-figure]')].map((dd) => "
    figures += "[dd.dataset.figure, dd.textContent]))"
    page.wait_for_function(
        f"() => [...document.querySelectorAll('.way')].every((element) => {{"
        f"const f = {figures}; return {condition}; }})",
        timeout=PATIENCE,
    )


def wait_for_figure(page: Page, way: str, name: str, least: int) -> None:
    page.wait_for_function(
        "([way, name, least]) => Number(document.querySelector("
        "`#way-${way} [data-figure=${name}]`).textContent) >= least",
        arg=[way, name, least],
        timeout=PATIENCE,
    )


def figure(page: Page, way: str, name: str) -> str:
    return str(page.locator(f"#way-{way} [data-figure={name}]").text_content())


def test_every_way_hears_every_event_and_shows_it(page: Page) -> None:
    before = {way: int(figure(page, way, "events")) for way in WAYS}
    page.click("#beat-burst")
    for way in WAYS:
        wait_for_figure(page, way, "events", before[way] + 20)
    for way in WAYS:
        assert "ms" in figure(page, way, "latency") or " s" in figure(page, way, "latency")
        assert figure(page, way, "bytes") != "0"
        assert figure(page, way, "reconnects") == "0"
        page.wait_for_function(PAINTED, arg=way, timeout=PATIENCE)
    assert figure(page, "sse", "requests") == figure(page, "websocket", "requests") == "1"
    assert int(figure(page, "polling", "requests")) > 1


def test_who_is_cut_comes_back_and_misses_nothing(page: Page) -> None:
    before = {way: int(figure(page, way, "events")) for way in WAYS}
    page.click("#way-sse [data-do=cut]")
    page.click("#way-websocket [data-do=cut]")
    page.click("#way-polling [data-do=cut]")
    wait_for_all(page, "element.dataset.state === 'cut'")
    page.click("#beat-burst")
    wait_for_all(page, "element.dataset.state === 'open' && f.reconnects === '1'")
    for way in WAYS:
        wait_for_figure(page, way, "events", before[way] + 20)
        # One of the steady beats may have been on its way when they were switched off.
        assert int(figure(page, way, "events")) <= before[way] + 21


def test_messages_go_over_each_way_and_only_the_socket_needs_no_request(page: Page) -> None:
    for way in WAYS:
        before = int(figure(page, way, "requests"))
        page.click(f"#way-{way} [data-do=send]")
        page.wait_for_function(
            "way => document.querySelector(`#way-${way} [data-figure=answer]`)"
            ".textContent.endsWith('s')",
            arg=way,
            timeout=PATIENCE,
        )
        if way == "websocket":
            assert int(figure(page, way, "requests")) == before
        else:
            wait_for_figure(page, way, "requests", before + 10)


def test_long_polls_are_held(page: Page, expect: Expect) -> None:
    page.check("#long-polls")
    page.wait_for_function("performance.getEntriesByType('resource').length > 0", timeout=PATIENCE)
    before = int(figure(page, "polling", "events"))
    page.click("#beat-once")
    expect(page.locator("#way-polling [data-figure=events]")).to_have_text(
        str(before + 1), timeout=PATIENCE
    )


def test_it_is_a_page_without_javascript(site: Site, new_context: NewContext) -> None:
    page = site.visit(new_context, "staff", "/")
    plain = new_context(
        java_script_enabled=False, storage_state=page.context.storage_state()
    ).new_page()
    plain.goto(site.url + PATH)
    assert plain.locator("canvas").count() == 3
    assert not plain.locator("canvas").first.is_visible()
    assert "The browser only receives" in plain.inner_text("main")
    plain.click("#beat-once")
    assert "An event was published" in plain.inner_text("main")


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_runs_over_the_edge(site: Site, new_context: NewContext, width: int) -> None:
    page = site.visit(
        new_context, "staff", "/", viewport={"width": width, "height": 800}, color_scheme="dark"
    )
    page.goto(site.url + PATH)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    labels = page.locator("main button, main input:not([type=hidden])")
    assert labels.count() >= 10
    for name in page.locator("main canvas").evaluate_all("all => all.map((c) => c.ariaLabel)"):
        assert name
