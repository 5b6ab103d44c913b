"""The SSE view: decides who may see what, answers, and ends. ``hold`` keeps the response open.

Without the wrapper (a project that kept its own ``asgi.py``) the same response streams by itself, at
the price of a thread per stream. Under WSGI it says that it cannot, and where to poll instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import urljoin

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from ..core.connections import Sink
from ..core.counting import tally
from .frames import SSE
from .hold import HEADER, SCOPE_KEY, Slot, open_stream
from .origins import shared_with
from .requests import Plan, Refusal, Refused, place_for, plan_of, refusal_response

BUFFER_BYTES = 256 * 1024


@shared_with("GET")
def events(request: HttpRequest) -> HttpResponseBase:
    """``GET live/events/?topic=a&topic=b``: the stream of docs/reference/protocol.md."""
    try:
        if request.method != "GET":
            raise Refused(405, [Refusal("method-not-allowed")])
        if not isinstance(request, ASGIRequest):
            raise Refused(501, [Refusal("no-streaming")])
        plan = plan_of(request)
        plan.place = place_for(request, plan.viewer)
    except Refused as refused:
        if refused.refusals[0].code in ("no-streaming", "at-capacity"):
            return refusal_response(refused, poll=urljoin(request.path, "../poll/"))
        return refusal_response(refused)
    if any(asked.place is not None for asked in plan.requests):
        tally.count("reconnects")
    return stream_response(request, plan)


def stream_response(request: ASGIRequest, plan: Plan) -> StreamingHttpResponse:
    """The answer to a request that is given a stream: held by the wrapper, or streaming by itself."""
    slot: Slot | None = request.scope.get(SCOPE_KEY)
    response = StreamingHttpResponse(_stream(slot, plan), content_type=SSE.content_type)
    response["Cache-Control"] = "no-store, no-transform, private"
    response["X-Accel-Buffering"] = "no"  # nginx would collect the stream
    response["Content-Encoding"] = "identity"  # GZipMiddleware leaves an encoded response alone
    if slot is not None:
        slot.plan = plan
        response[HEADER] = slot.token
    return response


async def _stream(slot: Slot | None, plan: Plan) -> AsyncIterator[bytes]:
    """The body: nothing when the wrapper holds the response, else the stream itself."""
    if slot is not None and slot.held:
        return
    await sync_to_async(_close_connections)()
    sink = BufferSink()
    connection = await open_stream(sink, plan)
    sink.on_taken = connection.drained
    try:
        async for chunk in sink.chunks():
            yield chunk
    finally:
        connection.hub.drop(connection)
        if plan.place is not None:
            plan.place.release()


def _close_connections() -> None:
    """Give back the database connections of this request: its thread lives as long as the stream."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


class BufferSink(Sink):
    """What waits for Django to take it."""

    def __init__(self) -> None:
        self.on_taken: Callable[[], None] = lambda: None
        self._chunks: list[bytes] = []
        self._size = 0
        self._something = asyncio.Event()
        self._ended = False

    def put(self, prepared: bytes) -> bool:
        self._chunks.append(prepared)
        self._size += len(prepared)
        self._something.set()
        return self._size < BUFFER_BYTES

    def end(self) -> None:
        self._ended = True
        self._something.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Everything written so far, again and again until the end."""
        while self._chunks or not self._ended:
            await self._something.wait()
            self._something.clear()
            if self._chunks:
                chunk, was_full = b"".join(self._chunks), self._size >= BUFFER_BYTES
                self._chunks.clear()
                self._size = 0
                yield chunk
                if was_full:
                    self.on_taken()
