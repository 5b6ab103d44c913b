"""A token that ends while a connection is open, and one that is gone when its client asks for more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_live.transports.authentication import Identity
from tests.transports.authenticators import KEYS
from tests.transports.driver import Browser
from tests.transports.socket_driver import Peer

pytestmark = pytest.mark.asyncio

Site = Callable[..., Any]
KEY = {"X-Key": "k"}


@pytest.fixture
def by_key(site: Site) -> Iterator[Any]:
    """The application, for those who have a key."""
    yield site(DJANGO_LIVE={"AUTHENTICATORS": ["tests.transports.authenticators.by_key"]})
    KEYS.clear()


async def test_a_token_that_expires_ends_what_it_opened(by_key: Any) -> None:
    KEYS["k"] = Identity(User(pk=1), expires=time.time() + 1.5)
    async with Browser(by_key, "open/a", headers=KEY) as browser, Peer(by_key, headers=KEY) as peer:
        await browser.opened()
        await peer.opened()
        await browser.ended()
        (error,) = browser.events("stream-error")
        assert error.json()["code"] == "expired"
        assert await peer.closed() == 4101
    assert time.time() >= KEYS["k"].expires  # type: ignore[operator]
    async with Browser(by_key, "open/a", headers=KEY) as late:
        await late.ended()
    assert late.status == 401


async def test_a_token_without_an_end_ends_nothing(by_key: Any) -> None:
    KEYS["k"] = Identity(User(pk=1))
    async with Browser(by_key, "open/a", headers=KEY) as browser:
        await browser.opened()
        assert not browser.task.done()


async def test_who_is_no_longer_who_they_were_is_given_nothing_more(by_key: Any) -> None:
    KEYS["k"] = Identity(User(pk=1))
    async with Peer(by_key, headers=KEY) as peer:
        await peer.opened()
        assert (await peer.subscribe("open/a")).data["topics"] == ["open/a"]
        del KEYS["k"]
        peer.say(action="subscribe", ref=9, topics=["open/b"])
        assert await peer.closed() == 4100
        assert not [frame for frame in peer.frames if frame.ref == 9]
