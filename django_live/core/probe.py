"""Beside station 4: whether what is sent over the layer comes back.

Must keep true: only a probe that was sent can be lost, and only while this loop had time to hear it.
"""

from __future__ import annotations

import secrets
from typing import Any

MESSAGE_TYPE = "live.probe"


class Probe:
    """A message to ourselves, over a group of our own."""

    def __init__(self, patience: int) -> None:
        """``patience``: turns of the loop that it may be on its way."""
        self._patience = patience
        self.group = f"live.probe.{secrets.token_hex(8)}"
        self.lost_in_a_row = 0
        self._number = 0
        self._answered = 0
        self._ticks: int | None = None
        """Since it was sent; None: none is under way."""

    @property
    def is_under_way(self) -> bool:
        return self._ticks is not None

    def message(self) -> dict[str, Any]:
        """The next one."""
        self._number += 1
        # It may come back before the layer says that it was sent.
        self._ticks = None
        return {"type": MESSAGE_TYPE, "number": self._number}

    def was_sent(self) -> None:
        if self._answered < self._number:
            self._ticks = 0

    @staticmethod
    def is_answer(message: dict[str, Any]) -> bool:
        return message.get("type") == MESSAGE_TYPE

    def came_back(self, message: dict[str, Any]) -> None:
        self._answered = max(self._answered, int(message.get("number", 0)))
        if self._answered >= self._number:
            self.lost_in_a_row = 0
            self._ticks = None

    def is_lost(self) -> bool:
        """Called once a turn: a process that was stopped did not listen meanwhile."""
        if self._ticks is None:
            return False
        self._ticks += 1
        if self._ticks <= self._patience:
            return False
        self.lost_in_a_row += 1
        return True

    def forget(self) -> None:
        """What is under way says nothing any more."""
        self._ticks = None
