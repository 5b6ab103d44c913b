"""Databases to copy: to migrate takes seconds of a processor, to copy takes almost none.

All processes of a test run share them. Whoever needs one first makes it, in a process that has ended
before anybody copies: so it is complete, and nobody is connected.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engines import Engine, create, drop

VARIABLE = "LIVE_TEST_TEMPLATES"
"""The folder of the run, for the processes that this one starts."""


def share() -> Path:
    """The run's folder. The process that asks first makes it, and removes it with all templates when it
    ends: with pytest-xdist the one that starts the others."""
    if VARIABLE not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="test_django_live_"))
        os.environ[VARIABLE] = str(folder)
        atexit.register(_remove, folder, os.getpid())
    return Path(os.environ[VARIABLE])


def template(engine: Engine, key: object, fill: Callable[[str], object]) -> str:
    """The name of this run's template with this key; ``fill(name)`` gets it empty, the first time."""
    folder = share()
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
    made = folder / f"{digest}.{engine}"
    name = _name(made)
    with _alone(folder / f"{digest}.lock"):
        if not made.exists():
            drop(engine, name)  # what an attempt that failed has left
            create(engine, name)
            fill(name)
            made.touch()
    return name


def _name(made: Path) -> str:
    if made.suffix in (".postgresql", ".mariadb"):
        return f"{made.parent.name}_{made.stem}"
    return str(made.with_suffix(".sqlite3"))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork of it
        return
    for made in folder.glob("*.postgresql"):
        drop("postgresql", _name(made))
    for made in folder.glob("*.mariadb"):
        drop("mariadb", _name(made))
    shutil.rmtree(folder)
