"""Client libraries that people already use, from their registry, against a real server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import httpx_sse
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from tests.servers.test_streams import path_of
from tests.support.databases import ServerDatabase, server_database
from tests.support.requirements import requires
from tests.support.servers import Server

SCRIPTS = Path(__file__).parent / "clients_of_others"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerDatabase]:
    with server_database("sqlite", tmp_path_factory.mktemp("site")) as database:
        yield database


@pytest.fixture(scope="module")
def server(database: ServerDatabase) -> Iterator[Server]:
    with Server("uvicorn", env=database.env) as server:
        yield server


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """Each test has its own."""
    return f"open/{request.function.__name__[5:25].replace('_', '-').strip('-')}"


def publish(database: ServerDatabase, topic: str, n: int) -> None:
    database.python(f"from django_live import publish; publish({topic!r}, 'counted', {{'n': {n}}})")


def test_httpx_sse_receives_and_resumes(
    database: ServerDatabase, server: Server, topic: str
) -> None:
    last_id = ""
    for n in range(3):
        if n:  # while the client is away
            publish(database, topic, n)
        with (
            httpx.Client(base_url=server.url, timeout=10) as client,
            httpx_sse.connect_sse(
                client, "GET", path_of(topic), headers={"Last-Event-ID": last_id}
            ) as source,
        ):
            events = source.iter_sse()
            opened = next(events)
            assert opened.event == "stream-open"
            assert opened.retry == 2000
            if not n:
                publish(database, topic, n)
            event = next(events)
            assert (event.event, event.json()) == ("counted", {"n": n})
            last_id = event.id


# -- websockets, from PyPI -------------------------------------------------------------------------


async def _subscribe(client: ClientConnection, topic: str, cursor: str) -> None:
    asked = {"action": "subscribe", "ref": 1, "topics": [topic], "cursor": cursor}
    await client.send(json.dumps(asked))


async def _next_event(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(20):
        async for message in client:
            for line in str(message).splitlines():
                frame: dict[str, Any] = json.loads(line)
                if frame["event"] == "counted":
                    return frame
    raise AssertionError("closed")


def test_websockets_receives_and_resumes_with_its_defaults(
    database: ServerDatabase, server: Server, topic: str
) -> None:
    """Compression, pings and all."""
    address = f"ws://{server.host}:{server.port}/live/ws/"

    async def receive() -> None:
        cursor = ""
        for n in range(3):
            if n:
                await asyncio.to_thread(publish, database, topic, n)
            connecting = websockets.connect(address, subprotocols=[Subprotocol("live.1")])
            async with connecting as client:
                assert client.subprotocol == "live.1"
                await _subscribe(client, topic, cursor)
                if not n:
                    await client.recv()  # stream-open
                    await client.recv()  # the reply: it is subscribed
                    await asyncio.to_thread(publish, database, topic, n)
                frame = await _next_event(client)
                assert frame["data"] == {"n": n}
                cursor = frame["id"]
                await (await client.ping())

    asyncio.run(receive())


# -- eventsource and ws, from npm ------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripts() -> Path:
    """The scripts beside their packages, which are installed once for each set of versions."""
    lock = (SCRIPTS / "package-lock.json").read_bytes()
    name = f"django_live_clients_{hashlib.sha256(lock).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    if not (folder / ".ready").exists():
        folder.mkdir(exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            (folder / file).write_bytes((SCRIPTS / file).read_bytes())
        command = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / ".ready").touch()
    for script in SCRIPTS.glob("*.mjs"):
        (folder / script.name).write_bytes(script.read_bytes())
    return folder


class Script:
    """A running Node script that prints a line of JSON for all that it hears."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            ["node", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
        )
        self._lines: queue.Queue[Any] = queue.Queue()
        self.heard: list[Any] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def say(self, **action: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(action) + "\n")

    def next(self, key: str, timeout: float = 30) -> Any:
        """The next line with this key."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"no {key!r} after {self.heard}") from None
            self.heard.append(line)
            if key in line:
                return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def outage(server: Server) -> Iterator[None]:
    """The server is gone meanwhile."""
    server.kill()
    yield
    server.start()


@requires("npm")
def test_eventsource_comes_back_by_itself_and_misses_nothing(
    database: ServerDatabase, server: Server, topic: str, scripts: Path
) -> None:
    with Script(str(scripts / "eventsource.mjs"), server.url + path_of(topic)) as client:
        assert client.next("open")["open"] == [topic]
        publish(database, topic, 0)
        assert client.next("n")["n"] == 0
        with outage(server):
            assert client.next("error")["closed"] is False
            publish(database, topic, 1)
        client.next("open")
        publish(database, topic, 2)
        assert [client.next("n")["n"], client.next("n")["n"]] == [1, 2]
        assert not [line for line in client.heard if "reset" in line]


@requires("npm")
def test_eventsource_stops_for_good_when_it_is_refused(server: Server, scripts: Path) -> None:
    with Script(str(scripts / "eventsource.mjs"), server.url + path_of("orders/1")) as client:
        assert client.next("error") == {"error": 403, "closed": True}


@requires("npm")
def test_ws_comes_back_with_its_cursor_sends_and_takes_bytes(
    database: ServerDatabase, server: Server, topic: str, scripts: Path
) -> None:
    address = f"ws://{server.host}:{server.port}/live/ws/"
    with Script(str(scripts / "ws.mjs"), address, topic) as client:
        assert client.next("reply")["data"]["topics"] == [topic]
        publish(database, topic, 0)
        assert client.next("event")["data"] == {"n": 0}
        with outage(server):
            client.next("closed")
            publish(database, topic, 1)
            database.python(
                f"from django_live import publish; publish({topic!r}, 'raw', bytes([0, 255, 7]))"
            )
        client.next("reply")
        assert client.next("event")["data"] == {"n": 1}
        assert client.next("bytes") == {"bytes": [0, 255, 7], "sequence": 3}
        client.say(action="send", ref="r", topic="rooms/a", type="describe", data=[1])
        assert client.next("reply")["data"][:2] == [False, [1]]
        assert not [line for line in client.heard if "reset" in line]
