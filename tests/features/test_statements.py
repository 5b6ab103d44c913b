"""How many statements a save takes when it is told with a second look: after the commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_live import publish_many
from django_live.core.events import Draft
from django_live.core.log import get_log
from django_live.core.outbox import Entry, get_outbox
from django_live.core.topics import as_topic
from django_live.models import Head, PendingChange, PendingEvent, StateCounter, StoredEvent
from tests.features.declaring import declared
from tests.support.statements import statements_of
from tests.testapp.models import Comment, Team, Ticket

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)

OURS = [model._meta.db_table for model in (Head, PendingChange, PendingEvent, StoredEvent)]
TURNS = StateCounter._meta.db_table


class Counted:
    """The statements of one save: in the caller's transaction and after its commit."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.after: list[str] = []

    def ours(self, of: list[str]) -> list[str]:
        return [sql for sql in of if any(table in sql for table in OURS)]

    @property
    def turns(self) -> list[str]:
        return [sql for sql in self.after if TURNS in sql]

    @property
    def projects(self) -> list[str]:
        """Reads of the project's own tables, after the commit."""
        ours = [*OURS, TURNS]
        return [sql for sql in self.after if not any(table in sql for table in ours)]


@contextmanager
def counted() -> Iterator[Counted]:
    one = Counted()
    with CaptureQueriesContext(connection) as after:
        with transaction.atomic(), CaptureQueriesContext(connection) as inside:
            yield one
        one.inside = statements_of(inside)
    one.after = statements_of(after)[len(one.inside) :]


def topics_of(count: int) -> Callable[..., list[str]]:
    def topics(_: Any, ticket: Ticket) -> list[str]:
        return [f"open/ticket-{ticket.pk}-{n}" for n in range(count)]

    return topics


@pytest.fixture(params=[1, 20, 300])
def count(request: pytest.FixtureRequest) -> int:
    """Of the topics that show a ticket."""
    number: int = request.param
    return number


@pytest.fixture
def ticket(heard: Heard) -> Ticket:
    """From before: the log has heard something, so that it has a generation."""
    heard("open/ticket-0")
    return Ticket.objects.create(title="leak", team=Team.objects.create(name="red"))


@pytest.mark.parametrize("known", [True, False], ids=["known topics", "new topics"])
def test_a_save_of_what_has_related_objects(ticket: Ticket, count: int, known: bool) -> None:
    with declared(model=Ticket, related=["comments"], fields=["title"], topics=topics_of(count)):
        if known:
            ticket.save()
        with counted() as of:
            ticket.save()
    assert len(of.ours(of.inside)) == 1
    assert len(of.projects) == 1  # the ticket, as it is now
    assert len(of.after) <= 4, of.after


@pytest.mark.parametrize("known", [True, False], ids=["known topics", "new topics"])
def test_a_publish_by_itself(ticket: Ticket, count: int, known: bool) -> None:
    names = topics_of(count)(None, ticket)
    if known:
        publish_many((name, "said") for name in names)
    with CaptureQueriesContext(connection) as queries:
        publish_many((name, "said") for name in names)
    assert len(statements_of(queries)) == 2, statements_of(queries)


def test_a_save_of_a_related_object(ticket: Ticket, count: int) -> None:
    def data(_: Any, ticket: Ticket) -> Any:
        return {"comments": [comment.text for comment in ticket.comments.all()]}

    with (
        declared(model=Ticket, related=["comments"], data=data, topics=topics_of(count)),
        counted() as of,
    ):
        Comment.objects.create(ticket=ticket, text="drip")
    assert len(of.ours(of.inside)) == 1
    assert len(of.inside) == 3  # with the comment, and the look which ticket it belongs to
    assert len(of.projects) == 2  # the ticket, and what data() reads
    assert len(of.after) <= 5, of.after


def test_a_deletion(ticket: Ticket, count: int) -> None:
    with (
        declared(model=Ticket, related=["estimate"], fields=["title"], topics=topics_of(count)),
        counted() as of,
    ):
        ticket.delete()
    assert len(of.ours(of.inside)) == 1
    # The ticket; where rows can be skipped because somebody has them locked: whether it is one of them.
    assert len(of.projects) <= 2
    assert len(of.ours(of.after)) <= 3, of.after


@pytest.mark.parametrize("related", [[], ["comments"]], ids=["alone", "with related objects"])
def test_a_save_of_what_is_noisy(ticket: Ticket, count: int, related: list[str]) -> None:
    """Here the state is in the database, too: then whose turn it is takes a fifth."""
    with declared(
        model=Ticket,
        related=related,
        fields=["title"],
        throttle=timedelta(hours=1),
        topics=topics_of(count),
    ):
        with counted() as first:
            ticket.save()
        with counted() as second:
            ticket.save()
    assert len(first.ours(first.inside)) == len(second.ours(second.inside)) == 1
    assert len(first.projects) == 1
    assert len(first.after) - len(first.turns) <= 4, first.after
    assert len(first.turns) <= 1, first.turns
    assert second.after == []  # this process knows that it is not its turn


def test_a_log_that_is_elsewhere(ticket: Ticket, settings: Settings) -> None:
    """Its events are rows first, because they cannot be numbered in the same transaction."""
    settings.DJANGO_LIVE = {"STORE": "memory"}
    with declared(model=Ticket, related=["comments"], fields=["title"], topics=topics_of(1)):
        ticket.save()
        with counted() as of:
            ticket.save()
    assert len(of.projects) == 1
    assert len(of.ours(of.after)) <= (6 if connection.vendor == "mysql" else 4), of.after


def test_topics_that_somebody_numbers_take_rows(ticket: Ticket, count: int) -> None:
    """Rows that wait are told first; the events of the save become rows behind them."""
    with declared(model=Ticket, related=["comments"], fields=["title"], topics=topics_of(count)):
        waiting = as_topic(f"open/ticket-{ticket.pk}-0", "")
        with transaction.atomic():
            get_outbox().add([Entry(waiting, Draft("older", "{}"))], "default")
        ticket.save()
    events = get_log().read(waiting, 0, 10, 1000).events
    assert [event.type for event in events] == ["older", "updated"]
    assert not PendingEvent.objects.exists()
