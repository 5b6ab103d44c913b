"""What a client asks for, read from an HTTP request, and who it is: the same for every HTTP transport.

Must keep true: nothing that a client sends raises beyond this module; a forbidden topic and one that
does not exist get the same answer; another site's page gets none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, JsonResponse
from django.utils.module_loading import import_string

from ..conf import live_settings
from ..core import hooks
from ..core.events import Cursor, Place
from ..core.runtime import check_setup
from ..core.subscribing import Request
from ..core.topics import Viewer, registry, visible_from_timestamp
from ..exceptions import InvalidTopic, MalformedCursor, UnknownTopic

logger = logging.getLogger("django_live.requests")

MESSAGES = {
    "no-topics": "Name at least one topic: ?topic=orders/42.",
    "malformed-request": "This request cannot be read.",
    "cross-site": "This stream is for pages of this site only.",
    "method-not-allowed": "Use GET.",
    "no-streaming": "This site runs under WSGI, which cannot stream. Poll instead.",
    "forbidden": "There is no such topic, or you may not see it.",
    "malformed-topic": "This is not the name of a topic.",
    "too-many-topics": "Too many topics for one stream; this one was left out.",
    "malformed-cursor": "The cursor cannot be read; topics start anew.",
    "unavailable": "This topic could not be opened just now. Try again in a moment.",
}
SHOWN_NAME = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not opened. ``topic`` is empty when it concerns the whole request."""

    code: str
    topic: str = ""

    def as_json(self) -> dict[str, str]:
        body = {"code": self.code, "message": MESSAGES[self.code]}
        return {**body, "topic": self.topic} if self.topic else body


@dataclass(slots=True)
class Plan:
    """What a request is given: the decision that the view leaves for whoever writes the stream."""

    viewer: Viewer
    requests: list[Request] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    kept_places: list[str] = field(default_factory=list)
    """Where the client was in topics that it may open later."""
    decided: float = field(default_factory=time.monotonic)
    """When the permissions were asked for, at the earliest."""


class Refused(Exception):
    """The whole request is refused."""

    def __init__(self, status: int, refusals: Sequence[Refusal]) -> None:
        super().__init__(status, refusals)
        self.status = status
        self.refusals = refusals


def refusal_response(refused: Refused, **more: str) -> JsonResponse:
    """The answer to a request that is refused as a whole; ``more`` stands beside the errors."""
    errors = [refusal.as_json() for refusal in refused.refusals]
    response = JsonResponse({"errors": errors, **more}, status=refused.status)
    response["Cache-Control"] = "no-store, private"
    if refused.status == 405:
        response["Allow"] = "GET"
    if refused.status == 503:
        response["Retry-After"] = str(max(1, round(live_settings().RETRY)))
    return response


def plan_of(request: HttpRequest) -> Plan:
    """Decide what this request may see. Runs in a plain thread. Raises ``Refused``."""
    try:
        return _plan_of(request)
    except SuspiciousOperation as error:  # more parameters than Django reads, a host not ours
        raise Refused(400, [Refusal("malformed-request")]) from error


def _plan_of(request: HttpRequest) -> Plan:
    refuse_other_sites(request)
    names = list(dict.fromkeys(request.GET.getlist("topic")))
    if not names:
        raise Refused(400, [Refusal("no-topics")])
    try:
        check_setup()
    except Exception as error:  # said in the log at start, and by `manage.py check`
        raise Refused(503, [Refusal("unavailable")]) from error
    viewer = viewer_of(request)
    plan = Plan(viewer)
    cursor = _cursor_of(request, plan)
    limit = live_settings().MAX_TOPICS
    for name in names[:limit]:
        _decide(name, cursor, plan)
    plan.refusals += [Refusal("too-many-topics", name[:SHOWN_NAME]) for name in names[limit:]]
    if not plan.requests:
        temporary = any(refusal.code == "unavailable" for refusal in plan.refusals)
        raise Refused(503 if temporary else 403, plan.refusals)
    viewer.forget_user()
    return plan


def refuse_other_sites(request: HttpRequest) -> None:
    """A stream is a GET that shows a user's data: no page of another site may open it."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        allowed = site in ("same-origin", "none")
    elif origin is not None:
        allowed = _host_of(origin) == request.get_host()
    else:
        allowed = True  # no browser: nobody's cookies are being borrowed
    if not allowed:
        raise Refused(403, [Refusal("cross-site")])


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _cursor_of(request: HttpRequest, plan: Plan) -> Cursor | None:
    """The cursor to resume from; None when there is one that cannot be read."""
    text = (
        request.headers.get("Last-Event-ID")
        or request.GET.get("lastEventId")
        or request.GET.get("cursor", "")
    )
    try:
        return Cursor.parse(text)
    except MalformedCursor:
        plan.refusals.append(Refusal("malformed-cursor"))
        return None


UNREADABLE = Place("", None, False)
"""Stands for a client's place that cannot be read: it resumes, so it is told of a reset."""


def _decide(name: str, cursor: Cursor | None, plan: Plan) -> None:
    """Put the topic of this name into the plan, or the reason why the viewer does not get it."""
    shown = name[:SHOWN_NAME]
    place: Place | None = None
    try:
        try:
            topic = registry.resolve(name, plan.viewer.namespace)
        except UnknownTopic as error:
            raise PermissionDenied from error
        except InvalidTopic:
            plan.refusals.append(Refusal("malformed-topic", shown))
            return
        place = UNREADABLE if cursor is None else cursor.get(topic.key)
        if not hooks.call_sync(topic.can_subscribe, plan.viewer):
            raise PermissionDenied
        visible_from = visible_from_timestamp(hooks.call_sync(topic.visible_from, plan.viewer))
    except (ObjectDoesNotExist, PermissionDenied, Http404):
        plan.refusals.append(Refusal("forbidden", shown))
    except Exception:
        # Fails closed. What the visitor may not know is in the log.
        logger.exception("Whether %r may see the topic %r could not be decided.", plan.viewer, name)
        plan.refusals.append(Refusal("unavailable", shown))
        if place is not None and place.text:
            plan.kept_places.append(place.text)
    else:
        plan.requests.append(Request(topic, place, visible_from))


# -- who -------------------------------------------------------------------------------------------


def viewer_of(request: HttpRequest) -> Viewer:
    """The viewer of a request that went through the site's own middleware."""
    user: Any = getattr(request, "user", None)
    session = getattr(request, "session", None)
    return Viewer(
        user=user if user is not None else AnonymousUser(),
        session_key=session.session_key if session is not None else None,
        namespace=namespace_of(request),
        source=user_of_session,
    )


def namespace_of(request: HttpRequest) -> str:
    """The tenant that a request belongs to; topics of others are closed to it."""
    name = live_settings().NAMESPACE
    return str(_tenant_finder(name)(request)) if name else ""


@cache
def _tenant_finder(dotted: str) -> Any:
    return import_string(dotted)


def user_of_session(viewer: Viewer) -> Any:
    """The user of a viewer's session as it is now: gone after a logout, a changed password or the
    session's end. A viewer without a session is the user themself."""
    if viewer.user_id is None:
        return AnonymousUser()
    if viewer.session_key is None:
        from django.contrib.auth import get_user_model

        user = get_user_model()._default_manager.filter(pk=viewer.user_id).first()
        return user if user is not None and user.is_active else AnonymousUser()
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(viewer.session_key)
    return get_user(request)
