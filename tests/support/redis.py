"""A Redis server of the test's own, which it may kill and start again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis

from tests.support.servers import free_port


class RedisServer:
    """Listens on a free port of the loopback interface; it keeps the port over restarts.

    `persistent` writes every change to disk, so that its data survives a kill; otherwise a restart
    is a new, empty Redis. `options` are more arguments of the server. A context manager. Ask for
    `requires("redis-server")`. LIVE_TEST_REDIS_SERVER names another program, valkey-server for one.
    """

    def __init__(
        self, *, persistent: bool = False, port: int | None = None, options: Sequence[str] = ()
    ) -> None:
        self.port = port or free_port()
        self.persistent = persistent
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="django_live_redis_"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, timeout: float = 10) -> Self:
        """Start it and wait for its PONG. Raises TimeoutError, RuntimeError."""
        program = shutil.which(os.environ.get("LIVE_TEST_REDIS_SERVER", "redis-server"))
        if program is None:
            raise RuntimeError("there is no redis-server: mark the test with requires(…)")
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if self.persistent else []
        self.process = subprocess.Popen(
            [
                *(program, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder), "--save", "", "--daemonize", "no"),
                *("--logfile", str(self.folder / "redis.log"), *durable, *self.options),
            ],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self.process.poll() is not None:
                log = (self.folder / "redis.log").read_text()
                raise RuntimeError(f"redis-server ended at once:\n{log}")
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"redis-server did not answer within {timeout} s")
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        """Whether it replies to a PING within a second."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False

    def command(self, *words: str) -> Any:
        """What it replies to one command. Raises what redis-py raises."""
        with Redis(port=self.port, socket_timeout=5) as client:
            return client.execute_command(*words)

    def saved(self) -> bytes:
        """A dump of what it holds now, for `restart(dump)`."""
        self.command("SAVE")
        return (self.folder / "dump.rdb").read_bytes()

    def forget(self) -> None:
        """While it is down: what it had written to disk is gone."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def start_from(self, dump: bytes) -> Self:
        """Start with what an earlier `saved()` held."""
        self.forget()
        (self.folder / "dump.rdb").write_bytes(dump)
        # A server that keeps an append-only file reads nothing else.
        persistent, self.persistent = self.persistent, False
        self.start()
        self.persistent = persistent
        if persistent:
            self.command("CONFIG", "SET", "appendfsync", "always")
            self.command("CONFIG", "SET", "appendonly", "yes")
        return self

    def kill(self) -> None:
        """SIGKILL, as a machine that loses its power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> Self:
        """Kill it and start it again on the same port."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nobody answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause()`."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        with suppress(OSError):
            shutil.rmtree(self.folder)
