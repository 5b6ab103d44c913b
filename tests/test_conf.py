"""Settings: one dict, typed, with nothing misspelled in it."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_live.conf import LiveSettings, live_settings, problems
from django_live.core.log import get_log
from django_live.stores.database import DatabaseLog
from django_live.stores.memory import MemoryLog


def test_everything_has_a_default() -> None:
    assert problems({}) == []
    with override_settings(DJANGO_LIVE={}):
        assert live_settings() == LiveSettings()


def test_the_defaults_keep_their_own_rules() -> None:
    assert problems(dataclasses.asdict(LiveSettings())) == []


def test_a_project_without_the_setting_has_the_defaults(settings: Any) -> None:
    del settings.DJANGO_LIVE
    assert live_settings() == LiveSettings()


def test_settings_are_read_again_after_an_override() -> None:
    with override_settings(DJANGO_LIVE={"HEARTBEAT": 7}):
        assert live_settings().HEARTBEAT == 7
        with override_settings(DJANGO_LIVE={"HEARTBEAT": 8}):
            assert live_settings().HEARTBEAT == 8
        assert live_settings().HEARTBEAT == 7
    assert live_settings().HEARTBEAT == LiveSettings().HEARTBEAT


def test_another_store_is_another_log() -> None:
    with override_settings(DJANGO_LIVE={"STORE": "memory"}):
        assert isinstance(get_log(), MemoryLog)
        assert get_log() is get_log()
    assert isinstance(get_log(), DatabaseLog)


def test_an_unknown_key_is_named_with_those_there_are() -> None:
    [problem] = problems({"HEARTBEATS": 20})
    assert "DJANGO_LIVE['HEARTBEATS'] is not a setting" in problem
    assert "HEARTBEAT," in problem


@pytest.mark.parametrize(
    "wrong",
    [
        {"STORE": None},
        {"STORE": ""},
        {"STORE": 1},
        {"DATABASE": ["default"]},
        {"CHANNEL_LAYER": None},
        {"NAMESPACE": 1},
        {"MAX_TOPICS": 0},
        {"MAX_TOPICS": -1},
        {"MAX_TOPICS": 50.0},
        {"MAX_TOPICS": "50"},
        {"MAX_TOPICS": True},
        {"RING_BYTES": None},
        {"HEARTBEAT": "20"},
        {"HEARTBEAT": None},
        {"HEARTBEAT": True},
        {"HEARTBEAT": -1},
        {"HEARTBEAT": float("nan")},
        {"HEARTBEAT": float("inf")},
        {"HEARTBEAT": 0},
        {"SWEEP": 0},
        {"TRIM": 0},
        {"RECHECK": 0.0},
        {"HEAD_CHECK": 0},
        {"STREAM_LIFETIME": 0},
        {"CLOCK_SKEW": -0.1},
        {1: 2},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(wrong: dict[Any, Any]) -> None:
    [problem] = problems(wrong)
    [(key, value)] = wrong.items()
    assert repr(key) in problem
    if isinstance(key, str):
        assert repr(value) in problem


@pytest.mark.parametrize(
    "right",
    [
        {"HEARTBEAT": 20},
        {"SWEEP": 0.1},
        {"RETRY": 0},
        {"CLOCK_SKEW": 0},
        {"NUMBERING_WAIT": 0},
        {"NAMESPACE": "shop.tenants.of"},
        {"NAMESPACE": None},
    ],
    ids=str,
)
def test_a_right_value_is_taken(right: dict[str, Any]) -> None:
    assert problems(right) == []
    with override_settings(DJANGO_LIVE=right):
        [(key, value)] = right.items()
        assert getattr(live_settings(), key) == value


@pytest.mark.parametrize("wrong", [None, [], "memory", {"A"}])
def test_the_setting_is_a_dict(wrong: Any) -> None:
    [problem] = problems(wrong)
    assert problem == f"DJANGO_LIVE must be a dict, not {type(wrong).__name__}."


def test_wrong_settings_are_refused_with_every_problem() -> None:
    with override_settings(DJANGO_LIVE={"STOER": "memory", "HEARTBEAT": "x"}):
        with pytest.raises(ImproperlyConfigured, match=r"STOER.*HEARTBEAT"):
            live_settings()
        with pytest.raises(ImproperlyConfigured):
            live_settings()  # and again: a failure is not remembered as an answer


class SlowLog(MemoryLog):
    """A store whose making a thread is in the middle of."""

    begun, go_on = threading.Event(), threading.Event()

    def __init__(self) -> None:
        self.begun.set()
        assert self.go_on.wait(10)
        super().__init__()


def test_what_a_thread_was_making_when_the_settings_changed_is_not_kept() -> None:
    SlowLog.begun.clear()
    SlowLog.go_on.clear()
    with override_settings(DJANGO_LIVE={"STORE": f"{__name__}.SlowLog"}):
        thread = threading.Thread(target=get_log)
        thread.start()
        assert SlowLog.begun.wait(10)
    with override_settings(DJANGO_LIVE={"STORE": "memory"}):
        SlowLog.go_on.set()
        thread.join()
        assert type(get_log()) is MemoryLog


def test_threads_that_ask_at_once_have_the_same_log() -> None:
    SlowLog.begun.clear()
    SlowLog.go_on.clear()
    with override_settings(DJANGO_LIVE={"STORE": f"{__name__}.SlowLog"}):
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(get_log())) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert SlowLog.begun.wait(10)
        SlowLog.go_on.set()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert all(log is get_log() for log in found)
