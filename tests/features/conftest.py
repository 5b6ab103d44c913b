"""What the tests of the features ask for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from django.contrib.auth.models import User

from django_live.core.log import get_log
from django_live.core.sweeping import sweep
from django_live.core.topics import Topic, as_topic
from django_live.models import PendingEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    Heard: TypeAlias = Callable[[Topic | str], list[tuple[str, Any]]]
    NewUser: TypeAlias = Callable[..., User]


@pytest.fixture
def heard() -> Heard:
    """`heard("orders/1")`: what this topic has heard since it was last asked, as (type, data).

    Without the names of changed fields, which `heard_whole` has, too.
    """
    return listener()


@pytest.fixture
def heard_whole() -> Heard:
    """As `heard`, with the names of changed fields."""
    return listener(whole=True)


def listener(*, whole: bool = False) -> Heard:
    """What the fixtures `heard` and `heard_whole` give, for a test that needs several."""
    read: dict[str, int] = {}

    def since(topic: Topic | str) -> list[tuple[str, Any]]:
        assert not PendingEvent.objects.exists(), "a committed event was left to the sweep"
        found = as_topic(topic)
        page = get_log().read(found, read.get(found.key, 0), 100_000, 10**9)
        read[found.key] = page.head.last
        events = [(event.type, json.loads(event.data)) for event in page.events]
        for _, data in () if whole else events:
            if isinstance(data, dict):
                data.pop("changed", None)
        return events

    return since


@pytest.fixture
def swept() -> Callable[[], int]:
    """Number what is pending, as a process with an event loop does now and then."""
    return sweep


@pytest.fixture
def new_user(transactional_db: None) -> NewUser:  # noqa: ARG001 - hooks run at a real commit
    """`new_user("ann")`, `new_user("root", is_staff=True)`."""

    def make(name: str, **kwargs: Any) -> User:
        return User.objects.create_user(name, password="pw", **kwargs)

    return make


@pytest.fixture
def ann(new_user: NewUser) -> User:
    """A customer."""
    return new_user("ann")


@pytest.fixture
def bob(new_user: NewUser) -> User:
    """Another customer."""
    return new_user("bob")
