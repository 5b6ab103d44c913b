"""A client that polls, by Django's own test client: it needs no event loop and no ASGI application, so it
works in a plain ``TestCase``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.test import Client

from ..core.topics import Topic
from .streams import SSEFrame


class Poller:
    """Polls topics, as the ``user`` or with the cookies of a test ``client``, and keeps the cursor."""

    def __init__(
        self,
        *topics: Topic | str,
        user: Any = None,
        client: Client | None = None,
        cursor: str = "",
        path: str = "/live/poll/",
    ) -> None:
        self.client = client or Client()
        if user is not None:
            self.client.force_login(user)
        self.cursor = cursor
        self.status = 0
        """Of the last answer."""
        self.retry_after = 0.0
        """Seconds to wait before the next poll, as the last answer said."""
        self.more = False
        self._path = path
        self._topics = [str(topic) for topic in topics]
        self._answer: Any = None

    def poll(self) -> list[SSEFrame]:
        """What came since the last poll; nothing where it was refused, and ``status`` says so. The first
        one only learns where the topics stand, unless there was a ``cursor``."""
        query = [("topic", name) for name in self._topics]
        if self.cursor:
            query.append(("cursor", self.cursor))
        response = self.client.get(f"{self._path}?{urlencode(query)}")
        self.status = response.status_code
        self._answer = response.json() if response.content else None
        if self.status != 200:
            return []
        self.cursor = self._answer["cursor"]
        self.retry_after = float(self._answer["retry_after"])
        self.more = bool(self._answer["more"])
        return [
            SSEFrame(frame["event"], frame.get("data"), self.cursor, frame.get("topic", ""))
            for frame in self._answer["frames"]
        ]

    def events(self) -> list[SSEFrame]:
        """What the site published since the last poll, all of it."""
        found: list[SSEFrame] = []
        while True:
            frames = self.poll()
            found += [frame for frame in frames if not frame.event.startswith("stream-")]
            if self.status != 200 or not self.more:
                return found

    def json(self) -> Any:
        """The last answer as it came."""
        return self._answer
