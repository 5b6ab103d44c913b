"""What a browser does where a network forbids a transport, comes and goes: nothing is lost or doubled."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.listening import (
    READ_ONLY,
    ROOM,
    listen,
    say,
    wait_until,
    wait_until_carried_by,
    wait_until_heard,
    wait_until_live,
)
from tests.support.browsers import launch_options
from tests.support.network import Mode, Network
from tests.support.requirements import requires
from tests.support.servers import Server

pytestmark = requires("chromium")


def test_an_interactive_topic_comes_over_a_socket(
    server: Server, network: Network, page: Page
) -> None:
    listen(page, network, ROOM, READ_ONLY)
    wait_until_live(page)
    say(server, READ_ONLY, 1)
    say(server, ROOM, 2)
    wait_until_heard(page, 1, 2)
    assert network.streams() == ["/live/ws/"]
    kind, data, *_, connection = page.evaluate("live.call('rooms/5', 'describe', [1])")
    assert [kind, data] == [False, [1]]
    assert connection == page.evaluate("live.connection")
    sent = "live.sendBinary('rooms/5', 'describe', new Uint8Array(200_000))"
    assert page.evaluate(sent)[:2] == [True, 200_000]
    refused = "live.call('rooms/5', 'reject').catch(({ code, message }) => [code, message])"
    assert page.evaluate(refused) == ["closed-today", "Not today."]


def test_topics_come_and_go_without_another_socket(
    server: Server, network: Network, page: Page
) -> None:
    listen(page, network, ROOM)
    wait_until_live(page)
    page.evaluate(
        "window.more = live.subscribe('open/b', { counted: ({ n }) => heard.push(n) }), undefined"
    )
    wait_until(page, "more.state === 'live'")
    say(server, "open/b", 1)
    wait_until_heard(page, 1)
    page.evaluate("more.unsubscribe()")
    assert [path for path in network.seen if path.startswith("ws ")] == ["ws /live/ws/"]


@pytest.mark.parametrize("mode", ["refuses-upgrades", "swallows-upgrades"])
def test_where_sockets_are_forbidden_a_stream_takes_over_and_messages_are_posted(
    server: Server, network: Network, page: Page, mode: Mode
) -> None:
    network.mode = mode
    listen(page, network, ROOM)
    wait_until_live(page)
    # The budget is 3 s; this much leaves room for a busy machine.
    assert page.evaluate("liveAfter - startedAt") < 6000
    wait_until_carried_by(network, "/live/events/")
    say(server, ROOM, 1)
    wait_until_heard(page, 1)
    assert page.evaluate("live.call('rooms/5', 'describe', 7)")[:2] == [False, 7]
    sent = "live.sendBinary('rooms/5', 'describe', new Uint8Array(200_000))"
    assert page.evaluate(sent)[:2] == [True, 200_000]

    # It is remembered: the next page asks no more.
    network.seen.clear()
    page.reload()
    wait_until_live(page)
    assert not any(path.startswith("ws ") for path in network.seen)


def test_when_the_network_changes_the_socket_is_tried_again_and_nothing_is_lost(
    server: Server, network: Network, page: Page
) -> None:
    network.mode = "refuses-upgrades"
    listen(page, network, ROOM)
    wait_until_live(page)
    say(server, ROOM, 1)
    network.mode = "open"
    page.evaluate("dispatchEvent(new Event('online')), undefined")
    say(server, ROOM, *range(2, 20))
    wait_until_carried_by(network, "/live/ws/")
    say(server, ROOM, 20)
    wait_until_heard(page, *range(1, 21))


def test_where_streams_are_collected_the_page_polls(
    server: Server, network: Network, page: Page
) -> None:
    network.mode = "collects"
    listen(page, network, READ_ONLY)
    wait_until_live(page)
    say(server, READ_ONLY, 1)
    wait_until_heard(page, 1)
    wait_until_carried_by(network, "/live/poll/")
    network.mode = "open"
    page.evaluate("dispatchEvent(new Event('online')), undefined")
    wait_until_carried_by(network, "/live/events/")
    say(server, READ_ONLY, 2)
    wait_until_heard(page, 1, 2)


def test_an_outage_takes_no_transport_away(server: Server, network: Network, page: Page) -> None:
    listen(page, network, ROOM)
    wait_until_live(page)
    network.mode = "down"
    network.cut()
    wait_until(page, "live.status === 'stale'")
    say(server, ROOM, 1, 2)
    network.mode = "open"
    wait_until_heard(page, 1, 2)
    wait_until_carried_by(network, "/live/ws/")


def test_offline_is_told_at_once_and_online_brings_what_was_missed(
    server: Server, network: Network, page: Page
) -> None:
    listen(page, network, ROOM)
    wait_until_live(page)
    page.context.set_offline(True)
    wait_until(page, "live.status === 'stale'", seconds=2)
    status = page.locator("live-status")
    assert status.get_attribute("data-state") == "stale"
    assert "Trying to reconnect" in (status.text_content() or "")
    network.cut()
    call = "live.call('rooms/5', 'describe', 1, { timeout: 50 }).catch(({ code }) => code)"
    assert page.evaluate(call) == "offline"
    say(server, ROOM, 1, 2)
    page.evaluate("window.later = live.call('rooms/5', 'describe', 2), undefined")
    page.context.set_offline(False)
    wait_until_heard(page, 1, 2)
    assert page.evaluate("later")[:2] == [False, 2]
    assert status.text_content() == ""


def test_a_page_of_the_back_forward_cache_goes_on_where_it_was(
    server: Server, network: Network, browser: Browser
) -> None:
    # Playwright turns that cache off.
    options = launch_options() | {"ignore_default_args": ["--disable-back-forward-cache"]}
    with browser.browser_type.launch(**options) as other:
        for share in (False, True):
            page = other.new_context().new_page()
            listen(page, network, ROOM, share=share)
            wait_until_live(page)
            say(server, ROOM, 1)
            wait_until_heard(page, 1)
            page.goto(f"{network.url}/accounts/login/")
            wait_until_carried_by(network)
            say(server, ROOM, 2, 3)
            page.go_back(wait_until="commit")
            wait_until(page, "window.cameBack")
            say(server, ROOM, 4)
            wait_until_heard(page, 1, 2, 3, 4)
            page.close()
