"""How much one user, one address and one process may hold open."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory

from django_live import Viewer
from django_live.transports import inbound, limits
from django_live.transports.authentication import Identity
from django_live.transports.inbound import Senders
from django_live.transports.limits import Bucket, Places, TooMany, address_of
from tests.core.fakes import until
from tests.transports.authenticators import KEYS
from tests.transports.driver import Browser, tell
from tests.transports.socket_driver import Peer

Site = Callable[..., Any]
BY_KEY = ["tests.transports.authenticators.by_key"]


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Those of one test; all of them are given back at its end."""
    own = Places()
    monkeypatch.setattr(limits, "places", own)
    monkeypatch.setattr(inbound, "senders", Senders())
    yield own
    KEYS.clear()
    gc.collect()
    assert own.taken == 0
    assert own._of == {}


ANNA = Viewer(user_id="1")
NOBODY = Viewer()


def code_of(places: Places, viewer: Viewer, address: str = "") -> str:
    with pytest.raises(TooMany) as caught:
        places.take(viewer, address)
    assert caught.value.retry_after >= 1
    return caught.value.code


# -- places ----------------------------------------------------------------------------------------


def test_one_user_has_so_many(places: Places, settings: Any) -> None:
    settings.DJANGO_LIVE = {"MAX_CONNECTIONS_PER_USER": 2}
    held = [places.take(ANNA, "a"), places.take(ANNA, "b")]
    assert code_of(places, ANNA) == "too-many-connections"
    others = [places.take(Viewer(user_id="2"), "a"), places.take(NOBODY, "a")]
    held.pop().release()
    held.append(places.take(ANNA, "a"))
    assert places.taken == 4
    for place in held + others:
        place.release()
        place.release()  # once is enough


def test_one_address_has_so_many_where_that_is_set(places: Places, settings: Any) -> None:
    held = [places.take(NOBODY, "192.0.2.1") for _ in range(200)]
    settings.DJANGO_LIVE = {"MAX_CONNECTIONS_PER_ADDRESS": 1}
    held.append(places.take(NOBODY, "192.0.2.2"))
    assert code_of(places, NOBODY, "192.0.2.2") == "too-many-connections"
    held += [places.take(ANNA, "192.0.2.2"), places.take(NOBODY, ""), places.take(NOBODY, "")]


def test_a_process_has_so_many(places: Places, settings: Any) -> None:
    settings.DJANGO_LIVE = {"MAX_CONNECTIONS": 1}
    held = places.take(ANNA, "")
    assert code_of(places, NOBODY) == "at-capacity"
    assert code_of(places, Viewer(user_id="2")) == "at-capacity"
    held.release()
    places.take(NOBODY, "").release()


def test_a_place_that_nobody_has_any_more_is_free(places: Places) -> None:
    held = places.take(ANNA, "")
    assert places.taken == 1
    del held
    assert places.taken == 0


