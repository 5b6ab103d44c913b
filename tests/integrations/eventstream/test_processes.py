"""Two processes of a site that has moved, over Redis: what is sent in one is heard in the other."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integrations.eventstream.conftest import APPLICATION, SETTINGS, Site
from tests.support.databases import server_database
from tests.support.exactly_once import assert_exactly_once
from tests.support.redis import RedisServer
from tests.support.requirements import requires
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader, StreamEndedError

pytestmark = [requires("redis-server"), pytest.mark.any_database]

EACH = 150
LAYERS = ["channels_redis.pubsub.RedisPubSubChannelLayer", "channels_redis.core.RedisChannelLayer"]


@dataclass
class Pair:
    """Two processes, one site."""

    one: Site
    other: Site

    @property
    def both(self) -> tuple[Site, Site]:
        return self.one, self.other


@pytest.fixture(scope="module", params=LAYERS, ids=["pubsub", "core"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    with (
        server_database("sqlite", tmp_path_factory.mktemp("pair"), f"{SETTINGS}ours") as database,
        RedisServer() as redis,
    ):
        env = {
            **database.env,
            "LIVE_TEST_LAYER": redis.url,
            "LIVE_TEST_LAYER_BACKEND": request.param,
            "LIVE_TEST_DJANGO_LIVE": json.dumps({"STORE": "redis", "REDIS_URL": redis.url}),
        }
        with (
            Server("uvicorn", APPLICATION, env=env) as one,
            Server("uvicorn", APPLICATION, env=env) as other,
        ):
            pair = Pair(Site(one, database), Site(other, database))
            yield pair
            for site in pair.both:
                site.leave()


class Listener:
    """A client of django-eventstream: it takes what comes, and comes back with the last id it has seen."""

    def __init__(self, pair: Pair, at: Site, channel: str) -> None:
        self.channel, self.got = channel, list[int]()
        self.failure: BaseException | None = None
        self.opened = threading.Event()
        self._sites = [at, *(site for site in pair.both if site is not at)]
        self._last_id = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._read():
                self._sites.reverse()  # as behind a load balancer: the other process takes over
        except BaseException as error:
            self.failure = error

    def _read(self) -> bool:
        """Whether the last event came."""
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        server = self._sites[0].server
        try:
            with SSEReader(server.host, server.port, f"/one/{self.channel}/", headers) as reader:
                while True:
                    frame = reader.next_frame(60)
                    assert frame.event not in ("stream-reset", "stream-error"), frame
                    self._last_id = frame.id or self._last_id
                    if frame.event == "stream-open":
                        self.opened.set()
                    if frame.event == "counted":
                        self.got.append(json.loads(frame.data or "")["n"])
                    if frame.event == "end":
                        return True
        except (OSError, StreamEndedError):
            return False

    def result(self) -> list[int]:
        self._thread.join(60)
        assert not self._thread.is_alive(), f"{len(self.got)} events, and no end"
        if self.failure is not None:
            raise self.failure
        return self.got


def listeners(pair: Pair, channel: str, count: int = 3) -> list[Listener]:
    """As many at each process, all of them open."""
    found = [Listener(pair, site, channel) for site in pair.both for _ in range(count)]
    for one in found:
        assert one.opened.wait(20)
    return found


def assert_each_once(channel: str, heard: list[Listener], count: int) -> None:
    """In order, too; judged by the numbers in the payload."""
    got = {number: [(channel, n) for n in one.result()] for number, one in enumerate(heard)}
    assert_exactly_once({channel: range(count)}, got)


def test_what_one_process_sends_the_clients_of_both_hear_once_and_in_order(pair: Pair) -> None:
    channel = f"spread-{os.urandom(4).hex()}"
    heard = listeners(pair, channel)
    for first, site in zip(range(0, 2 * EACH, EACH), pair.both, strict=True):
        site.get("/burst/", channel=channel, first=first, count=EACH)
    pair.other.send((channel, "end", None))
    assert_each_once(channel, heard, 2 * EACH)


def test_a_killed_process_costs_its_clients_nothing(pair: Pair) -> None:
    """They are with the other one a moment later, and hear what was sent meanwhile."""
    channel = f"killed-{os.urandom(4).hex()}"
    heard = listeners(pair, channel)
    halves = threading.Barrier(2)

    def send() -> None:
        for part in range(4):
            pair.one.get("/burst/", channel=channel, first=part * EACH, count=EACH)
            if part == 1:
                halves.wait(30)

    sending = threading.Thread(target=send)
    sending.start()
    halves.wait(30)
    pair.other.server.kill()
    sending.join(60)
    pair.other.server.start()
    pair.other.send((channel, "end", None))
    assert_each_once(channel, heard, 4 * EACH)


def test_what_is_not_kept_reaches_the_other_process_too(pair: Pair) -> None:
    channel = f"loose-{os.urandom(4).hex()}"
    heard = listeners(pair, channel, 1)
    pair.one.get("/burst/", channel=channel, first=0, count=20)
    pair.one.send((channel, "end", None))
    assert_each_once(channel, heard, 20)


def test_without_a_layer_and_a_store_in_common_it_would_not(tmp_path: Path) -> None:
    """The negative control: each process for itself, as django-eventstream without its Redis is."""
    with (
        server_database("sqlite", tmp_path, f"{SETTINGS}theirs") as database,
        Server("uvicorn", APPLICATION, env=database.env) as one,
        Server("uvicorn", APPLICATION, env=database.env) as other,
        SSEReader(other.host, other.port, "/one/loose-alone/") as reader,
    ):
        reader.wait_for(lambda frame: frame.event == "stream-open")
        for server, count in ((one, 20), (other, 0)):
            site = Site(server, database)
            site.get("/burst/", channel="loose-alone", first=0, count=count)
            site.send(("loose-alone", "end", None))
            site.leave()
        assert [frame.event for frame in reader.events(1)] == ["end"]
