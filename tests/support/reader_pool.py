"""Many event streams held by one thread: what a server meets on a busy day.

The pool's thread reads all the time; a test opens readers, waits for a condition, looks at what each
one recorded, and may cut some of them off.
"""

import contextlib
import errno
import itertools
import resource
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from types import TracebackType
from typing import Self

from tests.support.sse_reader import is_application_event, request_bytes, reset_on_close
from tests.support.wire import Frame, FrameParser, ProtocolViolationError, ResponseParser

# More connections than this wait for their turn: a server's backlog of unaccepted ones is short.
OPENING_AT_ONCE = 64


class PooledReader:
    """One stream of the pool, over as many connections as it took. Read only, from any thread."""

    def __init__(
        self, name: Hashable, host: str, port: int, path: str, headers: Mapping[str, str]
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.path = path
        self.request_headers = dict(headers)
        self.frames: list[Frame] = []
        self.last_id: str | None = None
        self.connections = 0
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        # Why the latest connection is over; None while it is open or opening.
        self.over: str | None = None
        self._begin()

    def _begin(self) -> None:
        self.status = None
        self.over = None
        self._socket: socket.socket | None = None
        self._response = ResponseParser()
        self._parser = FrameParser()

    @property
    def open(self) -> bool:
        """Whether the stream was accepted and still runs."""
        return self.status == 200 and self.over is None

    @property
    def events(self) -> list[Frame]:
        """The frames that carry an application's event."""
        return [frame for frame in list(self.frames) if is_application_event(frame)]

    def named(self, event: str) -> list[Frame]:
        """The frames of one type, `stream-reset` for instance."""
        return [frame for frame in list(self.frames) if frame.event == event]

    def pairs(self, key: str = "n") -> list[tuple[str, Hashable]]:
        """What `exactly_once.judge` takes: the topic of each event, and `data[key]`."""
        return [(frame.topic or "", frame.json()[key]) for frame in self.events]


class ReaderPool:
    """A context manager: its thread runs from entry to exit."""

    def __init__(self) -> None:
        self.readers: list[PooledReader] = []
        self._selector = selectors.DefaultSelector()
        self._changed = threading.Condition()
        self._orders: deque[Callable[[], None]] = deque()
        self._waiting: deque[PooledReader] = deque()
        self._opening: set[PooledReader] = set()
        self._stopping = False
        self._names = itertools.count()
        self._wake_up, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="reader-pool", daemon=True)
        self._failure: BaseException | None = None

    def open(
        self,
        host: str,
        port: int,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        name: Hashable = None,
        last_event_id: str | None = None,
    ) -> PooledReader:
        """Ask for one more stream; it opens as soon as its turn comes (`wait_until_open`)."""
        all_headers = dict(headers or {})
        if last_event_id is not None:
            all_headers["Last-Event-ID"] = last_event_id
        if name is None:
            name = next(self._names)
        reader = PooledReader(name, host, port, path, all_headers)
        self.readers.append(reader)
        self._order(lambda: self._waiting.append(reader))
        return reader

    def reopen(self, reader: PooledReader, *, port: int | None = None) -> None:
        """Connect it again with the last cursor it saw, as a client does after a loss."""

        def begin_again() -> None:
            self._drop(reader, "reopened")
            reader._begin()
            if reader.last_id is not None:
                reader.request_headers["Last-Event-ID"] = reader.last_id
            reader.port = port or reader.port
            self._waiting.append(reader)

        self._order(begin_again)

    def cut(self, reader: PooledReader) -> None:
        """End its connection with an RST."""
        self._order(lambda: self._drop(reader, "cut", abruptly=True))

    def close(self, reader: PooledReader) -> None:
        """End its connection with a FIN."""
        self._order(lambda: self._drop(reader, "closed"))

    def wait_until(
        self, condition: Callable[[], bool], timeout: float = 30, what: str = "the condition"
    ) -> None:
        """Wait, looking again whenever something came. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if self._failure is not None:
                    raise RuntimeError("the pool's thread has ended") from self._failure
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{what}: not within {timeout} s; {self.describe()}")
                # The condition may depend on the clock too.
                self._changed.wait(min(left, 0.5))

    def wait_until_open(self, timeout: float = 30) -> None:
        """Wait for every reader's `stream-open`. Raises TimeoutError, and RuntimeError when one
        was refused."""

        def all_open() -> bool:
            for reader in self.readers:
                if reader.over is not None or reader.status not in {None, 200}:
                    why = f"{reader.status}, {reader.over}"
                    raise RuntimeError(f"reader {reader.name} could not be opened: {why}")
            return all(reader.open and reader.frames for reader in self.readers)

        self.wait_until(all_open, timeout, "all streams open")

    def wait_for_events(self, count: int, timeout: float = 30) -> None:
        """Wait until every reader has `count` application events (or more)."""
        self.wait_until(
            lambda: all(len(reader.events) >= count for reader in self.readers),
            timeout,
            f"{count} events for each reader",
        )

    def received(self, key: str = "n") -> dict[Hashable, list[tuple[str, Hashable]]]:
        """What `exactly_once.judge` takes, for all readers."""
        return {reader.name: reader.pairs(key) for reader in self.readers}

    def describe(self) -> str:
        """How the readers stand, for a failure's message."""
        counts = [len(reader.events) for reader in self.readers] or [0]
        is_open = sum(reader.open for reader in self.readers)
        over = {reader.over for reader in self.readers if reader.over is not None}
        return (
            f"{is_open} of {len(self.readers)} open, {min(counts)} to {max(counts)} events"
            f"{f', ended: {over}' if over else ''}"
        )

    def __enter__(self) -> Self:
        allow_many_files()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._order(lambda: None)
        self._thread.join(10)
        for reader in self.readers:
            if reader._socket is not None:
                reader._socket.close()
        self._selector.close()
        self._wake_up.close()
        self._woken.close()
        if self._failure is not None and error is None:
            raise RuntimeError("the pool's thread has ended") from self._failure

    # -- on the pool's thread ----------------------------------------------------------------------

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._wake_up.send(b"!")

    def _run(self) -> None:
        try:
            while not self._stopping:
                while self._waiting and len(self._opening) < OPENING_AT_ONCE:
                    self._connect(self._waiting.popleft())
                for key, mask in self._selector.select(1):
                    if key.data is None:
                        self._obey()
                    elif key.data._socket is key.fileobj:
                        self._serve(key.data, mask)
                with self._changed:
                    self._changed.notify_all()
        except BaseException as failure:
            self._failure = failure
            with self._changed:
                self._changed.notify_all()
            raise

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._orders:
            self._orders.popleft()()

    def _connect(self, reader: PooledReader) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        reader._socket = connection
        reader.connections += 1
        self._opening.add(reader)
        result = connection.connect_ex((reader.host, reader.port))
        if result not in {0, errno.EINPROGRESS}:
            self._drop(reader, f"refused: {errno.errorcode[result]}")
            return
        self._selector.register(connection, selectors.EVENT_WRITE, reader)

    def _serve(self, reader: PooledReader, mask: int) -> None:
        assert reader._socket is not None
        try:
            if mask & selectors.EVENT_WRITE:
                self._request(reader, reader._socket)
            else:
                self._receive(reader, reader._socket)
        except (OSError, ProtocolViolationError) as error:
            self._drop(reader, f"{type(error).__name__}: {error}")

    def _request(self, reader: PooledReader, connection: socket.socket) -> None:
        refused = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            raise OSError(refused, errno.errorcode[refused])
        # A request is far smaller than an empty socket's buffer: it leaves at once.
        connection.sendall(
            request_bytes(reader.host, reader.port, reader.path, reader.request_headers)
        )
        self._selector.modify(connection, selectors.EVENT_READ, reader)

    def _receive(self, reader: PooledReader, connection: socket.socket) -> None:
        data = connection.recv(65_536)
        if not data:
            reader._response.connection_closed()
            clean = reader._response.ended
            self._drop(reader, "ended" if clean else "closed within the body")
            return
        frames = reader._parser.feed(reader._response.feed(data))
        if reader.status is None and reader._response.status is not None:
            reader.headers = reader._response.headers
            reader.status = reader._response.status
            self._opening.discard(reader)
        if reader.status == 200:
            reader.frames.extend(frames)
            for frame in frames:
                if frame.id is not None:
                    reader.last_id = frame.id
        if reader._response.ended:
            self._drop(reader, "ended")

    def _drop(self, reader: PooledReader, why: str, *, abruptly: bool = False) -> None:
        self._opening.discard(reader)
        with contextlib.suppress(ValueError):
            self._waiting.remove(reader)
        reader.over = reader.over or why
        connection, reader._socket = reader._socket, None
        if connection is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection)
            if abruptly:
                reset_on_close(connection)
            connection.close()


def allow_many_files() -> None:
    """Raise this process's limit of open files as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
