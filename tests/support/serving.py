"""A process that serves, without a server: a runtime on a thread of this process, with connections to
nobody. For commands and pages that ask what is open."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_live.core import survey
from django_live.core.connections import Connection, Peer
from django_live.core.runtime import Runtime, runtime
from django_live.core.subscribing import Request
from django_live.core.topics import Viewer, as_topic
from django_live.transports.frames import SSE
from tests.core.fakes import FakeSink


class Serving:
    """The runtime, and what a test does with it from outside of its loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.live: Runtime = self.do(_runtime())
        self.wait_for(lambda: self.live.witness._enrolled and self.live.control._ear)

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def wait_for(self, condition: Any) -> None:
        until = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    def connect(
        self, *topics: str, user: Any = None, transport: str = "sse", address: str = "192.0.2.1"
    ) -> Connection:
        """An open connection of this user's (an instance), to somebody who reads everything."""
        connection = Connection(
            self.live.hub,
            FakeSink(),
            SSE,
            Viewer(user_id=None if user is None else str(user.pk), source=lambda _: user),
            self.live.subscribing.need,
            transport=transport,
            peer=Peer(address, "a <browser>"),
        )
        self.live.hub.add(connection)
        requests = [Request(as_topic(name), None) for name in topics]
        self.do(self.live.subscribing.open(connection, requests))
        return connection

    def close(self) -> None:
        self.do(self.live.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _runtime() -> Runtime:
    return runtime()


@contextmanager
def serving() -> Iterator[Serving]:
    one = Serving()
    try:
        yield one
    finally:
        one.close()


def enrolled() -> int:
    """How many processes there are."""
    return len(survey.processes())
