"""Changes of related objects and many-to-many tables: they are updates of the object that shows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_live.features import alarms
from django_live.features import changes as changes_module
from django_live.features.bulk import LiveQuerySet
from django_live.features.changes import suppress
from django_live.models import PendingChange
from tests.features.declaring import declared
from tests.features.test_changes import undone
from tests.testapp.models import Comment, Estimate, Label, Team, Ticket, Watching

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)

PATHS = ["team", "labels", "watchers", "comments", "comments__author", "estimate"]
LINES = ["comments", "comments__author"]


def topics(_: Any, ticket: Ticket) -> list[str]:
    return [f"open/ticket-{ticket.pk}"]


def data(_: Any, ticket: Ticket) -> dict[str, Any]:
    return {
        "pk": ticket.pk,
        "team": ticket.team.name if ticket.team else None,
        "labels": sorted(label.name for label in ticket.labels.all()),
        "comments": sorted(ticket.comments.values_list("text", flat=True)),
    }


@pytest.fixture(autouse=True)
def tickets() -> Iterator[None]:
    with declared(model=Ticket, related=PATHS, topics=topics, data=data):
        yield


@pytest.fixture
def ticket(heard_whole: Heard) -> Ticket:
    """A ticket with a team; what its creation told was heard."""
    pk = Ticket.objects.create(title="leak", team=Team.objects.create(name="red")).pk
    heard_whole(f"open/ticket-{pk}")
    return Ticket.objects.get(pk=pk)


@pytest.fixture
def told(ticket: Ticket, heard_whole: Heard) -> Callable[[], list[Any]]:
    """What was told of the ticket since: (type, what changed)."""

    def since() -> list[Any]:
        assert not PendingChange.objects.exists()
        return [
            (type, data.get("changed") if type == "updated" else None)
            for type, data in heard_whole(f"open/ticket-{ticket.pk}")
        ]

    return since


# -- by relation -----------------------------------------------------------------------------------


def test_the_object_behind_a_foreign_key(ticket: Ticket, told: Any) -> None:
    team = ticket.team
    assert team
    team.name = "blue"
    team.save()
    assert told() == [("updated", ["team"])]


def test_the_objects_that_point_here(ticket: Ticket, told: Any) -> None:
    comment = Comment.objects.create(ticket=ticket, text="drip")
    assert told() == [("updated", LINES)]
    comment.text = "drop"
    comment.save()
    assert told() == [("updated", ["comments"])]
    comment.delete()
    assert told() == [("updated", LINES)]


def test_an_object_that_goes_elsewhere_changes_both(
    ticket: Ticket, told: Any, heard: Heard
) -> None:
    comment = Comment.objects.create(ticket=ticket, text="drip")
    other = Ticket.objects.create(title="other")
    told(), heard(f"open/ticket-{other.pk}")
    comment.ticket = other
    comment.save()
    assert told() == [("updated", LINES)]
    [(type, said)] = heard(f"open/ticket-{other.pk}")
    assert (type, said["comments"]) == ("updated", ["drip"])


def test_one_to_one(ticket: Ticket, told: Any) -> None:
    estimate = Estimate.objects.create(ticket=ticket)
    assert told() == [("updated", ["estimate"])]
    estimate.hours = 2
    estimate.save()
    assert told() == [("updated", ["estimate"])]
    Estimate.objects.filter(ticket=ticket).delete()
    assert told() == [("updated", ["estimate"])]


def test_two_steps_away(ticket: Ticket, ann: User, bob: User, told: Any) -> None:
    Comment.objects.create(ticket=ticket, text="drip", author=ann)
    told()
    ann.first_name = "Ann"
    ann.save()
    bob.save()
    assert told() == [("updated", ["comments__author"])]


@pytest.mark.parametrize("side", ["near", "far"])
@pytest.mark.parametrize("how", ["add", "remove", "set", "clear"])
def test_many_to_many(how: str, side: str, ticket: Ticket, told: Any) -> None:
    label = Label.objects.create(name="wet")
    if how in ("remove", "clear"):
        ticket.labels.add(label)
        assert told() == [("updated", ["labels"])]
    manager: Any = ticket.labels if side == "near" else label.tickets
    other = label if side == "near" else ticket
    arguments: dict[str, list[Any]] = {"add": [other], "remove": [other], "set": [[other]]}
    getattr(manager, how)(*arguments.get(how, []))
    assert told() == [("updated", ["labels"])]


def test_what_is_there_already_is_not_added(ticket: Ticket, told: Any) -> None:
    label = Label.objects.create(name="wet")
    ticket.labels.add(label)
    told()
    ticket.labels.add(label)
    label.tickets.add(ticket)
    assert told() == []


def test_the_object_at_the_end_of_a_many_to_many(ticket: Ticket, told: Any) -> None:
    label = Label.objects.create(name="wet")
    ticket.labels.add(label)
    told()
    label.name = "dry"
    label.save()
    assert told() == [("updated", ["labels"])]
    label.delete()
    assert told() == [("updated", ["labels"])]


@pytest.mark.parametrize("how", ["add", "rows"])
def test_a_many_to_many_table_of_ones_own(how: str, ticket: Ticket, ann: User, told: Any) -> None:
    if how == "add":
        ticket.watchers.add(ann, through_defaults={"mode": "some"})
    else:
        Watching.objects.create(ticket=ticket, user=ann)
    assert told() == [("updated", ["watchers"])]
    watching = Watching.objects.get()
    watching.mode = "none"
    watching.save()
    assert told() == [("updated", ["watchers"])]
    if how == "add":
        ann.ticket_set.clear()
    else:
        watching.delete()
    assert told() == [("updated", ["watchers"])]


def test_rows_written_at_once(ticket: Ticket, told: Any) -> None:
    comments: LiveQuerySet[Comment] = LiveQuerySet(Comment)
    comments.bulk_create([Comment(ticket=ticket, text=str(n)) for n in range(3)])
    assert told() == [("updated", LINES)]
    comments.filter(text="1").update(text="one")
    assert told() == [("updated", ["comments"])]
    comments.all().delete()
    assert told() == [("updated", LINES)]


# -- one event per object and transaction ----------------------------------------------------------


def test_everything_in_one_transaction_is_one_event_about_the_final_state(
    ticket: Ticket, heard_whole: Heard
) -> None:
    label = Label.objects.create(name="wet")
    assert ticket.team
    with transaction.atomic():
        ticket.title = "leaks"
        ticket.save()
        comments = [Comment.objects.create(ticket=ticket, text=str(n)) for n in range(3)]
        comments[0].delete()
        ticket.labels.add(label)
        ticket.team.name = "blue"
        ticket.team.save()
    assert heard_whole(f"open/ticket-{ticket.pk}") == [
        (
            "updated",
            {
                "pk": ticket.pk,
                "team": "blue",
                "labels": ["wet"],
                "comments": ["1", "2"],
                "changed": [*LINES, "labels", "team"],
            },
        )
    ]


def test_created_with_its_lines_is_one_creation(heard_whole: Heard) -> None:
    with transaction.atomic():
        ticket = Ticket.objects.create(title="new")
        Comment.objects.create(ticket=ticket, text="first")
    [(type, said)] = heard_whole(f"open/ticket-{ticket.pk}")
    assert (type, said["comments"]) == ("created", ["first"])


def test_deleted_with_its_lines_is_one_deletion(ticket: Ticket, heard_whole: Heard) -> None:
    pk = ticket.pk
    Comment.objects.create(ticket=ticket, text="first")
    heard_whole(f"open/ticket-{pk}")
    ticket.delete()
    assert heard_whole(f"open/ticket-{pk}") == [("deleted", {"pk": pk})]
    assert not PendingChange.objects.exists()


def test_created_and_deleted_is_nothing(heard_whole: Heard) -> None:
    with transaction.atomic():
        ticket = Ticket.objects.create(title="new")
        Comment.objects.create(ticket=ticket, text="first")
        pk = ticket.pk
        ticket.delete()
    assert heard_whole(f"open/ticket-{pk}") == []


def test_nothing_after_a_rollback(ticket: Ticket, told: Any) -> None:
    with undone():
        Comment.objects.create(ticket=ticket, text="never")
    assert told() == []


def test_what_a_savepoint_took_back_is_not_told_and_the_rest_is(ticket: Ticket, told: Any) -> None:
    label = Label.objects.create(name="wet")
    with transaction.atomic():
        with undone():
            Comment.objects.create(ticket=ticket, text="never")
        ticket.labels.add(label)
        with undone():
            ticket.title = "never"
            ticket.save()
    assert told() == [("updated", ["labels"])]


def test_without_noticing_the_rollback_the_label_would_be_lost(
    ticket: Ticket, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: remember notes whatever was rolled back."""
    from django_live.features import deferred

    noted: list[Any] = []

    def of(_connection: Any) -> Any:
        noted[:] = noted or [deferred._Noted([])]
        return noted[0]

    monkeypatch.setattr(deferred._Noted, "of", of)
    with transaction.atomic():
        with undone():
            Comment.objects.create(ticket=ticket, text="never")
        Comment.objects.create(ticket=ticket, text="said")
    assert not PendingChange.objects.exists()
    assert told() == []


