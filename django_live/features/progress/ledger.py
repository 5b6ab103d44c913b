"""What a whole job has in common, whoever of its steps and threads says it."""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import Any

from ..liveness import Access
from . import bounds

logger = logging.getLogger("django_live.progress")


class Ledger:
    """One per job. Written by the job, read by its report."""

    def __init__(self, view: dict[str, Any], access: Access) -> None:
        self.lock = Lock()
        self.view = view
        """What does not change, and what an earlier attempt left."""
        self.access = access
        self.changed = True
        """Whether there is something that viewers were not told."""
        self.cancelled = False
        """Whether somebody asked the job to stop."""
        self.state = "running"
        self.error = ""
        self.traceback = ""
        self.result: Any = None
        self.link = ""
        self.lines: list[dict[str, Any]] = []
        self._line_count = 0
        self._complained: set[str] = set()

    def complain(self, what: str) -> None:
        """In the site's log, once for each complaint and a few at most: no job is stopped by what it
        says."""
        if what not in self._complained and len(self._complained) < 5:
            self._complained.add(what)
            logger.warning(
                "The job %s (%s) goes on, but %s.", self.view["id"], self.view["title"], what
            )

    def add_line(self, line: str, level: str) -> None:
        with self.lock:
            self._line_count += 1
            entry = {"n": self._line_count, "at": round(time.time(), 3), "text": line}
            self.lines.append({**entry, "level": bounds.text(level, 20)})
            del self.lines[: -bounds.LINES]
        self.changed = True
