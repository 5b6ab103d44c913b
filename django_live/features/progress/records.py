"""What is known of a job, in whatever process it runs: its record in the shared state.

Every word of the job writes its record anew. So a store that was emptied knows it again after the next
word, and a job needs no table.

Must keep true: a record is written by its last worker only; a foreign id and one that never was are
the same to whoever may not see them.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from ...conf import live_settings
from ...core.events import encode_data
from ...core.hooks import in_thread, store_threads
from ...core.publishing import publish
from ...core.state import Entry, get_state
from ...core.topics import Viewer
from ...exceptions import MapFull
from ..liveness import Access, check_id, is_alive, new_id, owner_id
from . import bounds

SCOPE = "live:progress"
"""What a token with scopes has to allow."""
RUNNING = ("waiting", "running", "stalled")
MOST_LISTED = 500
"""Jobs of one owner that are listed."""


@dataclass(frozen=True)
class Job:
    """What is known of one job. ``state`` of ``view`` is ``waiting``, ``running``, ``stalled``,
    ``done``, ``failed`` or ``cancelled``."""

    id: str
    access: Access
    view: dict[str, Any]
    """What its viewers see: docs/reference/progress.md."""
    traceback: str = ""
    """For staff."""
    version: int = 0

    @property
    def is_over(self) -> bool:
        return self.view["state"] not in RUNNING

    def allows(self, viewer: Viewer, namespace: str = "") -> bool:
        return self.access.allows(viewer, namespace, SCOPE)


def map_name(id: str) -> str:
    return f"django_live.job/{id}"


def _list_name(owner: str, namespace: str) -> str:
    return f"django_live.jobs/{namespace}/{owner}"


def fresh_view(id: str, title: str, *, unit: str = "", cancellable: bool = True) -> dict[str, Any]:
    """The view of a job that has not begun."""
    now = round(time.time(), 3)
    return {
        "id": id,
        "title": bounds.text(title, bounds.TITLE),
        "state": "waiting",
        "unit": bounds.text(unit, 40),
        "cancellable": cancellable,
        "done": 0,
        "total": None,
        "fraction": None,
        "rate": None,
        "left": None,
        "message": "",
        "fields": {},
        "steps": [],
        "attempt": 0,
        "error": "",
        "result": None,
        "link": "",
        "created": now,
        "updated": now,
        "seq": 0,
    }


def write(
    access: Access,
    view: dict[str, Any],
    lines: list[dict[str, Any]],
    traceback: str = "",
    *,
    fence: int = 0,
    expect: int | None = None,
) -> bool:
    """Write a job's record. False: somebody with a greater fencing token has it, or it is no longer
    what was expected."""
    entries = {
        "access": encode_data(list(access)),
        "view": encode_data({**view, "lines": lines}),
        "traceback": traceback,
    }
    changed = get_state().change(
        map_name(view["id"]),
        entries,
        ttl=live_settings().JOB_KEEP,
        fence=fence,
        expect=None if expect is None else {"view": expect},
    )
    return changed is not None


def find(id: str) -> Job | None:
    """What is known of this job; None where nothing is. Asks nobody for permission."""
    try:
        check_id(id)
    except ValueError:
        return None
    return _job_of(id, get_state().items(map_name(id)).entries)


def _job_of(id: str, entries: dict[str, Entry]) -> Job | None:
    if "view" not in entries or "access" not in entries:
        return None
    traceback = entries.get("traceback")
    return Job(
        id,
        Access(*json.loads(entries["access"].value)),
        json.loads(entries["view"].value),
        traceback.value if traceback else "",
        entries["view"].version,
    )


def find_lively(id: str) -> Job | None:
    """``find()``, after a look whether its worker is alive."""
    from .topics import ProgressTopic

    job = find(id)
    if job is not None and job.view["state"] == "running" and not is_alive(id):
        ProgressTopic(namespace=job.access.namespace, id=id).found_dead()
        job = find(id)
    return job


def list_for_owner(id: str, access: Access) -> None:
    """Put a job among those of its owner, and tell them."""
    from .topics import JobsTopic

    if not access.owner:
        return
    name, state = _list_name(access.owner, access.namespace), get_state()
    entry = {id: str(round(time.time(), 3))}
    try:
        state.set(name, entry, ttl=live_settings().JOB_KEEP, most=MOST_LISTED)
    except MapFull:
        known = state.items(name).entries
        oldest = sorted(known, key=lambda one: known[one].version)[: MOST_LISTED // 10]
        state.change(name, entry, oldest, ttl=live_settings().JOB_KEEP, most=MOST_LISTED)
    topic = JobsTopic(namespace=access.namespace, owner=access.owner)
    publish(topic, "listed", {"id": id})


def reserve(
    title: str,
    *,
    owner: Any = None,
    permission: str = "",
    namespace: str = "",
    unit: str = "",
    cancellable: bool = True,
    id: str | None = None,
) -> Job:
    """A job that waits for its worker: hand its ``id`` over (in a transaction, after the commit), and
    ``Progress(id=…)`` goes on with it.

    Raises ``ValueError`` for an id that could be guessed, and ``StoreError`` (or what the database
    raises) where it cannot be kept.
    """
    own = new_id() if id is None else check_id(id)
    access = Access(owner_id(owner), permission, namespace)
    view = fresh_view(own, title, unit=unit, cancellable=cancellable)
    write(access, view, [])
    list_for_owner(own, access)
    return Job(own, access, {**view, "lines": []})


async def areserve(title: str, **options: Any) -> Job:
    """``reserve()`` for async callers."""
    return await in_thread(store_threads(), lambda: reserve(title, **options))


def jobs_of(user: Any, namespace: str = "", *, most: int = 20) -> list[Job]:
    """The newest jobs of this owner that are still kept."""
    known = get_state().items(_list_name(owner_id(user), namespace)).entries
    newest = sorted(known, key=lambda id: known[id].version, reverse=True)[:most]
    return [job for id in newest if (job := find_lively(id)) is not None]
