"""What stands around the core in its tests: a loop with its own clock, a log that answers when told
to, a bus that loses, delays and repeats, sockets that block."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from django_live.core.bus import Envelope, envelopes
from django_live.core.connections import Connection, Sink
from django_live.core.control import Control
from django_live.core.events import Cursor, Draft, Event, Position
from django_live.core.hub import Hub
from django_live.core.log import Appended, EventLog, Head, Page
from django_live.core.subscribing import Request, Subscribing
from django_live.core.topics import Topic, Viewer
from django_live.exceptions import StoreError


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop that runs only as far as it is told, by a clock that only the test moves."""

    def __init__(self) -> None:
        self._test_time = 0.0
        super().__init__()
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self._test_time

    def turn(self, times: int = 1) -> None:
        """Run what is ready now; what that makes ready runs in the next turn."""
        for _ in range(times):
            self.call_soon(self.stop)
            self.run_forever()

    def settle(self) -> int:
        """Run until nothing is ready any more. How many turns that took."""
        for turns in range(20_000):
            self.turn()
            if not self._ready:  # type: ignore[attr-defined]
                return turns
        raise AssertionError("The loop does not come to rest.")

    def advance(self, seconds: float) -> None:
        """Move the clock, and run what is due."""
        self.settle()
        self._test_time += seconds
        self.settle()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run one coroutine as far as it gets without help; its result."""
        task = self.create_task(work)
        self.settle()
        assert task.done(), "It waits for something."
        return task.result()

    def end(self) -> None:
        """Cancel what is left, and close."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        self.close()


