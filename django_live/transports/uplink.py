"""The uplink: one message to a topic by POST, for pages without a WebSocket. Needs no event loop, so it
works under WSGI, too.

Must keep true: what a message may do and becomes is what it is on the WebSocket; only pages of this
site can send.
"""

from __future__ import annotations

import inspect
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from math import ceil
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from ..conf import live_settings
from ..core import hooks
from ..core.events import known_connection
from ..core.runtime import check_setup
from ..core.topics import Message, Topic, registry
from ..exceptions import InvalidTopic, UnknownTopic
from . import csrf, inbound
from .actions import BadAction, Sent, read_object, sent_in, topic_and_type
from .authentication import is_by_cookie
from .binary import CONTINUES, MORE_FOLLOWS, MalformedFrame, read_frame
from .inbound import Answer, counted, handle_in_thread, refusal, sender_of
from .limits import address_of
from .origins import shared_with
from .requests import (
    SHOWN_NAME,
    Refusal,
    Refused,
    leave_out_of_log,
    refusal_response,
    refuse_strangers,
    viewer_of,
)

ENVELOPE = 64 * 1024
"""Bytes that a request may have beyond its data."""
BINARY = "application/octet-stream"
STATUSES = {
    "signed-out": 401,
    "malformed-message": 400,
    "malformed-topic": 400,
    "forbidden": 403,
    "too-large": 413,
    "unavailable": 503,
    "busy": 503,
    "timeout": 504,
}
"""Of what becomes of a message; any other code is the project's own, 422."""


@csrf_exempt  # checked below, with an answer that a client can read
@transaction.non_atomic_requests
@shared_with("GET", "POST")
def uplink(request: HttpRequest) -> HttpResponse:
    """``POST live/send/`` and ``GET live/send/``: see docs/reference/protocol.md."""
    try:
        if request.method == "GET":
            return _token(request)
        if request.method != "POST":
            raise Refused(405, [Refusal("method-not-allowed")])
        return _message(request)
    except Refused as refused:
        response = refusal_response(refused)
        if refused.status == 405:
            response["Allow"] = "GET, POST"
        elif refused.status == 429:
            response["Retry-After"] = str(ceil(1 / live_settings().MESSAGE_RATE))
        return response
    except BadAction as bad:
        return _refused(refusal(bad.code), bad.topic)


def _token(request: HttpRequest) -> HttpResponse:
    """A CSRF token, so that pages need not carry one for the client."""
    refuse_strangers(request)
    return csrf.token_answer(request)


def _message(request: HttpRequest) -> HttpResponse:
    refuse_strangers(request)
    body = _body_of(request)
    try:
        check_setup()
    except Exception as error:
        raise Refused(503, [Refusal("unavailable")]) from error
    viewer = viewer_of(request)
    # Another site's page can make a browser send its cookies along, and no token of its own.
    if is_by_cookie(viewer) and csrf.fault(request):
        raise Refused(403, [Refusal("csrf-failed")])
    # Who has neither is counted by the address.
    sender = sender_of(viewer) or f"address {address_of(request)}"
    if not inbound.senders.take(sender):
        raise Refused(429, [Refusal("too-many-messages")])
    sent, connection = _read(body, request.content_type == BINARY)
    try:
        topic = registry.resolve(sent.topic, viewer.namespace)
    except UnknownTopic as error:
        raise BadAction("forbidden", topic=sent.topic) from error
    except InvalidTopic as error:
        raise BadAction("malformed-topic", topic=sent.topic) from error
    message = Message(
        type=sent.type,
        data=sent.data,
        viewer=viewer,
        connection=known_connection(connection),
        sequence=sent.sequence,
        sent=sent.sent,
    )
    answer = counted(_in_time(topic, message))
    if answer.code:
        return _refused(answer, sent.topic)
    response = HttpResponse(f'{{"data": {answer.data}}}', content_type="application/json")
    response["Cache-Control"] = "no-store, private"
    return response


def _refused(answer: Answer, topic: str) -> HttpResponse:
    error = {"code": answer.code, "message": answer.text}
    if topic:
        error["topic"] = topic[:SHOWN_NAME]
    response = JsonResponse({"errors": [error]}, status=STATUSES.get(answer.code, 422))
    response["Cache-Control"] = "no-store, private"
    leave_out_of_log(response)
    if response.status_code == 503:
        response["Retry-After"] = str(max(1, round(live_settings().RETRY)))
    return response


def _in_time(topic: Topic, message: Message) -> Answer:
    """Hand the message to its topic, and wait for it as long as the setting says."""
    is_bounded = inspect.iscoroutinefunction(topic.on_message)
    answered: Future[Answer] = Future()

    def work() -> None:
        handle_in_thread(topic, message, answered.set_result)

    if is_bounded or any(c.in_atomic_block for c in connections.all(initialized_only=True)):
        # What a transaction of the caller's has written (a TestCase's) only its own thread can see.
        work()
        return answered.result()
    working = hooks.submit(hooks.message_threads(), work)
    either: list[Future[Any]] = [answered, working]
    wait(either, live_settings().CALL_TIMEOUT, FIRST_COMPLETED)
    if answered.done():
        return answered.result()
    if working.done():
        working.result()  # raises
    # One that still waited for its turn never begins now.
    return refusal("busy" if working.cancel() else "timeout")


# -- reading ---------------------------------------------------------------------------------------


def _body_of(request: HttpRequest) -> bytes:
    limit = live_settings().MESSAGE_BYTES + ENVELOPE
    with suppress(ValueError):
        if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
            raise BadAction("too-large")
    try:
        # Not request.body: DATA_UPLOAD_MAX_MEMORY_SIZE is about forms, and may be less.
        body = request.read(limit + 1)
    except (UnreadablePostError, RawPostDataException, RequestDataTooBig) as error:
        raise BadAction("malformed-message") from error
    if len(body) > limit:
        raise BadAction("too-large")
    return body


def _read(body: bytes, is_binary: bool) -> tuple[Sent, str]:
    """The message, and the connection that its sender names."""
    limit = live_settings().MESSAGE_BYTES
    if is_binary:
        try:
            frame = read_frame(body, limit)
        except MalformedFrame as error:
            raise BadAction("malformed-message") from error
        if frame.flags & (MORE_FOLLOWS | CONTINUES):
            raise BadAction("malformed-message", topic=frame.topic)
        return sent_in(frame, frame.payload), ""
    if len(body) > limit:
        raise BadAction("too-large")
    values = read_object(body)
    topic, type = topic_and_type(values)
    connection = values.get("connection")
    sent = Sent(None, topic, type, values.get("data"), len(body))
    return sent, connection if isinstance(connection, str) else ""
