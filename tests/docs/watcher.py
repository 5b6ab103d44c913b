"""Looks, with plain HTTP and a plain socket, whether the README's page follows a save."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlencode, urlsplit

from tests.docs.follower import PASSWORD, README, USER
from tests.support.http import LoginFailedError, Visitor
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader, StreamEndedError

ADDRESSES = re.findall(r"<(http://[^>\s]+)>", README.read_text())
ADD, ORDER = (urlsplit(address) for address in ADDRESSES[:2])
"""Where the README says that one adds an order, and that one sees it."""


class PathFailedError(Exception):
    """The page does not follow; the message says where it broke."""


def log_in(server: Server, user: str = USER) -> Visitor:
    visitor = Visitor(server.url)
    try:
        visitor.log_in(user, PASSWORD, "/admin/login/")
    except LoginFailedError as error:
        raise PathFailedError(f"no log-in: {error}") from error
    return visitor


def watch_a_save(server: Server, *, serves_static_files: bool = True) -> None:
    """Do what the README says, and what live.js does. Raises PathFailedError."""
    visitor = log_in(server)
    answer = visitor.post(ADD.path, {"customer": 1, "status": "placed"})
    if answer.status != 302:
        raise PathFailedError(f"the order was not added: {answer.status}")
    page = visitor.get(ORDER.path)
    if page.status != 200:
        raise PathFailedError(f"no page: {page.status}")
    elements = Elements(page.text)
    script = 200 if not serves_static_files else visitor.get(elements.script).status
    if not elements.events or script != 200:
        raise PathFailedError("no client on the page")
    if not elements.topics:
        raise PathFailedError("no live part on the page")
    with open_stream(server, visitor, elements) as stream:
        if stream.status != 200:
            raise PathFailedError(f"no stream: {stream.status}")
        changed = {"customer": 1, "status": "shipped"}
        visitor.post(f"/admin/orders/order/{ORDER.path.split('/')[2]}/change/", changed)
        try:
            stream.wait_for(lambda frame: frame.event == "updated")
        except (TimeoutError, StreamEndedError) as error:
            raise PathFailedError("the stream said nothing of the save") from error
    if "<strong>shipped</strong>" not in visitor.get(ORDER.path).text:
        raise PathFailedError("the page does not show the save")


def threads_of_open_pages(server: Server, count: int) -> int:
    """How many threads more the server has while so many pages are open."""
    visitor = log_in(server)
    elements = Elements(visitor.get(ORDER.path).text)
    before = server.threads()
    streams = [open_stream(server, visitor, elements) for _ in range(count)]
    for stream in streams:
        stream.next_frame()
    more = server.threads() - before
    for stream in streams:
        stream.close()
    return more


def open_stream(server: Server, visitor: Visitor, elements: Elements) -> SSEReader:
    query = urlencode({"topic": elements.topics, "lastEventId": elements.cursor}, doseq=True)
    path = f"{elements.events}?{query}"
    return SSEReader(server.host, server.port, path, visitor.cookie_header)


class Elements(HTMLParser):
    """What live.js reads off a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.script = self.events = self.cursor = ""
        self.topics: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "script" and "data-events" in values:
            self.script, self.events = values["src"], values["data-events"]
        elif tag == "live-refresh":
            self.topics = [unquote(name) for name in values["topics"].split()]
            self.cursor = values["data-cursor"]
