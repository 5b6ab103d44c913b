"""Short-lived processes of a site, without the second of a processor that Python and Django take to
start: one process has set Django up and forks for each of them.

Each child is as a fresh process is: nothing is connected, no thread runs, its main module is empty, and
it ends as Python ends, with everything that is done at exit.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import prepared
from tests.support.servers import PROJECT_ROOT

PARENT = """
import gc, json, os, signal, socket, sys, tempfile
import django
django.setup()
gc.freeze()

def run_a_child(connection):
    # In a process of its own, whose group it leads: it outlives neither the child nor a time limit.
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile("rw") as caller:
        print(os.getpid(), file=caller, flush=True)
        source = json.loads(caller.readline())
        outputs = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(2)]
        child = os.fork()
        if not child:
            for number, output in enumerate(outputs, 1):
                os.dup2(output.fileno(), number)
            return source
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for output in outputs:
            output.seek(0)
        print(json.dumps([code, *(output.read() for output in outputs)]), file=caller)
    os._exit(0)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket(fileno=int(sys.argv.pop()))
while True:
    connection = listener.accept()[0]
    if not os.fork():
        break
    connection.close()
listener.close()
source = run_a_child(connection)
del connection, listener
exec(compile(source, "<the test>", "exec"), {"__name__": "__main__"})
"""


class ForkingParent:
    """The process that forks; `env` says what site it is of."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="django_live_forking_")
        self._address = str(Path(self._folder.name) / "socket")
        self._log = (Path(self._folder.name) / "log").open("w+")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen(50)
            self._process = prepared.Popen(
                [sys.executable, "-c", PARENT, str(listener.fileno())],
                cwd=PROJECT_ROOT,
                env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **env},
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=self._log,
            )

    def run(self, source: str, timeout: float) -> tuple[int, str, str]:
        """Its exit code, as `subprocess` has it, and what it printed and complained of."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            group = 0
            try:
                connection.connect(self._address)
                with connection.makefile("rw") as child:
                    group = int(child.readline())
                    print(json.dumps(source), file=child, flush=True)
                    code, printed, complained = json.loads(child.readline())
            except TimeoutError:
                with suppress(ProcessLookupError):
                    os.killpg(group or self._process.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(source, timeout) from None
            except (ValueError, OSError):
                # It did not start, or somebody has killed it.
                self._log.seek(0)
                return self._process.wait(timeout), "", self._log.read()
        return code, printed, complained

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()
        self._log.close()


_parents: dict[frozenset[tuple[str, str]], ForkingParent] = {}


def forking_parent(env: Mapping[str, str]) -> ForkingParent:
    """The one for this environment, started when it is first asked for."""
    key = frozenset(env.items())
    if key not in _parents:
        _parents[key] = ForkingParent(env)
    return _parents[key]


@contextmanager
def ended_with_the_database(name: str) -> Iterator[None]:
    """Those that know the database of this name go with it."""
    try:
        yield
    finally:
        for key in list(_parents):
            if ("LIVE_TEST_DATABASE_NAME", name) in key:
                _parents.pop(key).end()
