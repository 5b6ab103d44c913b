"""`make soak`, its first part: the fuzzing, against a database of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.databases import server_database
from tests.support.servers import PROJECT_ROOT


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="django_live_fuzz_") as folder,
        server_database("sqlite", Path(folder)) as database,
    ):
        return subprocess.run(
            [sys.executable, "-m", "tests.fuzz.run", *sys.argv[1:]],
            cwd=PROJECT_ROOT,
            env={**os.environ, **database.env, "PYTHONPATH": str(PROJECT_ROOT)},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
