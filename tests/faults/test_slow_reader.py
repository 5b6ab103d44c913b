"""A reader of a kilobyte a second while fifty megabytes pass: it costs a constant, and ends right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.faults.conftest import NewSite
from tests.faults.site import BROKEN, CURRENT, PUBSUB, Plan, Site
from tests.servers.test_streams import path_of
from tests.support.reader_pool import ReaderPool
from tests.support.servers import PROJECT_ROOT, ServerName
from tests.support.sse_reader import Frame, SSEReader

pytestmark = pytest.mark.timeout(300)
TOPIC = "snapshot/large"
EVENTS, EACH = 3_200, 16_000
MAY_GROW_KB = 16_000
FILL = f"""
import sys
import django; django.setup()
from django.db import transaction
from django_live import publish
first, last = map(int, sys.argv[1:])
for start in range(first, last, 100):
    with transaction.atomic():
        for n in range(start, min(start + 100, last)):
            publish("{TOPIC}", "counted", {{"n": n, "filling": "x" * {EACH}}})
"""


def fill(site: Site, first: int, last: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", FILL, str(first), str(last)],
        env={**os.environ, **site.env, "PYTHONPATH": str(PROJECT_ROOT)},
        cwd=PROJECT_ROOT,
    )


def growth(site: Site, readers: ReaderPool) -> tuple[int, list[tuple[str, object]]]:
    """By how many kB the server grew, and what the slow reader was told once it hurried."""
    (server,) = site.servers
    quick = readers.open(
        server.host,
        server.port,
        path_of(TOPIC),
        {"Accept": "text/event-stream"},
    )
    readers.wait_until_open()
    largest = 0
    path = path_of(TOPIC)
    with SSEReader(server.host, server.port, path, bytes_per_second=1000) as slow:
        slow.wait_for(lambda frame: frame.event == "stream-snapshot")
        before = server.rss_kb()
        filling = fill(site, 0, EVENTS)
        while filling.poll() is None:
            slow.frames_during(0.2)
            largest = max(largest, server.rss_kb())
        assert filling.returncode == 0
        assert slow.bytes_received < 500_000, "it was not slow"
        # Where it fell behind, a snapshot stood for some of them.
        assert len(quick.events) > EVENTS / 4, "hardly anything passed"
        largest = max(largest, server.rss_kb())
        slow.hurry()
        told: list[tuple[str, object]] = []
        while some := _told(slow.frames_during(1.5)):
            told += some
        # A snapshot may stand for all of them: so one more comes when it has caught up.
        assert fill(site, EVENTS, EVENTS + 1).wait(30) == 0
        last = slow.wait_for(lambda frame: frame.event == "counted", timeout=30)
        told.append(("counted", last.json()["n"]))
    return max(largest, server.rss_kb()) - before, told


def _told(frames: Sequence[Frame]) -> list[tuple[str, object]]:
    told: list[tuple[str, object]] = []
    for frame in frames:
        match frame.event:
            case "stream-reset":
                told.append(("reset", frame.json()["reason"]))
            case "stream-snapshot":
                told.append(("snapshot", None))
            case "counted":
                told.append(("counted", frame.json()["n"]))
    return told


def plan(server: ServerName, broken: str = "") -> Plan:
    return Plan(
        store="database",
        layer=PUBSUB,
        servers=[(server, BROKEN if broken else CURRENT)],
        crowd=(),
        publishers=1,
        broken=broken,
        # The topic keeps ten events: the reader is soon behind what the log holds.
        settings={"TRIM": 0.5},
    )


def test_its_memory_is_bounded_and_it_ends_in_the_right_state(
    new_site: NewSite, readers: ReaderPool
) -> None:
    with new_site(plan("uvicorn")) as site:
        grown, told = growth(site, readers)
    assert grown < MAY_GROW_KB
    resets = [place for place, (kind, _) in enumerate(told) if kind == "reset"]
    assert resets, "fifty megabytes came through a kilobyte a second"
    assert {why for kind, why in told if kind == "reset"} == {"trimmed"}
    kind, _ = told[resets[-1] + 1]
    assert kind == "snapshot"
    rest = [n for kind, n in told[resets[-1] :] if kind == "counted"]
    assert rest == list(range(EVENTS + 1 - len(rest), EVENTS + 1))
    print(f"{grown} kB, {told[:3]} … {len(told)}")  # noqa: T201


def test_without_back_pressure_memory_grows(new_site: NewSite, readers: ReaderPool) -> None:
    """The negative control: Daphne takes whatever it is given."""
    with new_site(plan("daphne", "back-pressure")) as site:
        grown, _ = growth(site, readers)
    assert grown > MAY_GROW_KB
