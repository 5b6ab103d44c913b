"""A Pushpin of the test's own, a GRIP proxy, without root. Ask for `requires("pushpin")`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.servers import free_port

INCLUDES = ("/usr/lib/pushpin/internal.conf", "/usr/local/lib/pushpin/internal.conf")

CONFIG = """
[global]
include={include}
rundir={folder}/run
ipc_prefix=t-
port_offset=0

[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{port}
logdir={folder}/log
log_level=2
client_buffer_size=8192
client_maxconn=500

[proxy]
routesfile={folder}/routes
debug=true
sig_iss=pushpin
sig_key={key}
updates_check=off
zurl_out_specs=ipc://{folder}/run/t-zurl-in
zurl_out_stream_specs=ipc://{folder}/run/t-zurl-in-stream
zurl_in_specs=ipc://{folder}/run/t-zurl-out

[handler]
push_in_spec=ipc://{folder}/run/push
push_in_sub_specs=ipc://{folder}/run/sub
push_in_http_addr=127.0.0.1
push_in_http_port={control}
command_spec=ipc://{folder}/run/command
stats_spec=ipc://{folder}/run/stats
message_wait=300
connection_subscription_max=20
"""


def include() -> str | None:
    """Pushpin's own part of its configuration; None where it is not installed."""
    return next((path for path in INCLUDES if Path(path).exists()), None)


def is_there() -> bool:
    return None not in (shutil.which("pushpin"), shutil.which("zurl"), include())


class Pushpin:
    """Proxies one origin, and signs what it asks."""

    key = "a-key-of-the-proxy-and-the-site-for-the-tests"

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port, self.control = free_port(), free_port()
        # Short: the paths of its sockets are limited.
        self.folder = tempfile.mkdtemp(prefix="pp_")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def proxies(self) -> str:
        """`GRIP_PROXIES` of the site, as JSON."""
        return json.dumps([{"control_uri": f"http://127.0.0.1:{self.control}", "key": self.key}])

    def start(self, origins: Mapping[str, str]) -> Self:
        """`origins`: by the host that is asked for, `*` for any, an address as ``host:port``."""
        folder = Path(self.folder)
        for name in ("run", "log"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "routes").write_text("".join(f"{h} {o}\n" for h, o in origins.items()))
        values = {"folder": folder, "port": self.port, "control": self.control, "key": self.key}
        (folder / "pushpin.conf").write_text(CONFIG.format(include=include(), **values))
        with (folder / "log/runner.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["pushpin", "--config", str(folder / "pushpin.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        for port in (self.port, self.control):
            self._wait_for(port)
        return self

    def log(self) -> str:
        """What its parts have written."""
        logs = sorted(Path(self.folder, "log").glob("*"))
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            print(self.log())  # noqa: T201 -- pytest shows it with the failure
        self.stop()

    def _wait_for(self, port: int) -> None:
        until = time.monotonic() + 15
        while True:
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Pushpin did not start:\n{self.log()}")
            try:
                socket.create_connection((self.host, port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
