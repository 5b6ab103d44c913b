"""What somebody can try who writes their requests by hand: names and cursors that are not theirs, another
tenant's topics, and questions whose answer would tell what exists."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.http import HttpRequest
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from django_live.core.topics import as_topic
from django_live.transports.requests import Refused, plan_of, refusal_response
from tests.testapp.live import OpenTopic
from tests.testapp.models import Order
from tests.transports.driver import Browser, tell
from tests.transports.socket_driver import Peer
from tests.transports.test_polling import ask

Site = Callable[..., Any]

# -- from when on ----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_old_cursor_brings_nothing_from_before_one_may_see_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one comes back by; without the bound all of it is told."""
    application = site()
    cursor = (await ask(application, "open/a")).answer["cursor"]
    await tell("open/a", "said", 1)
    await asyncio.sleep(0.01)  # a moment that is neither event's
    since = datetime.now(UTC)
    await tell("open/a", "said", 2)

    async def heard() -> list[list[Any]]:
        polled = await ask(application, "open/a", cursor=cursor)
        back = {"last-event-id": cursor}
        async with (
            Browser(application, "open/a", headers=back) as browser,
            Peer(application) as peer,
        ):
            await peer.opened()
            await peer.subscribe("open/a", cursor=cursor)
            await browser.until(lambda: 2 in browser.said())
            await peer.until(lambda: 2 in peer.said())
            return [
                browser.said(),
                peer.said(),
                [data for event, data in polled.heard if event == "said"],
            ]

    assert await heard() == [[1, 2]] * 3
    monkeypatch.setattr(OpenTopic, "visible_from", lambda topic, viewer: since)
    assert await heard() == [[2]] * 3


# -- tenants ---------------------------------------------------------------------------------------


def tenant_of(request: HttpRequest) -> str:
    return request.headers.get("X-Tenant", "")


@pytest.fixture
def tenants(site: Site) -> Any:
    return site(DJANGO_LIVE={"NAMESPACE": f"{__name__}.tenant_of"})


ACME, RIVAL = {"X-Tenant": "acme"}, {"X-Tenant": "rival"}


@pytest.mark.asyncio
async def test_what_is_said_in_one_tenant_is_heard_by_no_other(tenants: Any) -> None:
    async with (
        Browser(tenants, "open/a", headers=ACME) as ours,
        Browser(tenants, "open/a", headers=RIVAL) as theirs,
        Peer(tenants, headers=RIVAL) as peer,
    ):
        for one in (ours, theirs, peer):
            await one.opened()
        await peer.subscribe("open/a")
        await tell_in("acme", 1)
        await ours.until(ours.said)
        await tell_in("rival", 2)
        await theirs.until(theirs.said)
        await peer.until(peer.said)
        assert ours.said() == [1]
        assert theirs.said() == peer.said() == [2]


@pytest.mark.asyncio
async def test_a_cursor_of_one_tenant_reads_nothing_in_another(tenants: Any) -> None:
    async with Browser(tenants, "open/a", headers=ACME) as ours:
        await ours.opened()
        cursor = next(frame.id for frame in reversed(ours.frames) if frame.id)
    await tell_in("acme", 1)
    resumed = {**RIVAL, "last-event-id": str(cursor)}
    async with Browser(tenants, "open/a", headers=resumed) as theirs:
        await theirs.opened()
        await tell_in("rival", 2)
        await theirs.until(theirs.said)
        assert theirs.said() == [2]


async def tell_in(namespace: str, n: int) -> None:
    await tell(as_topic("open/a", namespace), "said", n)


# -- names and cursors -----------------------------------------------------------------------------

NAMES = [
    "open/a\norders/1",
    "open/a\r\nevent: forged",
    "open/a,orders/1",
    "open/../orders/1",
    "open/a/../../orders/1",
    "open/a/",
    "/open/a",
    "OPEN/a",
    "open/a\0",
    "open%2Fa",
    "open/а",
    "orders/١",
    "django_live/control",
    "django_live/control/",
    "django_live/tickets/x",
]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", NAMES)
async def test_no_spelling_opens_another_topic(site: Site, name: str) -> None:
    async with Browser(site(), name) as browser:
        await browser.ended()
    assert browser.status == 403
    assert json.loads(browser.body)["errors"][0]["code"] in ("forbidden", "malformed-topic")


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", ["epoch", "offset", "topic", "seal", "no position"])
async def test_a_cursor_that_was_changed_reads_nothing(site: Site, damage: str) -> None:
    application = site()
    for n in range(3):
        await tell("open/a", "said", n)
    async with Browser(application, "open/a") as browser:
        await browser.opened()
        cursor = str(next(frame.id for frame in browser.frames if frame.id))
    key, epoch, offset, seal = cursor.split(".")
    forged = {
        "epoch": f"{key}.{epoch[::-1]}.{offset}.{seal}",
        "offset": f"{key}.{epoch}.0.{seal}",
        "topic": f"{as_topic('open/b').key[:12]}.{epoch}.0.{seal}",
        "seal": f"{key}.{epoch}.0.{seal[::-1]}",
        "no position": f"{key}.{seal}",
    }[damage]
    topic = "open/b" if damage == "topic" else "open/a"
    async with Browser(application, topic, headers={"last-event-id": forged}) as browser:
        await browser.opened()
        await browser.until(lambda: browser.events("stream-reset"))
        assert browser.events("stream-reset")[0].json()["reason"] == "unknown-cursor"
        await tell(topic, "said", 9)
        await browser.until(browser.said)
        assert browser.said() == [9], "what was before it was read"


