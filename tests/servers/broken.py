"""The tests' site with one mechanism switched off, for negative controls: a test that still passes
against it proves nothing.

``LIVE_TEST_BROKEN`` names what is off:

=================  ===============================================================================
``back-pressure``  what a socket has not taken is not waited for
``commit``         (publishers) an event does not wait for the commit
``envelope``       messages between processes cannot be read
``epochs``         a log that was set back or emptied is taken for the same one
``gaps``           a hole in the offsets is not seen, and heads are not checked
``head-checks``    a lost last event is not looked for
``hold``           the view streams by itself
``idempotency``    (publishers) a second try is another event
``numbering``      what was committed is left to other processes, as if this one died at the commit
``outbox``         (publishers) an event is written after the commit
``patience``       what is done again and again ends with its first failure
``resume``         a client that comes back begins like a new one
=================  ===============================================================================
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.asgi import application

__all__ = ["application"]


async def _nothing(*args: Any) -> None:
    """Does not do what it should."""


def switch_off(mechanism: str) -> None:
    """Called when Django is set up: only then can these be imported. The publishers of the fault
    tests call it, too, and see to what is theirs."""
    from django_live.core.runtime import Runtime
    from django_live.transports import hold, sockets

    match mechanism:
        case "back-pressure":
            sockets.register_producer = lambda send, sink: lambda: None
        case "head-checks":
            Runtime._check_heads = _nothing  # type: ignore[method-assign,assignment]
        case "hold":
            hold.Response._is_to_be_held = lambda self, message: False  # type: ignore[method-assign]
        case "envelope" | "epochs" | "gaps" | "patience" | "resume":
            _switch_off_in_core(mechanism)
        case "numbering":
            _switch_off_numbering()
        case "commit" | "idempotency" | "outbox":
            pass
        case unknown:
            raise ValueError(f"LIVE_TEST_BROKEN={unknown!r} is not a mechanism")


def _switch_off_numbering() -> None:
    from django_live.core import sweeping

    setattr(sweeping, "number_now", lambda *args: None)  # noqa: B010 -- not its to export
    setattr(sweeping, "sweep", lambda *args: 0)  # noqa: B010


def _switch_off_in_core(mechanism: str) -> None:
    from django_live.core import following
    from django_live.core.following import Following
    from django_live.core.runtime import Runtime
    from django_live.core.subscribing import Subscribing

    feeds: Any = Following
    runtime: Any = Runtime
    subscribing: Any = Subscribing
    start_of = subscribing._start_of
    match mechanism:
        case "envelope":
            setattr(following, "read_envelope", lambda message: None)  # noqa: B010 -- not its to export
        case "epochs":
            feeds._new_life = lambda self, feed, head: None
            feeds._begin_epoch = _nothing
        case "gaps":
            feeds._take = _take_anything
            feeds.check_heads = _nothing
        case "patience":
            runtime._every = _once
        case "resume":
            subscribing._start_of = lambda self, subscription, place: start_of(
                self, subscription, None
            )


def _take_anything(self: Any, feed: Any, _epoch: str, events: Any) -> None:
    """What is newer is taken, whether or not something lies in between."""
    for event in events:
        if event.offset > feed.last:
            missed = event.offset - feed.last - 1
            for subscription in feed.live:
                subscription.offset += missed
            feed.ring.clear()
            feed.ring_size = 0
            self.hub.dispatch(feed, [feed.append(event)])


async def _once(_runtime: Any, seconds: float, _name: str, work: Any) -> None:
    while True:
        await asyncio.sleep(seconds)
        await work()


switch_off(os.environ["LIVE_TEST_BROKEN"])
