"""The tests' site with one mechanism switched off, for negative controls: a test that still passes
against it proves nothing.

``LIVE_TEST_BROKEN`` names what is off: ``back-pressure``, ``head-checks``, ``hold``.
"""

from __future__ import annotations

import os
from typing import Any

from tests.asgi import application

__all__ = ["application"]


async def _nothing(*args: Any) -> None:
    """Does not do what it should."""


def switch_off(mechanism: str) -> None:
    """Called when tests.asgi has set Django up: only then can these be imported."""
    from django_live.core.runtime import Runtime
    from django_live.transports import hold, sockets

    match mechanism:
        case "back-pressure":
            sockets.register_producer = lambda send, sink: lambda: None
        case "head-checks":
            Runtime._check_heads = _nothing  # type: ignore[method-assign,assignment]
        case "hold":
            hold._Response._is_to_be_held = lambda self, message: False  # type: ignore[method-assign]
        case unknown:
            raise ValueError(f"LIVE_TEST_BROKEN={unknown!r} is not a mechanism")


switch_off(os.environ["LIVE_TEST_BROKEN"])
