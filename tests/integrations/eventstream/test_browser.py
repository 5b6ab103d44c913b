"""django-eventstream's own JavaScript in a real browser: what a page hears of its own view, it hears of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from tests.browser.listening import wait_until
from tests.integrations.eventstream.conftest import Site
from tests.support.network import Network
from tests.support.requirements import requires

pytestmark = [requires("chromium"), pytest.mark.any_database]

CLIENTS = {
    "EventSource": "new EventSource(url)",
    "ReconnectingEventSource": "new ReconnectingEventSource(url, {max_retry_time: 200, lastEventId})",
}
"""The browser's own, and the one that django-eventstream brings and recommends."""
LISTEN = """
window.listen = (url, lastEventId) => {
  window.source = %s;
  source.onopen = () => opened++;
  for (const type of ["message", "counted", "stream-reset", "stream-error"])
    source.addEventListener(type, (event) => {
      heard.push([type, event.data]);
      // What django-eventstream's documentation has a page do.
      if (type === "stream-error") source.close();
    });
};
window.heard = [];
window.opened = 0;
"""
Open = Callable[..., Network]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def listen(page: Page, client: str) -> Iterator[Open]:
    """``listen(site, path)``: a page of the site listens there, over the network that is returned."""
    with ExitStack() as stack:

        def listen(site: Site, path: str, last_id: str | None = None) -> Network:
            network = stack.enter_context(Network(site.server.host, site.server.port))
            cookies = dict(part.split("=") for part in site.headers.values())
            known: Any = [{"name": n, "value": v, "url": network.url} for n, v in cookies.items()]
            page.context.add_cookies(known)
            page.goto(f"{network.url}/page/")
            page.evaluate(LISTEN % CLIENTS[client])
            page.evaluate(f"listen({path!r}{f', {last_id!r}' if last_id else ''})")
            return network

        yield listen


def heard(page: Page) -> list[tuple[str, Any]]:
    return [(type, json.loads(data)) for type, data in page.evaluate("heard")]


@pytest.fixture(params=["their_site", "our_site"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """One after the other: what is expected here is what its own view does."""
    site: Site = request.getfixturevalue(request.param)
    yield site
    site.leave()


def test_a_page_hears_all_types_and_misses_nothing_of_an_outage(
    site: Site, client: str, listen: Open, page: Page
) -> None:
    channel = f"page-{client}"
    network = listen(site, f"/one/{channel}/")
    wait_until(page, "opened === 1")
    site.send((channel, "message", "begin"))
    wait_until(page, "heard.length === 1")
    network.mode = "down"
    network.cut()
    wait_until(page, "source.readyState === 0")
    site.send(*((channel, "counted", {"n": n}) for n in range(30)))
    network.mode = "open"
    wait_until(page, "heard.length >= 31")
    site.send((channel, "message", "ü\nend"))
    wait_until(page, "heard.at(-1)[1].includes('end')")
    counted = [("counted", {"n": n}) for n in range(30)]
    assert heard(page) == [("message", "begin"), *counted, ("message", "ü\nend")]


@pytest.mark.usefixtures("client")
def test_a_page_is_told_what_it_may_not_read_and_stops(
    site: Site, listen: Open, page: Page
) -> None:
    network = listen(site, "/one/secret-page/")
    wait_until(page, "heard.length === 1")
    (told,) = heard(page)
    assert told[0] == "stream-error"
    assert told[1]["condition"] == "forbidden"
    assert told[1]["channels"] == ["secret-page"]
    wait_until(page, "source.readyState === 2")
    assert network.seen.count("/one/secret-page/") == 1


def test_a_page_is_told_when_its_permission_is_taken_away(
    site: Site, client: str, listen: Open, page: Page
) -> None:
    channel, name = f"secret-{client}", f"reader-{client}"
    network = listen(site.sign_in(name), f"/one/{channel}/")
    wait_until(page, "opened === 1")
    site.send((channel, "message", 1))
    wait_until(page, "heard.length === 1")
    site.get("/withdraw/", name=name, channel=channel)
    wait_until(page, "source.readyState === 2")
    first, told = heard(page)
    assert first == ("message", 1)
    assert (told[0], told[1]["condition"]) == ("stream-error", "forbidden")
    assert network.seen.count(f"/one/{channel}/") == 1


def test_a_page_with_an_id_that_is_gone_is_reset_and_goes_on(
    site: Site, client: str, listen: Open, page: Page
) -> None:
    """As its documentation has it: the id is written into the page. Only the second client takes one."""
    channel = f"reset-{client}"
    site.send((channel, "message", "kept"))
    gone = f"{channel}:999999999999"
    listen(
        site,
        f"/one/{channel}/?lastEventId={gone}" if client == "EventSource" else f"/one/{channel}/",
        gone,
    )
    wait_until(page, "heard.length === 1")
    assert heard(page) == [("stream-reset", {"channels": [channel]})]
    site.send((channel, "message", "later"))
    wait_until(page, "heard.length === 2")
    assert heard(page)[1] == ("message", "later")


def test_a_page_begins_at_the_id_that_was_written_into_it(
    site: Site, client: str, listen: Open, page: Page
) -> None:
    channel = f"from-{client}"
    site.send((channel, "message", "before"))
    here = site.get("/current/", channel=channel)
    site.send((channel, "message", "after"))
    path = f"/one/{channel}/"
    listen(site, f"{path}?lastEventId={here}" if client == "EventSource" else path, here)
    wait_until(page, "heard.length === 1")
    assert heard(page) == [("message", "after")]


def test_the_browsable_page_of_a_viewset_shows_the_stream(site: Site, page: Page) -> None:
    """Its template and script; they want a font from elsewhere, which is not fetched here."""

    def refuse(route: Route) -> None:
        route.abort()

    page.route("https://**", refuse)
    page.goto(f"{site.server.url}/api/news/")
    stream = "document.getElementById('sse-stream').innerText"
    page.evaluate("window.heard = []")
    wait_until(page, f"{stream}.includes('Connected to the SSE Stream')")
    site.send(("news", "message", {"seen": "on the page"}))
    wait_until(page, f"{stream}.includes('on the page')")
    assert "Connection lost" not in page.evaluate(stream)
