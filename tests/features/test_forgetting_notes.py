"""Before somebody is forgotten, all that waits is told: in the log it can be changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User

from django_live.core import forgetting, sweeping
from django_live.core.forgetting import forget
from django_live.features import alarms, throttle
from django_live.features.bulk import LiveQuerySet
from django_live.models import PendingChange, PendingEvent
from tests.features.declaring import declared
from tests.testapp.models import Order, Ticket

if TYPE_CHECKING:
    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_happens_by_itself(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(alarms, "wake", lambda using, delay, work: None)
    monkeypatch.setattr(sweeping.errands, "ask", lambda using: None)
    throttle._cooling.clear()
    yield
    throttle._cooling.clear()


def note(source: str) -> None:
    """As a trigger writes it: with the whole row."""
    facts = {"pk": [1], "old": {"id": 1, "title": "I am Ann"}}
    PendingChange.objects.create(
        source=source, object_key="1" * 32, facts=json.dumps(facts), created=time.time()
    )


def test_an_update_that_waits_for_its_turn(ann: User, heard: Heard) -> None:
    topics: Callable[..., list[str]] = lambda self, ticket: [f"open/{ticket.pk}"]  # noqa: E731
    with declared(model=Ticket, fields=["title"], throttle=timedelta(hours=1), topics=topics):
        ticket = Ticket.objects.create(title="0")
        for title in ("1", "2", "I am Ann"):
            ticket.title = title
            ticket.save()
        topic = f"open/{ticket.pk}"
        before = [data["title"] for _, data in heard(topic)]
        assert "I am Ann" not in before
        assert PendingChange.objects.exists()
        assert forget(ann, dry_run=True).failed == []
        assert PendingChange.objects.exists()
        assert forget(ann).failed == []
        assert not PendingChange.objects.exists()
        assert [data["title"] for _, data in heard(topic)] == ["I am Ann"]


def test_rows_that_were_made_many_at_once(ann: User, heard: Heard) -> None:
    rows: LiveQuerySet[Order] = LiveQuerySet(Order)
    rows.bulk_create([Order(customer=ann) for _ in range(300)])
    assert PendingEvent.objects.exists()
    assert forget(ann).failed == []
    assert len(heard(f"customers/{ann.pk}/orders")) == 300


def test_a_note_that_nobody_here_knows_is_named_and_later_removed(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PATIENCE", 0.0)
    note("table:of_another_release")
    [failure] = forget(ann).failed
    assert failure.startswith("the outbox of 'default' still holds rows")
    PendingChange.objects.update(created=0.0)
    assert forget(ann).failed == []
    assert not PendingChange.objects.exists()


def test_what_another_process_is_numbering_is_waited_for(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    sweep = sweeping.sweep

    def busy(using: str) -> int:
        looks.append(using)
        return sweep(using) if len(looks) > 2 else 0

    rows: LiveQuerySet[Order] = LiveQuerySet(Order)
    rows.bulk_create([Order(customer=ann) for _ in range(300)])
    monkeypatch.setattr(forgetting, "sweep", busy)
    assert forget(ann).failed == []
    assert len(looks) == 3
    assert not PendingEvent.objects.exists()
