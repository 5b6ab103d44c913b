"""``make demo-cluster``: the shop as a site of several processes, on this machine, until Ctrl-C.

A Redis of its own, three uvicorn processes behind nginx, and a worker in which orders move. Everything
that it makes (database, logs, configuration) is in a temporary folder that goes with it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
WEB_PROCESSES = 3
START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0

PACKAGES = {
    "nginx": "Debian, Ubuntu: apt-get install nginx · Fedora: dnf install nginx · macOS: brew install nginx",
    "redis-server": "Debian, Ubuntu: apt-get install redis-server · Fedora: dnf install redis · "
    "macOS: brew install redis. It need not run.",
}


class ClusterError(Exception):
    """Why the cluster cannot start, or has ended; for people to read."""


def find_program(name: str) -> str:
    """Its path, also where only root has the folder on the path. Raises ClusterError."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ClusterError(f"The cluster needs {name}, which is not here.\n  {PACKAGES[name]}")
    return found


def require_free(host: str, port: int, name: str) -> None:
    """Raises ClusterError when somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ClusterError(
                f"Port {port} ({name}) cannot be used: {error.strerror}. Choose others: "
                "make demo-cluster PORT=8080 CLUSTER_PORT=8200"
            ) from error


class Cluster:
    """``port`` is nginx's; the others take ``base`` and the ports after it."""

    def __init__(self, host: str, port: int, base: int, rate: float, folder: Path) -> None:
        self.host = host
        self.port = port
        self.redis_port = base
        self.web_ports = [base + number for number in range(1, WEB_PROCESSES + 1)]
        self.rate = rate
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "PYTHONUNBUFFERED": "1",
            "EXAMPLE_SQLITE": str(folder / "shop.sqlite3"),
            "EXAMPLE_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
        }

    def start(self) -> None:
        """Everything, in the order in which one needs the other. Raises ClusterError."""
        nginx, redis = find_program("nginx"), find_program("redis-server")
        require_free(self.host, self.port, "nginx")
        require_free("127.0.0.1", self.redis_port, "Redis")
        for port in self.web_ports:
            require_free("127.0.0.1", port, "uvicorn")
        self._run(
            "redis",
            [redis, "--port", str(self.redis_port), "--bind", "127.0.0.1", "--appendonly", "yes"],
        )
        self._manage("migrate", "--verbosity", "0")
        self._manage("demo_data")
        for number, port in enumerate(self.web_ports, start=1):
            self._run(
                f"web {number}",
                [
                    *(sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port)),
                    *("--ws-per-message-deflate", "false", "--no-access-log"),
                    "example_project.asgi:application",
                ],
                {"EXAMPLE_PROCESS": f"web {number}"},
            )
        for name, port in zip(self.processes, [self.redis_port, *self.web_ports], strict=True):
            self._wait_for(name, port)
        self._run("nginx", [nginx, "-p", str(self.folder), "-c", str(self._nginx_configuration())])
        self._wait_for("nginx", self.port, self.host)
        self._start_worker()

    def watch(self) -> None:
        """Until something ends that should not; raises ClusterError then. The worker is started again."""
        while True:
            for name, process in list(self.processes.items()):
                if process.poll() is None:
                    continue
                if name == "worker" and process.returncode == 0:
                    self._start_worker()
                    continue
                raise ClusterError(f"{name} has ended ({process.returncode}).\n{self._log(name)}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End them all and wait for them: the web processes before nginx, so that every stream is told
        good-bye, and Redis last."""
        web = [name for name in self.processes if name.startswith("web")]
        for names in (["worker"], web, ["nginx"], ["redis"]):
            group = {name: self.processes[name] for name in names if name in self.processes}
            for process in group.values():
                if process.poll() is None:
                    process.terminate()
            for name, process in group.items():
                self._end(name, process)

    def _end(self, name: str, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            print(f"{name} does not end, and is killed.", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _start_worker(self) -> None:
        traffic = ["manage.py", "demo_traffic", "--seconds", "3600", "--rate", str(self.rate)]
        self._run("worker", [sys.executable, *traffic])

    def _nginx_configuration(self) -> Path:
        text = (Path(__file__).parent / "nginx.conf").read_text()
        values = {
            "folder": str(self.folder),
            # Started by root, nginx would become another user, who may not enter the folder.
            "user": "user root;" if os.geteuid() == 0 else "",
            "listen": f"{self.host}:{self.port}",
            "servers": "\n".join(f"server 127.0.0.1:{port};" for port in self.web_ports),
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        path = self.folder / "nginx.conf"
        path.write_text(text)
        return path

    def _run(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        # A session of its own: Ctrl-C reaches only us, and we end them one after the other.
        with self._log_path(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder if name == "redis" else ROOT,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _manage(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.env, check=False
        )
        if done.returncode:
            raise ClusterError(f"manage.py {' '.join(arguments)} failed, see above.")

    def _wait_for(self, name: str, port: int, host: str = "127.0.0.1") -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), timeout=1).close()
                return
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"{name} did not start.\n{self._log(name)}")
            time.sleep(0.05)

    def _log_path(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.log"

    def _log(self, name: str) -> str:
        lines = self._log_path(name).read_text(errors="replace").splitlines()
        return "\n".join(lines[-30:])


@contextlib.contextmanager
def running(host: str, port: int, base: int, rate: float) -> Iterator[Cluster]:
    """A cluster that has started, and is ended whatever happens."""
    with tempfile.TemporaryDirectory(prefix="django_live_cluster_") as folder:
        cluster = Cluster(host, port, base, rate, Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-cluster", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="of nginx (default: 8000)")
    parser.add_argument(
        "--base-port", type=int, default=8100, help="Redis; the next three: uvicorn"
    )
    parser.add_argument("--rate", type=float, default=0.5, help="changes a second (default: 0.5)")
    options = parser.parse_args()
    # A supervisor's way to say Ctrl-C; and a shell starts what it puts into the background deaf to it.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.default_int_handler)
    try:
        with running(options.host, options.port, options.base_port, options.rate) as cluster:
            print(
                f"\n  The demo:  http://{options.host}:{options.port}/     (stop it with Ctrl-C)\n"
                f"  {WEB_PROCESSES} uvicorn processes behind nginx, a worker, and Redis on port "
                f"{cluster.redis_port}.\n  Each page says at its end which process made it. "
                f"Logs: {cluster.folder}\n",
                flush=True,
            )
            cluster.watch()
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
