"""A Redis cluster of the test's own: three servers that share the slots among them."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from redis.crc import key_slot

from tests.support.redis import RedisServer
from tests.support.servers import free_port

SLOTS = 16_384
SIZE = 3


class RedisCluster:
    """A context manager. Ask for `requires("redis-server")`."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self._bus_ports: list[int] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(SIZE):
                bus_port = free_port()
                options = ("--cluster-enabled", "yes", "--cluster-port", str(bus_port))
                self.servers.append(RedisServer(options=options).start())
                self._bus_ports.append(bus_port)
            self._share_the_slots()
        except BaseException:
            self.kill()
            raise
        return self

    def _share_the_slots(self) -> None:
        first = self.servers[0]
        for place, server in enumerate(self.servers):
            begin, end = place * SLOTS // SIZE, (place + 1) * SLOTS // SIZE - 1
            server.command("CLUSTER", "ADDSLOTSRANGE", str(begin), str(end))
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(place + 1))
        for server, bus_port in zip(self.servers[1:], self._bus_ports[1:], strict=True):
            first.command("CLUSTER", "MEET", "127.0.0.1", str(server.port), str(bus_port))
        deadline = time.monotonic() + 30
        while not all(self._knows_all(server) for server in self.servers):
            if time.monotonic() > deadline:
                raise TimeoutError("the servers did not become a cluster")
            time.sleep(0.05)

    @staticmethod
    def _knows_all(server: RedisServer) -> bool:
        info: Any = server.command("CLUSTER", "INFO")
        if isinstance(info, bytes):
            info = info.decode()
        text = info if isinstance(info, str) else "\n".join(f"{k}:{v}" for k, v in info.items())
        return "cluster_state:ok" in text and f"cluster_slots_assigned:{SLOTS}" in text

    def server_of(self, key: bytes | str) -> RedisServer:
        """Who keeps this key."""
        slot = key_slot(key if isinstance(key, bytes) else key.encode())
        return next(
            server
            for place, server in enumerate(self.servers)
            if slot <= (place + 1) * SLOTS // SIZE - 1
        )

    def kill(self) -> None:
        for server in self.servers:
            server.__exit__(None, None, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
