"""A reader of a kilobyte a second while megabytes pass: by how much the server grows, and what the reader
is told when it hurries in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.site import BROKEN, CURRENT, PUBSUB, Plan, Site
from tests.servers.test_streams import path_of
from tests.support import prepared
from tests.support.reader_pool import PooledReader, ReaderPool
from tests.support.servers import PROJECT_ROOT, ServerName
from tests.support.sse_reader import Frame, SSEReader

TOPIC = "snapshot/large"
EACH = 16_000
FIFTY_MEGABYTES = 3_200
"""Events."""
BATCH = 50
MAY_GROW_KB = 16_000
FILL = f"""
import sys
import django; django.setup()
from django_live import publish_many
first, last = map(int, sys.argv[1:])
for start in range(first, last, {BATCH}):
    sys.stdin.readline()  # when what was sent before has passed
    publish_many(
        ("{TOPIC}", "counted", {{"n": n, "filling": "x" * {EACH}}})
        for n in range(start, min(start + {BATCH}, last))
    )
"""


def plan(server: ServerName = "uvicorn", broken: str = "") -> Plan:
    """One web process, and nobody who publishes beside."""
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


@dataclass
class Outcome:
    """`told`: kinds (counted, snapshot, reset) with the number or the reason."""

    events: int
    grown_kb: int
    told: list[tuple[str, object]]

    def faults(self) -> list[str]:
        """What of the promise was broken, as sentences."""
        found = []
        if self.grown_kb >= MAY_GROW_KB:
            found.append(f"the server grew by {self.grown_kb} kB")
        resets = [place for place, (kind, _) in enumerate(self.told) if kind == "reset"]
        if not resets:
            return [*found, f"{self.events} events came through a kilobyte a second: no reset"]
        if {why for kind, why in self.told if kind == "reset"} != {"trimmed"}:
            found.append("a reset had another cause")
        if self.told[resets[-1] + 1][0] != "snapshot":
            found.append("no snapshot followed the reset")
        rest = [n for kind, n in self.told[resets[-1] :] if kind == "counted"]
        if rest != list(range(self.events + 1 - len(rest), self.events + 1)):
            found.append(f"after the last reset came {rest[:5]} … {rest[-5:]}")
        return found

    def __str__(self) -> str:
        passed = self.events * EACH / 1_000_000
        return f"{passed:.0f} MB passed, the server grew by {self.grown_kb} kB, the reader was told {len(self.told)} things"


def read_slowly(site: Site, readers: ReaderPool, events: int) -> Outcome:
    """Let so many events pass a slow reader and a quick one."""
    (server,) = site.servers
    path = path_of(TOPIC)
    quick = readers.open(server.host, server.port, path, {"Accept": "text/event-stream"})
    readers.wait_until_open()
    largest = 0
    with SSEReader(server.host, server.port, path, bytes_per_second=1000) as slow:
        slow.wait_for(lambda frame: frame.event == "stream-snapshot")
        before = server.rss_kb()
        filling = _fill(site, 0, events)
        assert filling.stdin is not None
        for end in range(BATCH, events + BATCH, BATCH):
            before_it = len(quick.frames)
            filling.stdin.write(b"\n")
            filling.stdin.flush()
            while not _has_passed(quick, before_it, min(end, events) - 1):
                slow.frames_during(0.05)
                largest = max(largest, server.rss_kb())
        filling.communicate(timeout=30)
        assert filling.returncode == 0
        assert slow.bytes_received < 500_000, "it was not slow"
        # Where it fell behind, a snapshot stood for some of them.
        assert len(quick.events) > events / 4, "hardly anything passed"
        largest = max(largest, server.rss_kb())
        slow.hurry()
        told: list[tuple[str, object]] = []
        while some := _told(slow.frames_during(1.5)):
            told += some
        # A snapshot may stand for all of them: so one more comes when it has caught up.
        one_more = _fill(site, events, events + 1)
        one_more.communicate(b"\n", timeout=30)
        assert one_more.returncode == 0
        last = slow.wait_for(lambda frame: frame.event == "counted", timeout=30)
        told.append(("counted", last.json()["n"]))
    return Outcome(events, max(largest, server.rss_kb()) - before, told)


def _fill(site: Site, first: int, last: int) -> subprocess.Popen[bytes]:
    return prepared.Popen(
        [sys.executable, "-c", FILL, str(first), str(last)],
        env={**os.environ, **site.env, "PYTHONPATH": str(PROJECT_ROOT)},
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
    )


def _has_passed(reader: PooledReader, since: int, last: int) -> bool:
    """Whether it was sent the last of a batch, or a snapshot instead."""
    return any(
        frame.event == "stream-snapshot" or (frame.event == "counted" and frame.json()["n"] == last)
        for frame in reader.frames[since:]
    )


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
