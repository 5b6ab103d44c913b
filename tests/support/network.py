"""A network that a test can spoil: a TCP proxy in front of a server, one HTTP request per connection.

It understands just enough of HTTP to know a request's path and whether it asks for an upgrade.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

Mode = Literal[
    "open",
    "refuses-upgrades",
    "swallows-upgrades",
    "mutes-sockets",
    "drops-sockets",
    "collects",
    "sockets-only",
    "down",
]
"""
- `open`: lets everything through
- `refuses-upgrades`: as a proxy that knows no WebSocket: 403
- `swallows-upgrades`: never answers them
- `mutes-sockets`: answers them, and lets nothing through after that
- `drops-sockets`: answers them, and cuts each one as soon as the server has said something more
- `collects`: passes a stream on once it has ended, and refuses upgrades
- `sockets-only`: of what is live it lets only WebSockets through
- `down`: takes no connection
"""

Result = TypeVar("Result")
HEAD_END = b"\r\n\r\n"


@dataclass(eq=False)
class Exchange:
    """One request that is under way."""

    path: str
    is_upgrade: bool
    writers: list[asyncio.StreamWriter] = field(default_factory=list)


class Network:
    """`with Network("127.0.0.1", server.port) as network:` and browse `network.url`."""

    def __init__(self, host: str, port: int) -> None:
        self.mode: Mode = "open"
        self.seen: list[str] = []
        """Paths of all requests so far, an upgrade with `ws ` before it."""
        self._target = host, port
        self._open: set[Exchange] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The address without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def streams(self) -> list[str]:
        """Paths of the live connections that are open now."""
        return sorted(e.path for e in list(self._open) if e.path.startswith("/live/"))

    def cut(self) -> None:
        """Breaks every connection that is open."""
        self._call(self._cut())

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _cut(self) -> None:
        for exchange in list(self._open):
            for writer in exchange.writers:
                writer.transport.abort()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange: Exchange | None = None
        try:
            if self.mode == "down":
                return
            head = await reader.readuntil(HEAD_END)
            path = head.split(b" ", 2)[1].decode()
            exchange = Exchange(path, b"\r\nupgrade: websocket" in head.lower(), [writer])
            is_live = path.startswith("/live/")
            if self.mode == "sockets-only" and is_live and not exchange.is_upgrade:
                return
            self.seen.append(f"ws {path}" if exchange.is_upgrade else path)
            self._open.add(exchange)
            await self._answer(exchange, head, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The task is this connection's own; nobody waits for it but the network's end.
        finally:
            if exchange is not None:
                self._open.discard(exchange)
            if self.mode == "down":
                writer.transport.abort()
            writer.close()

    async def _answer(
        self,
        exchange: Exchange,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        mode = self.mode
        if exchange.is_upgrade and mode == "swallows-upgrades":
            await reader.read()  # until the browser gives up
            return
        if exchange.is_upgrade and mode in ("refuses-upgrades", "collects"):
            writer.write(
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
            return
        from_server, to_server = await asyncio.open_connection(*self._target)
        exchange.writers.append(to_server)
        if not exchange.is_upgrade:
            lines = [
                line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")
            ]
            lines[1:1] = [b"Connection: close"]
            head = b"\r\n".join(lines)
        to_server.write(head)
        collects = mode == "collects" and exchange.path.startswith("/live/events/")
        if exchange.is_upgrade and mode in ("mutes-sockets", "drops-sockets"):
            writer.write(await from_server.readuntil(HEAD_END))
            if mode == "mutes-sockets":
                await reader.read()  # until the browser gives up
            else:
                await from_server.read(1)
            to_server.close()
            writer.transport.abort()
            return
        ways = [
            asyncio.ensure_future(_pipe(reader, to_server)),
            asyncio.ensure_future(_pipe(from_server, writer, at_once=not collects)),
        ]
        try:  # Neither side closes only half: who ends one way is gone.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            to_server.close()


async def _pipe(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, *, at_once: bool = True
) -> None:
    with contextlib.suppress(OSError):
        collected = b""
        while data := await source.read(65_536):
            if at_once:
                target.write(data)
                await target.drain()
            else:
                collected += data
        target.write(collected)
        await target.drain()
