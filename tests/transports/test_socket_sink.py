"""A WebSocket of a server whose `send` answers with a future, as granian's does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from django_live.core.connections import Connection
from django_live.core.events import Event
from django_live.core.hub import Hub
from django_live.core.topics import History, Topic, Viewer, registry
from django_live.transports.socket_frames import SOCKET
from django_live.transports.socket_sink import SocketSink

pytestmark = pytest.mark.asyncio


class Server:
    """Its futures are done when the test says so."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.writing: list[asyncio.Future[None]] = []

        def send(message: dict[str, Any]) -> asyncio.Future[None]:
            assert all(future.done() for future in self.writing), "two writers at a time"
            self.sent.append(message)
            self.writing.append(asyncio.get_running_loop().create_future())
            return self.writing[-1]

        send.__module__ = "granian.asgi"
        self.send = send

    async def takes(self, error: Exception | None = None) -> None:
        """The newest write is over, and whoever waited for it has had a turn."""
        if error is None:
            self.writing[-1].set_result(None)
        else:
            self.writing[-1].set_exception(error)
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def texts(self) -> str:
        return "".join(message.get("text", "") for message in self.sent)


@pytest.fixture
def room() -> Iterator[Topic]:
    with registry.isolated():

        class Room(Topic):
            pattern = "room"
            history = History()

        yield Room()


class Open:
    """An open connection of such a server that reads the room."""

    def __init__(self, room: Topic) -> None:
        self.server = Server()
        self.hub = Hub()
        self.feed = self.hub.feed(room)
        self.feed.begin("epoch", 0)
        reader = asyncio.get_running_loop().create_future()
        self.sink = SocketSink(self.server.send, reader)  # type: ignore[arg-type]
        self.connection = Connection(self.hub, self.sink, SOCKET, Viewer(), lambda _: None)
        self.hub.add(self.connection)
        self.hub.deliver_from(self.hub.subscribe(self.connection, room), 0)
        self.connection.begin(b'{"event":"stream-open"}\n')
        self.sink.attach(self.connection)

    def say(self, text: str) -> None:
        event = Event("said", f'"{text}"', self.feed.last + 1, created=1.0)
        self.hub.dispatch(self.feed, [self.feed.append(event)])


async def test_a_write_that_waits_needs_no_task(room: Topic) -> None:
    opened = Open(room)
    await opened.server.takes()
    tasks = asyncio.all_tasks()
    for number in range(3):
        opened.say(f"number {number}")
        assert f"number {number}" in opened.server.texts
        assert asyncio.all_tasks() == tasks
        await opened.server.takes()
    assert len(opened.server.sent) == 4


async def test_what_comes_while_a_write_waits_goes_with_the_next(room: Topic) -> None:
    opened = Open(room)
    for text in ("a", "b", "c"):
        opened.say(text)
    assert len(opened.server.sent) == 1
    await opened.server.takes()
    assert [opened.server.texts.count(f'"{text}"') for text in ("a", "b", "c")] == [1, 1, 1]
    assert len(opened.server.sent) == 2
    await opened.server.takes()
    assert not opened.connection.blocked


@pytest.mark.parametrize("error", [RuntimeError("closed"), ConnectionResetError()])
async def test_a_write_that_fails_ends_the_connection(room: Topic, error: Exception) -> None:
    opened = Open(room)
    await opened.server.takes(error)
    assert opened.connection.closed


async def test_a_write_that_is_cancelled_ends_the_connection(room: Topic) -> None:
    opened = Open(room)
    opened.server.writing[-1].cancel()
    await asyncio.sleep(0)
    assert opened.connection.closed


async def test_messages_of_one_write_go_one_after_the_other(room: Topic) -> None:
    opened = Open(room)
    await opened.server.takes()
    messages = [{"type": "websocket.send", "text": text} for text in ("1", "2", "3")]
    assert opened.sink.put(messages) is False
    opened.connection.blocked = True
    opened.say("later")
    for count in (2, 3, 4):
        assert len(opened.server.sent) == count
        await opened.server.takes()
    assert [message["text"] for message in opened.server.sent[1:4]] == ["1", "2", "3"]
    assert "later" in opened.server.texts
    await opened.server.takes()
    assert not opened.connection.blocked


async def test_the_end_waits_for_what_is_being_written(room: Topic) -> None:
    opened = Open(room)
    await opened.server.takes()
    opened.say("the last word")
    finished = asyncio.ensure_future(opened.sink.finished())
    await asyncio.sleep(0)
    assert not finished.done()
    await opened.server.takes()
    assert await asyncio.wait_for(finished, 5) is True
