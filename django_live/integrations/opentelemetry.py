"""OpenTelemetry spans that link a publish to its deliveries. Needs the extra ``opentelemetry``::

    # yourapp/apps.py
    class YourAppConfig(AppConfig):
        def ready(self):
            from django_live.integrations import opentelemetry

            opentelemetry.instrument()

``django_live publish`` is a child of whatever span runs where ``publish()`` is called, ``django_live
deliver`` a span of its own in each process that hands the events to subscriptions, with a link to the
first. What the bus lost and the log brought has no span.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, SpanKind

from .. import __version__
from ..core import tracing
from ..core.tracing import Carrier

PUBLISH, DELIVER = "django_live publish", "django_live deliver"


def instrument(tracer_provider: Any = None) -> None:
    """Trace this process, with the global tracer provider unless another is given."""
    tracer = trace.get_tracer("django_live", __version__, tracer_provider=tracer_provider)
    tracing.use(_Spans(tracer))


def uninstrument() -> None:
    tracing.use(None)


class _Spans:
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def publishing(self, topic: str, events: int) -> Iterator[Carrier]:
        with self._tracer.start_as_current_span(
            PUBLISH, kind=SpanKind.PRODUCER, attributes=_attributes(topic, events)
        ):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            yield carrier

    @contextmanager
    def delivering(self, topic: str, events: int, carrier: Carrier) -> Iterator[None]:
        # Not what happens to run in this event loop: nobody there asked for it.
        told = propagate.extract(dict(carrier), context=context.Context())
        published = trace.get_current_span(told).get_span_context()
        links = [Link(published)] if published.is_valid else []
        with self._tracer.start_as_current_span(
            DELIVER,
            context=context.Context(),
            kind=SpanKind.CONSUMER,
            links=links,
            attributes=_attributes(topic, events),
        ):
            yield


def _attributes(topic: str, events: int) -> dict[str, str | int]:
    """By OpenTelemetry's conventions for messaging."""
    return {
        "messaging.system": "django_live",
        "messaging.destination.name": topic,
        "messaging.batch.message_count": events,
    }