def test_so_many_are_opened_in_a_second(
    places: Places, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    settings.DJANGO_LIVE = {"OPENING_RATE": 2, "OPENING_BURST": 3}
    for _ in range(3):
        places.take(ANNA, "").release()
    assert code_of(places, ANNA) == "too-many-connections"
    places.take(Viewer(user_id="2"), "").release()
    clock[0] += 0.5
    places.take(ANNA, "").release()
    assert code_of(places, ANNA) == "too-many-connections"


def test_threads_do_not_lose_count(places: Places, settings: Any) -> None:
    settings.DJANGO_LIVE = {"OPENING_BURST": 1_000_000, "MAX_CONNECTIONS_PER_USER": 3}
    most: list[int] = []

    def open_and_close() -> None:
        for _ in range(500):
            try:
                place = places.take(ANNA, "")
            except TooMany:
                continue
            most.append(places.taken)
            place.release()

    threads = [threading.Thread(target=open_and_close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 3


def test_what_is_known_of_strangers_is_bounded(
    places: Places, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 10)
    settings.DJANGO_LIVE = {"MAX_CONNECTIONS_PER_ADDRESS": 5}
    for n in range(100):
        places.take(NOBODY, f"192.0.2.{n}").release()
    assert len(places._openings._buckets) == 10


def test_a_bucket_is_never_fuller_than_full(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    bucket = Bucket(2)
    clock[0] += 1000
    assert [bucket.take(1, 2) for _ in range(3)] == [True, True, False]


# -- addresses ---------------------------------------------------------------------------------------

FORGED = "203.0.113.9, "


@pytest.mark.parametrize(
    ("remote", "forwarded", "proxies", "expected"),
    [
        ("192.0.2.1", "", 0, "192.0.2.1"),
        ("192.0.2.1", FORGED + "198.51.100.7", 0, "192.0.2.1"),
        ("192.0.2.1", FORGED + "198.51.100.7", 1, "198.51.100.7"),
        ("192.0.2.1", FORGED + "198.51.100.7, 192.0.2.9", 2, "198.51.100.7"),
        ("192.0.2.1", "198.51.100.7", 2, "192.0.2.1"),
        ("192.0.2.1", "", 1, "192.0.2.1"),
        ("192.0.2.1", "nonsense", 1, ""),
        ("192.0.2.1", "198.51.100.7:4711", 1, "198.51.100.7"),
        ("192.0.2.1", "[2001:db8::1]:4711", 1, "2001:db8::/64"),
        ("2001:db8::1", "", 0, "2001:db8::/64"),
        ("2001:db8::ffff:1", "", 0, "2001:db8::/64"),
        ("2001:db8:0:1::1", "", 0, "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "", 0, "fe80::/64"),
        ("::ffff:192.0.2.1", "", 0, "192.0.2.1"),
        ("", "", 0, ""),
        ("unix:", "", 0, ""),
    ],
)
def test_whose_address_it_is(
    remote: str, forwarded: str, proxies: int, expected: str, settings: Any
) -> None:
    settings.DJANGO_LIVE = {"PROXIES": proxies}
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote)
    assert address_of(request) == expected


def test_another_header_may_name_it(settings: Any) -> None:
    settings.DJANGO_LIVE = {"PROXIES": 1, "PROXY_HEADER": "X-Real-IP"}
    request = RequestFactory().get("/", headers={"X-Real-IP": "192.0.2.7"})
    assert address_of(request) == "192.0.2.7"


# -- on the wire -----------------------------------------------------------------------------------


def full(**more: int) -> dict[str, Any]:
    return {"DJANGO_LIVE": {"MAX_CONNECTIONS": 1, **more}}


@pytest.mark.asyncio
async def test_a_newcomer_to_a_full_process_is_told_to_poll_and_the_others_are_served(
    site: Site, places: Places
) -> None:
    application = site(**full())
    async with Browser(application, "open/a") as first:
        await first.opened()
        async with Browser(application, "open/a") as second:
            await second.ended()
        assert second.status == 503
        assert int(second.headers["retry-after"]) >= 1
        assert b'"at-capacity"' in second.body
        assert b'"poll": "/live/poll/"' in second.body
        async with Peer(application) as third:
            assert await third.closed() == 4005
        assert [frame.event for frame in third.frames] == ["stream-error", "stream-end"]
        assert third.frames[0].data["code"] == "at-capacity"
        assert third.frames[1].data["retry"] >= 1000
        held = Browser(application, "open/a", path="/live/poll/")
        held.scope["query_string"] = b"topic=open/a&wait=20"
        async with held:
            await held.ended()
        assert held.status == 200, "a poll is answered at once where it cannot be held"
        await tell("open/a", "said", 1)
        await first.until(lambda: first.has_said(1))
    assert places.taken == 0
    async with Browser(application, "open/a") as fourth:
        await fourth.opened()


@pytest.mark.asyncio
async def test_a_user_with_too_many_connections_is_told_to_come_later(site: Site) -> None:
    KEYS["k"] = Identity(User(pk=1))
    application = site(DJANGO_LIVE={"MAX_CONNECTIONS_PER_USER": 1, "AUTHENTICATORS": BY_KEY})
    async with Peer(application, headers={"X-Key": "k"}) as first:
        await first.opened()
        async with Browser(application, "open/a", headers={"X-Key": "k"}) as second:
            await second.ended()
        assert second.status == 429
        assert second.headers["retry-after"] == "10"
        assert b'"too-many-connections"' in second.body
        async with Peer(application, headers={"X-Key": "k"}) as third:
            assert await third.closed() == 4004
    async with Browser(application, "open/a", headers={"X-Key": "k"}) as fourth:
        await fourth.opened()


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["stream", "socket", "poll"])
async def test_a_place_is_given_back_however_a_connection_ends(
    transport: str, site: Site, places: Places
) -> None:
    application = site(**full())
    for _ in range(3):
        if transport == "socket":
            async with Peer(application) as peer:
                await peer.opened()
                assert places.taken == 1
        elif transport == "stream":
            async with Browser(application, "open/a") as browser:
                await browser.opened()
                assert places.taken == 1
        else:
            first = Browser(application, "open/a", path="/live/poll/")
            async with first:
                await first.ended()
            cursor = first.body.split(b'"cursor":')[1].split(b'"')[1]
            poll = Browser(application, "open/a", path="/live/poll/")
            poll.scope["query_string"] = b"topic=open/a&wait=20&cursor=" + cursor
            async with poll:
                await until(lambda: places.taken == 1)
                assert not poll.task.done(), "it is held"
        gc.collect()
        await until(lambda: places.taken == 0)


@pytest.mark.asyncio
async def test_what_one_user_sends_is_counted_over_all_connections(site: Site) -> None:
    KEYS["k"] = Identity(User(pk=1))
    KEYS["other"] = Identity(User(pk=2))
    application = site(
        DJANGO_LIVE={"MESSAGE_RATE": 1, "MESSAGE_BURST": 4, "AUTHENTICATORS": BY_KEY}
    )
    async with (
        Peer(application, headers={"X-Key": "k"}) as one,
        Peer(application, headers={"X-Key": "k"}) as two,
        Peer(application, headers={"X-Key": "other"}) as other,
    ):
        for peer in (one, two, other):
            await peer.opened()
        for _ in range(2):
            for peer in (one, two):
                reply = await peer.call("send", topic="rooms/a", type="describe")
                assert reply.error is None
        for peer in (one, two):
            reply = await peer.call("send", topic="rooms/a", type="describe")
            assert reply.error["code"] == "too-many-messages"
        assert (await other.call("send", topic="rooms/a", type="describe")).error is None
