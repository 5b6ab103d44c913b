"""All tabs of a browser share one connection, and each hears everything once, whoever comes and goes."""

from __future__ import annotations

import time

from playwright.sync_api import Page

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
from tests.support.browsers import NewContext
from tests.support.network import Network
from tests.support.requirements import requires
from tests.support.servers import Server

pytestmark = requires("chromium")

LEADS = """navigator.locks.query().then(({ held }) => {
  const lock = held.find(({ name }) => name.startsWith("live1:") && name.endsWith(":"));
  return lock && lock.clientId;
})"""


def leader_of(pages: list[Page]) -> Page:
    """The tab that holds the lock."""
    leader = pages[0].evaluate(LEADS)
    own = """(leader) => new Promise((done) => {
      const name = Math.random().toString();
      navigator.locks.request(name, () => navigator.locks.query().then(({ held }) => {
        done(held.find((lock) => lock.name === name).clientId === leader);
      }));
    })"""
    [found] = [page for page in pages if page.evaluate(own, leader)]
    return found


def test_twelve_tabs_hold_one_connection_and_all_are_live(
    server: Server, network: Network, new_context: NewContext
) -> None:
    context = new_context()
    pages = [context.new_page() for _ in range(12)]
    for page in pages:
        listen(page, network, READ_ONLY, share=True)
    for page in pages:
        wait_until_live(page)
    wait_until_carried_by(network, "/live/events/")
    say(server, READ_ONLY, 1, 2, 3)
    for page in pages:
        wait_until_heard(page, 1, 2, 3)

    # Two leaders go, one after the other, while events come.
    numbers = [1, 2, 3]
    for n in (4, 14):
        leader = leader_of(pages)
        say(server, READ_ONLY, *range(n, n + 5))
        leader.close()
        pages.remove(leader)
        say(server, READ_ONLY, *range(n + 5, n + 10))
        numbers += range(n, n + 10)
    for page in pages:
        wait_until_heard(page, *numbers)
    wait_until_carried_by(network, "/live/events/")


def test_without_sharing_each_tab_has_its_own_connection(
    network: Network, new_context: NewContext
) -> None:
    """The control: what the test above counts can be more than one."""
    context = new_context()
    for _ in range(3):
        page = context.new_page()
        listen(page, network, READ_ONLY)
        wait_until_live(page)
    wait_until_carried_by(network, "/live/events/", "/live/events/", "/live/events/")


def test_a_tab_that_comes_late_gets_what_its_page_had_not_shown(
    server: Server, network: Network, new_context: NewContext
) -> None:
    context = new_context()
    first, second = context.new_page(), context.new_page()
    listen(first, network, "open/b", share=True)
    wait_until_live(first)
    cursor = first.evaluate("document.querySelector('live-topic').dataset.cursor")
    say(server, "open/b", 1, 2)
    wait_until_heard(first, 1, 2)
    # The leader carries this topic already, and is further on.
    listen(second, network, READ_ONLY, share=True)
    wait_until_live(second)
    second.evaluate(
        """cursor => {
          window.late = [];
          live.subscribe("open/b", { counted: ({ n }) => late.push(n) }, { cursor });
        }""",
        cursor,
    )
    wait_until(second, "late.length === 2")
    say(server, "open/b", 3)
    wait_until(second, "late.includes(3)")
    assert second.evaluate("late") == [1, 2, 3]
    wait_until_heard(first, 1, 2, 3)
    wait_until_carried_by(network, "/live/events/")


def test_tabs_that_want_a_socket_share_it_and_send_over_it(
    server: Server, network: Network, new_context: NewContext
) -> None:
    context = new_context()
    pages = [context.new_page() for _ in range(3)]
    for page, topics in zip(pages, [[READ_ONLY], [ROOM], [ROOM, READ_ONLY]], strict=True):
        listen(page, network, *topics, share=True)
        wait_until_live(page)
    wait_until_carried_by(network, "/live/ws/")
    for page in pages:
        assert page.evaluate("live.call('rooms/5', 'describe', 3)")[:2] == [False, 3]
        assert page.evaluate("live.sendBinary('rooms/5', 'describe', new Uint8Array(9))")[1] == 9
    code = "live.call('rooms/5', 'reject').catch(({ code }) => code)"
    assert {page.evaluate(code) for page in pages} == {"closed-today"}
    assert "/live/send/" not in network.seen
    say(server, ROOM, 1)
    say(server, READ_ONLY, 2)
    for page, numbers in zip(pages, [[2], [1], [1, 2]], strict=True):
        wait_until_heard(page, *numbers)


def test_a_leader_that_hangs_is_put_off(
    server: Server, network: Network, new_context: NewContext
) -> None:
    context = new_context()
    first, second = context.new_page(), context.new_page()
    for page in (first, second):
        listen(page, network, READ_ONLY, share=True)
        wait_until_live(page)
    # As a phone does with a page in the background. It wakes up as a follower.
    first.evaluate(
        "setTimeout(() => { const end = Date.now() + 6000; while (Date.now() < end); }), undefined"
    )
    second.evaluate("document.dispatchEvent(new Event('visibilitychange')), undefined")
    started = time.monotonic()
    say(server, READ_ONLY, 1)
    wait_until_heard(second, 1)
    assert time.monotonic() - started < 6, "it waited for the other to wake up"
    say(server, READ_ONLY, 2)
    wait_until_heard(second, 1, 2)
    wait_until_heard(first, 1, 2)
    wait_until_carried_by(network, "/live/events/")


def test_tabs_of_another_session_share_nothing(
    server: Server, network: Network, new_context: NewContext
) -> None:
    context = new_context()
    first, second = context.new_page(), context.new_page()
    listen(first, network, READ_ONLY, share=True)
    wait_until_live(first)
    second.goto(f"{network.url}/begin-a-session/")
    listen(second, network, READ_ONLY, share=True)
    wait_until_live(second)
    wait_until_carried_by(network, "/live/events/", "/live/events/")
    say(server, READ_ONLY, 1)
    for page in (first, second):
        wait_until_heard(page, 1)


def test_all_tabs_say_that_the_connection_is_lost_and_come_back(
    server: Server, network: Network, new_context: NewContext
) -> None:
    context = new_context()
    pages = [context.new_page() for _ in range(3)]
    for page in pages:
        listen(page, network, READ_ONLY, share=True)
        wait_until_live(page)
    network.mode = "down"
    network.cut()
    for page in pages:
        wait_until(page, "live.status === 'stale'")
    say(server, READ_ONLY, 1, 2)
    network.mode = "open"
    # Only the one that leads is told; the others follow.
    leader_of(pages).evaluate("dispatchEvent(new Event('online')), undefined")
    for page in pages:
        wait_until_heard(page, 1, 2)
        wait_until_live(page)
    wait_until_carried_by(network, "/live/events/")
