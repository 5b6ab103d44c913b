"""Spans: a delivery in another process is linked to the publish, over the bus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from django_live import publish
from django_live.core import bus, envelopes, tracing
from django_live.core.events import Event
from django_live.integrations import opentelemetry
from tests.support.serving import serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opentelemetry.instrument(provider)
    yield exporter
    opentelemetry.uninstrument()
    provider.shutdown()


@pytest.mark.parametrize("topic", ["open/a", "ephemeral/a"])
def test_a_delivery_is_linked_to_its_publish(topic: str, spans: InMemorySpanExporter) -> None:
    with serving() as process:
        connection = process.connect(topic)
        spans.clear()
        publish(topic, "said", {"secret": 1})
        process.wait_for(lambda: b"said" in connection.sink.received)  # type: ignore[attr-defined]
        process.wait_for(lambda: len(ours(spans, topic)) == 2)
    published, delivered = sorted(
        ours(spans, topic), key=lambda span: span.name != "django_live publish"
    )
    assert (published.name, delivered.name) == (opentelemetry.PUBLISH, opentelemetry.DELIVER)
    (link,) = delivered.links
    assert link.context.span_id == published.context.span_id
    assert delivered.parent is None, "no part of what else runs in that event loop"
    assert published.attributes["messaging.batch.message_count"] == 1
    assert "secret" not in str([span.attributes for span in ours(spans, topic)])


def ours(spans: InMemorySpanExporter, topic: str) -> list[Any]:
    return [
        span
        for span in spans.get_finished_spans()
        if (span.attributes or {}).get("messaging.destination.name") == topic
    ]


def test_a_publish_is_part_of_the_callers_span(spans: InMemorySpanExporter) -> None:
    from opentelemetry import trace

    tracer = trace.get_tracer("test", tracer_provider=opentelemetry_provider(spans))
    with tracer.start_as_current_span("request") as request:
        publish("open/a", "said", 1)
    (published,) = ours(spans, "open/a")
    assert published.parent.span_id == request.get_span_context().span_id


def opentelemetry_provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def test_without_a_tracer_nothing_travels_along() -> None:
    event = Event("said", "1")
    (message,) = bus.envelopes("k", "e", [event])
    assert "trace" not in message
    assert not tracing.is_on()
    with tracing.publishing("open/a", 1) as carrier:
        assert carrier == {}


def test_what_another_release_put_there_is_no_context() -> None:
    (message,) = bus.envelopes("k", "e", [Event("said", "1")], {"traceparent": "x"})
    assert envelopes.trace_of(message) == {"traceparent": "x"}
    assert bus.read_envelope(message) is not None, "releases without tracing read it"
    assert envelopes.trace_of({**message, "trace": 5}) == {}
