"""A client that opens many streams on one HTTP/2 connection: the package `h2` on a plain socket."""

import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events


class Http2Connection:
    """`get()` opens a stream; `bodies` and `statuses` have what came of each so far."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._authority = f"{host}:{port}"
        plain = socket.create_connection((host, port), timeout=20)
        self._socket = context.wrap_socket(plain, server_hostname=host)
        assert self._socket.selected_alpn_protocol() == "h2"
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self.statuses: dict[int, int] = {}
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self._flush()

    def get(self, path: str, accept: str = "text/event-stream") -> int:
        """The number of the new stream."""
        stream = self._h2.get_next_available_stream_id()
        headers = {":method": "GET", ":scheme": "https", ":authority": self._authority}
        headers |= {":path": path, "accept": accept}
        self._h2.send_headers(stream, list(headers.items()), end_stream=True)
        self._flush()
        return stream

    def read_until(self, condition: Callable[[], bool], timeout: float = 40) -> None:
        """Take what comes until it holds. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while not condition():
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the connection was closed")
            for event in self._h2.receive_data(data):
                self._take(event)
            self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            headers = {str(name): str(value) for name, value in event.headers or []}
            self.statuses[event.stream_id or 0] = int(headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream = event.stream_id or 0
            self.bodies[stream] += event.data or b""
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self.ended.add(event.stream_id or 0)

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
