"""The processes of the Redis tests: `python -m tests.stores.redis_workers ROLE JSON`."""

from __future__ import annotations

import json
import sys

import django

django.setup()

from django_live.core.events import Draft  # noqa: E402
from django_live.core.log import get_log  # noqa: E402
from django_live.core.topics import History, Topic, registry  # noqa: E402


def append(writer: str, count: int) -> None:
    """Append this many events to the topic that all share."""
    with registry.isolated():
        # The test app's own rooms would have the same names.
        registry._classes.pop("rooms/<slug:slug>", None)

        class Room(Topic):
            pattern = "rooms/<str:title>"
            history = History(events=100_000)

        for number in range(count):
            get_log().append(Room(title="lobby"), [Draft("said", json.dumps(f"{writer}:{number}"))])


if __name__ == "__main__":
    {"append": append}[sys.argv[1]](**json.loads(sys.argv[2]))
