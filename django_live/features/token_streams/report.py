"""What the scribe knows of a token stream: what was said and is not published yet.

Must keep true: the first word leaves at once, later ones every 40 milliseconds or as soon as there is a
kilobyte; what is tried again is the same as before; the row is written before its viewers hear of the
end, unless the database is away; words wait for no row.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

from django.utils.translation import gettext as _

from ...conf import live_settings
from ...core.publishing import publish_many
from ..liveness import Access, claim, end_claim
from ..scribe import GIVE_UP, LATEST, Source, scribe
from . import answers
from .answers import logger
from .folding import Folding
from .topics import AnswerTopic

EVERY = 0.04
"""Seconds between two words that leave."""
ENOUGH = 1024
"""Characters that do not wait so long."""
LARGEST = 16_384
"""Characters in one event."""
PUT_BY = 10.0
"""Seconds after which what was said is put into the row, too."""
AGAIN = 2.0
"""Seconds after which an end is tried again that could not be saved or told."""


class Report(Source):
    """The words of one writer."""

    def __init__(
        self, id: str, title: str, access: Access, *, is_known: bool, patience: float | None
    ) -> None:
        super().__init__(id, live_settings().JOB_LEASE, patience)
        self.title = title
        self.access = access
        self.topic = AnswerTopic(namespace=access.namespace, id=id)
        """Made once: its name is looked up among all patterns."""
        self.is_known = is_known
        self.said = Folding()
        """All that left, and what is about to."""
        self.stopped = ""
        """Why the writer has to stop: ``stopped``, ``superseded`` or ``silent``."""
        self.lock = Lock()
        self._waiting: list[tuple[str, Any]] = [("begin", {})]
        self._size = 0
        self._leaving: list[dict[str, Any]] = []
        self._last: list[dict[str, Any]] = []
        """The end, until it is told."""
        # Those that begin together are not put by together.
        self._put_by = time.monotonic() - random.uniform(0, PUT_BY / 2)
        self._has_ended = False
        self._has_said = False

    # -- the writer's side -------------------------------------------------------------------------

    def say(self, type: str, data: Any) -> None:
        """Leave words; text that follows on text is one."""
        self.heard = time.monotonic()
        with self.lock:
            if self._has_ended:
                return
            was_empty = not self._waiting
            if type in ("text", "reasoning"):
                if self._waiting and self._waiting[-1][0] == type:
                    self._waiting[-1][1].append(data)
                else:
                    self._waiting.append((type, [data]))
                self._size += len(data)
            else:
                self._waiting.append((type, data))
            is_enough = self._size >= ENOUGH or type not in ("text", "reasoning")
            is_first = not self._has_said
            self._has_said = True
        if self.ready and (is_first or is_enough or was_empty):
            scribe.wake(self, 0.0 if is_first or is_enough else EVERY)

    def end(self, state: str, error: str = "") -> None:
        """The last word; only the first of them counts."""
        with self.lock:
            if self._has_ended:
                return
            self._has_ended = True
            self._waiting.append(("end", {"state": state, "error": error}))
            self.over = time.monotonic()
        if self.ready:
            scribe.wake(self)

    # -- the scribe's side -------------------------------------------------------------------------

    def begin(self) -> None:
        answer = answers.find(self.id) if self.is_known else None
        if answer is None:
            self.is_known = True  # whatever becomes of the next lines
            owner, permission, namespace = self.access
            answer = answers.reserve(
                self.title, owner=owner, permission=permission, namespace=namespace, id=self.id
            )
        self.access = answers.access_of(answer)
        self.topic = self.topic.within(self.access.namespace)
        was_stopped = answer.state == "stopped" and not answer.attempt
        self.claim = claim(self.id, self.lease)
        self.said = Folding(self.claim)
        if not answers.take_over(answer, self.claim):
            self.superseded()
        elif was_stopped:
            self.cancel()

    def collect(self, now: float) -> Sequence[dict[str, Any]]:
        self.due = LATEST
        if self.stopped == "superseded":
            return ()
        if not self._leaving:
            self._leaving = self._words()
        return self._leaving

    def _words(self) -> list[dict[str, Any]]:
        """What waits, as events. The end is kept back until the row is written."""
        items = []
        with self.lock:
            waiting, self._waiting, self._size = self._waiting, [], 0
            for type, data in waiting:
                pieces = _pieces("".join(data)) if isinstance(data, list) else [data]
                for piece in pieces:
                    words = {"t": self.said.token, "n": self.said.n + 1, **piece}
                    self.said.take(type, words)
                    key = f"{words['t']}.{words['n']}"
                    items.append(
                        {"topic": self.topic, "type": type, "data": words, "idempotency_key": key}
                    )
        if self.said.is_over:
            self._last = [items.pop()]
        return items

    def published(self, items: Sequence[dict[str, Any]]) -> bool:
        self._leaving = []
        if self._waiting and self.due == LATEST:  # what came while these left
            scribe.wake(self, EVERY)
        return self.said.is_over or self.stopped == "superseded"

    def tend(self, now: float) -> None:
        if now - self._put_by > PUT_BY and not self.said.is_over:
            self._put_by = now
            with self.lock:
                so_far = replace(self.said, parts=[dict(part) for part in self.said.parts])
            # A row that takes nothing more may also be over: its own end was written meanwhile.
            if not answers.save(self.id, so_far) and not self.said.is_over:
                self.superseded()

    def settle(self) -> None:
        until = time.monotonic() + GIVE_UP
        is_saved = False
        while self.stopped != "superseded" and (self._last or not is_saved):
            is_saved = is_saved or self._save()
            self._tell_end()
            if time.monotonic() > until:
                logger.error("The end of the answer %s could not be saved and told.", self.id)
                break
            if self._last or not is_saved:
                time.sleep(AGAIN)
        end_claim(self.id, self.claim)

    def _save(self) -> bool:
        """Write the row; False: it has to be tried again."""
        try:
            if not answers.save(self.id, self.said):
                self._last = []  # whoever has the row has told its end
        except Exception as error:
            logger.warning("The answer %s cannot be saved just now (%s).", self.id, error)
            return False
        return True

    def _tell_end(self) -> None:
        try:
            if self._last:
                publish_many(self._last, on_commit=False)
        except Exception as error:
            logger.warning("The end of the answer %s cannot be told just now (%s).", self.id, error)
        else:
            self._last = []

    def cancel(self) -> None:
        """Its viewers hear of it now, whatever its writer is about."""
        self.stopped = self.stopped or "stopped"
        self.end("stopped")

    def fell_silent(self) -> None:
        self.stopped = self.stopped or "silent"
        self.end("failed", _("Nothing came for too long."))

    def superseded(self) -> None:
        """Another attempt writes this answer now: nothing of this one is taken any more."""
        if self.stopped != "superseded":
            logger.warning(
                "The answer %s is written elsewhere, too; this attempt is stopped.", self.id
            )
        self.stopped = "superseded"
        self.end("failed")


def _pieces(text: str) -> list[dict[str, Any]]:
    return [{"text": text[at : at + LARGEST]} for at in range(0, len(text), LARGEST)]
