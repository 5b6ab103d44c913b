"""An answer that is written as it is thought: ``with TokenStream(owner=user) as stream: …``

Must keep true: whoever writes waits for neither store nor viewers; a viewer that leaves changes
nothing; whatever becomes of the writer, each viewer hears of the end.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ...core.events import encode_data
from ...exceptions import InvalidEvent
from ..liveness import Access, check_id, new_id, owner_id
from ..reporter import Reporter, words_for
from .report import Report
from .topics import AnswerTopic

PATIENCE = 60.0
LONGEST = 1_000_000
"""Characters of one answer, its reasoning included."""
LARGEST_PART = 64_000
MOST_PARTS = 500


class Stopped(Exception):
    """A viewer asked for an end, or another attempt writes the answer. The ``with`` takes it."""


class TokenStream(Reporter):
    """Writes one answer. ``owner`` is a user or a primary key: they read it, and may stop it; so may
    whoever has the ``permission``. ``id`` is the ``key`` of an answer that was reserved, or of a task that
    is tried again: whatever its predecessor still writes is passed over. ``patience``: seconds without a
    word after which the stream ends as failed; None: it waits as long as its process lives.

    For one ``with`` or ``async with``, in threads and coroutines: nothing waits. Each method raises
    ``Stopped`` when nobody wants more. ``ValueError``: an id that is none, an answer that is too long.
    ``InvalidEvent``: what is no JSON, or too large.
    """

    _asked_to_end = Stopped
    _report: Report

    def __init__(
        self,
        title: str = "",
        *,
        owner: Any = None,
        permission: str = "",
        id: str | None = None,
        namespace: str = "",
        patience: float | None = PATIENCE,
    ) -> None:
        self.id = new_id() if id is None else check_id(id)
        access = Access(owner_id(owner), permission, namespace)
        self._report = Report(self.id, title, access, is_known=id is not None, patience=patience)
        self._length = 0
        self._parts = 0

    @property
    def topic(self) -> AnswerTopic:
        return self._report.topic

    @property
    def is_stopped(self) -> bool:
        """Whether nobody wants more: the next word raises ``Stopped``."""
        return bool(self._report.stopped)

    # -- words -------------------------------------------------------------------------------------

    def text(self, piece: str) -> None:
        """The next piece of the answer."""
        self._say_text("text", piece)

    def reasoning(self, piece: str) -> None:
        """The next piece of what led to it."""
        self._say_text("reasoning", piece)

    def tool(
        self,
        name: str,
        *,
        input: Any = None,  # noqa: A002  what everybody calls it
        output: Any = None,
        id: str = "",
    ) -> str:
        """That a tool is used, and, with the id that comes back, what it answered."""
        part: dict[str, Any] = {"id": id or new_id(), "name": name}
        if not id or input is not None:
            part["input"] = input
        if output is not None:
            part["output"] = output
        self._say_part("tool", part)
        return str(part["id"])

    def data(self, name: str, value: Any, *, id: str = "") -> str:
        """Something else that a page can show: sources, a chart. A second with the same id takes its
        place."""
        part = {"id": id or new_id(), "name": name, "value": value}
        self._say_part("data", part)
        return str(part["id"])

    def error(self, message: str) -> None:
        """The answer has failed, for a reason that viewers may read. Ends the stream."""
        self._check()
        self._report.end("failed", _clean(str(message))[:500])

    def finish(self) -> None:
        """The answer is complete. Leaving the ``with`` says the same."""
        self._check()
        self._report.end("done")

    def _say_text(self, type: str, piece: str) -> None:
        self._check()
        if not isinstance(piece, str):
            raise TypeError(f"A piece of text is a str, not {piece!r}.")
        self._length += len(piece)
        if self._length > LONGEST:
            raise ValueError(f"An answer has at most {LONGEST} characters.")
        if piece:
            self._report.say(type, _clean(piece))

    def _say_part(self, type: str, part: dict[str, Any]) -> None:
        self._check()
        self._parts += 1
        text = encode_data(part)
        if len(text) > LARGEST_PART or self._parts > MOST_PARTS:
            raise InvalidEvent(
                f"A part has at most {LARGEST_PART} bytes, and an answer {MOST_PARTS} of them."
            )
        # As it is now: what the writer makes of it later must not keep the words of all others back.
        self._report.say(type, json.loads(text))

    def _check(self) -> None:
        if self._report.stopped:
            raise Stopped(self._report.stopped)

    # -- its end -----------------------------------------------------------------------------------

    def _end_with(self, error: BaseException | None) -> None:
        if error is None:
            self._report.end("done")
        elif isinstance(error, Stopped | asyncio.CancelledError | GeneratorExit):
            self._report.end("stopped")
        else:
            self._report.end("failed", words_for(error)[:500])


def _clean(text: str) -> str:
    """What every store can keep."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
