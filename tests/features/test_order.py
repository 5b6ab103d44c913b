"""The numbering fails: the save has succeeded, the fault names what it was about, the event comes later."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction

from django_live.core import sweeping
from django_live.core.sweeping import sweep
from django_live.models import PendingEvent
from tests.testapp.models import Order

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def numbering_fails(*arguments: Any) -> Iterator[None]:
    """Every look at the heads ends so."""

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if "django_live_head" in sql:
            raise OperationalError(*arguments)
        return execute(sql, *rest)

    with connection.execute_wrapper(fail):
        yield


@pytest.fixture(autouse=True)
def nobody_looks_again(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.DJANGO_LIVE = {"NUMBERING_WAIT": 0.05}
    monkeypatch.setattr(sweeping, "sweep_later", lambda alias: None)


@pytest.mark.parametrize(
    "fault",
    [
        (1213, "Deadlock found when trying to get lock"),
        ("database is locked",),
        ("the disk is full",),
    ],
)
def test_the_save_succeeds_and_the_event_comes_later(
    fault: tuple[Any, ...], heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    ann = User.objects.create_user("ann")
    with caplog.at_level(logging.WARNING, "django_live"), numbering_fails(*fault):
        with transaction.atomic():
            order = Order.objects.create(customer=ann)
        assert Order.objects.filter(pk=order.pk).exists()
    assert PendingEvent.objects.exists()
    assert "left to the sweep" in caplog.text
    assert f"OrderChanges testapp.Order {order.pk}" in caplog.text
    assert sweep() > 0
    assert [type for type, _ in heard(f"orders/{order.pk}")] == ["created"]
    assert sweep() == 0
