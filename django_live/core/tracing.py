"""Beside the stations: a seam for tracers. The context of a publish travels with its messages over the
bus, so that what is delivered elsewhere can be linked to it.

Nothing here knows OpenTelemetry; ``integrations/opentelemetry.py`` does. Must keep true: without a tracer
it costs one look at a variable for each batch, and nothing for each connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Carrier = Mapping[str, str]
"""A context as text, such as ``{"traceparent": …}``."""


class Tracer(Protocol):
    def publishing(self, topic: str, events: int) -> AbstractContextManager[Carrier]:
        """Around sending these events; gives what travels with them."""

    def delivering(self, topic: str, events: int, carrier: Carrier) -> AbstractContextManager[None]:
        """Around handing events of the bus to the subscriptions of this process."""


class _InForce:
    tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Have this process traced; None: no more."""
    _InForce.tracer = tracer


@contextmanager
def publishing(topic: str, events: int) -> Iterator[Carrier]:
    """Around sending events."""
    tracer = _InForce.tracer
    if tracer is None:
        yield {}
        return
    with tracer.publishing(topic, events) as carrier:
        yield carrier


def is_on() -> bool:
    return _InForce.tracer is not None


def delivering(topic: str, events: int, carrier: Carrier) -> AbstractContextManager[None]:
    """Around a dispatch; only while there is a tracer."""
    assert _InForce.tracer is not None
    return _InForce.tracer.delivering(topic, events, carrier)
