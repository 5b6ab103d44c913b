"""The tests' site with one mechanism switched off, for negative controls: a test that still passes
against it proves nothing.

``LIVE_TEST_BROKEN`` names what is off: ``back-pressure``, ``head-checks``, ``hold``, ``gap-detection``.
"""

from __future__ import annotations

import os
from typing import Any

from django_live.core import hub, runtime, subscribing
from django_live.transports import hold
from tests.asgi import application


async def _nothing(*args: Any) -> None:
    """Does not do what it should."""


def _take_whatever_comes(self: Any, feed: Any, epoch: str, events: Any) -> None:
    entries = []
    for event in events:
        entries.append(feed.append(event))
        for subscription in feed.live:
            subscription.offset = event.offset - 1
    self.hub.dispatch(feed, entries)


match os.environ["LIVE_TEST_BROKEN"]:
    case "back-pressure":
        hold.register_producer = lambda send, sink: lambda: None
    case "head-checks":
        runtime.Runtime._check_heads = _nothing  # type: ignore[method-assign]
    case "hold":
        hold._Response._is_to_be_held = lambda self, message: False  # type: ignore[method-assign]
    case "gap-detection":
        subscribing.Subscribing._take = _take_whatever_comes  # type: ignore[method-assign]
        hub.Feed.prepend = lambda self, events: None  # type: ignore[method-assign]
    case unknown:
        raise ValueError(f"LIVE_TEST_BROKEN={unknown!r} is not a mechanism")

__all__ = ["application"]
