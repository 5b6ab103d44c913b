"""Who was signed in and is not any more is told so, and never goes on as a mere visitor: whatever they
come back by, and whatever they ask for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_live.core.events import Cursor, Position, mark_of_somebody, place_text
from django_live.transports.authentication import Identity
from tests.transports.authenticators import KEYS
from tests.transports.driver import Browser, tell
from tests.transports.socket_driver import Peer

pytestmark = pytest.mark.asyncio

Site = Callable[..., Any]
KEY = {"X-Key": "k"}


@pytest.fixture
def by_key(site: Site) -> Iterator[Any]:
    """The application, for those who have a key, and for visitors."""
    KEYS["k"] = Identity(User(pk=1))
    yield site(DJANGO_LIVE={"AUTHENTICATORS": ["tests.transports.authenticators.by_key"]})
    KEYS.clear()


async def cursor_of(application: Any, *topics: str, **headers: str) -> str:
    """The last cursor that a stream of these topics gives out."""
    async with Browser(application, *topics, headers=headers) as browser:
        await browser.until(lambda: any(frame.id for frame in browser.frames))
        return [frame.id for frame in browser.frames if frame.id][-1] or ""


async def test_a_pages_own_position_becomes_the_users(by_key: Any) -> None:
    """A template prints what anybody may have; the stream that begins there gives out its own."""
    pages = {"last-event-id": await cursor_of(by_key, "open/a")}
    hers = await cursor_of(by_key, "open/a", **KEY, **pages)
    assert Cursor.parse(hers).known
    for headers, status in ((pages, 200), ({"last-event-id": hers}, 401)):
        async with Browser(by_key, "open/a", headers=headers) as visitor:
            await visitor.until(visitor.has_begun)
            assert visitor.status == status


@pytest.mark.parametrize("topic", ["open/a", "ephemeral/a"])
async def test_a_stream_is_not_resumed_by_a_visitor(by_key: Any, topic: str) -> None:
    hers = await cursor_of(by_key, topic, **KEY)
    resumed = {"last-event-id": hers}
    for path in ("/live/events/", "/live/poll/"):
        async with Browser(by_key, topic, path=path, headers=resumed) as visitor:
            await visitor.ended()
        assert visitor.status == 401
        assert json.loads(visitor.body)["errors"][0]["code"] == "signed-out"
    async with Peer(by_key) as peer:
        await peer.opened()
        peer.say(action="subscribe", ref=1, topics=[topic], cursor=hers)
        assert await peer.closed() == 4100
        assert not [frame for frame in peer.frames if frame.ref == 1]
    async with Browser(by_key, topic, headers={**KEY, **resumed}) as signed_in_again:
        await signed_in_again.opened()


async def test_a_poll_is_not_resumed_by_a_visitor(by_key: Any) -> None:
    async with Browser(by_key, "open/a", path="/live/poll/", headers=KEY) as hers:
        await hers.ended()
    cursor = json.loads(hers.body)["cursor"]
    async with Browser(by_key, "open/a", headers={"last-event-id": cursor}) as visitor:
        await visitor.ended()
    assert visitor.status == 401


async def test_an_event_moves_each_ones_own_cursor(by_key: Any) -> None:
    """The frame is made once for all, but for who it is given to."""
    async with (
        Browser(by_key, "open/a", headers=KEY) as hers,
        Browser(by_key, "open/a") as visitors,
    ):
        for browser in (hers, visitors):
            await browser.opened()
        await tell("open/a", "said", 1)
        await hers.until(hers.said)
        await visitors.until(visitors.said)
        assert Cursor.parse(hers.frames[-1].id or "").known
        assert not Cursor.parse(visitors.frames[-1].id or "").known


async def test_visitors_and_those_who_sign_in_go_on(by_key: Any) -> None:
    visitors = {"last-event-id": await cursor_of(by_key, "open/a")}
    for headers in (visitors, {**visitors, **KEY}):
        async with Browser(by_key, "open/a", headers=headers) as browser:
            await browser.opened()
            await tell("open/a", "said", 2)
            await browser.until(browser.said)


@pytest.mark.parametrize("topic", ["rooms/a", "async-rooms/open"])
async def test_a_message_is_not_taken_as_a_visitors(by_key: Any, topic: str) -> None:
    say = {"action": "send", "topic": topic, "type": "describe", "data": 1}
    async with Peer(by_key, headers=KEY) as peer, Peer(by_key) as visitor:
        await peer.opened()
        await visitor.opened()
        visitor.say(**say, ref=1)
        assert not (await visitor.reply(1)).error, "the control: a visitor may"
        del KEYS["k"]
        peer.say(**say, ref=1)
        assert await peer.closed() == 4100
        (reply,) = [frame for frame in peer.frames if frame.ref == 1]
        assert reply.error["code"] == "signed-out"


async def test_who_a_place_was_given_to_cannot_be_changed() -> None:
    position = Position("e", 5)
    hers = place_text("a" * 32, position, known=True)
    visitors = place_text("a" * 32, position)
    assert hers.rpartition(".")[0] == visitors.rpartition(".")[0]
    assert hers != visitors
    place = Cursor.parse(hers).get("a" * 32)
    assert place is not None
    assert place.genuine
    assert place.known
    assert not Cursor.parse(visitors).known


# -- without a cursor ------------------------------------------------------------------------------


def marked(client: Any, mark: str) -> Any:
    """A request that says whose page it comes from."""
    client.scope["query_string"] += b"&" + urlencode({"known": mark}).encode()
    return client


@pytest.mark.parametrize("path", ["/live/events/", "/live/poll/"])
async def test_who_has_no_cursor_yet_is_known_by_their_page(by_key: Any, path: str) -> None:
    """Its first stream was lost, or all its topics have gone and others come."""
    mark = mark_of_somebody()
    async with marked(Browser(by_key, "open/a", path=path), mark) as visitor:
        await visitor.ended()
    assert visitor.status == 401
    assert json.loads(visitor.body)["errors"][0]["code"] == "signed-out"
    async with marked(Browser(by_key, "open/a", path=path, headers=KEY), mark) as hers:
        await hers.until(hers.has_begun)
        assert hers.status == 200


async def test_a_socket_is_known_by_its_page(by_key: Any) -> None:
    async with marked(Peer(by_key), mark_of_somebody()) as peer:
        assert await peer.closed() == 4100
        assert [frame.data["code"] for frame in peer.frames] == ["signed-out"]
    async with marked(Peer(by_key, headers=KEY), mark_of_somebody()) as hers:
        await hers.opened()


async def test_an_entry_of_a_cursor_is_a_mark_too(by_key: Any) -> None:
    hers = await cursor_of(by_key, "open/a", "ephemeral/a", **KEY)
    for entry, status in ((hers.split(",")[1], 401), (await cursor_of(by_key, "open/a"), 200)):
        async with marked(Browser(by_key, "open/b"), entry) as visitor:
            await visitor.until(visitor.has_begun)
            assert visitor.status == status


@pytest.mark.parametrize("mark", ["", "x", "~", "a" * 20_000, "0" * 12 + "." + "A" * 8])
async def test_what_is_no_mark_says_nothing(by_key: Any, mark: str) -> None:
    async with marked(Browser(by_key, "open/a"), mark) as visitor:
        await visitor.opened()


async def test_another_secret_key_makes_no_visitor_of_anybody(by_key: Any) -> None:
    """It ends all sessions, and cursors no longer fit: but whose they were can still be read."""
    hers, visitors = await cursor_of(by_key, "open/a", **KEY), await cursor_of(by_key, "open/a")
    mark = mark_of_somebody()
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[]):
        for browser in (
            Browser(by_key, "open/a", headers={"last-event-id": hers}),
            marked(Browser(by_key, "open/a"), mark),
        ):
            async with browser:
                await browser.until(browser.has_begun)
                assert browser.status == 401
        async with Browser(by_key, "open/a", headers={"last-event-id": visitors}) as visitor:
            await visitor.until(lambda: visitor.events("stream-reset"))
        again = {**KEY, "last-event-id": hers}
        async with Browser(by_key, "open/a", headers=again) as signed_in_again:
            await signed_in_again.until(lambda: signed_in_again.events("stream-reset"))
