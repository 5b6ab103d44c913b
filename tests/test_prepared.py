"""A process that is forked from a prepared one is as one that was started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import prepared
from tests.support.servers import PROJECT_ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")

FACTS = """
import json, os, signal, sys, threading
main = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv, "path": sys.path[:2], "folder": os.getcwd(), "warnings": sys.warnoptions, "parent": os.getppid(),
    "name": __name__, "is main": main.__dict__ is globals(), "env": dict(os.environ),
    "leads": os.getsid(0) == os.getpid(), "threads": threading.active_count(),
    "files": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
    "signals": [str(signal.getsignal(one)) for one in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)],
    "settings": os.environ.get("DJANGO_SETTINGS_MODULE"), "input": sys.stdin.read(),
}))
"""


def facts(
    starter: Callable[..., subprocess.Popen[str]],
    arguments: list[str],
    folder: Path,
    **options: Any,
) -> dict[str, Any]:
    env = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "ONLY_HERE": "1"}
    pipe = subprocess.PIPE
    with starter(
        [sys.executable, "-W", "error", *arguments],
        env=env,
        cwd=folder,
        stdin=pipe,
        stdout=pipe,
        text=True,
        **options,
    ) as process:
        printed, _ = process.communicate("said", timeout=60)
    assert process.returncode == 0
    known: dict[str, Any] = json.loads(printed)
    return known


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("way", ["-c", "-m", "script"])
def test_it_is_the_same(way: str, session: bool, tmp_path: Path) -> None:
    (tmp_path / "facts.py").write_text(FACTS)
    arguments = {"-c": ["-c", FACTS], "-m": ["-m", "facts"], "script": ["facts.py"]}[way]
    found = [
        facts(starter, [*arguments, "one", "-two"], tmp_path, start_new_session=session)
        for starter in (subprocess.Popen, prepared.Popen)
    ]
    # Where the test's own session is the process's, the prepared one has another.
    for known in found:
        known["leads"] = known["leads"] if session else None
    assert found[0] == found[1]
    assert found[1]["input"] == "said"


def test_it_is_a_child_and_ends_as_one() -> None:
    with prepared.Popen([sys.executable, "-c", "import sys; sys.exit(7)"]) as process:
        assert process.wait(30) == 7
    with prepared.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        assert process.poll() is None
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    done = prepared.run([sys.executable, "-"], input="import atexit; atexit.register(print, 'end')")
    assert (done.returncode, done.stdout) == (0, "end\n")
    failed = prepared.run([sys.executable, "-c", "raise LookupError"])
    assert failed.returncode == 1
    assert failed.stderr.endswith("LookupError\n")


def test_nothing_of_ours_has_run_in_it() -> None:
    source = """
        import sys
        print([name for name in sys.modules if name.split(".")[0] in ("django_live", "tests")])
        from django.conf import settings
        print(settings.configured)
    """
    done = prepared.run([sys.executable, "-"], input="if 1:" + source)
    assert done.stdout == "[]\nFalse\n", done.stderr


def test_two_are_not_alike() -> None:
    same = "import random, uuid; print(random.random(), uuid.uuid4())"
    first, second = (prepared.run([sys.executable, "-c", same]).stdout for _ in range(2))
    assert first != second


def test_threads_start_them_at_once() -> None:
    source = "import os, sys; print(sys.argv[1], os.getppid())"

    def start(number: int) -> str:
        return prepared.run([sys.executable, "-c", source, str(number)]).stdout

    with ThreadPoolExecutor(8) as pool:
        printed = list(pool.map(start, range(24)))
    assert printed == [f"{number} {os.getpid()}\n" for number in range(24)]