async def until(condition: Callable[[], Any]) -> None:
    """On a real loop: wait for something that threads or other tasks bring about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a condition of anything
            await asyncio.sleep(0.001)


# -- the log ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Life:
    """The kept events of one topic."""

    epoch: str
    last: int = 0
    floor: int = 0
    events: dict[int, Event] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        return Head(self.epoch, self.last, self.floor)

    def copy(self) -> Life:
        return replace(self, events=dict(self.events))


class ScriptedLog(EventLog):
    """A log in memory that can be set back, flushed, trimmed and switched off.

    With ``slow`` every question of the event loop waits twice for ``step()``: before it is answered,
    and before the answer arrives. What happens in between is what races are made of.
    """

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.down = False
        self.slow = False
        self.waiting: list[asyncio.Future[None]] = []
        self.asked: list[str] = []
        """Which questions were asked, as ``read orders/42 after 7``."""
        self._epochs = 0

    def life(self, topic: Topic) -> Life:
        if topic.key not in self.lives:
            self.lives[topic.key] = Life(self.new_epoch())
        return self.lives[topic.key]

    def new_epoch(self) -> str:
        self._epochs += 1
        return f"e{self._epochs}"

    def reads(self) -> list[str]:
        return [question for question in self.asked if question.startswith("read ")]

    # -- the contract --

    def append(self, topic: Topic, drafts: Sequence[Draft]) -> Appended:
        if self.down:
            raise StoreError("down")
        life = self.life(topic)
        events = []
        for draft in drafts:
            life.last += 1
            event = Event(
                type=draft.type,
                data=draft.data,
                offset=life.last,
                exclude=draft.exclude,
                created=float(life.last),
                conflate=draft.conflate,
            )
            life.events[event.offset] = event
            events.append(event)
        return Appended(life.epoch, events)

    def read(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        life = self.life(topic)
        events: list[Event] = []
        size = 0
        for offset in range(max(after, life.floor) + 1, life.last + 1):
            event = life.events[offset]
            size += len(event.data.encode())
            if events and (len(events) >= limit or size > max_bytes):
                break
            events.append(event)
        return Page(life.head, events)

    def heads(self, topics: Sequence[Topic]) -> dict[str, Head]:
        return {topic.key: self.life(topic).head for topic in topics}

    def positions(self, topics: Sequence[Topic], at: float) -> dict[str, Position]:
        return {topic.key: self.life(topic).head.position for topic in topics}

    def begin_epoch(self, topic: Topic, seen: Head) -> Head:
        life = self.life(topic)
        if life.epoch == seen.epoch:
            last = max(life.last, seen.last)
            self.lives[topic.key] = Life(self.new_epoch(), last, last)
        return self.life(topic).head

    def trim(self, *, limit: int = 500) -> int:
        return 0

    # -- from the event loop --

    async def _asked(self, question: str, answer: Callable[[], Any]) -> Any:
        self.asked.append(question)
        await self._turn_of()
        if self.down:
            raise StoreError("down")
        found = answer()
        await self._turn_of()
        return found

    async def _turn_of(self) -> None:
        if self.slow:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            await future

    def step(self, index: int = 0) -> None:
        """Let one of the questions that wait go on."""
        future = self.waiting.pop(index % len(self.waiting))
        if not future.done():
            future.set_result(None)

    async def aread(self, topic: Topic, after: int, limit: int, max_bytes: int) -> Page:
        question = f"read {topic.name} after {after}"
        answer = lambda: self.read(topic, after, limit, max_bytes)  # noqa: E731
        return cast(Page, await self._asked(question, answer))

    async def aheads(self, topics: Sequence[Topic]) -> Mapping[str, Head]:
        question = "heads " + " ".join(topic.name for topic in topics)
        return cast(Mapping[str, Head], await self._asked(question, lambda: self.heads(topics)))

    async def abegin_epoch(self, topic: Topic, seen: Head) -> Head:
        question = f"begin {topic.name}"
        return cast(Head, await self._asked(question, lambda: self.begin_epoch(topic, seen)))

    # -- what goes wrong with logs --

    def trim_to(self, topic: Topic, floor: int) -> None:
        """Keep only what comes after this offset."""
        life = self.life(topic)
        life.floor = max(life.floor, min(floor, life.last))
        life.events = {o: e for o, e in life.events.items() if o > life.floor}

    def set_back(self, topic: Topic, backup: Life) -> None:
        """Restore a backup: the same epoch, fewer events."""
        self.lives[topic.key] = backup.copy()

    def flush(self, topic: Topic) -> None:
        """Everything is gone; a new life begins at 0."""
        self.lives[topic.key] = Life(self.new_epoch())


# -- the bus ---------------------------------------------------------------------------------------


class ScriptedBus:
    """One process's ear. What ``Wire`` sends waits in ``inbox`` until somebody delivers it."""

    def __init__(self) -> None:
        self.joined: set[str] = set()
        self.inbox: list[Envelope] = []
        self.on_message: Callable[[Envelope], None] = lambda message: None
        self.history: list[str] = []

    async def join(self, key: str) -> None:
        self.joined.add(key)

    def leave(self, key: str) -> None:
        self.joined.discard(key)

    def deliver(self, index: int = 0) -> None:
        """Hand over one message, if anybody still listens to its topic."""
        message = self.inbox.pop(index % len(self.inbox))
        if message["key"] in self.joined:
            self.on_message(message)

    def deliver_all(self) -> None:
        while self.inbox:
            self.deliver()


# -- sockets ---------------------------------------------------------------------------------------


