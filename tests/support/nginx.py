"""An nginx of the test's own, without root. Ask for `requires("nginx")`."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.http import Visitor
from tests.support.requirements import nginx_program
from tests.support.servers import free_port

AROUND = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{inside}
}}
"""

# Started by root it would become another user, who may not enter the folder.
USER = "user root;" if os.geteuid() == 0 else ""


def check(inside: str) -> str:
    """What `nginx -t` has against this content of an `http` block; empty when nothing."""
    with tempfile.TemporaryDirectory(prefix="django_live_nginx_") as folder:
        done = _run(folder, inside, "-t")
        output, _ = done.communicate(timeout=30)
        return output.decode() if done.returncode else ""


def _run(folder: str, inside: str, *options: str) -> subprocess.Popen[bytes]:
    path = Path(folder) / "nginx.conf"
    path.write_text(AROUND.format(folder=folder, inside=inside, user=USER))
    found = nginx_program()
    if found is None:
        raise RuntimeError("there is no nginx: mark the test with requires(…)")
    return subprocess.Popen(
        [found, "-p", folder, "-c", str(path), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


class Nginx:
    """Serves `inside`, the content of an `http` block in which PORT stands for its port."""

    def __init__(self, inside: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.host = "127.0.0.1"
        self.folder = tempfile.mkdtemp(prefix="django_live_nginx_")
        self.inside = inside.replace("PORT", str(self.port))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.process = _run(self.folder, self.inside)
        deadline = time.monotonic() + 15
        while True:
            try:
                Visitor(self.url).get("/")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.02)
            else:
                return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=15)
        log = Path(self.folder) / "error.log"
        if error is not None:
            print(output.decode(), log.read_text() if log.is_file() else "")  # noqa: T201
        shutil.rmtree(self.folder, ignore_errors=True)
