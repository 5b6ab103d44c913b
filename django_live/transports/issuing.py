"""``POST live/tickets/``: a ticket for who asks, to open connections with where they can send neither a
cookie nor a header.

Must keep true: nobody gets a ticket who has not said who they are, and nobody one for more than they may;
a ticket does not beget a ticket.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from ..conf import live_settings
from ..core.runtime import check_setup
from . import csrf
from .authentication import TICKET_PARAMETER, is_by_cookie, ticket_for
from .origins import shared_with
from .requests import Refusal, Refused, refusal_response, refuse_strangers, reported, viewer_of

LARGEST = 64 * 1024
"""Bytes of a request."""
LONGEST_SCOPE = 100


@csrf_exempt  # checked below, with an answer that a client can read
@transaction.non_atomic_requests
@shared_with("POST")
def tickets(request: HttpRequest) -> HttpResponseBase:
    """``POST live/tickets/``: see docs/reference/protocol.md."""
    try:
        if request.method != "POST":
            raise Refused(405, [Refusal("method-not-allowed")])
        return _issue(request)
    except Refused as refused:
        response = refusal_response(refused)
        if refused.status == 405:
            response["Allow"] = "POST"
        return response


def _issue(request: HttpRequest) -> HttpResponseBase:
    refuse_strangers(request)
    topics, scopes = _asked_for(request)
    if TICKET_PARAMETER in request.GET:
        raise Refused(401, [Refusal("not-authenticated")])
    try:
        check_setup()
    except Exception as error:
        raise Refused(503, [Refusal("unavailable")]) from error
    viewer = viewer_of(request)
    if is_by_cookie(viewer) and csrf.fault(request):
        raise Refused(403, [Refusal("csrf-failed")])
    if not viewer.is_known:
        raise Refused(401, [Refusal("not-authenticated")])
    try:
        ticket = ticket_for(viewer, topics, scopes)
    except Exception as error:
        raise reported("A ticket could not be kept.", error) from error
    response = JsonResponse({"ticket": ticket.text, "expires_in": round(ticket.left, 3)})
    response["Cache-Control"] = "no-store, private"
    return response


def _asked_for(request: HttpRequest) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """The topics and the scopes that a ticket shall be bound to; an empty body asks for no bound."""
    try:
        body = request.read(LARGEST + 1)
        values = json.loads(body) if body else {}
    except (UnreadablePostError, RawPostDataException, ValueError, RecursionError) as error:
        raise Refused(400, [Refusal("malformed-request")]) from error
    if len(body) > LARGEST or not isinstance(values, dict):
        raise Refused(400, [Refusal("malformed-request")])
    topics = _names(values.get("topics"), live_settings().MAX_TOPICS, 200)
    return topics, _names(values.get("scopes"), live_settings().MAX_TOPICS, LONGEST_SCOPE)


def _names(told: Any, most: int, longest: int) -> frozenset[str] | None:
    if told is None:
        return None
    is_list = isinstance(told, list) and len(told) <= most
    if not is_list or not all(isinstance(one, str) and 0 < len(one) <= longest for one in told):
        raise Refused(400, [Refusal("malformed-request")])
    return frozenset(told)
