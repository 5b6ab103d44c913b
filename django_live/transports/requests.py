"""What a client asks for, read from an HTTP request, and who it is: the same for every HTTP transport.

Must keep true: nothing that a client sends raises beyond this module; a forbidden topic and one that
does not exist get the same answer; another site's page gets none.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.utils.module_loading import import_string

from ..conf import live_settings
from ..core import hooks
from ..core.connections import NOBODY, Connection, Peer
from ..core.counting import tally
from ..core.events import Cursor, Place
from ..core.feeds import Dialect
from ..core.runtime import check_setup
from ..core.subscribing import Request
from ..core.topics import Viewer, registry, visible_from_timestamp
from ..exceptions import InvalidTopic, MalformedCursor, UnknownTopic
from . import authentication, limits, origins
from .frames import SSE

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
    "signed-out": "You are no longer signed in.",
    "not-authenticated": "The token or ticket is not good, or no longer.",
    "too-many-connections": "Too many connections are open already. Come back later.",
    "at-capacity": "This process is full. Poll, or come back later.",
    "upgrade-required": "Open this address as a WebSocket.",
    "unknown-version": "None of the offered versions of the protocol is known here.",
    "refused": "The site did not let this connection through.",
    "csrf-failed": "The CSRF token is missing or wrong. Fetch a new one from this address.",
    "malformed-message": "This message cannot be read.",
    "too-large": "This message is larger than allowed.",
    "too-many-messages": "Too many messages in a short time; this one was left out.",
    "busy": "Too much waits here already. Try again in a moment.",
    "timeout": "The site did not answer in time. The message may have been taken.",
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
    peer: Peer = NOBODY
    place: limits.Place | None = None
    """Among the connections of this process, for one that stays open."""
    dialect: Dialect = SSE
    on_open: Callable[[Connection], None] | None = None
    """Called with the connection once it is open."""


class Refused(Exception):
    """The whole request is refused."""

    def __init__(
        self, status: int, refusals: Sequence[Refusal], retry_after: float | None = None
    ) -> None:
        super().__init__(status, refusals)
        self.status = status
        self.refusals = refusals
        self.retry_after = retry_after
        """Seconds to wait before asking again, where that may help."""


def refusal_response(refused: Refused, **more: str) -> JsonResponse:
    """The answer to a request that is refused as a whole; ``more`` stands beside the errors."""
    errors = [refusal.as_json() for refusal in refused.refusals]
    response = JsonResponse({"errors": errors, **more}, status=refused.status)
    response["Cache-Control"] = "no-store, private"
    leave_out_of_log(response)
    if refused.status == 405:
        response["Allow"] = "GET"
    if refused.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if refused.retry_after is not None:
        response["Retry-After"] = str(max(1, ceil(refused.retry_after)))
    elif refused.status == 503:
        response["Retry-After"] = str(max(1, round(live_settings().RETRY)))
    return response


def reported(fault: str, error: Exception) -> Refused:
    """Put a fault of ours into the log; the refusal for it."""
    logger.error(fault, exc_info=error)
    return Refused(503, [Refusal("unavailable")])


def leave_out_of_log(response: HttpResponseBase) -> None:
    """Django reports each answer of 400 and more, and mails those of 500: but anybody can cause ours,
    and what the site has to know of them is reported where it is found."""
    vars(response)["_has_been_logged"] = True


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
    plan = decide(viewer, names, _cursor_of(request), live_settings().MAX_TOPICS)
    if not plan.requests:
        temporary = any(refusal.code == "unavailable" for refusal in plan.refusals)
        raise Refused(503 if temporary else 403, plan.refusals)
    plan.peer = peer_of(request)
    viewer.forget_user()
    return plan


def refuse_other_sites(request: HttpRequest) -> None:
    """A stream is a GET that shows a user's data: no page of another site may open it."""
    if not origins.is_allowed(request):
        raise Refused(403, [Refusal("cross-site")])


def refuse_strangers(request: HttpRequest) -> None:
    """The same for views that have nobody above them to catch what cannot be read."""
    try:
        refuse_other_sites(request)
    except SuspiciousOperation as error:
        raise Refused(400, [Refusal("malformed-request")]) from error


