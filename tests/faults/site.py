"""The site that faults happen to: web processes, publishers, a store, and the clients of a busy day."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.clients import (
    Client,
    Clients,
    LongPollClient,
    PollClient,
    SocketClient,
    StreamClient,
)
from tests.faults.judging import Journal, Report, judge
from tests.support import prepared
from tests.support.postgres_cluster import PostgresCluster
from tests.support.redis import RedisServer
from tests.support.servers import PROJECT_ROOT, Server, ServerName

CURRENT = "tests.asgi:application"
BROKEN = "tests.servers.broken:application"
TOPICS = ("open/one", "open/two", "open/three")
HEARTBEAT = 1.6
SETTINGS = {"HEARTBEAT": HEARTBEAT, "HEAD_CHECK": 1.0, "SWEEP": 0.3, "RETRY": 0.3}
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"
BAD = "tests.faults.layers.BadLayer"

Marks = Mapping[tuple[int, str], str]
"""By slot and topic the value that belongs to a round."""
CrowdPart = tuple[type[Client], int]
CROWD: Sequence[CrowdPart] = (
    (StreamClient, 28),
    (SocketClient, 20),
    (LongPollClient, 8),
    (PollClient, 4),
)
FEW: Sequence[CrowdPart] = ((StreamClient, 5), (SocketClient, 3))


@dataclass(frozen=True)
class Plan:
    """What a site consists of."""

    store: str = "redis"
    """As in the setting; "database" needs `database` to be shared."""
    layer: str | None = PUBSUB
    servers: Sequence[tuple[ServerName, str]] = (("uvicorn", CURRENT), ("daphne", CURRENT))
    crowd: Sequence[CrowdPart] = CROWD
    publishers: int = 4
    pause: float = 0.1
    settings: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""
    older: Sequence[int] = ()
    """Slots of publishers that are of the release before."""


class Site:
    """A context manager. `env` names the database; `folder` takes journals and logs."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        env: Mapping[str, str],
        *,
        redis: RedisServer | None = None,
        postgres: PostgresCluster | None = None,
    ) -> None:
        self.plan = plan
        self.postgres = postgres
        self.folder = folder
        self.redis = redis
        self.layer_faults = folder / "layer-faults"
        self.env = {**env, **self._environment()}
        self.round = 0
        self.settled = True
        self.orders: dict[str, Any] = {
            "harness": os.getpid(),
            "phase": "quiet",
            "round": 0,
            "dies": 0.0,
            "pause": plan.pause,
            "batches": {},
        }
        self.clients = Clients()
        self.servers: list[Server] = []
        self._publishers: subprocess.Popen[bytes] | None = None
        self._journal = Journal()
        self._read_to: dict[int, int] = {}
        self._stack = ExitStack()

    def _environment(self) -> dict[str, str]:
        settings = {"STORE": self.plan.store, **SETTINGS, **self.plan.settings}
        env = {"LIVE_TEST_LAYER_FAULTS": str(self.layer_faults)}
        if self.redis is not None:
            settings["REDIS_URL"] = self.redis.url
            if self.plan.layer is not None:
                env |= {
                    "LIVE_TEST_LAYER": self.redis.url,
                    "LIVE_TEST_LAYER_BACKEND": self.plan.layer,
                }
        if self.plan.broken:
            env["LIVE_TEST_BROKEN"] = self.plan.broken
        return {**env, "LIVE_TEST_DJANGO_LIVE": json.dumps(settings)}

    # -- beginning and end -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._publishers is not None:  # begun already
            return self
        try:
            self._order()
            self._publishers = self._start_publishers()
            self.servers = [
                Server(
                    name,
                    BROKEN if self.plan.broken else application,
                    env=self.env,
                    log_path=self.folder / f"server-{place}.log",
                )
                for place, (name, application) in enumerate(self.plan.servers)
            ]
            for server in self.servers:
                self._stack.callback(server.kill)
            self._at_once(*(server.start for server in self.servers))
            self._stack.enter_context(self.clients)
            self._open_clients()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            for server in self.servers:
                print(server.log_tail(40), file=sys.stderr)  # noqa: T201 -- pytest shows it with the failure
        self.close()

    def close(self) -> None:
        """End every process."""
        self._stack.close()
        if self._publishers is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._publishers.pid, signal.SIGKILL)
            self._publishers.wait()
            self._publishers = None

    def _start_publishers(self) -> subprocess.Popen[bytes]:
        order = {
            "folder": str(self.folder),
            "slots": self.plan.publishers,
            "topics": TOPICS,
            "frozen": list(self.plan.older),
        }
        with (self.folder / "publishers.log").open("ab") as log:
            return prepared.Popen(
                [sys.executable, "-m", "tests.faults.publishers", json.dumps(order)],
                cwd=PROJECT_ROOT,
                env={**os.environ, **self.env, "PYTHONPATH": str(PROJECT_ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _open_clients(self) -> None:
        addresses = [(server.host, server.port) for server in self.servers]
        choices = [TOPICS, TOPICS[:2], TOPICS[1:], TOPICS[:1]]
        for kind, count in self.plan.crowd:
            for number in range(count):
                self.clients.add(
                    kind(str(number), choices[number % len(choices)], addresses, 2.5 * HEARTBEAT)
                )
        if not self.clients.wait_until(lambda: all(c.ready for c in self.clients.all), 30):
            raise TimeoutError("not every client could connect")

    @staticmethod
    def _at_once(*work: Callable[[], Any]) -> None:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(one) for one in work]:
                done.result()

    # -- orders ------------------------------------------------------------------------------------

    def _order(self, **changes: Any) -> None:
        self.orders |= changes
        path = self.folder / "orders.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self.orders))
        new.replace(path)

    def publisher_pid(self, slot: int) -> int:
        """The process that publishes in this slot now."""
        return int((self.folder / f"pid-{slot}").read_text())

    def batch(self, name: str, slot: int, topic: str, count: int, *, rolls_back: bool) -> None:
        """Order one transaction with many events."""
        batch = {"slot": slot, "topic": topic, "count": count, "rolls_back": rolls_back}
        self._order(batches={**self.orders["batches"], name: batch})

    def let_die(self, chance: float) -> None:
        """How probably a publisher kills itself at each commit."""
        self._order(dies=chance)

    # -- looking -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """What is published and told from here on is what the next `judged()` is about. Nothing may
        be under way."""
        if not self.settled:  # the run before failed
            self.heal()
            self.settle()
        self.settled = False
        self.journal()
        self._journal = Journal()
        for client in self.clients.all:
            del client.items[:]
            client.replayed = 0
            client.codes.clear()
            client.last_seen.clear()

    def journal(self) -> Journal:
        """What was published since `begin()`."""
        for slot in range(self.plan.publishers):
            path = self.folder / f"journal-{slot}"
            if path.exists():
                with path.open("rb") as lines:
                    lines.seek(self._read_to.get(slot, 0))
                    whole = lines.read().rpartition(b"\n")[0]
                if whole:
                    self._read_to[slot] = self._read_to.get(slot, 0) + len(whole) + 1
                    self._journal.read(slot, whole.decode())
        return self._journal

    def load(self) -> None:
        """Publishers publish until `settle()`."""
        self._order(phase="load")

    def settle(self, *, patience: float = 20.0) -> None:
        """Stop publishing, and wait until every client has what was published after that; or does
        not get it and gets nothing else either. A reset may take the last events along: then others are published."""
        self._order(phase="quiet", dies=0.0)
        for wait in (patience / 10, patience / 5, patience / 5, patience):
            self.round += 1
            self._order(round=self.round)
            if not self._wait(lambda: self._published(self.round), 40):
                log = (self.folder / "publishers.log").read_text()[-4000:]
                raise TimeoutError(f"the publishers do not get through:\n{log}")
            marks = self.journal().last[self.round]
            if self._wait_while_they_get_on(marks, wait):
                break
        self.settled = True

    def _published(self, number: int) -> bool:
        return self.journal().rounds[number] >= self.plan.publishers

    def _wait_while_they_get_on(self, marks: Marks, patience: float) -> bool:
        """Whether everybody was told these, and nobody was stuck for so many seconds before."""
        had = -1
        while True:
            has = sum(len(client.items) for client in self.clients.all)
            if self.clients.wait_until(lambda: self._told(marks), patience):
                return True
            if has == had:
                return False
            had = has

    def _told(self, marks: Marks) -> bool:
        return all(
            value in client.last_seen.get(topic, ())
            for (_, topic), value in marks.items()
            for client in self.clients.all
            if topic in client.topics
        )

    @staticmethod
    def _wait(condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def wait_for(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Raises TimeoutError."""
        if not self._wait(condition, timeout):
            raise TimeoutError(f"{what}: not within {timeout} s")

    def committed(self) -> int:
        """Events since `begin()`."""
        return self.journal().sent

    def judged(self) -> Report:
        """What the run since `begin()` showed."""
        return judge(self.journal(), self.clients.all)

    def heal(self) -> None:
        """Start again what a fault left dead."""
        if self.redis is not None and not self.redis.answers():
            self.redis.kill()
            self.redis.start()
        for server in self.servers:
            if not server.running:
                server.start()

    def restart_servers(self) -> None:
        """With nothing in memory that an earlier fault left there."""
        self._at_once(*(server.restart for server in self.servers))
        for client in self.clients.all:
            client.ready = False
        self.clients.wait_until(lambda: all(c.ready for c in self.clients.all), 20)

    def a_server(self) -> Server:
        return random.choice(self.servers)
