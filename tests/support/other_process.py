"""Another process of the site, as a command or a worker is one, that does what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Self

from tests.support import prepared
from tests.support.servers import PROJECT_ROOT

LISTENS = """
import json, sys, traceback
import django
django.setup()
for line in sys.stdin:
    names = {}
    try:
        exec(json.loads(line), names)
        answer = {"answer": names.get("answer")}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


class OtherProcess:
    """A context manager: the process lives from entry to exit. `env` says what site it is of."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self._process = prepared.Popen(
            [sys.executable, "-c", LISTENS],
            cwd=PROJECT_ROOT,
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, source: str) -> Any:
        """Run statements there; what they leave in ``answer``, as JSON has it."""
        self.begin(source)
        return self.finish()

    def begin(self, source: str) -> None:
        """The same without waiting; `finish()` does."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(source) + "\n")
        stdin.flush()

    def finish(self) -> Any:
        stdout = self._process.stdout
        assert stdout is not None
        told = json.loads(stdout.readline())
        assert "error" not in told, told["error"]
        return told["answer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
