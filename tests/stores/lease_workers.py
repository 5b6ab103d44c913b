"""Processes that take turns at a lease, forked by one that knows Django but has met no store yet:
`python -m tests.stores.lease_workers JSON`."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import django

django.setup()

from django_live.core.state import Lease, get_state  # noqa: E402

NAME = "rounds"
PATIENCE = 60.0


def acquire(holder: str, ttl: float) -> Lease | None:
    return get_state().acquire(NAME, holder, ttl)


def look_and_then_take(holder: str, ttl: float) -> Lease | None:
    """What a lease would be without a store that decides: the control."""
    state = get_state()
    if state.items(NAME).entries:
        return None
    time.sleep(0.02)
    token = state.set(NAME, {holder: ""}, ttl=ttl).version
    return Lease(holder, token, ttl)


def give_back(lease: Lease, *, properly: bool) -> None:
    if properly:
        get_state().release(NAME, lease.token)
    else:
        get_state().delete(NAME, [lease.holder])


def note(journal: Path, line: str) -> None:
    """One write of one line: lines of processes do not mix."""
    with journal.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


def wait_for_the_others(journal: Path, processes: int) -> None:
    """On a busy machine the first would be done before the last has begun."""
    Path(f"{journal}.{os.getpid()}").touch()
    deadline = time.monotonic() + PATIENCE
    while len(list(journal.parent.glob(f"{journal.name}.*"))) < processes:
        if time.monotonic() > deadline:
            sys.exit("the others did not come")
        time.sleep(0.005)


def take_turns(
    journal: str, processes: int, turns: int, ttl: float, mechanism: str, dies: bool
) -> None:
    """Have the lease this often, telling when it is had and when no more; at the end, die with it."""
    get_state().items(NAME)  # connects
    wait_for_the_others(Path(journal), processes)
    properly = mechanism == "lease"
    take = acquire if properly else look_and_then_take
    deadline = time.monotonic() + PATIENCE
    done = 0
    while done < turns:
        if time.monotonic() > deadline:
            sys.exit("the lease was not free for too long")
        lease = take(f"process {os.getpid()}", ttl)
        if lease is None:
            time.sleep(random.uniform(0, 0.02))
            continue
        note(Path(journal), f"has {lease.token}")
        done += 1
        if dies and done == turns:
            note(Path(journal), f"dies {lease.token}")
            os.kill(os.getpid(), signal.SIGKILL)
        # The control holds it for as long as it hesitates: who looks meanwhile comes too early.
        time.sleep(random.uniform(0, 0.005) if properly else 0.03)
        note(Path(journal), f"had {lease.token}")
        give_back(lease, properly=properly)


def fork(processes: int, deaths: int, **turns: Any) -> list[int]:
    """So many processes take turns, some of which die; how each ended."""
    pids = []
    for number in range(processes):
        pids.append(os.fork())
        if pids[-1] == 0:
            take_turns(processes=processes, dies=number < deaths, **turns)
            sys.exit()
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


if __name__ == "__main__":
    print(json.dumps(fork(**json.loads(sys.argv[1]))))  # noqa: T201 - for who started it
