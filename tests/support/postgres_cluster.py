"""A PostgreSQL server of the test's own, which it may stop and start again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.servers import free_port


def programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "pg_ctl").exists()), None)


class PostgresCluster:
    """Listens on a free port of the loopback interface. A context manager. PostgreSQL refuses to run
    as root: then it is the user `postgres` or `nobody` who runs it."""

    def __init__(self) -> None:
        folder = programs()
        if folder is None:
            raise RuntimeError("PostgreSQL's own programs are missing (initdb, pg_ctl)")
        self._programs = folder
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="django_live_postgres_"))
        self.data = self.folder / "data"
        self._user: str | None = None
        if os.getuid() == 0:
            known = {user.pw_name for user in pwd.getpwall()}
            self._user = next(name for name in ("postgres", "nobody") if name in known)
            shutil.chown(self.folder, self._user)

    @property
    def url(self) -> str:
        """For LIVE_TEST_POSTGRES."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        # A file: the server keeps it open, and a pipe would never end.
        with (self.folder / "output").open("wb") as output_file:
            done = subprocess.run(
                [self._programs / program, *arguments],
                user=self._user,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output_file,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=60,
            )
        if done.returncode:
            output = (self.folder / "output").read_text()
            raise RuntimeError(f"{program} failed: {output}")

    def start(self) -> Self:
        """Start it and wait until it takes connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        options += " -c max_connections=120 -c shared_buffers=32MB"
        log = str(self.folder / "postgres.log")
        self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", log, "-o", options)
        return self

    def stop(self, how: Literal["fast", "immediate"]) -> None:
        """`immediate` is a crash: nothing is written out, and the next start recovers."""
        self._run("pg_ctl", "stop", "-w", "-D", str(self.data), "-m", how)

    def __enter__(self) -> Self:
        options = ("-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        self._run("initdb", *options, "--no-instructions")
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(RuntimeError):  # it is stopped already
            self.stop("immediate")
        with suppress(OSError):
            shutil.rmtree(self.folder)