def test_silence(ticket: Ticket, told: Any) -> None:
    with suppress():
        Comment.objects.create(ticket=ticket, text="drip")
        ticket.labels.add(Label.objects.create(name="wet"))
    assert told() == []


# -- others at the same time -----------------------------------------------------------------------


def in_a_thread(work: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_last_event_of_two_transactions_with_a_line_each_has_both(
    ticket: Ticket, heard_whole: Heard
) -> None:
    waits = not connection.features.has_select_for_update  # SQLite: one writer at a time
    with transaction.atomic():
        Comment.objects.create(ticket=ticket, text="mine")
        other = in_a_thread(lambda: Comment.objects.create(ticket=ticket, text="theirs"))
        if not waits:
            other.join(60)
    other.join(60)
    told = [data["comments"] for _, data in heard_whole(f"open/ticket-{ticket.pk}")]
    assert told[-1] == ["mine", "theirs"]
    if connection.vendor == "postgresql":
        # What would have been the last word, were each told as its own transaction saw it.
        assert told[0] == ["theirs"]


def test_who_tells_does_not_wait_for_who_has_the_object_locked(ticket: Ticket, told: Any) -> None:
    if not connection.features.has_select_for_update_skip_locked:
        return  # SQLite: nobody writes while somebody else has begun to
    is_locked, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Ticket.objects.select_for_update().get(pk=ticket.pk)
            is_locked.set()
            assert may_go.wait(60)

    holder = in_a_thread(hold)
    assert is_locked.wait(60)
    assert ticket.team
    ticket.team.name = "blue"
    ticket.team.save()  # comes back
    assert PendingChange.objects.exists()
    may_go.set()
    holder.join(60)
    deadline = time.monotonic() + 60
    while PendingChange.objects.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    alarms.silence()
    assert told() == [("updated", ["team"])]


# -- topics that depend on related objects ---------------------------------------------------------


@pytest.fixture
def by_label(tickets: None) -> Iterator[None]:  # noqa: ARG001 - after it
    """Each label has a topic with its tickets."""

    def labels(_: Any, ticket: Ticket) -> list[str]:
        return [f"open/label-{label.name}" for label in ticket.labels.all()]

    with declared("ByLabel", model=Ticket, related=["labels"], topics=labels):
        yield


@pytest.mark.usefixtures("by_label")
def test_a_ticket_moves_with_its_labels(ticket: Ticket, heard: Heard) -> None:
    wet, dry = (Label.objects.create(name=name) for name in ("wet", "dry"))
    ticket.labels.add(wet)
    assert heard("open/label-wet") == [("created", {"pk": ticket.pk})]
    ticket.labels.set([dry])
    assert heard("open/label-wet") == [("deleted", {"pk": ticket.pk})]
    assert heard("open/label-dry") == [("created", {"pk": ticket.pk})]
    dry.name = "arid"
    dry.save()
    assert heard("open/label-dry") == [("deleted", {"pk": ticket.pk})]
    assert heard("open/label-arid") == [("created", {"pk": ticket.pk})]
    ticket.labels.clear()
    assert heard("open/label-arid") == [("deleted", {"pk": ticket.pk})]


@pytest.mark.usefixtures("by_label")
def test_a_deleted_ticket_leaves_the_topics_of_its_labels(ticket: Ticket, heard: Heard) -> None:
    ticket.labels.add(Label.objects.create(name="wet"))
    heard("open/label-wet")
    pk = ticket.pk
    ticket.delete()
    assert heard("open/label-wet") == [("deleted", {"pk": pk})]


# -- only when -------------------------------------------------------------------------------------


def test_fields_that_matter(ticket: Ticket, heard: Heard) -> None:
    def listed(_: Any, ticket: Ticket) -> list[str]:
        return [f"open/listed-{ticket.pk}"]

    team = ticket.team
    assert team
    with declared("Listed", model=Ticket, related={"team": ["name"]}, topics=listed):
        team.motto = "onwards"
        team.save()
        assert heard(f"open/listed-{ticket.pk}") == []
        team.name = "blue"
        team.save()
        assert [type for type, _ in heard(f"open/listed-{ticket.pk}")] == ["updated"]


def test_when_is_asked_with_the_path(ticket: Ticket, heard: Heard) -> None:
    asked: list[frozenset[str]] = []

    def when(_: Any, _ticket: Ticket, changed: frozenset[str]) -> bool:
        asked.append(changed)
        return "comments" in changed

    def conditional(_: Any, ticket: Ticket) -> list[str]:
        return [f"open/conditional-{ticket.pk}"]

    with declared(
        "Conditional", model=Ticket, related=["comments", "team"], topics=conditional, when=when
    ):
        assert ticket.team
        ticket.team.save()
        assert heard(f"open/conditional-{ticket.pk}") == []
        Comment.objects.create(ticket=ticket, text="drip")
        assert len(heard(f"open/conditional-{ticket.pk}")) == 1
    assert asked == [frozenset({"team"}), frozenset({"comments"})]


# -- what it costs ---------------------------------------------------------------------------------


def queries_of(work: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        work()
    return len(captured)


def test_a_hundred_lines_of_one_object_are_looked_up_and_noted_once(ticket: Ticket) -> None:
    with transaction.atomic():
        first = queries_of(lambda: Comment.objects.create(ticket=ticket, text="0"))
        others = queries_of(
            lambda: [Comment.objects.create(ticket=ticket, text=str(n)) for n in range(100)]
        )
    assert first == 3  # the comment; its ticket, and a note on it
    assert others == 100


def test_a_save_costs_one_query_in_the_callers_transaction(
    ticket: Ticket, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with transaction.atomic(), django_assert_num_queries(2):
        ticket.save()


def test_many_objects_behind_one_are_told_in_batches(heard: Heard) -> None:
    team = Team.objects.create(name="red")
    with suppress():
        Ticket.objects.bulk_create([Ticket(title=str(n), team=team) for n in range(250)])
    few = Ticket.objects.order_by("pk")[0]
    with transaction.atomic():
        in_transaction = queries_of(team.save)
    assert in_transaction <= 4  # the team; its tickets, and the notes on them (SQLite: two halves)
    assert len(heard(f"open/ticket-{few.pk}")) == 1
    assert not PendingChange.objects.exists()
    assert changes_module.BATCH > 250
