"""What the scribe knows of a job: when it has something to tell, and what.

Must keep true: a word is told at most every ``INTERVAL``, the first at once and the last always; the
record is written before the word that viewers hear, so that what they ask for is never older.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ...conf import live_settings
from ..liveness import claim, end_claim
from ..scribe import Source, scribe
from . import records
from .ledger import Ledger, logger
from .pace import Pace
from .terminal import Drawing
from .topics import ProgressTopic

INTERVAL = 0.2
"""Seconds between two words of a job."""


class Report(Source):
    """``look`` gives what viewers see now; ``is_known``: the job may have been reserved, or tried."""

    def __init__(
        self,
        ledger: Ledger,
        look: Callable[[], dict[str, Any]],
        *,
        is_known: bool,
        patience: float | None,
    ) -> None:
        super().__init__(ledger.view["id"], live_settings().JOB_LEASE, patience)
        self.ledger = ledger
        self.topic = ProgressTopic(namespace=ledger.access.namespace, id=self.id)
        """Made once: its name is looked up among all patterns."""
        self.look = look
        self.is_known = is_known
        self.drawing: Drawing | None = None
        self.pace = Pace()
        self.token = 0
        self.seq = 0
        self.told_lines = 0
        self.last_line = 0
        self.is_last_word = False
        self.is_unpublished = False
        self.was_superseded = False

    def say_last(self) -> None:
        """The job is over."""
        self.over = time.monotonic()
        self.ledger.changed = True
        if self.ready:
            scribe.wake(self)
        if self.drawing is not None:
            self.drawing.stop({**self.look(), "left": None})

    def begin(self) -> None:
        known = records.find(self.id) if self.is_known else None
        if known is not None:
            self._go_on_with(known)
        self.ledger.view["attempt"] += 1
        self.claim = self.token = claim(self.id, self.lease)
        if known is None:
            records.list_for_owner(self.id, self.ledger.access)

    def _go_on_with(self, known: records.Job) -> None:
        own = self.ledger.view
        if known.view["state"] == "cancelled" and not known.view["attempt"]:
            self.ledger.cancelled = True  # before its worker came to it
        self.seq = int(known.view["seq"]) + 1
        own["attempt"] = known.view["attempt"]
        own["created"] = known.view["created"]
        for fact in ("title", "unit"):
            own[fact] = own[fact] or known.view[fact]
        if not self.ledger.access.owner and not self.ledger.access.permission:
            self.ledger.access = known.access
            self.topic = self.topic.within(known.access.namespace)

    def collect(self, now: float) -> Sequence[dict[str, Any]]:
        self.due = now + INTERVAL
        view = self.look()
        self.pace.note(now, view["done"], view["fraction"])
        if self.was_superseded or not (self.ledger.changed or self.is_unpublished):
            return ()
        self.is_unpublished = True
        self.ledger.changed = False
        return self._words(now)

    def _words(self, now: float) -> Sequence[dict[str, Any]]:
        self.heard = now
        is_last = self.over is not None
        with self.ledger.lock:
            lines = list(self.ledger.lines)
        view = self.look()
        if not is_last:
            view["state"] = "running"  # also while it is about to end
        rate, left = self.pace.rate, self.pace.left
        view["rate"] = None if rate is None else round(rate, 3)
        view["left"] = None if left is None or view["state"] != "running" else round(left, 1)
        self.seq += 1
        view["seq"] = self.seq
        ledger = self.ledger
        if not records.write(ledger.access, view, lines, ledger.traceback, fence=self.token):
            self.superseded()
            return ()
        if self.drawing is not None:
            self.drawing.draw(view, lines)
        self.is_last_word = is_last
        self.last_line = lines[-1]["n"] if lines else 0
        fresh = [line for line in lines if line["n"] > self.told_lines]
        return ({"topic": self.topic, "type": "progressed", "data": {**view, "lines": fresh}},)

    def published(self, items: Sequence[dict[str, Any]]) -> bool:
        if items:
            self.told_lines = self.last_line
            self.is_unpublished = False
            return self.is_last_word
        return self.over is not None and self.was_superseded

    def settle(self) -> None:
        end_claim(self.id, self.claim)

    def fell_silent(self) -> None:
        """Its viewers are told that it is stalled; its next word says otherwise."""
        end_claim(self.id, self.claim)

    def cancel(self) -> None:
        if self.ledger.view["cancellable"]:
            self.ledger.cancelled = True

    def superseded(self) -> None:
        """Another attempt has begun: this one has nothing to say any more, and had better stop."""
        if not self.was_superseded:
            logger.warning("The job %s runs elsewhere, too; this attempt is stopped.", self.id)
        self.was_superseded = True
        self.ledger.cancelled = True