# -- what exists -----------------------------------------------------------------------------------


def asked(name: str, user: Any) -> HttpRequest:
    request = RequestFactory().get(f"/live/events/?{urlencode({'topic': name})}")
    request.user = user
    request.session = SessionStore()
    return request


EXISTING, MISSING = range(471_100, 471_110, 2), range(471_101, 471_111, 2)
"""Primary keys."""
Work = tuple[tuple[str, ...], tuple[str, ...], bytes]


def nameless(pk: int, work: tuple[list[str], list[str], bytes]) -> Work:
    """Without the key that was asked about."""
    calls, queries, body = work
    name = str(pk)
    return (
        tuple(calls),
        tuple(sql.replace(name, "N") for sql in queries),
        body.replace(name.encode(), b"N"),
    )


def work_of(name: str, user: Any) -> tuple[list[str], list[str], bytes]:
    """The functions that are called, the queries, and the answer, to this question."""
    calls: list[str] = []

    def note(frame: Any, event: str, _argument: Any) -> None:
        if event == "call":
            calls.append(f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}")

    request = asked(name, user)
    gc.collect()
    gc.disable()  # whoever is called when it runs
    with CaptureQueriesContext(connection) as queries:
        sys.setprofile(note)
        try:
            with pytest.raises(Refused) as refused:
                plan_of(request)
        finally:
            sys.setprofile(None)
            gc.enable()
    body = refusal_response(refused.value).content
    return calls, [query["sql"] for query in queries], body


@pytest.mark.django_db
@pytest.mark.parametrize("signed_in", [True, False])
def test_what_is_anothers_and_what_is_not_cost_the_same_work(signed_in: bool) -> None:
    """No clock is asked: the very same functions are called and the same queries made, so there is
    nothing to be seen by one. (What the project's own `can_subscribe` does is the project's.)

    Asked about several of each, in turn, none of them twice. What happens once, whatever is asked (a
    cache that is full, an object that another thread has let go of), is in one of these, and a
    difference that says something is in all.
    """
    bert = User.objects.create_user("bert")
    anna: Any = User.objects.create_user("anna") if signed_in else AnonymousUser()
    for pk in EXISTING:
        Order.objects.create(pk=pk, customer=bert)
    for pk in (EXISTING[0], MISSING[0]):  # what is imported and compiled once
        work_of(f"orders/{pk}", anna)
    theirs: Counter[Work] = Counter()
    none: Counter[Work] = Counter()
    for existing, missing in zip(EXISTING[1:], MISSING[1:], strict=True):
        theirs[nameless(existing, work_of(f"orders/{existing}", anna))] += 1
        none[nameless(missing, work_of(f"orders/{missing}", anna))] += 1
    ((usual, times),) = theirs.most_common(1)
    assert times > len(EXISTING) / 2, "it is never the same"
    assert none.most_common(1) == [(usual, none[usual])]
    assert none[usual] > len(MISSING) / 2
    assert len(usual[0]) > 50, "the calls were not seen"
    assert bool(usual[1]) is signed_in


@pytest.mark.django_db
def test_one_call_more_for_what_exists_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    bert = User.objects.create_user("bert")
    anna: Any = User.objects.create_user("anna")
    for pk in EXISTING:
        Order.objects.create(pk=pk, customer=bert)

    def can_subscribe(topic: Any, viewer: Any) -> bool:
        found = Order.objects.filter(pk=topic.pk).first()
        return found is not None and str(found.customer_id) == viewer.user_id

    monkeypatch.setattr(type(as_topic("orders/1")), "can_subscribe", can_subscribe)
    for pk in (EXISTING[0], MISSING[0]):
        work_of(f"orders/{pk}", anna)
    existing, missing = EXISTING[1], MISSING[1]
    assert nameless(existing, work_of(f"orders/{existing}", anna)) != nameless(
        missing, work_of(f"orders/{missing}", anna)
    )
