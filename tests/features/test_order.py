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
from django_live.features import deferred
from django_live.models import PendingEvent
from tests.features.declaring import declared
from tests.testapp.models import Order, Ticket

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def asking_fails(table: str, *arguments: Any) -> Iterator[None]:
    """Every statement with this table ends so, but for the notes that a save writes."""

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if table in sql and not (table == NOTES and sql.startswith("INSERT")):
            raise OperationalError(*arguments)
        return execute(sql, *rest)

    with connection.execute_wrapper(fail):
        yield


@pytest.fixture(autouse=True)
def nobody_looks_again(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.DJANGO_LIVE = {"NUMBERING_WAIT": 0.05}
    monkeypatch.setattr(sweeping, "sweep_later", lambda alias: None)


FAULTS = [
    (1213, "Deadlock found when trying to get lock"),
    ("database is locked",),
    ("the disk is full",),
]
HEADS, NOTES = "django_live_head", "django_live_pendingchange"


@pytest.mark.parametrize("fault", FAULTS)
def test_the_save_succeeds_and_the_event_comes_later(
    fault: tuple[Any, ...], heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    ann = User.objects.create_user("ann")
    with caplog.at_level(logging.WARNING, "django_live"), asking_fails(HEADS, *fault):
        with transaction.atomic():
            order = Order.objects.create(customer=ann)
        assert Order.objects.filter(pk=order.pk).exists()
    assert PendingEvent.objects.exists()
    assert "left to the sweep" in caplog.text
    assert f"OrderChanges testapp.Order {order.pk}" in caplog.text
    assert sweep() > 0
    assert [type for type, _ in heard(f"orders/{order.pk}")] == ["created"]
    assert sweep() == 0


@pytest.mark.parametrize("table", [HEADS, NOTES], ids=["numbering", "presenting"])
@pytest.mark.parametrize("fault", FAULTS)
def test_so_it_is_with_what_is_told_from_a_note(
    fault: tuple[Any, ...],
    table: str,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deferred, "look_again", lambda using, delay: None)
    with declared(
        "Noted",
        model=Ticket,
        related=["comments"],
        topics=lambda self, ticket: [f"open/ticket-{ticket.pk}"],
    ):
        with caplog.at_level(logging.WARNING, "django_live"), asking_fails(table, *fault):
            ticket = Ticket.objects.create(title="leak")
        assert Ticket.objects.filter(pk=ticket.pk).exists()
        assert "left to the sweep" in caplog.text
        assert f"Noted testapp.Ticket {ticket.pk}" in caplog.text
        assert sweep() > 0
        assert [type for type, _ in heard(f"open/ticket-{ticket.pk}")] == ["created"]
        assert sweep() == 0
