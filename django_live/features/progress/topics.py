"""Where the viewers of jobs listen. Nobody declares these topics: they are there.

Must keep true: who may see a job is decided from its record, so it holds in every process; an unknown
job and a forbidden one look alike.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied

from ...conf import live_settings
from ...core.publishing import publish
from ...core.topics import History, Message, Topic, Viewer
from ..liveness import WatchedTopic, ask_to_stop, is_alive
from . import records


class ProgressTopic(WatchedTopic):
    """One job."""

    pattern = "live/progress/<slug:id>"
    # Every event has the whole view: a few are enough to go on from, and a newcomer needs none.
    history = History(events=100, age=timedelta(days=1))
    id: str

    def can_subscribe(self, viewer: Viewer) -> bool:
        job = records.find_lively(self.id)
        return job is not None and job.allows(viewer, self.namespace)

    def can_send(self, viewer: Viewer) -> bool:
        job = records.find(self.id)
        return job is not None and job.allows(viewer, self.namespace)

    def snapshot(self) -> Any:
        job = records.find(self.id)
        if job is None:
            raise ObjectDoesNotExist(f"There is no job {self.id!r} any more.")
        return job.view

    def on_message(self, message: Message) -> Any:
        if message.type != "cancel":
            raise PermissionDenied
        cancel(self.id)

    def found_dead(self) -> None:
        job = records.find(self.id)
        if job is None or job.view["state"] != "running" or is_alive(self.id):
            return
        lines = job.view.pop("lines")
        # The number is that of its next word, so that this is written once, whoever finds it.
        view = {**job.view, "state": "stalled", "left": None, "seq": job.view["seq"] + 0.5}
        written = records.write(job.access, view, lines, job.traceback, expect=job.version)
        if written:
            publish(self, "progressed", {**view, "lines": []})

    def forget(self, user: Any, type: str, data: Any) -> Any:
        """What a job said is its owner's, and goes with them."""
        job = records.find(self.id)
        is_own = job is not None and job.access.owner == str(user.pk)
        return (
            {"id": self.id, "state": data.get("state"), "seq": data.get("seq")} if is_own else data
        )


class JobsTopic(Topic):
    """That a user has another job."""

    pattern = "live/jobs/<str:owner>"
    history = History(events=100, age=timedelta(days=1))
    owner: str

    def can_subscribe(self, viewer: Viewer) -> bool:
        return viewer.user_id == self.owner and viewer.can(records.SCOPE)

    def forget(self, user: Any, type: str, data: Any) -> Any:
        """There is nothing in it but ids."""
        return data


def cancel(id: str) -> bool:
    """Ask a job to stop; whether there is one that can be asked. It hears of it within a second, at
    its next ``check_cancelled()`` or turn of ``track()``."""
    job = records.find(id)
    if job is None or job.is_over or not job.view["cancellable"]:
        return False
    if job.view["state"] == "waiting":
        lines = job.view.pop("lines")
        view = {**job.view, "state": "cancelled", "seq": job.view["seq"] + 1}
        if records.write(job.access, view, lines, expect=job.version):
            topic = ProgressTopic(namespace=job.access.namespace, id=id)
            publish(topic, "progressed", {**view, "lines": []})
    ask_to_stop(id, live_settings().JOB_KEEP)
    return True
