"""Python processes that start in a tenth of a second: one process per run has imported the libraries, and
forks for each of them.

The tests start about a thousand processes, and half of what each of them costs is to import Django, Channels
and a server. A child is as `python -m …` is otherwise: its own environment, folder, files, session and
`__main__`; nothing is connected, no thread runs, no settings were read. It is a child of the process that asked
for it, which may wait for it, kill it and look into it.

`LIVE_TEST_FRESH=1` starts each process anew instead.
"""

from __future__ import annotations

import array
import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 60
"""Seconds for a fork, on a machine that is busy."""
DECIDED_AT_START = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
"""What a child can still heed of Python's own variables. With another one it is started anew."""

PARENT = """
import fcntl, gc, importlib, json, os, socket, sys, time, warnings

for name in (
    "asyncio django.core.handlers.asgi django.core.management django.contrib.admin django.urls "
    "django.db.backends.sqlite3.base django.contrib.staticfiles.handlers channels.auth channels.layers "
    "channels_redis.core channels_redis.pubsub redis.asyncio msgpack uvicorn uvicorn.server uvloop "
    "httptools websockets uvicorn.protocols.http.httptools_impl twisted.web.http "
    "twisted.internet.endpoints autobahn.websocket.protocol hypercorn.asyncio psycopg urllib.request "
    "concurrent.futures.thread"
).split():
    try:
        importlib.import_module(name)
    except Exception:
        pass  # whoever needs it is told so
import runpy
gc.collect()
gc.freeze()
paths = sys.path[1:]
caller = socket.socket(fileno=int(sys.argv[1]))

def next_order():
    while True:
        told, files, _, _ = socket.recv_fds(caller, 1 << 20, 20)
        if not told:
            os._exit(0)
        middle = os.fork()
        if middle:
            for file in files:
                os.close(file)
            os.waitpid(middle, 0)
            continue
        if os.fork():
            os._exit(0)
        return json.loads(told), files

order, files = next_order()
# Its parent ends at once: it belongs to whoever asked for it.
while os.getppid() != order["parent"]:
    if os.getppid() == 1:
        os._exit(1)  # who has died meanwhile
    time.sleep(0.0005)
caller.send(str(os.getpid()).encode())
caller.close()
if order["session"]:
    os.setsid()
# First out of the way of the numbers that they shall have.
high = [fcntl.fcntl(file, fcntl.F_DUPFD, 500) for file in files]
for file in files:
    os.close(file)
for number, file in zip(order["numbers"], high):
    os.dup2(file, number, inheritable=True)
    os.close(file)
os.chdir(order["cwd"])
os.environ.clear()
os.environ.update(order["env"])
if order["env"].get("PYTHONUNBUFFERED"):
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)
sys.dont_write_bytecode = bool(order["env"].get("PYTHONDONTWRITEBYTECODE"))
kind, *rest = order["arguments"]
while kind == "-W":
    sys.warnoptions.append(rest[0])
    warnings.simplefilter(rest[0])
    kind, *rest = rest[1:]
first = os.path.dirname(os.path.abspath(kind)) if kind not in ("-m", "-c", "-") else ""
also = filter(None, order["env"].get("PYTHONPATH", "").split(":"))
sys.path[:] = [order["cwd"] if kind == "-m" else first, *also, *paths]
sys.path_importer_cache.clear()
sys.orig_argv = [sys.executable, kind, *rest]
main = type(sys)("__main__")
main.__builtins__ = __builtins__
sys.modules["__main__"] = main
if kind == "-m":
    sys.argv = ["-m", *rest[1:]]
    runpy._run_module_as_main(rest[0])
elif kind in ("-c", "-"):
    source = rest.pop(0) if kind == "-c" else sys.stdin.read()
    sys.argv = [kind, *rest]
    exec(compile(source, "<string>", "exec"), main.__dict__)
else:
    sys.argv = [kind, *rest]
    with open(kind, "rb") as script:
        source = script.read()
    main.__file__ = kind
    exec(compile(source, kind, "exec"), main.__dict__)
"""


