"""What the events of a token stream come to: for whoever was not there from the beginning.

Must keep true: what a writer says that was superseded changes nothing, wherever it stands in the log;
what was taken before is not taken again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ...core.events import Position
from ...core.log import get_log
from ...core.topics import Topic

PAGE_EVENTS = 1000
PAGE_BYTES = 1_000_000
OVER = frozenset({"done", "stopped", "failed", "lost"})


@dataclass
class Folding:
    """What was said so far. ``token`` is the writer's, ``n`` the number of its last word."""

    token: int = 0
    n: int = -1
    state: str = "waiting"
    text: str = ""
    reasoning: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    def take(self, type: str, data: dict[str, Any]) -> bool:
        """Take an event; False: it says nothing new, or comes from a writer that was superseded."""
        token, n = data["t"], data["n"]
        if token < self.token or (token == self.token and (n <= self.n or self.is_over)):
            return False
        if token > self.token:
            self.__init__(token)  # type: ignore[misc]  # begins anew
        self.n = n
        if self.state == "waiting":
            self.state = "running"
        if type == "text":
            self.text += data["text"]
        elif type == "reasoning":
            self.reasoning += data["text"]
        elif type in ("tool", "data"):
            self._take_part({"type": type, **{k: v for k, v in data.items() if k not in "tn"}})
        elif type == "end":
            self.state, self.error = data["state"], data.get("error", "")
        return True

    def _take_part(self, part: dict[str, Any]) -> None:
        """A part with a known id adds to that, or takes its place."""
        for known in self.parts:
            if (known["type"], known["id"]) == (part["type"], part["id"]):
                known.update(part)
                return
        self.parts.append(part)

    def as_json(self) -> dict[str, Any]:
        return {
            "t": self.token,
            "n": self.n,
            "state": self.state,
            "text": self.text,
            "reasoning": self.reasoning,
            "parts": self.parts,
            "error": self.error,
        }


def folded_log(topic: Topic) -> tuple[Folding, Position, bool]:
    """What the log says of a stream, up to which position, and whether it is there from the beginning."""
    folding, log = Folding(), get_log()
    last, is_whole = 0, True
    while True:
        page = log.read(topic, last, PAGE_EVENTS, PAGE_BYTES)
        if page.head.floor > last:
            is_whole = False
        for event in page.events:
            folding.take(event.type, json.loads(event.data))
            last = event.offset
        if not page.events or last >= page.head.last:
            return folding, Position(page.head.epoch, last or page.head.last), is_whole
