"""Checks of declarations: each number, what gets it, and what does not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F, Model, Q

from django_live.checks import check_changes
from django_live.features.changes import Audience
from tests.features.declaring import declared
from tests.testapp.models import Order, Restaurant, Ticket


def topics(_: Any, _ticket: Ticket) -> list[str]:
    return []


def nobody(_ticket: Ticket) -> list[str]:
    return []


class Abstract(Model):
    """Has no table."""

    class Meta:
        abstract = True
        app_label = "testapp"


RIGHT: dict[str, dict[str, Any]] = {
    "plain": {"model": Ticket, "topics": topics},
    "fields": {"model": Ticket, "topics": topics, "fields": ["title", "team_id", "pk", "labels"]},
    "a property": {"model": Order, "topics": topics, "fields": ["customer", "pk"]},
    "inherited": {"model": Restaurant, "topics": topics, "fields": ["name", "kitchen"]},
    "related": {
        "model": Ticket,
        "topics": topics,
        "related": {"comments__author": ["username"], "estimate": None, "labels": None},
    },
    "a reverse relation by attribute": {
        "model": Order,
        "topics": topics,
        "related": ["customer__watching_set"],
    },
    "audiences": {
        "model": Ticket,
        "audiences": [
            Audience("a", topics=nobody, fields=["title"]),
            Audience("b", topics="others", related=["team"]),
        ],
        "others": topics,
        "related": ["team"],
    },
    "rules": {
        "model": Ticket,
        "topics": topics,
        "throttle": timedelta(seconds=1),
        "deleted_when": Q(removed=True) | ~Q(team__isnull=False),
    },
}

WRONG: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no model": ("E005", "has no table", {"model": "testapp.Ticket"}),
    "abstract": ("E005", "has no table", {"model": Abstract}),
    "unknown field": ("E006", "'titel'", {"fields": ["titel"]}),
    "string for fields": ("E006", "not a list", {"fields": "title"}),
    "hidden name": ("E006", "'__dict__'", {"fields": ["__dict__"]}),
    "method that deletes": ("E006", "'delete'", {"fields": ["delete"]}),
    "number for a field": ("E006", "42", {"fields": [42]}),
    "unknown path": ("E007", "'lines'", {"related": ["lines"]}),
    "path over a column": ("E007", "'title'", {"related": ["title"]}),
    "second step": ("E007", "'nothing'", {"related": ["team__nothing"]}),
    "string for related": ("E007", "not a list", {"related": "team"}),
    "unknown field of a path": ("E007", "'colour'", {"related": {"team": ["colour"]}}),
    "no topics": ("E008", "neither topics() nor audiences", {"topics": None}),
    "the same name": ("E008", "name of its own", {"audiences": [Audience("a", nobody)] * 2}),
    "a missing method": ("E008", "'nowhere'", {"audiences": [Audience("a", "nowhere")]}),
    "no audience": ("E008", "no Audience", {"audiences": [42]}),
    "fields beside": (
        "E008",
        "asks for its fields",
        {"audiences": [Audience("a", nobody)], "fields": ["title"]},
    ),
    "a path of its own": (
        "E008",
        "'team'",
        {"audiences": [Audience("a", nobody, related=["team"])]},
    ),
    "no time": ("E009", "throttle", {"throttle": 5}),
    "no time at all": ("E009", "throttle", {"throttle": timedelta(0)}),
    "unknown column": ("E009", "'gone'", {"deleted_when": Q(gone=True)}),
    "another table": ("E009", "'team__name'", {"deleted_when": Q(team__name="x")}),
    "an expression": ("E009", "only the database", {"deleted_when": Q(title=F("secret"))}),
    "no condition": ("E009", "neither a Q nor a method", {"deleted_when": True}),
    "triggers and throttle": (
        "E009",
        "neither related nor throttle",
        {"triggers": True, "throttle": timedelta(1)},
    ),
}


@pytest.mark.parametrize("attributes", RIGHT.values(), ids=RIGHT.keys())
def test_what_is_right(attributes: dict[str, Any]) -> None:
    with declared(**attributes):
        assert check_changes(None) == []


@pytest.mark.parametrize(("number", "words", "attributes"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong(number: str, words: str, attributes: dict[str, Any]) -> None:
    given = {"model": Ticket, "topics": topics, **attributes}
    if "audiences" in given or given["topics"] is None:
        del given["topics"]
    with declared("Mistaken", **given):
        found = check_changes(None)
    assert {message.id for message in found} == {f"django_live.{number}"}
    assert words in " ".join(message.msg for message in found)
    assert all("Mistaken" in message.msg for message in found)


def tenant_of(_request: Any) -> str:
    return "unused"


def test_e010_a_tenant_that_is_not_named(settings: Any) -> None:
    settings.DJANGO_LIVE = {"NAMESPACE": f"{__name__}.tenant_of"}
    with declared("Tenantless", model=Ticket, topics=topics):
        found = [message for message in check_changes(None) if "Tenantless" in message.msg]
        assert [message.id for message in found] == ["django_live.E010"]
    with declared("Tenanted", model=Ticket, topics=topics, namespace=lambda self, ticket: ""):
        assert not any("Tenanted" in message.msg for message in check_changes(None))