def _cursor_of(request: HttpRequest) -> str:
    """The cursor to resume from, as it was sent."""
    return (
        request.headers.get("Last-Event-ID")
        or request.GET.get("lastEventId")
        or request.GET.get("cursor", "")
    )


def decide(viewer: Viewer, names: Sequence[str], cursor_text: str, limit: int) -> Plan:
    """Decide which of these topics a viewer gets, at most ``limit``, and where they resume. Runs in a
    plain thread. Raises ``Refused`` for a visitor who resumes what was somebody's."""
    plan = Plan(viewer)
    cursor: Cursor | None = None
    try:
        cursor = Cursor.parse(cursor_text)
    except MalformedCursor:
        plan.refusals.append(Refusal("malformed-cursor"))
    if cursor is not None and cursor.known and not viewer.is_known:
        # A page whose session ended while it was away must not go on as if nothing had happened.
        raise Refused(401, [Refusal("signed-out")])
    for name in names[:limit]:
        _decide(name, cursor, plan)
    plan.refusals += [Refusal("too-many-topics", name[:SHOWN_NAME]) for name in names[limit:]]
    return plan


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
        if place is not None and plan.viewer.is_known:
            place = place.as_known(topic.key)  # a page's is anybody's
        if not plan.viewer.may_name(topic.name):
            raise PermissionDenied
        allowed = hooks.call_sync(topic.can_subscribe, plan.viewer)
        tally.count("permission_checks", "yes" if allowed else "no")
        if not allowed:
            raise PermissionDenied
        visible_from = visible_from_timestamp(hooks.call_sync(topic.visible_from, plan.viewer))
    except (ObjectDoesNotExist, PermissionDenied, Http404):
        plan.refusals.append(Refusal("forbidden", shown))
    except Exception:
        # Fails closed. What the visitor may not know is in the log.
        tally.count("permission_checks", "failed")
        logger.exception("Whether %r may see the topic %r could not be decided.", plan.viewer, name)
        plan.refusals.append(Refusal("unavailable", shown))
        if place is not None and place.text:
            plan.kept_places.append(place.text)
    else:
        plan.requests.append(Request(topic, place, visible_from))


# -- who -------------------------------------------------------------------------------------------


KNOWN_PARAMETER = "known"
"""A cursor, or one entry of it, by which a page says that it was somebody's."""


def viewer_of(request: HttpRequest) -> Viewer:
    """The viewer of a request that went through the site's own middleware. Raises ``Refused``, also for a
    visitor whose page was somebody's."""
    viewer = _viewer_of(request)
    if not viewer.is_known and _was_somebodys(request.GET.get(KNOWN_PARAMETER, "")):
        raise Refused(401, [Refusal("signed-out")])
    return viewer


def _was_somebodys(mark: str) -> bool:
    try:
        return Cursor.parse(mark).known
    except MalformedCursor:
        return False


def _viewer_of(request: HttpRequest) -> Viewer:
    namespace = namespace_of(request)
    try:
        return authentication.viewer_of(request, namespace)
    except authentication.NotAuthenticated as error:
        raise Refused(401, [Refusal("not-authenticated")]) from error
    except SuspiciousOperation:
        raise
    except Exception as error:
        # Fails closed: somebody whose token cannot be looked up is not nobody.
        raise reported("Who a request is from could not be found out.", error) from error


LONGEST_AGENT = 200


def peer_of(request: HttpRequest) -> Peer:
    """Where a request comes from, for those who operate the site. Few agents, many connections: each
    is kept once."""
    agent = request.headers.get("User-Agent", "")[:LONGEST_AGENT]
    return Peer(limits.address_of(request), sys.intern(agent))


def place_for(request: HttpRequest, viewer: Viewer) -> limits.Place:
    """A place for a connection that stays open. Raises ``Refused``."""
    try:
        return limits.places.take(viewer, limits.address_of(request))
    except limits.TooMany as error:
        if error.code == "at-capacity":
            raise Refused(503, [Refusal("at-capacity")], error.retry_after) from error
        raise Refused(429, [Refusal("too-many-connections")], error.retry_after) from error


def namespace_of(request: HttpRequest) -> str:
    """The tenant that a request belongs to; topics of others are closed to it."""
    name = live_settings().NAMESPACE
    return str(_tenant_finder(name)(request)) if name else ""


@cache
def _tenant_finder(dotted: str) -> Any:
    return import_string(dotted)
