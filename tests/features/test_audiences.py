"""Audiences: who is told what, and soft deletes, tenants and throttles of the same declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.db.models import Q
from rest_framework import serializers

from django_live.core import sweeping
from django_live.core.bus import envelopes
from django_live.core.log import get_log
from django_live.core.topics import as_topic
from django_live.features.changes import Audience, Changes
from django_live.models import PendingEvent, StoredEvent
from tests.features.declaring import declared
from tests.testapp.models import Comment, Team, Ticket

if TYPE_CHECKING:
    from tests.features.conftest import Heard

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "the-plumber-is-late"


class TicketSerializer(serializers.ModelSerializer[Ticket]):
    """What customers see."""

    team_name = serializers.CharField(source="team.name", default=None)

    class Meta:
        model = Ticket
        fields = ("id", "title", "team_name")


def for_staff(ticket: Ticket) -> list[str]:
    return [f"open/staff-{ticket.pk}"]


def for_customers(ticket: Ticket) -> list[str]:
    return [f"open/customers-{ticket.pk}"]


AUDIENCES = (
    Audience("staff", topics=for_staff, fields=["title", "secret"]),
    Audience("customers", topics=for_customers, serializer_class=TicketSerializer),
)


@pytest.fixture
def audiences() -> Iterator[Changes[Any]]:
    with declared("ForBoth", model=Ticket, audiences=AUDIENCES) as one:
        yield one


@pytest.fixture
def ticket(audiences: Changes[Any]) -> Ticket:  # noqa: ARG001 - after it
    return Ticket.objects.create(title="leak", secret=SECRET)


def test_each_audience_has_its_own_data_and_names(ticket: Ticket, heard_whole: Heard) -> None:
    pk = ticket.pk
    ticket.title, ticket.secret = "leaks", "changed"
    ticket.save()
    assert heard_whole(f"open/staff-{pk}") == [
        ("created", {"pk": pk, "title": "leak", "secret": SECRET}),
        (
            "updated",
            {"pk": pk, "title": "leaks", "secret": "changed", "changed": ["title", "secret"]},
        ),
    ]
    assert heard_whole(f"open/customers-{pk}") == [
        ("created", {"pk": pk, "id": pk, "title": "leak", "team_name": None}),
        (
            "updated",
            {"pk": pk, "id": pk, "title": "leaks", "team_name": None, "changed": ["title"]},
        ),
    ]


def bytes_for_customers(pk: int) -> str:
    """Everything that leaves for them: from the log, and over the bus."""
    topic = as_topic(f"open/customers-{pk}")
    page = get_log().read(topic, 0, 1000, 10**9)
    assert page.events
    return repr([page.events, list(envelopes(topic.key, page.head.epoch, page.events))])


def live_through(ticket: Ticket) -> None:
    """Everything that can happen to a ticket."""
    ticket.secret = f"{SECRET} again"
    ticket.save()
    with transaction.atomic():
        ticket.title = "leaks"
        ticket.save()
        ticket.secret = f"{SECRET} still"
        ticket.save(update_fields=["secret"])
    ticket.delete()


def test_no_byte_for_one_audience_has_what_only_the_other_may_see(ticket: Ticket) -> None:
    pk = ticket.pk
    live_through(ticket)
    sent = bytes_for_customers(pk)
    assert SECRET not in sent
    assert "secret" not in sent
    rows = StoredEvent.objects.filter(head__name=f"open/customers-{pk}")
    assert rows.count() == 4
    assert not rows.filter(Q(data__contains=SECRET) | Q(data__contains="secret")).exists()


def test_the_look_for_bytes_would_find_a_secret(ticket: Ticket, audiences: Changes[Any]) -> None:
    """Negative control: customers get the fields of staff."""
    pk = ticket.pk
    careless = Audience("customers", topics=for_customers, fields=["title", "secret"])
    type(audiences).audiences = (AUDIENCES[0], careless)
    live_through(ticket)
    assert SECRET in bytes_for_customers(pk)


def test_a_topic_of_two_audiences_gets_nothing(
    ticket: Ticket, audiences: Changes[Any], heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    heard(f"open/staff-{ticket.pk}")
    type(audiences).audiences = (
        AUDIENCES[0],
        Audience("customers", topics=for_staff, fields=["title"]),
    )
    ticket.save()
    assert heard(f"open/staff-{ticket.pk}") == []
    assert f"testapp.Ticket {ticket.pk}" in caplog.text
    assert "two audiences, 'staff' and 'customers'" in caplog.text


def test_an_audience_with_a_condition_and_methods_by_name(heard: Heard) -> None:
    def topics_of_team(_: Any, ticket: Ticket) -> list[str]:
        return [f"open/team-{ticket.team_id}"]

    def short(_: Any, ticket: Ticket) -> Any:
        return {"pk": ticket.pk, "short": ticket.title[:2]}

    team = Team.objects.create(name="red")
    named = Audience(
        "team",
        topics="topics_of_team",
        data="short",
        when=lambda ticket, changed: "title" in changed,
    )
    with declared(model=Ticket, audiences=[named], topics_of_team=topics_of_team, short=short):
        ticket = Ticket.objects.create(title="leak", team=team)
        ticket.secret = SECRET
        ticket.save()
        ticket.title = "leaks"
        ticket.save()
    expected = {"pk": ticket.pk, "short": "le"}
    assert heard(f"open/team-{team.pk}") == [("created", expected), ("updated", expected)]


def test_an_audience_does_not_hear_of_related_objects_that_are_not_its_own(
    heard_whole: Heard,
) -> None:
    audiences = [
        Audience("staff", topics=for_staff, fields=["title"]),
        Audience("customers", topics=for_customers, fields=["title"], related=["team"]),
    ]
    team = Team.objects.create(name="red")
    with declared(model=Ticket, related=["team", "comments"], audiences=audiences):
        ticket = Ticket.objects.create(title="leak", team=team)
        for topic in (f"open/staff-{ticket.pk}", f"open/customers-{ticket.pk}"):
            heard_whole(topic)
        Comment.objects.create(ticket=ticket, text=SECRET)
        assert heard_whole(f"open/customers-{ticket.pk}") == []
        with transaction.atomic():
            Comment.objects.create(ticket=ticket, text=SECRET)
            team.name = "blue"
            team.save()
        [(_, customers)] = heard_whole(f"open/customers-{ticket.pk}")
        assert customers["changed"] == ["team"]
        _, (_, staff) = heard_whole(f"open/staff-{ticket.pk}")
        assert staff["changed"] == ["comments", "team"]


def test_a_serializer_of_the_whole_declaration(heard: Heard) -> None:
    with declared(
        model=Ticket,
        serializer_class=TicketSerializer,
        topics=lambda self, ticket: [f"open/ticket-{ticket.pk}"],
    ):
        ticket = Ticket.objects.create(title="leak")
    expected = {"pk": ticket.pk, "id": ticket.pk, "title": "leak", "team_name": None}
    assert heard(f"open/ticket-{ticket.pk}") == [("created", expected)]


def test_keys_of_a_relation_to_many_as_a_field(heard: Heard) -> None:
    with declared(
        model=Ticket,
        fields=["comments"],
        related=["comments"],
        topics=lambda self, ticket: [f"open/ticket-{ticket.pk}"],
    ):
        ticket = Ticket.objects.create(title="leak")
        keys = [Comment.objects.create(ticket=ticket, text="x").pk for _ in range(2)]
    assert [data["comments"] for _, data in heard(f"open/ticket-{ticket.pk}")] == [
        [],
        keys[:1],
        keys,
    ]


# -- soft deletes ----------------------------------------------------------------------------------


def removed(_: Any, ticket: Ticket) -> bool:
    return ticket.removed


@pytest.mark.parametrize("rule", [Q(removed=True), ~Q(removed=False), removed])
@pytest.mark.parametrize("related", [[], ["comments"]])
def test_a_row_that_is_only_marked_as_deleted(rule: Any, related: Any, heard: Heard) -> None:
    with declared(
        model=Ticket,
        related=related,
        deleted_when=rule,
        topics=lambda self, ticket: [f"open/ticket-{ticket.pk}"],
    ):
        ticket = Ticket.objects.create(title="leak")
        topic = f"open/ticket-{ticket.pk}"
        assert [type for type, _ in heard(topic)] == ["created"]
        ticket.removed = True
        ticket.save()
        assert heard(topic) == [("deleted", {"pk": ticket.pk})]
        ticket.title = "never seen"
        ticket.save()
        assert heard(topic) == []
        ticket.removed = False
        ticket.save()
        assert [type for type, _ in heard(topic)] == ["created"]
        ticket.removed = True
        ticket.save()
        heard(topic)
        ticket.delete()
        assert heard(topic) == []


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Q(title="a"), True),
        (Q(title="b"), False),
        (Q(title__in=["a", "c"]), True),
        (Q(pk__gt=0) & ~Q(title="b"), True),
        (Q(title="b") | Q(removed=True), False),
        (Q(title="a") ^ Q(removed=False), False),
        (Q(team=None), True),
        (Q(team__isnull=False), False),
        (Q(team_id__isnull=True), True),
        (Q(team__gte=1), False),
        (Q(pk__lte=10**9, title__lt="b"), True),
        (Q(), True),
    ],
    ids=str,
)
def test_python_answers_as_the_database_does(rule: Q, expected: bool) -> None:
    from django_live.features.conditions import fault, matches

    ticket = Ticket.objects.create(title="a")
    assert fault(rule, Ticket) == ""
    assert matches(rule, ticket) is expected
    assert Ticket.objects.filter(rule).exists() is expected


# -- models of other people's apps -----------------------------------------------------------------


def test_users_and_their_groups(heard_whole: Heard, ann: User) -> None:
    with declared(
        model=User,
        fields=["username", "is_active"],
        related=["groups"],
        topics=lambda self, user: [f"open/user-{user.pk}"],
    ):
        ann.is_active = False
        ann.save()
        ann.groups.add(Group.objects.create(name="admins"))
        pk = ann.pk
        ann.delete()
    said = {"pk": pk, "username": "ann", "is_active": False}
    assert heard_whole(f"open/user-{pk}") == [
        ("updated", {**said, "changed": ["is_active"]}),
        ("updated", {**said, "changed": ["groups"]}),
        ("deleted", {"pk": pk}),
    ]


# -- tenants ---------------------------------------------------------------------------------------


def tenant_of(_request: Any) -> str:
    return "unused"


def test_topics_are_those_of_the_tenant(settings: Any, heard: Heard) -> None:
    settings.DJANGO_LIVE = {"NAMESPACE": f"{__name__}.tenant_of"}
    red, blue = (Team.objects.create(name=name) for name in ("red", "blue"))
    with declared(
        model=Ticket,
        namespace=lambda self, ticket: ticket.team.name,
        topics=lambda self, ticket: ["open/tickets"],
    ):
        ticket = Ticket.objects.create(title="leak", team=red)
        ticket.team = blue
        ticket.save()
    assert [t for t, _ in heard(as_topic("open/tickets", "red"))] == ["created", "deleted"]
    assert [t for t, _ in heard(as_topic("open/tickets", "blue"))] == ["created"]
    assert heard("open/tickets") == []


def test_without_a_tenant_nothing_is_sent_and_the_log_says_why(
    settings: Any, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DJANGO_LIVE = {"NAMESPACE": f"{__name__}.tenant_of"}
    with declared(model=Ticket, topics=lambda self, ticket: ["open/tickets"]):
        ticket = Ticket.objects.create(title="leak")
    assert Ticket.objects.filter(pk=ticket.pk).exists()
    assert heard("open/tickets") == []
    assert "must name the tenant" in caplog.text


# -- bad input -------------------------------------------------------------------------------------


def endless(_: Any, _ticket: Ticket) -> Iterator[str]:
    n = 0
    while True:
        n += 1
        yield f"open/{n}"


def broken_query(_: Any, _ticket: Ticket) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM there_is_no_such_table")
    return []


class NoJson:
    """Cannot be sent."""


WRONG: dict[str, dict[str, Any]] = {
    "10,000 topics": {"topics": lambda self, ticket: [f"open/{n}" for n in range(10_000)]},
    "endless topics": {"topics": endless},
    "a string": {"topics": lambda self, ticket: "open/a"},
    "no topic": {"topics": lambda self, ticket: [None]},
    "a query that fails": {"topics": broken_query},
    "data with a query that fails": {"topics": lambda s, t: ["open/a"], "data": broken_query},
    "data that is no JSON": {"topics": lambda s, t: ["open/a"], "data": lambda s, t: NoJson()},
    "data that raises": {"topics": lambda s, t: ["open/a"], "data": lambda s, t: 1 / 0},
    "a field that is not there": {"topics": lambda s, t: ["open/a"], "fields": ["nothing"]},
    "a field that deletes": {"topics": lambda s, t: ["open/a"], "fields": ["delete"]},
    "a namespace of bytes": {"topics": lambda s, t: ["open/a"], "namespace": lambda s, t: b"a"},
    "deleted_when that raises": {
        "topics": lambda s, t: ["open/a"],
        "deleted_when": lambda s, t: 1 / 0,
    },
}


@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.parametrize("related", [[], ["comments"]])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_costs_the_event_and_not_the_save(
    wrong: dict[str, Any],
    related: list[str],
    in_transaction: bool,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with declared("Wrong", model=Ticket, related=related, **wrong):
        if in_transaction:
            with transaction.atomic():
                ticket = Ticket.objects.create(title="leak")
                Team.objects.create(name="the transaction goes on")
        else:
            ticket = Ticket.objects.create(title="leak")
    assert Ticket.objects.filter(pk=ticket.pk).exists()
    assert Team.objects.exists() is in_transaction
    assert f"Wrong could not tell of a change of testapp.Ticket {ticket.pk}" in caplog.text
    assert not PendingEvent.objects.exists()
    assert heard("open/a") == []


def test_a_row_that_is_gone_when_it_is_told(heard: Heard) -> None:
    """Others delete it, past Django, before its note is presented."""
    with declared(
        model=Ticket,
        related=["comments"],
        topics=lambda self, ticket: [f"open/ticket-{ticket.pk}"],
    ):
        ticket = Ticket.objects.create(title="leak")
        heard(f"open/ticket-{ticket.pk}")
        with transaction.atomic():
            ticket.save()
            Ticket.objects.filter(pk=ticket.pk)._raw_delete("default")
        assert heard(f"open/ticket-{ticket.pk}") == [("deleted", {"pk": ticket.pk})]


def test_a_row_that_is_gone_in_a_save_of_its_own(heard: Heard) -> None:
    with declared(model=Ticket, topics=lambda self, ticket: [f"open/ticket-{ticket.pk}"]) as one:
        ticket = Ticket.objects.create(title="leak")
        heard(f"open/ticket-{ticket.pk}")
        one.changed(ticket, {"id": ticket.pk, "title": "leak"}, None, "default")
        assert heard(f"open/ticket-{ticket.pk}") == [("deleted", {"pk": ticket.pk})]


def test_the_sweep_tells_what_a_process_left_that_died_after_its_commit(
    heard: Heard, swept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_live.features import deferred

    with declared(
        model=Ticket,
        related=["comments"],
        topics=lambda self, ticket: [f"open/ticket-{ticket.pk}"],
    ):
        with monkeypatch.context() as dying:
            dying.setattr(deferred, "present_now", lambda using, keys, named: None)
            ticket = Ticket.objects.create(title="leak")
        assert heard(f"open/ticket-{ticket.pk}") == []
        swept()
        assert [type for type, _ in heard(f"open/ticket-{ticket.pk}")] == ["created"]
        swept()
        assert heard(f"open/ticket-{ticket.pk}") == []
    assert sweeping.sweep("default") == 0
