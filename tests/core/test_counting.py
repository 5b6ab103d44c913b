"""What a process counts: the journey adds to it, and nothing but the journey."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from django_live.core import hub as hub_module
from django_live.core.counting import METRICS, SECONDS, Histogram, Tally
from django_live.core.records import RECORDS, record
from tests.core.fakes import Process, ScriptedLog, SteppedLoop, publish
from tests.core.topics_of_tests import Kept


def test_a_histogram_puts_each_time_into_the_bucket_that_holds_it() -> None:
    histogram = Histogram()
    for seconds, times in ((0.0009, 3), (0.001, 1), (0.3, 2), (99.0, 1), (-5.0, 1)):
        histogram.observe(seconds, times)
    buckets = dict(zip((*SECONDS, float("inf")), histogram.buckets, strict=True))
    assert {bound: count for bound, count in buckets.items() if count} == {
        0.001: 5,  # a clock that is behind counts as no time
        0.5: 2,
        float("inf"): 1,
    }
    assert histogram.count == 8
    assert histogram.total == pytest.approx(0.0009 * 3 + 0.001 + 0.6 + 99)


def test_threads_lose_no_count() -> None:
    tally = Tally()

    def work() -> None:
        for _ in range(5000):
            tally.count("published")
            tally.count("resets", "epoch")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.counted("published") == tally.counted("resets", "epoch") == 20_000
    assert tally.as_json()["resets"] == {"epoch": 20_000}


def test_every_metric_is_told_also_before_anything_happened() -> None:
    told = Tally().as_json()
    counted = {metric.name for metric in METRICS if metric.kind != "gauge"}
    assert told.keys() == counted


def test_what_is_delivered_is_counted_once_for_each_reader(
    process: Process, log: ScriptedLog, stepped: SteppedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally()
    monkeypatch.setattr(hub_module, "tally", tally)
    sinks = [process.connect(Kept(pk=1)) for _ in range(3)]
    stepped.settle()
    before = sum(len(sink.received) for sink in sinks)
    for data in (1, 2):
        publish(log, Kept(pk=1), data, process)
    process.bus.deliver_all()
    stepped.settle()
    assert tally.deliveries == 6
    assert tally.delivered_bytes == sum(len(sink.received) for sink in sinks) - before


def test_a_line_of_the_log_has_a_name_and_facts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "django_live.records"):
        record("reset", topic="orders/1", reason="trimmed")
        record("connection.opened", level=logging.DEBUG, connection="x")
    (line,) = caplog.records
    assert line.getMessage() == "reset topic=orders/1 reason=trimmed"
    facts: Any = line
    assert (facts.live_event, facts.live_topic, facts.live_reason) == (
        "reset",
        "orders/1",
        "trimmed",
    )


def test_every_line_that_is_written_has_a_name_that_is_listed() -> None:
    import re
    from pathlib import Path

    package = Path(hub_module.__file__).parents[1]
    used: set[str] = set()
    for path in package.rglob("*.py"):
        used |= set(re.findall(r'\brecord\(\s*"([a-z._]+)"', path.read_text()))
    assert used <= RECORDS.keys()
    assert used >= RECORDS.keys() - {"broadcast"}
