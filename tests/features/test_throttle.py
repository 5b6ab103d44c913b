"""Noisy models: the first update at once, the last at the end, whoever makes them and whoever dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_live.core.state import Count
from django_live.exceptions import StoreError
from django_live.features import alarms, deferred, notes, presenting, throttle
from django_live.features.changes import Audience
from django_live.models import PendingChange, PendingEvent
from tests.features.declaring import declared
from tests.support.databases import ServerDatabase
from tests.testapp.models import Team, Ticket

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)

EVERY = 10.0


class Clock:
    """The time, and a state whose counters run by it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slots: dict[str, tuple[int, float]] = {}

    def count(self, name: str, *, ttl: float) -> Count:
        value, ends = self.slots.get(name, (0, 0.0))
        if ends <= self.now:
            value, ends = 0, self.now + ttl
        self.slots[name] = value + 1, ends
        return Count(value + 1, ends - self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still until the test moves it, and nothing happens by itself."""
    one = Clock()
    fake = SimpleNamespace(time=lambda: one.now, sleep=time.sleep)
    for module in (deferred, notes, presenting, throttle):
        monkeypatch.setattr(module, "time", fake)
    monkeypatch.setattr(throttle, "get_state", lambda: one)
    monkeypatch.setattr(alarms, "wake", lambda using, delay, work: None)
    return one


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    throttle._cooling.clear()
    yield
    alarms.silence()
    throttle._cooling.clear()


def topics(_: Any, ticket: Ticket) -> list[str]:
    return [f"open/ticket-{ticket.pk}", f"open/team-{ticket.team_id}"]


@pytest.fixture
def noisy() -> Iterator[None]:
    with declared(
        "Noisy", model=Ticket, fields=["title"], throttle=timedelta(seconds=EVERY), topics=topics
    ):
        yield


@pytest.fixture
def ticket(clock: Clock, noisy: None, heard: Heard) -> Ticket:  # noqa: ARG001
    """A ticket that nobody was told of for long."""
    one = Ticket.objects.create(title="0")
    assert [type for type, _ in heard(f"open/ticket-{one.pk}")] == ["created"]
    clock.now += 2 * EVERY
    return one


def save(ticket: Ticket, *titles: Any) -> None:
    for title in titles:
        ticket.title = str(title)
        ticket.save()


@pytest.fixture
def told(ticket: Ticket, heard: Heard) -> Callable[[], list[str]]:
    """The titles of the updates since."""

    def since() -> list[str]:
        return [
            data["title"] if type == "updated" else type
            for type, data in heard(f"open/ticket-{ticket.pk}")
        ]

    return since


def test_the_first_at_once_and_the_last_at_the_end(
    ticket: Ticket, told: Any, clock: Clock, swept: Any
) -> None:
    save(ticket, *range(1, 6))
    assert told() == ["1"]
    clock.now += EVERY - 1
    save(ticket, 6)
    swept()
    assert told() == []
    clock.now += 1
    swept()
    assert told() == ["6"]
    swept()
    clock.now += 5 * EVERY
    swept()
    assert told() == []
    assert not PendingChange.objects.exists()


def test_the_last_one_begins_the_next_interval(
    ticket: Ticket, told: Any, clock: Clock, swept: Any
) -> None:
    save(ticket, 1, 2)
    clock.now += EVERY
    swept()
    save(ticket, 3)
    swept()
    assert told() == ["1", "2"]
    clock.now += EVERY
    swept()
    assert told() == ["3"]


def test_changed_names_everything_since_the_last_event(
    ticket: Ticket, heard_whole: Heard, clock: Clock, swept: Any
) -> None:
    save(ticket, 1)
    heard_whole(f"open/ticket-{ticket.pk}")
    save(ticket, 2)
    ticket.secret = "x"
    ticket.save()
    clock.now += EVERY
    swept()
    [(_, data)] = heard_whole(f"open/ticket-{ticket.pk}")
    assert data["changed"] == ["title"]


def test_another_process_knows_that_it_has_to_wait(
    ticket: Ticket, told: Any, clock: Clock, swept: Any
) -> None:
    save(ticket, 1)
    throttle._cooling.clear()  # what the other process does not know
    save(ticket, 2)
    assert told() == ["1"]
    clock.now += EVERY
    swept()
    assert told() == ["2"]


def test_without_the_shared_counter_it_would_not(ticket: Ticket, told: Any, clock: Clock) -> None:
    """Negative control."""
    save(ticket, 1)
    throttle._cooling.clear()
    clock.slots.clear()
    save(ticket, 2)
    assert told() == ["1", "2"]


def test_a_deletion_does_not_wait(ticket: Ticket, heard: Heard) -> None:
    save(ticket, 1, 2)
    pk = ticket.pk
    ticket.delete()
    assert [type for type, _ in heard(f"open/ticket-{pk}")] == ["updated", "deleted"]
    assert not PendingChange.objects.exists()


def test_coming_and_leaving_do_not_wait_but_the_update_beside_them_does(
    ticket: Ticket, heard: Heard, told: Any, clock: Clock, swept: Any
) -> None:
    red = Team.objects.create(name="red")
    save(ticket, 1)
    ticket.team = red
    save(ticket, 2)
    assert [(t, d["title"]) for t, d in heard(f"open/team-{red.pk}")] == [("created", "2")]
    ticket.team = None
    save(ticket, 3)
    assert heard(f"open/team-{red.pk}") == [("deleted", {"pk": ticket.pk})]
    assert told() == ["1"]
    clock.now += EVERY
    swept()
    assert told() == ["3"]
    assert heard(f"open/team-{red.pk}") == []


def test_a_topic_whose_update_was_declined_is_not_forgotten(
    clock: Clock, heard: Heard, swept: Any
) -> None:
    audiences = [
        Audience("loud", topics=lambda t: [f"open/loud-{t.pk}", f"open/team-{t.team_id}"]),
        Audience("quiet", topics=lambda t: [f"open/quiet-{t.pk}"], when=lambda t, changed: False),
    ]
    with declared(model=Ticket, audiences=audiences, throttle=timedelta(seconds=EVERY)):
        ticket = Ticket.objects.create(title="0")
        ticket.team = Team.objects.create(name="red")
        save(ticket, 1)  # comes to a topic, which does not wait; the update of the others does
        clock.now += EVERY
        swept()
        assert [type for type, _ in heard(f"open/loud-{ticket.pk}")] == ["created", "updated"]
        assert [type for type, _ in heard(f"open/quiet-{ticket.pk}")] == ["created"]


def test_each_object_has_its_own_turn(ticket: Ticket, told: Any, heard: Heard) -> None:
    other = Ticket.objects.create(title="other")
    heard(f"open/ticket-{other.pk}")
    save(ticket, 1, 2)
    other.title = "new"
    other.save()
    assert told() == ["1"]
    # Its creation was told a moment ago.
    assert heard(f"open/ticket-{other.pk}") == []


def test_a_save_that_has_to_wait_costs_one_query_in_the_transaction(
    ticket: Ticket, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    save(ticket, 1)
    with transaction.atomic(), django_assert_num_queries(2):
        save(ticket, 2)


def test_a_state_that_is_away_holds_nobody_up(
    ticket: Ticket, told: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> Count:
        raise StoreError("away")

    monkeypatch.setattr(Clock, "count", away)
    save(ticket, 1, 2)
    assert told() == ["1", "2"]
    assert "The throttle does not hold for now" in caplog.text


@pytest.mark.usefixtures("transactional_db")
def test_a_process_that_nobody_sweeps_tells_the_last_one_by_itself(heard: Heard) -> None:
    """With the real clock and the real state: a WSGI process that only saves."""
    with declared(
        "Noisy", model=Ticket, fields=["title"], throttle=timedelta(seconds=1), topics=topics
    ):
        ticket = Ticket.objects.create(title="0")
        save(ticket, 1, 2, 3)
        deadline = time.monotonic() + 30
        told: list[str] = []
        while time.monotonic() < deadline and told[-1:] != ["3"]:
            time.sleep(0.05)
            if not PendingChange.objects.exists() and not PendingEvent.objects.exists():
                told += [data["title"] for _, data in heard(f"open/ticket-{ticket.pk}")]
        alarms.silence()
    assert told[0] == "0"
    assert told[-1] == "3"
    assert told == sorted(set(told))


DIES = """
import os, signal
from datetime import timedelta
from django_live.features.changes import Changes
from tests.testapp.models import Ticket

class Noisy(Changes):
    model = Ticket
    fields = ["title"]
    throttle = timedelta(seconds=2)
    def topics(self, ticket):
        return [f"open/ticket-{ticket.pk}"]
"""
SAVES = """
ticket = Ticket.objects.create(title="first")
ticket.title = "last"
ticket.save()
print(ticket.pk, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
SWEEPS = """
import json, time
from django_live.core.log import get_log
from django_live.core.sweeping import sweep
from django_live.core.topics import as_topic
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    sweep()
    events = get_log().read(as_topic("open/ticket-1"), 0, 100, 10**6).events
    if len(events) > 1:
        break
    time.sleep(0.05)
for _ in range(20):
    sweep()
events = get_log().read(as_topic("open/ticket-1"), 0, 100, 10**6).events
print(json.dumps([[event.type, json.loads(event.data)["title"]] for event in events]))
"""


def test_the_last_one_outlives_the_process_that_made_it(
    each_server_database: ServerDatabase,
) -> None:
    from tests.support.databases import CommandFailedError

    with pytest.raises(CommandFailedError, match="-9"):
        each_server_database.python(DIES + SAVES)
    told = each_server_database.python(DIES + SWEEPS)
    assert told.strip() == '[["created", "first"], ["updated", "last"]]'
