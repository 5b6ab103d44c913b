"""Boards of the tests, and viewers of them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from django_live.core.runtime import Runtime
from django_live.core.subscribing import Request
from django_live.core.topics import Topic, Viewer, registry
from django_live.features.dashboards import Board, Keyed, Latest, Lines, Window, live_source
from tests.core.fakes import FakeSink, RecordDialect

DO: dict[str, Any] = {"runs": 0, "compute": lambda: 0}
"""What the source does, and how often it was asked."""


ANN = Viewer(user_id="1", source=lambda viewer: SimpleNamespace(pk=1, is_active=True))


class Open(Topic):
    def can_subscribe(self, viewer: Viewer) -> bool:
        return True


with registry.isolated():

    class Load(Open, Latest):
        pattern = "load/<slug:host>"

    class Rows(Open, Keyed):
        pattern = "rows"
        most = 10_000

    class Points(Open, Window):
        pattern = "points"
        points = 4

    class Log(Open, Lines):
        pattern = "log"
        lines = 3

    class Private(Latest):
        pattern = "private"

        def can_subscribe(self, viewer: Viewer) -> bool:
            return viewer.user_id == "1"

    class Computed(Open, Latest):
        pattern = "computed"

        @live_source(every=0.05, timeout=0.2)
        def compute(self) -> Any:
            DO["runs"] += 1
            return DO["compute"]()


class Watcher:
    """Somebody who watches a board, and takes what it says as the element in a page does."""

    def __init__(self, topic: Board) -> None:
        self.topic = topic
        self.sink = FakeSink()
        self.frames: list[dict[str, Any]] = []
        self.state: Any = None
        self.snapshots = 0
        self._place = ("", 0)

    async def open(self, live: Runtime) -> Watcher:
        self.sink.connection = await live.open(
            self.sink,
            RecordDialect(),
            ANN,
            [Request(self.topic, None)],
            decided=time.monotonic(),
        )
        return self

    def leave(self, live: Runtime) -> None:
        assert self.sink.connection is not None
        live.hub.drop(self.sink.connection)

    @property
    def shows(self) -> Any:
        """What they see now: the value, the rows, or the items without their place."""
        for frame in self.sink.take():
            if frame.kind == "snapshot":
                self.snapshots += 1
                self._begin(frame.parts[1])
            elif frame.kind == "event":
                self._update(frame.parts[2])
        return self.state

    def _begin(self, data: dict[str, Any]) -> None:
        self._place = (data["run"], data["n"])
        kinds = {"value", "rows", "items"} & data.keys()
        value = data[kinds.pop()]
        self.state = [item[1:] for item in value] if isinstance(value, list) else value

    def _update(self, data: dict[str, Any]) -> None:
        self.frames.append(data)
        if data["run"] == self._place[0] and data["n"] <= self._place[1]:
            return
        if "value" in data:
            self.state = data["value"]
        elif "items" in data:
            self.state = [*self.state, *(item[1:] for item in data["items"])]
        else:
            self.state = {**self.state, **data["set"]}
            for key in data["gone"]:
                self.state.pop(key, None)
