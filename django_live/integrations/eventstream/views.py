"""The view that takes the place of django-eventstream's own, at every address where that stands.

Requests are read, refused and answered as there; who waits for events, waits at the hub.
"""

from __future__ import annotations

from typing import Any

import jwt
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseBase
from django_eventstream.eventrequest import EventRequest
from django_eventstream.eventstream import EventPermissionError
from django_eventstream.utils import add_default_headers, get_channelmanager, sse_error_response

from ...core.connections import Connection
from ...core.log import get_log
from ...core.subscribing import Request
from ...core.topics import Topic, Viewer
from ...exceptions import InvalidTopic, UnknownTopic
from ...transports.requests import (
    Plan,
    Refusal,
    Refused,
    peer_of,
    place_for,
    refusal_response,
    reported,
)
from ...transports.sse import stream_response
from . import edge
from .frames import EventstreamFrames
from .ids import place_of
from .topics import listener_for, topic_of_channel

FORGED = "es-meta is taken from a GRIP proxy that has signed, and from nobody else"


class _Answered(Exception):
    """The answer is there already."""

    def __init__(self, response: HttpResponseBase) -> None:
        super().__init__(response)
        self.response = response


def events(request: Any, **kwargs: Any) -> HttpResponseBase:
    """``path("events/", include("django_eventstream.urls"), {"channels": ["news"]})``; also what the
    viewsets for Django REST framework call, with its request."""
    try:
        response = _answer(request, kwargs)
    except _Answered as answered:
        response = answered.response
    except Refused as refused:
        return refusal_response(refused)
    add_default_headers(response, request=request)
    return response


def _answer(request: Any, kwargs: dict[str, Any]) -> HttpResponseBase:
    asked = _read(request, kwargs)
    if edge.is_proxied(request):
        viewer = _viewer_of_link(request, asked)
        try:
            return edge.hold_response(request, asked, viewer)
        except EventPermissionError as error:
            raise _forbidden(error.channels) from error
    forbidden = [one for one in asked.channels if not _may_read(asked.user, one)]
    if forbidden:
        raise _forbidden(forbidden)
    plain = django_request(request)
    if not isinstance(plain, ASGIRequest):
        raise Refused(501, [Refusal("no-streaming")])
    return _stream(plain, asked)


def _read(request: Any, kwargs: dict[str, Any]) -> Any:
    """What django-eventstream reads from a request."""
    if request.GET.get("es-meta") and not edge.is_proxied(request):
        raise _bad_request(FORGED)
    try:
        return EventRequest(request, view_kwargs=kwargs)
    except EventRequest.ResumeNotAllowedError as error:
        raise _Answered(HttpResponseBadRequest(f"Invalid request: {error}.\n")) from error
    except EventRequest.Error as error:
        raise _bad_request(str(error)) from error
    except (
        jwt.PyJWTError,
        get_user_model().DoesNotExist,
        KeyError,
        ValueError,
        ValidationError,
    ) as error:
        # Of a token: too old, not ours, or of a user who is gone.
        if not request.GET.get("es-meta"):
            raise
        raise _bad_request("es-meta cannot be read") from error


def _viewer_of_link(request: Any, asked: Any) -> Viewer | None:
    """Of a stream that a proxy holds and asks about again; None for one that begins. The proxy signs
    whatever comes through it, so a token alone proves nothing. Without more the stream ends, and its
    client comes back as who they are."""
    if not request.GET.get("es-meta"):
        return None
    viewer = edge.viewer_of_link(request)
    if viewer is None:
        raise _Answered(HttpResponse(content_type=EventstreamFrames.content_type))
    asked.user = viewer.user if viewer.user_id is not None else None
    return viewer


def _may_read(user: Any, channel: str) -> bool:
    return bool(get_channelmanager().can_read_channel(user, channel))


def _stream(request: ASGIRequest, asked: Any) -> HttpResponseBase:
    topics = _topics(asked.channels)
    dialect = EventstreamFrames(topics)
    viewer = listener_for(request, asked.user, frozenset(asked.channels))
    plan = Plan(viewer, _requests(topics, asked.channel_last_ids), dialect=dialect)
    plan.peer = peer_of(request)
    viewer.forget_user()
    plan.place = place_for(request, viewer)

    def opened(connection: Connection) -> None:
        dialect.over = lambda: connection.hub.drop(connection)

    plan.on_open = opened
    response = stream_response(request, plan)
    response["Content-Type"] = dialect.content_type
    return response


def _topics(channels: Any) -> dict[str, Topic]:
    try:
        return {channel: topic_of_channel(channel) for channel in channels}
    except (InvalidTopic, UnknownTopic) as error:
        raise _bad_request("A channel cannot be called so") from error


def _requests(topics: dict[str, Topic], last_ids: dict[str, str]) -> list[Request]:
    kept = [topic for topic in topics.values() if topic.history is not None]
    try:
        heads = get_log().heads(kept) if kept and last_ids else {}
    except Exception as error:
        raise reported("The log could not be asked where its topics stand.", error) from error
    requests = []
    for channel, topic in topics.items():
        head = heads.get(topic.key)
        place = place_of(last_ids.get(channel), topic, head) if head is not None else None
        requests.append(Request(topic, place))
    return requests


def _bad_request(text: str) -> _Answered:
    return _Answered(sse_error_response("bad-request", f"Invalid request: {text}."))


def _forbidden(channels: list[str]) -> _Answered:
    text = f"Permission denied to channels: {', '.join(channels)}"
    return _Answered(sse_error_response("forbidden", text, {"channels": channels}))


def django_request(request: Any) -> HttpRequest:
    """The request itself, where Django REST framework has put its own around it."""
    found: HttpRequest = getattr(request, "_request", request)
    return found
