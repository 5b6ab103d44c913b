"""What the scribe knows of a token stream: what was said and is not published yet.

Must keep true: the first word leaves at once, later ones every 40 milliseconds or as soon as there is a
kilobyte; what is tried again is the same as before; the row is written before its viewers hear of the
end, unless the database is away.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

from django.utils.translation import gettext as _

from ...conf import live_settings
from ..liveness import Access, claim, end_claim
from ..scribe import GIVE_UP, LATEST, Source, scribe
from . import answers
from .answers import logger
from .folding import OVER, Folding
from .topics import AnswerTopic

EVERY = 0.04
"""Seconds between two words that leave."""
ENOUGH = 1024
"""Characters that do not wait so long."""
LARGEST = 16_384
"""Characters in one event."""
PUT_BY = 10.0
"""Seconds after which what was said is put into the row, too."""
SAVE_AGAIN = 2.0


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
        self._put_by = time.monotonic()
        self._is_saved = False
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
        if self.said.is_over or now - self._put_by > PUT_BY:
            self._save(now)
        return self._leaving

    def _words(self) -> list[dict[str, Any]]:
        with self.lock:
            waiting, self._waiting, self._size = self._waiting, [], 0
        topic, items = self.topic, []
        for type, data in waiting:
            pieces = _pieces("".join(data)) if isinstance(data, list) else [data]
            for piece in pieces:
                words = {"t": self.said.token, "n": self.said.n + 1, **piece}
                self.said.take(type, words)
                key = f"{words['t']}.{words['n']}"
                items.append({"topic": topic, "type": type, "data": words, "idempotency_key": key})
        return items

    def _save(self, now: float) -> None:
        self._put_by = now
        try:
            is_mine = answers.save(self.id, self.said)
        except Exception as error:
            logger.warning("The answer %s cannot be saved just now (%s).", self.id, error)
            return
        if self.said.is_over:
            self._is_saved = True
        elif not is_mine:
            self.superseded()

    def published(self, items: Sequence[dict[str, Any]]) -> bool:
        self._leaving = []
        if self._waiting and self.due == LATEST:  # what came while these left
            scribe.wake(self, EVERY)
        return self.said.state in OVER or self.stopped == "superseded"

    def settle(self) -> None:
        end_claim(self.id, self.claim)
        until = time.monotonic() + GIVE_UP
        while not self._is_saved and self.stopped != "superseded" and time.monotonic() < until:
            self._save(time.monotonic())
            if not self._is_saved:
                time.sleep(SAVE_AGAIN)

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
