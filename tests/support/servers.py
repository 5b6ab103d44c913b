"""Real servers in processes of their own, which a test may kill, restart and look into.

Only processes that were started here are ever signalled, by their id; each is the leader of a
process group of its own, so its workers go with it.
"""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support import prepared

PROJECT_ROOT = Path(__file__).resolve().parents[2]

ServerName = Literal["daphne", "uvicorn", "hypercorn", "granian", "gunicorn", "runserver"]


class ServerError(Exception):
    """The server did not start, or did not end, as it should; the message ends with its log."""


_ports = itertools.count(10_000 + os.getpid() * 97 % 22_000)
"""Below those that the system gives to whoever asks for any, or to a connection that goes out: one of
these may be taken before our server has it. Each process of a run begins elsewhere."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on just now, and that this process has not
    given away before."""
    while True:
        port = 10_000 + next(_ports) % 22_000
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe,
            contextlib.suppress(OSError),
        ):
            probe.bind(("127.0.0.1", port))
            return port


def _daphne(application: str, port: int) -> list[str]:
    return ["-m", "daphne", "--bind", "127.0.0.1", "--port", str(port), application]


def _uvicorn(application: str, port: int) -> list[str]:
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    return ["-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), *options, application]


def _hypercorn(application: str, port: int) -> list[str]:
    # No workers: it serves in its own process, and its signals and figures are those of `Server.pid`.
    return ["-m", "hypercorn", "--workers", "0", "--bind", f"127.0.0.1:{port}", application]


def _granian(application: str, port: int) -> list[str]:
    # Its default backpressure lets no more than 1,024 requests in at once, open streams included.
    options = ["--interface", "asgi", "--backpressure", "65536"]
    return ["-m", "granian", "--host", "127.0.0.1", "--port", str(port), *options, application]


def _gunicorn(application: str, port: int) -> list[str]:
    options = ["--worker-class", "uvicorn_worker.UvicornWorker", "--no-control-socket"]
    return ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options, application]


def _runserver(_application: str, port: int) -> list[str]:
    # The application is named by the settings. The reloader would put a second process in between.
    return ["manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]


COMMANDS: dict[ServerName, Callable[[str, int], list[str]]] = {
    "daphne": _daphne,
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "granian": _granian,
    "gunicorn": _gunicorn,
    "runserver": _runserver,
}


class Server:
    """One server process on a port that stays the same over restarts.

    `application` is the ASGI application's dotted path with a colon; `env` adds to this process's
    environment; `options` are more arguments for the server. As a context manager it starts
    on entry, and ends on exit, printing the end of its log when the test failed.
    """

    def __init__(
        self,
        name: ServerName,
        application: str = "tests.asgi:application",
        *,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        port: int | None = None,
        cwd: Path = PROJECT_ROOT,
        log_path: Path | None = None,
        start_timeout: float = 30,
    ) -> None:
        self.name: ServerName = name
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(cwd), **(env or {})}
        if name == "runserver":
            self.env["LIVE_TEST_RUNSERVER"] = "1"  # see tests/settings.py
        self.command = [sys.executable, *COMMANDS[name](application, self.port), *options]
        self.cwd = cwd
        self.start_timeout = start_timeout
        if log_path is None:
            handle, path = tempfile.mkstemp(prefix=f"django_live_{name}_", suffix=".log")
            os.close(handle)
            log_path = Path(path)
            self._own_log = True
        else:
            self._own_log = False
        self.log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it accepts connections. Raises ServerError."""
        if self.running:
            raise ServerError(f"{self.name} is already running")
        with self.log_path.open("ab") as log:
            self.process = prepared.Popen(
                self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_accepts()
        except BaseException:
            self.kill()
            raise
        return self

    def terminate(self, timeout: float = 15) -> int:
        """SIGTERM, as a supervisor does; returns the exit code. Raises ServerError if it stays."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"{self.name} was still there {timeout} s after SIGTERM"
            raise ServerError(f"{message}\n{self.log_tail()}") from None
        self._end_the_group()
        return code

    def kill(self) -> None:
        """SIGKILL: no handler runs. Does nothing when it is gone already."""
        if self.process is None:
            return
        self._end_the_group()
        self.process.wait()

    def restart(self, *, gently: bool = False) -> Self:
        """Kill it (or terminate it, `gently`) and start it again on the same port."""
        if self.running:
            if gently:
                self.terminate()
            else:
                self.kill()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: alive to the kernel, dead to everyone else. `resume()` wakes it."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause()`."""
        os.killpg(self.pid, signal.SIGCONT)

    def threads(self) -> int:
        """Threads of the process."""
        return int(_status_field(self.pid, "Threads"))

    def rss_kb(self) -> int:
        """Resident memory of the process and, on a server that has some, its workers, kB."""
        return sum(int(_status_field(pid, "VmRSS").split()[0]) for pid in self._group())

    def open_files(self) -> int:
        """Open file descriptors, sockets among them, of the process and its workers."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self._group())

    def cpu_seconds(self) -> float:
        """User and system time the process has used."""
        # The command's name, in parentheses, may hold spaces: count from behind it.
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        """Everything the server has printed, over all its starts."""
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines: int = 60) -> str:
        """The end of the log, with a heading."""
        tail = "\n".join(self.log().splitlines()[-lines:])
        return f"---- the end of {self.name}'s log ----\n{tail}\n----"

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        if error is not None:
            print(self.log_tail(), file=sys.stderr)  # noqa: T201 -- pytest shows it with the failure
        if self._own_log:
            self.log_path.unlink(missing_ok=True)

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            raise ServerError(f"{self.name} is not running\n{self.log_tail()}")
        return self.process

    def _wait_until_it_accepts(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while True:
            process = self._running()
            with contextlib.suppress(OSError):
                socket.create_connection((self.host, self.port), timeout=1).close()
                return
            if time.monotonic() > deadline:
                message = f"{self.name} (process {process.pid}) did not accept connections"
                raise ServerError(f"{message} within {self.start_timeout} s\n{self.log_tail()}")
            time.sleep(0.02)

    def _end_the_group(self) -> None:
        assert self.process is not None
        # The group bears the leader's id, and lives as long as any of its members.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _group(self) -> list[int]:
        """The process and its children: granian serves in a child."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


def _status_field(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise ServerError(f"no {name} in /proc/{pid}/status")
