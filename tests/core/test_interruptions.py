"""What a signal handler raises is the caller's: it is no fault of whatever it hit."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from django_live.core.interruptions import is_interruption, raise_interruption


class TimeLimit(Exception):
    """As Celery's soft one, which is no BaseException."""


def limit(*args: Any) -> None:
    raise TimeLimit


def limit_elsewhere(*args: Any) -> None:
    limit(*args)


def limit_with(more: str, *args: Any) -> None:
    raise TimeLimit(more)


class Limiter:
    def method(self, *args: Any) -> None:
        raise TimeLimit

    def __call__(self, *args: Any) -> None:
        raise TimeLimit


@contextmanager
def installed(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


HANDLERS: dict[str, Callable[..., None]] = {
    "function": limit,
    "calls another": limit_elsewhere,
    "method": Limiter().method,
    "object": Limiter(),
    "partial": partial(limit_with, "of a task"),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_it_is_known_whatever_the_handler_is(name: str) -> None:
    with installed(HANDLERS[name]):
        with pytest.raises(TimeLimit) as caught:
            signal.raise_signal(signal.SIGUSR1)
        assert is_interruption(caught.value)
        with pytest.raises(TimeLimit):
            raise_interruption(caught.value)


def test_what_was_made_of_it_on_its_way_is_taken_off() -> None:
    """A handler that raises TimeoutError looks to a client of Redis like one of its own."""

    def alarm(*args: Any) -> None:
        raise TimeoutError("the task")

    def ask() -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        except OSError as error:
            raise ConnectionError("the server") from error

    with installed(alarm):
        with pytest.raises(ConnectionError) as caught:
            ask()
        with pytest.raises(TimeoutError, match="the task"):
            raise_interruption(caught.value)


def test_other_faults_are_none() -> None:
    with installed(limit):
        for fault in (ValueError("x"), OSError(1, "y"), TimeLimit()):
            assert not is_interruption(fault)
            raise_interruption(fault)
        try:
            raise ValueError("raised")
        except ValueError as error:
            raise_interruption(error)


def test_a_fault_that_is_its_own_cause_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    with installed(limit):
        raise_interruption(one)
