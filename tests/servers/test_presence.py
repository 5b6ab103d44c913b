"""Who is there, over real connections to separate processes, one of which is killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.servers.test_streams import USERS, open_stream
from tests.support.databases import server_database
from tests.support.http import Visitor
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader

LEASE = 3.0
HALL = "halls/blue"
COMPANION = f"live/presence/{HALL}"
Start = Callable[[], Server]


class Processes:
    """Servers that share a database, and two people who are logged in on all of them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        database = stack.enter_context(server_database("sqlite", folder))
        database.python(USERS)
        settings = f'{{"PRESENCE_LEASE": {LEASE}}}'
        self._env = {**database.env, "LIVE_TEST_DJANGO_LIVE": settings}
        self._stack = stack
        self._folder = folder
        self._visitors: dict[str, Visitor] = {}

    def start(self, name: str) -> Server:
        log = self._folder / f"{name}.log"
        return self._stack.enter_context(Server("uvicorn", env=self._env, log_path=log))

    def open(self, server: Server, user: str, *topics: str) -> SSEReader:
        if user not in self._visitors:
            self._visitors[user] = Visitor(server.url)
            self._visitors[user].log_in(user, user)
        reader = open_stream(server, *topics, visitor=self._visitors[user])
        self._stack.callback(reader.close)
        reader.wait_for(lambda frame: frame.event == "stream-open")
        return reader


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(tmp_path_factory.mktemp("hall"), stack)


@pytest.fixture(scope="module")
def lasting(processes: Processes) -> Server:
    return processes.start("lasting")


def names_in(data: dict[str, Any]) -> set[str]:
    values = data.get("set", {}).values()
    return {value["i"]["name"] for value in values if isinstance(value, dict)}


def test_who_is_on_a_killed_process_is_told_to_be_gone_by_another(
    processes: Processes, lasting: Server
) -> None:
    doomed = processes.start("doomed")
    watcher = processes.open(lasting, "bert", HALL, COMPANION)
    watcher.wait_for(lambda f: f.event == "changed" and "bert" in names_in(f.json()))
    processes.open(doomed, "anna", HALL)
    came = watcher.wait_for(lambda f: f.event == "changed" and "anna" in names_in(f.json()))
    (seat,) = (key for key in came.json()["set"] if key.startswith("m "))

    quiet = watcher.frames_during(LEASE * 1.2)
    assert not [f for f in quiet if f.event == "changed"], "the control: nobody was killed yet"

    doomed.kill()
    killed = time.monotonic()
    watcher.wait_for(lambda f: f.event == "changed" and seat in f.json()["gone"], timeout=30)
    # Without a channel layer it is heard up to a second later; the rest is for a busy machine. Were it not
    # for the lease, the seats would stand for a day.
    assert time.monotonic() - killed < LEASE + 7


def test_a_connection_that_is_opened_again_is_neither_a_leave_nor_a_join(
    processes: Processes, lasting: Server
) -> None:
    watcher = processes.open(lasting, "bert", COMPANION)
    reader = processes.open(lasting, "anna", HALL)
    watcher.wait_for(lambda f: f.event == "changed" and "anna" in names_in(f.json()))
    reader.close()
    reader = processes.open(lasting, "anna", HALL)
    told = [f.json() for f in watcher.frames_during(3) if f.event == "changed"]
    assert not [key for data in told for key in data["gone"] if key.startswith("m ")]
    reader.close()
    watcher.wait_for(
        lambda f: f.event == "changed" and any(k.startswith("m ") for k in f.json()["gone"]),
        timeout=10,
    )


def test_strangers_do_not_see_who_is_there(lasting: Server) -> None:
    with open_stream(lasting, COMPANION, visitor=Visitor(lasting.url)) as refused:
        assert refused.status == 403
    with open_stream(lasting, "live/presence/halls/none/at/all") as refused:
        assert refused.status == 403
