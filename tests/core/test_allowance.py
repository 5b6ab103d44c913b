"""What one caller waits in all for services that do not answer."""

from __future__ import annotations

import threading

import pytest

from django_live.core import allowance as module
from django_live.core.allowance import FOR_LAYER, IN_ALL, LEAST, PROMPT, Allowance, allowance


class Clock:
    """Moves only when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def ask(one: Allowance, clock: Clock, seconds: float, fault: type[Exception] | None = None) -> None:
    with one.asking_log():
        clock.now += seconds
        if fault is not None:
            raise fault


def test_what_answers_in_time_takes_nothing(clock: Clock) -> None:
    one = Allowance()
    for _ in range(1000):
        ask(one, clock, PROMPT / 2)
    assert one.of_log == IN_ALL
    assert one.of_layer == FOR_LAYER


def test_the_layer_gets_what_a_slow_answer_left(clock: Clock) -> None:
    one = Allowance()
    ask(one, clock, 0.9)
    assert one.of_layer == pytest.approx(IN_ALL - 0.9)
    assert one.of_log == IN_ALL  # it answers


def test_whoever_does_much_has_still_some_time_for_the_layer(clock: Clock) -> None:
    one = Allowance()
    for _ in range(100):
        ask(one, clock, 0.5)
    assert one.of_layer == LEAST


def test_what_was_waited_for_in_vain_is_nobodys_any_more(clock: Clock) -> None:
    one = Allowance()
    with pytest.raises(OSError):  # noqa: PT011 - of any kind
        ask(one, clock, 0.9, OSError)
    assert one.of_log == one.of_layer == pytest.approx(IN_ALL - 0.9)
    one.waited_in_vain(0.9)
    assert one.of_log == one.of_layer == 0


def test_a_layer_that_fails_takes_from_all() -> None:
    one = Allowance()
    one.layer_failed(FOR_LAYER)
    assert one.of_layer == 0
    assert one.of_log == pytest.approx(IN_ALL - FOR_LAYER)


def test_what_is_in_force_is_the_outermost_of_this_thread() -> None:
    outer = Allowance(for_layer=0.1)
    elsewhere: list[Allowance] = []
    with outer.in_force():
        with Allowance().in_force():
            assert allowance() is outer
        assert allowance() is outer
        thread = threading.Thread(target=lambda: elsewhere.append(allowance()))
        thread.start()
        thread.join()
    assert elsewhere[0] is not outer
    assert allowance() is not outer
