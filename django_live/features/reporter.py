"""Who reports by the scribe for as long as a ``with`` lasts: a job, an answer."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import ClassVar, Self

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from ..exceptions import Rejected
from .scribe import Source, scribe

LAST_WORD = 3.0
"""Seconds that the end waits for the last word to be written."""
LAST_WORD_IN_TROUBLE = 0.3
"""The same while store or layer do not answer."""


class Reporter:
    """For one ``with`` or ``async with``. What leaves it is told as its end, and goes on, but for one
    kind of exception, which says that an end was asked for."""

    _asked_to_end: ClassVar[type[Exception]]
    _report: Source

    def _end_with(self, error: BaseException | None) -> None:
        """Say the last word. None: the ``with`` was left without an error."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        scribe.add(self._report)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._end_with(error)
        with contextlib.suppress(TimeoutError):
            self._report.written.result(_patience())
        return isinstance(error, self._asked_to_end)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._end_with(error)
        await asyncio.wait({asyncio.wrap_future(self._report.written)}, timeout=_patience())
        return isinstance(error, self._asked_to_end)


def words_for(error: BaseException) -> str:
    """What viewers may read of an error: what was written for them, or that there was one."""
    if isinstance(error, ValidationError):
        return " ".join(error.messages)
    if isinstance(error, Rejected):
        return error.message
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return _("This was interrupted.")
    return _("Something went wrong. We have been told what.")


def _patience() -> float:
    return LAST_WORD_IN_TROUBLE if scribe.is_failing else LAST_WORD
