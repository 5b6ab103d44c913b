"""A job that tells how far it is. ``with Progress("Import", total=n, owner=user) as progress: …``

Must keep true: the job goes on whatever happens to store, layer and viewers; the first word and the
last are always told, and of those in between a few each second; what is shown to users was written
for users.
"""

from __future__ import annotations

import asyncio
import time
import traceback as tracebacks
from typing import Any, Self

from ..liveness import Access, check_id, new_id, owner_id
from ..reporter import Reporter, words_for
from . import bounds, records
from .ledger import Ledger
from .report import Report
from .steps import Cancelled, Counter
from .terminal import drawing_for
from .topics import ProgressTopic

MOST_STEPS = 20
"""Steps that viewers are told of at once."""


class Progress(Reporter, Counter):
    """How far a job is, for its viewers.

    ``owner`` is a user or a primary key: they see it, and may cancel it; so may whoever has the
    ``permission``. Others see nothing. ``id`` goes on with a job that was reserved, or, for a task that
    is tried again, with its next attempt; title and owner are those of before where none are given.
    ``patience``: seconds without a word after which it counts as stalled. ``terminal``: whether it is
    drawn there, too; None: where the main thread runs in one, and ``rich`` is installed.

    Everything is for one ``with`` or ``async with``, from any thread. Raises ``ValueError`` for an id
    that is none; nothing else, whatever it is given.
    """

    _asked_to_end = Cancelled
    _report: Report

    def __init__(
        self,
        title: str = "",
        *,
        total: Any = None,
        owner: Any = None,
        permission: str = "",
        id: str | None = None,
        unit: str = "",
        namespace: str = "",
        cancellable: bool = True,
        patience: float | None = None,
        terminal: bool | None = None,
    ) -> None:
        self.id = new_id() if id is None else check_id(id)
        self._terminal = terminal
        view = records.fresh_view(self.id, title, unit=unit, cancellable=cancellable)
        access = Access(owner_id(owner), permission, namespace)
        super().__init__(title, total, Ledger(view, access))
        self._report = Report(self.ledger, self.look, is_known=id is not None, patience=patience)

    @property
    def topic(self) -> ProgressTopic:
        return self._report.topic

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked it to stop."""
        return self.ledger.cancelled

    # -- its life ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._report.drawing = drawing_for(self.title, self._terminal)
        return super().__enter__()

    def finish(self, result: Any = None, link: Any = "") -> None:
        """What came of it: JSON of at most 32 kB, and where to look at it. Leaving the ``with`` ends
        the job; this only says how."""
        self.ledger.result = bounds.result(result)
        self.ledger.link = bounds.link(link)
        if (result is not None and self.ledger.result is None) or (link and not self.ledger.link):
            self.ledger.complain("its result or link cannot be sent")

    def fail(self, message: Any) -> None:
        """It has failed, for a reason that its viewers may read. Also what a ``ValidationError`` or
        ``Rejected`` that leaves the ``with`` does; of other errors they read that there was one."""
        self.ledger.error = bounds.text(message, bounds.MESSAGE)
        self.ledger.state = "failed"

    # -- inside ------------------------------------------------------------------------------------

    def _end_with(self, error: BaseException | None) -> None:
        ledger = self.ledger
        if isinstance(error, Cancelled | asyncio.CancelledError):
            ledger.state = "cancelled"
        elif error is not None and not isinstance(error, GeneratorExit):
            lines = "".join(tracebacks.format_exception(error))
            ledger.traceback = bounds.text(lines[-bounds.TRACEBACK :], bounds.TRACEBACK)
            self.fail(words_for(error))
        elif ledger.state == "running":
            ledger.state = "done"
        self._report.say_last()

    def look(self) -> dict[str, Any]:
        """What its viewers see of it now: docs/reference/progress.md."""
        ledger = self.ledger
        is_done = ledger.state == "done"
        with self._lock:
            own_fields = self._fields
        fields, refused = bounds.fields(own_fields)
        if refused:
            ledger.complain(f"{', '.join(refused)} cannot be sent")
        fraction = self.fraction
        return {
            **ledger.view,
            "state": ledger.state,
            "done": self.reached,
            "total": self._total,
            "fraction": 1.0 if is_done else fraction if fraction is None else round(fraction, 5),
            "message": self._message,
            "fields": fields,
            "steps": [] if is_done else [one.view() for one in self.active_steps()][:MOST_STEPS],
            "error": ledger.error,
            "result": ledger.result,
            "link": ledger.link,
            "updated": round(time.time(), 3),
        }
