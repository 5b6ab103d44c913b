"""One person is dismissed while everybody is asked again: their stream ends within a second all the same.

On each store, with users of the database, and by the signal that Django sends.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User

from django_live.core import hooks
from django_live.core.rechecking import FEW, LARGE_CHECKS_AT_ONCE
from django_live.core.runtime import Runtime
from django_live.core.subscribing import Request
from django_live.core.topics import Viewer
from django_live.transports.authentication import user_of_session
from django_live.transports.frames import SSE
from tests.contracts.test_survey import in_a_process
from tests.core.fakes import FakeSink, until
from tests.testapp.live import ReadersTopic

pytestmark = [pytest.mark.usefixtures("state"), pytest.mark.any_database]

PEOPLE = 3 * FEW
SLOW = 0.05
"""Seconds that each permission takes, so that a few people are a crowd."""
WITHIN = 1.0
"""Seconds, as promised."""


def readers() -> list[str]:
    """The primary keys of the people of a group."""
    group = Group.objects.create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_order"))
    User.objects.bulk_create(User(username=f"reader {n}") for n in range(PEOPLE))
    people = list(User.objects.all())
    group.user_set.set(people)
    return [str(one.pk) for one in people]


def leave(key: str) -> None:
    """As an administrator's page does it."""
    User.objects.get(pk=key).groups.clear()


async def in_a_thread(work: Any, *args: Any) -> Any:
    return await hooks.in_thread(hooks.hook_threads(), lambda: work(*args))


async def opened(live: Runtime, key: str) -> Any:
    viewer = Viewer(user_id=key, source=user_of_session)
    request = Request(ReadersTopic(slug="all"), None)
    return await live.open(FakeSink(), SSE, viewer, [request], decided=time.monotonic())


async def dismissed_in_a_crowd(live: Runtime, key: str) -> float:
    """Ask everybody, dismiss this one at once, and say after how long their stream has ended."""
    crowd = asyncio.ensure_future(live.control.check(list(live.hub.connections.values())))
    theirs = [one for one in live.hub.connections.values() if one.viewer.user_id == key]
    await asyncio.sleep(0)
    began = time.monotonic()
    await in_a_thread(leave, key)
    assert not crowd.done(), "there was no crowd to wait for"
    await until(lambda: not any(one.subscriptions for one in theirs))
    waited = time.monotonic() - began
    await crowd
    return waited


def scenario(monkeypatch: pytest.MonkeyPatch, tries: int = 3) -> float:
    """The seconds, the best of a few tries: other work on this machine is not what is measured."""
    may = ReadersTopic.can_subscribe

    def slowly(topic: ReadersTopic, viewer: Viewer) -> bool:
        time.sleep(SLOW)
        return may(topic, viewer)

    async def work(live: Runtime) -> float:
        keys = await in_a_thread(readers)
        for key in keys:
            await opened(live, key)
        await live.control.check(list(live.hub.connections.values()))
        monkeypatch.setattr(ReadersTopic, "can_subscribe", slowly)
        found: list[float] = []
        while len(found) < tries and (not found or min(found) >= WITHIN):
            found.append(await dismissed_in_a_crowd(live, keys.pop()))  # the last in line
            assert len(live.hub.connections) >= len(keys), "others were sent away"
        return min(found)

    return float(in_a_process(work))


def test_who_is_dismissed_does_not_wait_for_the_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scenario(monkeypatch) < WITHIN


def test_without_a_way_past_the_crowd_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: one who is asked for alone is put at the end of the line."""
    monkeypatch.setattr("django_live.core.rechecking.FEW", 0)
    assert PEOPLE * SLOW / LARGE_CHECKS_AT_ONCE > 1.5 * WITHIN
    assert scenario(monkeypatch, tries=1) >= WITHIN
