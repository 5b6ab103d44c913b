"""For the tests of projects that use django_live: what was published, and a stream to read.

Works with Django's test runner and with pytest, without Redis and without a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db import DEFAULT_DB_ALIAS, transaction
from django.test import Client, TestCase

from .core.commits import settle
from .core.events import Event, encode_data
from .core.hooks import hook_threads, in_thread
from .core.runtime import running_runtime
from .core.sending import observed_by
from .core.topics import Topic, as_topic

__all__ = [
    "PublishedEvent",
    "SSEFrame",
    "SSEStream",
    "assert_published",
    "capture_events",
    "open_sse",
]

ANYTHING = object()


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event that was published, its data as it went in (after JSON)."""

    topic: str
    type: str
    data: Any


@contextmanager
def capture_events(using: str = DEFAULT_DB_ALIAS) -> Iterator[list[PublishedEvent]]:
    """What the block publishes, each topic's events in order. The list is complete when the block is
    left.

    Inside a ``TestCase`` nothing commits; so the block's commit hooks are run at its end, as those of
    ``captureOnCommitCallbacks(execute=True)`` are, and what was published before the block counts as
    committed. A savepoint that is rolled back publishes nothing. Raises ``RuntimeError`` inside a
    transaction that is not a ``TestCase``'s: put the block around the transaction.
    """
    captured: list[PublishedEvent] = []

    def note(topic: Topic, events: Sequence[Event]) -> None:
        captured.extend(PublishedEvent(topic.name, e.type, json.loads(e.data)) for e in events)

    connection = transaction.get_connection(using)
    if not connection.in_atomic_block:
        with observed_by(note):
            yield captured
        return
    if not any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        raise RuntimeError(
            "Nothing is published before the transaction commits that is open here. Put "
            "capture_events() or assert_published() around transaction.atomic(), not into it."
        )
    settle(using)
    with observed_by(note), TestCase.captureOnCommitCallbacks(using=using, execute=True):
        yield captured


@contextmanager
def assert_published(
    topic: Topic | str,
    type: str | None = None,
    data: Any = ANYTHING,
    *,
    count: int | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> Iterator[list[PublishedEvent]]:
    """Fails unless the block publishes such an event: at least one, or exactly ``count``.

    ``count=0`` asserts that none is. What the block published is in the message. Raises
    ``UnknownTopic`` for a name that no Topic declares, which a misspelled one is.
    """
    name = as_topic(topic).name
    expected = data if data is ANYTHING else json.loads(encode_data(data))
    with capture_events(using) as captured:
        yield captured
    matching = [
        event
        for event in captured
        if event.topic == name
        and (type is None or event.type == type)
        and (data is ANYTHING or event.data == expected)
    ]
    if len(matching) != count if count is not None else not matching:
        wanted = f"{type or 'an event'} on {name}" + (
            "" if data is ANYTHING else f" with {expected!r}"
        )
        times = "at least once" if count is None else f"{count} times"
        published = "\n".join(f"  {event}" for event in captured) or "  nothing"
        raise AssertionError(f"Expected {wanted}, {times}; published were:\n{published}")


@dataclass(frozen=True, slots=True)
class SSEFrame:
    """One frame of a stream. ``data`` is parsed JSON, None where the frame has none."""

    event: str
    data: Any
    id: str
    topic: str


class SSEStream:
    """An open stream. ``async with open_sse(…) as stream``."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.body = b""
        """What came so far and is not read yet; of a refused request its answer."""
        self.ended = False
        self._changed = asyncio.Event()

    async def ready(self, timeout: float = 5.0) -> None:
        """Wait until there is a frame to take; errors as ``frame()``."""
        async with asyncio.timeout(timeout):
            while b"\n\n" not in self.body:
                if self.ended:
                    raise EOFError("The stream has ended.")
                self._changed.clear()
                await self._changed.wait()

    async def frame(self, timeout: float = 5.0) -> SSEFrame:
        """The next frame, keep-alives included. Raises ``TimeoutError``, or ``EOFError`` at the end."""
        await self.ready(timeout)
        raw, _, self.body = self.body.partition(b"\n\n")
        fields: dict[str, str] = {}
        for line in raw.decode().split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        data = fields.get("data")
        return SSEFrame(
            event=fields.get("event", ""),
            data=json.loads(data) if data else None,
            id=fields.get("id", ""),
            topic=fields.get("topic", ""),
        )

    async def event(self, type: str | None = None, timeout: float = 5.0) -> SSEFrame:
        """The next frame of this type, or the next one that the site published."""
        while True:
            frame = await self.frame(timeout)
            if frame.event == type:
                return frame
            if (
                type is None
                and frame.event
                and not frame.event.startswith(("stream-", "keep-alive"))
            ):
                return frame

    def json(self) -> Any:
        """The answer of a request that was refused."""
        return json.loads(self.body)

    def take(self, data: bytes, more: bool) -> None:
        """What the application sent; called by ``open_sse()``."""
        self.body += data
        self.ended = self.ended or not more
        self._changed.set()


@asynccontextmanager
async def open_sse(
    application: Any,
    *topics: Topic | str,
    user: Any = None,
    client: Client | None = None,
    cursor: str | None = None,
    path: str = "/live/events/",
    headers: dict[str, str] | None = None,
) -> AsyncIterator[SSEStream]:
    """Open a stream of the project's ASGI application (``yourproject.asgi.application``), as the
    ``user`` or with the cookies of a test ``client``. It is closed, and its tasks with it, at the end
    of the block. Needs a database that other threads see: a ``TransactionTestCase``, or
    ``pytest.mark.django_db(transaction=True)``.
    """
    cookies = await in_thread(hook_threads(), lambda: _cookies(client, user))
    sent = {"host": "testserver", "accept": "text/event-stream", **(headers or {})}
    if cookies:
        sent["cookie"] = cookies
    if cursor is not None:
        sent["last-event-id"] = cursor
    scope = _scope(path, [("topic", str(topic)) for topic in topics], sent)
    closing = asyncio.Event()
    started: asyncio.Future[SSEStream] = asyncio.get_running_loop().create_future()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await closing.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            named = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            started.set_result(SSEStream(message["status"], named))
        else:
            (await started).take(message.get("body", b""), message.get("more_body", False))

    task = asyncio.ensure_future(application(scope, receive, send))
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await task  # raises what the application raised
            raise RuntimeError("The application ended and sent no response.")
        stream = await started
        if stream.status != 200:
            await task
        else:
            # The first frame is written when the topics are joined: what is published from now on
            # arrives. Before that, a newcomer would start after it.
            await stream.ready()
        yield stream
    finally:
        closing.set()
        if not task.done():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(task, 5.0)
        live = running_runtime()
        if live is not None and not live.hub.connections:
            await live.stop()
        for _ in range(3):  # who waits for the disconnect gets its turn to end
            await asyncio.sleep(0)


def _scope(path: str, query: list[tuple[str, str]], headers: dict[str, str]) -> dict[str, Any]:
    """An ASGI request for this address."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": urlencode(query).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 50000),
    }


def _cookies(client: Client | None, user: Any) -> str:
    if user is not None:
        client = client or Client()
        client.force_login(user)
    if client is None:
        return ""
    return "; ".join(f"{morsel.key}={morsel.value}" for morsel in client.cookies.values())
