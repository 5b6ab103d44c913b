"""What django-eventstream loses, doubles and holds under load: first shown on its own view, then not here."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integrations.eventstream.conftest import Site, site_of
from tests.support.redis import RedisServer
from tests.support.requirements import requires
from tests.support.sse_reader import Frame, SSEReader

pytestmark = pytest.mark.any_database

BURST = 100
WRITERS, EACH, READERS, ROUNDS = 4, 50, 6, 6
STREAMS = 60
OUTAGES = (6, 12, 25)
"""Seconds. Its own listener gives up during one of them."""


def open_stream(site: Site, channel: str, last_id: str = "") -> SSEReader:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    reader = SSEReader(site.server.host, site.server.port, f"/one/{channel}/", headers)
    reader.wait_for(lambda frame: frame.event == "stream-open")
    return reader


def numbers_until(reader: SSEReader, channel: str, site: Site) -> list[int]:
    """All that comes up to a last event, which is sent until it arrives."""
    got: list[int] = []
    until = time.monotonic() + 30
    while time.monotonic() < until:
        site.send((channel, "end", None))
        for frame in reader.frames_during(0.3):
            if frame.event == "end":
                return got
            if frame.event == "counted":
                got.append(json.loads(frame.data or "")["n"])
    raise TimeoutError


@pytest.mark.parametrize("channel", ["loose-burst"])
def test_a_burst_arrives(channel: str, theirs: Site, ours: Site) -> None:
    got = {}
    for name, site in (("theirs", theirs), ("ours", ours)):
        with open_stream(site, channel) as reader:
            site.get("/burst/", channel=channel, first=0, count=BURST)
            got[name] = numbers_until(reader, channel, site)
    assert len(got["theirs"]) < BURST, "it does not fail there: this proves nothing"
    assert got["ours"] == list(range(BURST))


def test_nothing_is_doubled_or_runs_backwards_under_load(theirs: Site, ours: Site) -> None:
    """Several writers to one kept channel, several readers; again until its own view has failed."""
    for attempt in range(ROUNDS):
        faults = load(theirs, f"load-{attempt}")
        assert load(ours, f"load-{attempt}") == (0, 0, 0)
        if sum(faults):
            return
    raise AssertionError("it does not fail there: this proves nothing")


def load(site: Site, channel: str) -> tuple[int, int, int]:
    """How many were lost, doubled, and had an id below one before."""
    begin = site.get("/current/", channel=channel)
    ids: list[list[int]] = []
    got: list[list[int]] = []

    def read() -> None:
        frames: list[Frame] = []
        with open_stream(site, channel, begin) as reader:
            while not frames or frames[-1].event != "end":
                frames.append(reader.next_frame(60))
        events = [frame for frame in frames if frame.event == "counted"]
        got.append([json.loads(frame.data or "")["n"] for frame in events])
        ids.append([int((frame.id or "").rpartition(":")[2]) for frame in events])

    parts = ({"channel": channel, "first": n * EACH, "count": EACH} for n in range(WRITERS))
    writing = [threading.Thread(target=site.get, args=("/burst/",), kwargs=part) for part in parts]
    reading = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in (*writing, *reading):  # they come in the middle of it, and want all of it
        thread.start()
    for thread in writing:
        thread.join(60)
    while any(thread.is_alive() for thread in reading):
        site.send((channel, "end", None))
        time.sleep(0.2)  # until all of them have heard it
    lost = sum(WRITERS * EACH - len(set(one)) for one in got)
    doubled = sum(len(one) - len(set(one)) for one in got)
    backwards = sum(b <= a for one in ids for a, b in itertools.pairwise(one))
    return lost, doubled, backwards


def test_streams_hold_no_threads(theirs: Site, ours: Site) -> None:
    more = {}
    for name, site in (("theirs", theirs), ("ours", ours)):
        before = site.server.threads()
        readers = [open_stream(site, "many") for _ in range(STREAMS)]
        more[name] = site.server.threads() - before
        for reader in readers:
            reader.close()
    assert more["theirs"] >= STREAMS, "it does not fail there: this proves nothing"
    assert more["ours"] < STREAMS / 2


# -- EVENTSTREAM_REDIS -----------------------------------------------------------------------------


@pytest.fixture
def redis_sites(own_redis: RedisServer, tmp_path: Path) -> Iterator[tuple[Site, Site, str]]:
    """Both with ``EVENTSTREAM_REDIS``, and the setting as JSON."""
    setting = json.dumps({"host": "127.0.0.1", "port": own_redis.port})
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    with (
        site_of("theirs", tmp_path / "theirs", TEST_EVENTSTREAM_REDIS=setting) as theirs,
        site_of("ours", tmp_path / "ours", TEST_EVENTSTREAM_REDIS=setting) as ours,
    ):
        yield theirs, ours, setting
        theirs.leave()
        ours.leave()


@requires("redis-server")
def test_an_outage_of_redis_ends_nothing_for_good(
    own_redis: RedisServer, redis_sites: tuple[Site, Site, str]
) -> None:
    """A process that is not moved yet sends, both sites hear it; then Redis is away for a while."""
    theirs, ours, _ = redis_sites
    streams = {name: open_stream(s, "bridge") for name, s in (("theirs", theirs), ("ours", ours))}
    heard = {name: arrives(reader, theirs, "before") for name, reader in streams.items()}
    assert heard == {"theirs": True, "ours": True}
    for seconds in OUTAGES:
        own_redis.kill()
        # Ours goes on, also while Redis is away.
        ours.send(("bridge", "message", f"ours alone {seconds}"))
        streams["ours"].wait_for(says(f"ours alone {seconds}"))
        time.sleep(seconds)  # the outage
        own_redis.start()
        assert arrives(streams["ours"], theirs, f"after {seconds}")
        if not arrives(streams["theirs"], theirs, f"after {seconds}, too", patience=3):
            break
    else:
        raise AssertionError("it does not fail there: this proves nothing")
    for reader in streams.values():
        reader.close()


def says(text: str) -> Callable[[Frame], bool]:
    return lambda frame: frame.data == f'"{text}"'


def arrives(reader: SSEReader, sender: Site, text: str, patience: float = 20) -> bool:
    """Whether what is sent again and again is heard."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        sender.ask(f'/send/?events=[["bridge","message","{text.replace(" ", "+")}",true]]').read()
        if any(frame.data == f'"{text}"' for frame in reader.frames_during(0.3)):
            return True
    return False
