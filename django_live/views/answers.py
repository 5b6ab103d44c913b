"""``live/answers/``: an answer as JSON, as OpenAI-style deltas and as a UI message stream; and the form
that stops it where there is no JavaScript."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin

from django.core.handlers.asgi import ASGIRequest
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
)
from django.utils.http import url_has_allowed_host_and_scheme

from ..core.connections import Connection
from ..core.topics import Viewer
from ..features.token_streams import AnswerTopic, stop
from ..features.token_streams.answers import allows, find_lively
from ..features.token_streams.folding import folded_log
from ..features.token_streams.markdown import as_html
from ..models import Answer
from ..transports.requests import Refusal, Refused, decide, place_for, refusal_response, viewer_of
from ..transports.sse import stream_response
from .conventions import CONVENTIONS
from .viewers import for_viewers


@for_viewers("GET", "POST")
def answer(request: HttpRequest, viewer: Viewer, id: str) -> HttpResponseBase:
    """``GET live/answers/<id>/``: what it says so far. ``POST``: stop it."""
    found = readable(id, viewer)
    if request.method == "GET":
        return JsonResponse(as_json(found))
    was_asked = stop(id)
    address = request.POST.get("next", "")
    if address and url_has_allowed_host_and_scheme(
        address, {request.get_host()}, require_https=request.is_secure()
    ):
        return HttpResponseRedirect(address)
    return JsonResponse({"stopped": was_asked})


@for_viewers("GET")
def openai(request: HttpRequest, viewer: Viewer, id: str) -> HttpResponseBase:
    """``GET live/answers/<id>/openai/``: deltas, from the beginning."""
    return _stream(request, viewer, readable(id, viewer), "openai")


@for_viewers("GET")
def ui(request: HttpRequest, viewer: Viewer, id: str) -> HttpResponseBase:
    """``GET live/answers/<id>/ui/``: a UI message stream, from the beginning. 204 where the answer is
    over, as ``useChat({resume: true})`` wants it; ``?replay`` gives it all the same."""
    found = readable(id, viewer)
    if found.is_over and "replay" not in request.GET:
        return HttpResponse(status=204)
    return _stream(request, viewer, found, "ui")


def answer_response(request: HttpRequest, id: str, convention: str) -> HttpResponseBase:
    """The answer to a request of your own view's, such as ``POST /api/chat``: the stream of what
    ``TokenStream(id=…)`` writes, in the convention ``"openai"`` or ``"ui"``, if its user may read it.
    The row has to be committed."""
    try:
        viewer = viewer_of(request)
        return _stream(request, viewer, readable(id, viewer), convention)
    except Http404:
        return refusal_response(Refused(404, [Refusal("forbidden")]))
    except Refused as refused:
        return refusal_response(refused)


def readable(id: str, viewer: Viewer) -> Answer:
    """The answer with this id, for those who may read it. Raises ``Http404``."""
    found = find_lively(id)
    if found is None or not allows(found, viewer, viewer.namespace):
        raise Http404
    return found


def _stream(
    request: HttpRequest, viewer: Viewer, found: Answer, convention: str
) -> HttpResponseBase:
    if not isinstance(request, ASGIRequest):
        refused = Refused(501, [Refusal("no-streaming")])
        return refusal_response(refused, poll=urljoin(request.path, "../"))
    dialect = CONVENTIONS[convention](found)
    plan = decide(viewer, [AnswerTopic(namespace=viewer.namespace, id=found.key).name], "", 1)
    if not plan.requests:
        raise Http404
    viewer.forget_user()
    plan.place = place_for(request, viewer)
    plan.dialect = dialect

    def opened(connection: Connection) -> None:
        dialect.over = lambda: connection.hub.drop(connection)

    plan.on_open = opened
    response = stream_response(request, plan)
    for name, value in dialect.headers.items():
        response[name] = value
    return response


def as_json(found: Answer) -> dict[str, Any]:
    """What is known of an answer: while it is written, from the log."""
    said: dict[str, Any]
    if found.is_over:
        said = {"text": found.text, "reasoning": found.reasoning, "parts": json.loads(found.parts)}
    else:
        folding, _, _ = folded_log(AnswerTopic(namespace=found.namespace, id=found.key))
        said = {"text": folding.text, "reasoning": folding.reasoning, "parts": folding.parts}
    return {
        "id": found.key,
        "title": found.title,
        "state": found.state,
        "attempt": found.attempt,
        **said,
        "html": as_html(said["text"]),
        "error": found.error,
        "created": found.created,
        "updated": found.updated,
    }
