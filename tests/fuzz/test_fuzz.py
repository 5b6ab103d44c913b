"""A bounded part of what `make soak` does with a million inputs and more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.support.databases import ServerDatabase
from tests.support.servers import PROJECT_ROOT

NewDatabase = Callable[..., ServerDatabase]

INPUTS = 25_000


def fuzzed(database: ServerDatabase, *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, **database.env, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.stdout, done.stderr[-4000:]
    return done.returncode, json.loads(done.stdout)


def test_whatever_comes_is_read_or_refused(new_server_database: NewDatabase) -> None:
    code, report = fuzzed(new_server_database("sqlite"), str(INPUTS), "--seed", "1")
    assert report["faults"] == {}
    assert code == 0
    answers = report["answers"]
    assert answers["read"] > INPUTS / 10, (
        "all of it is refused: nothing behind the first check is met"
    )
    assert answers["refused"] > INPUTS / 10
    for answer in ("events 200", "events 403", "poll 200", "poll 400", "send 200", "send 400"):
        assert answers.get(answer), f"no {answer}: {answers}"


def test_a_parser_that_fails_is_found(new_server_database: NewDatabase) -> None:
    """The negative control."""
    code, report = fuzzed(new_server_database("sqlite"), "3000", "--seed", "1", "--plant")
    assert code == 1
    assert "KeyError from a parser" in report["faults"]
