"""What the tests of notifications ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_live.core.log import get_log
from django_live.notifications.inbox import inbox_of
from django_live.notifications.rules import RULES, NotificationRule

NewUser = Callable[..., User]
Heard = Callable[[User], list[tuple[str, Any]]]


@pytest.fixture
def new_user(transactional_db: None) -> NewUser:  # noqa: ARG001 - hooks run at a real commit
    def make(name: str, **kwargs: Any) -> User:
        return User.objects.create_user(name, f"{name}@example.com", "pw", **kwargs)

    return make


@pytest.fixture
def ann(new_user: NewUser) -> User:
    return new_user("ann")


@pytest.fixture
def bob(new_user: NewUser) -> User:
    return new_user("bob")


@pytest.fixture
def heard() -> Heard:
    """`heard(ann)`: what her inbox has told since it was last asked, as (type, data)."""
    import json

    read: dict[Any, int] = {}

    def since(user: User) -> list[tuple[str, Any]]:
        page = get_log().read(inbox_of(user.pk), read.get(user.pk, 0), 1000, 10**9)
        read[user.pk] = page.head.last
        return [(event.type, json.loads(event.data)) for event in page.events]

    return since


@contextmanager
def ruled(name: str = "Ruled", **attributes: Any) -> Iterator[NotificationRule[Any]]:
    """`ruled(model=Order, …)`: the rule of this class, until the block ends."""
    rule_class = type(name, (NotificationRule,), attributes)
    uid = f"{rule_class.__module__}.{rule_class.__qualname__}"
    try:
        yield RULES[uid]
    finally:
        RULES.pop(uid).disconnect()
