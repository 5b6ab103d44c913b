"""System checks: each number, the configuration that gets it, and one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from django_live import History, Topic
from django_live.checks import check_application, check_settings, check_topics, check_urls
from django_live.core.topics import registry


class NotALog:
    """A store that fulfils no contract."""


def ids(messages: list[Any]) -> list[str]:
    return [str(message.id).removeprefix("django_live.") for message in messages]


def test_the_tests_own_site_is_right() -> None:
    assert run_checks(tags=["django_live"]) == []


@pytest.mark.parametrize("wrong", [{"STOER": "memory"}, {"HEARTBEAT": "x"}, {"SWEEP": 0}, []])
def test_e001_a_setting_that_is_not_one_or_has_a_wrong_value(wrong: Any) -> None:
    with override_settings(DJANGO_LIVE=wrong):
        assert ids(check_settings(None)) == ["E001"]


def test_e001_names_every_problem() -> None:
    with override_settings(DJANGO_LIVE={"A": 1, "B": 2}):
        assert ids(check_settings(None)) == ["E001", "E001"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"STORE": "redsi"},
        {"STORE": "no.such.Store"},
        {"STORE": "django_live.stores.memory.NoSuchLog"},
        {"STORE": f"{__name__}.NotALog"},
        {"STORE": "datetime.datetime.now"},
        {"DATABASE": "no_such_alias"},
        {"NAMESPACE": "no.such.function"},
        {"NAMESPACE": f"{__name__}.registry"},
    ],
    ids=str,
)
def test_e002_a_store_database_or_function_that_does_not_exist(wrong: dict[str, str]) -> None:
    with override_settings(DJANGO_LIVE=wrong):
        messages = check_settings(None)
        assert ids(messages) == ["E002"]
        assert next(iter(wrong.values())) in messages[0].msg


@pytest.mark.parametrize(
    "right",
    [
        {"STORE": "memory"},
        {"STORE": "memory", "DATABASE": "not_used"},
        {"STORE": "django_live.stores.memory.MemoryLog"},
        {"NAMESPACE": f"{__name__}.ids"},
    ],
    ids=str,
)
def test_what_exists_is_no_problem(right: dict[str, str]) -> None:
    with override_settings(DJANGO_LIVE=right):
        assert check_settings(None) == []


@pytest.fixture
def isolated() -> Iterator[None]:
    """What the test declares is forgotten after it."""
    with registry.isolated():
        yield


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(
    ("history", "overflow", "found"),
    [
        (History(), "", []),
        (History(), "replay", []),
        (History(), "disconnect", []),
        (History(), "drop", ["E003"]),
        (History(), "conflate", ["E003"]),
        (History(), "nonsense", ["E003"]),
        (None, "", []),
        (None, "drop", []),
        (None, "conflate", []),
        (None, "disconnect", []),
        (None, "replay", ["E003"]),
    ],
)
def test_e003_an_overflow_rule_that_does_not_go_with_the_history(
    history: History | None, overflow: str, found: list[str]
) -> None:
    type(
        "Checked",
        (Topic,),
        {"pattern": "checked/<slug:slug>", "history": history, "overflow": overflow},
    )
    assert ids(check_topics(None)) == found


def test_w001_the_urls_are_not_included() -> None:
    assert check_urls(None) == []
    with override_settings(ROOT_URLCONF="tests.testapp.urls"):
        assert ids(check_urls(None)) == ["W001"]


def test_w001_is_not_for_projects_without_urls() -> None:
    with override_settings(ROOT_URLCONF=None):
        assert check_urls(None) == []


def test_w002_daphne_without_an_application(settings: Any) -> None:
    settings.INSTALLED_APPS = ["daphne", *settings.INSTALLED_APPS]
    assert check_application(None) == []
    settings.ASGI_APPLICATION = None
    assert ids(check_application(None)) == ["W002"]
