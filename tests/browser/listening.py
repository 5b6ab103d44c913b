"""What the tests of transports and tabs have in common: the site, the network, a page that listens."""

from __future__ import annotations

import json
import time
import urllib.request
from urllib.parse import urlencode

from playwright.sync_api import Page

from tests.support.network import Network
from tests.support.servers import Server

ROOM = "rooms/5"
READ_ONLY = "open/a"


def say(server: Server, topic: str, *numbers: int) -> None:
    body = json.dumps({"topic": topic, "numbers": numbers}).encode()
    urllib.request.urlopen(f"{server.url}/say/", body).close()


def listen(page: Page, network: Network, *topics: str, share: bool = False) -> None:
    query = urlencode([("topic", topic) for topic in topics] + [("share", "1")] * share)
    page.goto(f"{network.url}/listen/?{query}")


def wait_until(page: Page, condition: str, seconds: float = 20) -> None:
    """Playwright's own waiting would need `eval`, which the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"never: {condition}; heard {page.evaluate('heard')}"
        time.sleep(0.02)


def wait_until_live(page: Page) -> None:
    wait_until(page, "live.status === 'live'")


def wait_until_heard(page: Page, *numbers: int) -> None:
    """All of them, in order, and nothing else."""
    wait_until(page, f"heard.includes({numbers[-1]})")
    heard = page.evaluate("heard")
    assert heard == list(numbers), heard


def wait_until_carried_by(network: Network, *streams: str) -> None:
    deadline = time.monotonic() + 20
    while sorted(stream.split("?")[0] for stream in network.streams()) != sorted(streams):
        assert time.monotonic() < deadline, f"open: {network.streams()}, seen: {network.seen}"
        time.sleep(0.02)
