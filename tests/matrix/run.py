"""`python -m tests.matrix.run [part …]`: run parts of the suite with this Python, and keep what came of it.

Without names it runs all parts, on SQLite; on PostgreSQL and MariaDB those that depend on the database.
`--database mariadb` (may be repeated) runs on no other. Nothing may be left out: LIVE_REQUIRE=all unless it
is set.
"""

from __future__ import annotations

import argparse
import datetime as dt
import fcntl
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import django

from tests.matrix.page import DATABASES, RESULTS
from tests.matrix.parts import ON_DATABASES, PARTS, Part

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(tempfile.gettempdir()) / "django_live_matrix.lock"
PACKAGES = (
    "channels", "channels-redis", "redis", "daphne", "uvicorn", "hypercorn", "granian", "whitenoise",
    "django-allauth", "django-guardian", "django-unfold", "djangorestframework", "django-eventstream",
    "django-grip", "psycopg", "pymysql",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Returns the exit code: of the first part that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix.run")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--database", action="append", choices=DATABASES)
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    failed = 0
    for database in asked.database or DATABASES:
        for name in asked.parts or PARTS:
            part = PARTS[name]
            if database != "sqlite" and not part.on_each_database:
                continue
            code, counts = run(part, database)
            keep(database, part, counts)
            failed = failed or code
    return failed


def run(part: Part, database: str) -> tuple[int, dict[str, int]]:
    """Pytest's exit code, and how many passed, failed and were left out."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *part.tests]
        command += ["-n", "2", "--dist", "loadfile"]
        command += ON_DATABASES if database != "sqlite" else ()
        env = {"LIVE_REQUIRE": "all", **os.environ, "LIVE_TEST_DATABASE": database}
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        return code, counts_of(report)


def counts_of(report: Path) -> dict[str, int]:
    """What a report in JUnit's format counts."""
    suites = ET.parse(report).getroot().iter("testsuite")
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in suites:
        for name in counts:
            counts[name] += int(suite.get(name, 0))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    return {"passed": passed, "failed": failed, "left out": counts["skipped"]}


def keep(database: str, part: Part, counts: dict[str, int]) -> None:
    """Write down what came of a part, in place of what was known of it."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # environments may run side by side
        _keep(database, part, counts)


def _keep(database: str, part: Part, counts: dict[str, int]) -> None:
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    python = ".".join(platform.python_version_tuple()[:2])
    name = f"Python {python}, Django {'.'.join(map(str, django.VERSION[:2]))}, {database}"
    run = known.setdefault(name, {"parts": {}})
    run["python"], run["django"] = platform.python_version(), django.get_version()
    run["database"], run["packages"] = database, versions()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    run["parts"][part.name] = {**counts, "on": today}
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def versions() -> dict[str, str]:
    """Of the packages beside Django."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