class _Parent:
    """The process that forks."""

    def __init__(self) -> None:
        self.of = os.getpid()
        self._turn = threading.Lock()
        self._caller, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PARENT, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={name: v for name, v in os.environ.items() if not name.startswith("DJANGO")},
                start_new_session=True,
            )
        self._caller.settimeout(PATIENCE)
        atexit.register(self.end)

    def fork(self, order: Mapping[str, Any], files: Sequence[int]) -> int:
        """The process id of the child. One at a time: threads of a test start several servers at once."""
        with self._turn:
            return self._fork(order, files)

    def _fork(self, order: Mapping[str, Any], files: Sequence[int]) -> int:
        _adopt_orphans(True)
        try:
            told = json.dumps(order).encode()
            sent = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            self._caller.sendmsg([told], sent)
            return int(self._caller.recv(100))
        except BaseException:
            _parents.pop(self.of, None)  # what it still says would be taken for the next answer
            raise
        finally:
            _adopt_orphans(False)

    def end(self) -> None:
        if os.getpid() == self.of:
            self._caller.close()
            self._process.wait()


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _adopt_orphans(wanted: bool) -> None:
    assert _libc is not None
    _libc.prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


_parents: dict[int, _Parent] = {}
_making = threading.Lock()


def _parent() -> _Parent:
    """This process's."""
    process = os.getpid()
    with _making:
        if process not in _parents:
            _parents[process] = _Parent()
        return _parents[process]


class _Popen(subprocess.Popen[Any]):
    """As `subprocess.Popen`; a command of this Python is forked from a process that is prepared."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        names = self._names()
        given = dict(zip(names, rest, strict=True))
        arguments = [str(one) for one in args] if isinstance(args, list) else []
        env = os.environ if given["env"] is None else given["env"]
        if not self._may_be_forked(arguments, env) or given["preexec_fn"] or given["shell"]:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        streams = (given["p2cread"], given["c2pwrite"], given["errwrite"])
        passed = list(given["pass_fds"])
        files = [one if one != -1 else number for number, one in enumerate(streams)] + passed
        order = {
            "arguments": arguments[1:],
            "cwd": os.path.abspath(given["cwd"] or "."),  # noqa: PTH100 - as the command says it
            "env": {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()},
            "numbers": [0, 1, 2, *passed],
            "parent": os.getpid(),
            "session": given["start_new_session"],
        }
        try:
            self.pid = _parent().fork(order, files)
            self._child_created = True
        finally:
            self._close_pipe_fds(  # type: ignore[attr-defined]
                *(given[n] for n in names if n[:3] in ("p2c", "c2p", "err"))
            )

    @staticmethod
    def _names() -> list[str]:
        code = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]
        return list(code.co_varnames[2 : code.co_argcount])

    @staticmethod
    def _may_be_forked(arguments: Sequence[str], env: Mapping[Any, Any]) -> bool:
        if _libc is None or os.environ.get("LIVE_TEST_FRESH"):
            return False
        if len(arguments) < 2 or arguments[0] != sys.executable:
            return False
        kind = arguments[3] if arguments[1:3] == ["-W", "error"] else arguments[1]
        if kind.startswith("-") and kind not in ("-m", "-c", "-"):
            return False
        return all(
            env.get(name) == os.environ.get(name)
            for name in {*env, *os.environ}
            if name.startswith("PYTHON") and name not in DECIDED_AT_START
        )


if TYPE_CHECKING:
    Popen = subprocess.Popen  # which knows whether it reads text or bytes
else:
    Popen = _Popen


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run(command, text=True, capture_output=True)`."""
    said = options.pop("input", None)
    timeout = options.pop("timeout", None)
    pipe = subprocess.PIPE
    stdin = pipe if said is not None else subprocess.DEVNULL
    with Popen(
        list(command), stdin=stdin, stdout=pipe, stderr=pipe, text=True, **options
    ) as process:
        try:
            printed, complained = process.communicate(said, timeout=timeout)
        except BaseException:
            process.kill()
            process.communicate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed, complained)