class RecordDialect:
    """Frames that a test can read: one JSON list and a cursor per line."""

    name = "record"

    def _frame(self, *parts: object) -> bytes:
        return json.dumps(parts).encode() + b" "

    def event(self, topic: Topic, event: Event) -> bytes:
        return self._frame("event", topic.name, event.type, json.loads(event.data))

    def end(self, cursor: str) -> bytes:
        return cursor.encode() + b"\n"

    def moved(self, cursor: str) -> bytes:
        return self.end(cursor)

    def keep_alive(self) -> bytes:
        return self._frame("keep-alive")

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        return self._frame("open", topics)

    def snapshot(self, topic: str, data: str) -> bytes:
        return self._frame("snapshot", topic, json.loads(data))

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        return self._frame("reset", topic, reason, snapshot_follows)

    def error(self, topic: str, code: str, message: str) -> bytes:
        return self._frame("error", topic, code) + b"\n"

    def goodbye(self, retry: float) -> bytes:
        return self._frame("goodbye", retry) + b"\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a ``RecordDialect`` stream. Of a frame that only moves the cursor ``kind`` is
    empty."""

    kind: str
    parts: list[Any]
    cursor: str

    @classmethod
    def of(cls, line: bytes) -> Frame:
        text, _, cursor = line.decode().rpartition(" ")
        kind, *parts = json.loads(text) if text else [""]
        return cls(kind, parts, cursor)


class FakeSink(Sink):
    """A socket. While ``stuck`` it keeps what it is given, and ``drain()`` lets it go on."""

    def __init__(self) -> None:
        self.stuck = False
        self.received = b""
        self.pending = b""
        self.writes = 0
        self.largest_write = 0
        self.bytes_taken = 0
        self.ended = False
        self.broken = False
        self.connection: Connection | None = None

    def put(self, prepared: bytes) -> bool:
        data = prepared
        assert not self.pending, "Two writers at a time."
        assert not self.ended, "A write after the end."
        if self.broken:
            raise ConnectionResetError
        self.writes += 1
        self.largest_write = max(self.largest_write, len(data))
        self.bytes_taken += len(data)
        if self.stuck and data:
            self.pending = data
            return False
        self.received += data
        return True

    def end(self) -> None:
        self.ended = True

    def drain(self) -> None:
        """The peer has read everything that was pending."""
        if self.pending:
            self.received += self.pending
            self.pending = b""
            assert self.connection is not None
            if not self.connection.closed:
                self.connection.drained()

    def unblock(self) -> None:
        self.stuck = False
        self.drain()

    def take(self) -> list[Frame]:
        """The frames that arrived since the last time."""
        *lines, rest = self.received.split(b"\n")
        self.received = rest
        return [Frame.of(line) for line in lines]


# -- a process -------------------------------------------------------------------------------------


class Process:
    """One process with its hub: the core as ``runtime`` puts it together, without its timers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: EventLog,
        subscribing_class: type[Subscribing] = Subscribing,
    ) -> None:
        self.loop = loop
        self.log = log
        self.bus = ScriptedBus()
        self.failures: list[BaseException] = []
        """What tasks that nobody waits for have raised."""

        async def make() -> None:
            self.hub = Hub()
            self.subscribing = subscribing_class(
                self.hub,
                self.bus,  # type: ignore[arg-type]
                log,
                self.spawn,
            )
            self.control = Control(self.hub, self.subscribing, self.spawn)

        loop.run_until_complete(make())
        self.hub.on_feed_unused = self.subscribing.feed_unused
        self.bus.on_message = self.subscribing.receive

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failures.append(error)

    def connect(
        self,
        *topics: Topic,
        cursor: str | None = None,
        viewer: Viewer | None = None,
        sink: FakeSink | None = None,
        visible_from: float = 0.0,
    ) -> FakeSink:
        """Begin to open a stream; the loop has to turn before it is open."""
        sink = sink or FakeSink()
        connection = Connection(
            self.hub, sink, RecordDialect(), viewer or Viewer(), self.subscribing.need
        )
        sink.connection = connection
        self.hub.add(connection)
        places = Cursor.parse(cursor or "")
        requests = [Request(topic, places.get(topic.key), visible_from) for topic in topics]
        self.spawn(self.subscribing.open(connection, requests))
        return sink

    async def check_heads(self) -> None:
        await self.subscribing.check_heads(list(self.hub.feeds.values()))

    def subscription(self, sink: FakeSink, topic: Topic) -> Any:
        assert sink.connection is not None
        return sink.connection.subscriptions[topic.key]


def publish(
    log: ScriptedLog, topic: Topic, data: object, *processes: Process, **options: str
) -> Event:
    """Append one event and put it on the way to these processes."""
    appended = log.append(topic, [Draft("said", json.dumps(data), **options)])
    send(topic, appended, *processes)
    return appended.events[-1]


def send(topic: Topic, appended: Appended, *processes: Process) -> None:
    for process in processes:
        process.bus.inbox.extend(envelopes(topic.key, appended.epoch, appended.events))


def events_of(frames: Sequence[Frame]) -> list[Any]:
    """The data of the events among these frames."""
    return [frame.parts[2] for frame in frames if frame.kind == "event"]


def kinds_of(frames: Sequence[Frame]) -> list[str]:
    return [frame.kind for frame in frames]


def counter() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number
