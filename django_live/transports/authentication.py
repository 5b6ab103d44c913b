"""Who a request is from: Django's session, a token that an authenticator knows, or a ticket.

Must keep true: credentials that are no good are refused, never taken for nobody; what is not a session
can be asked again, without the request, whether it still holds; a cookie that a page of another origin
may not use counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, QueryDict
from django.utils.module_loading import import_string

from ..conf import live_settings
from ..core import hooks
from ..core.topics import Viewer
from . import tickets
from .origins import may_use_cookies

SESSION = "session"
TICKET_PARAMETER = "ticket"
OF_DRF = "django_live.integrations.drf.authenticator"
"""What makes an authenticator of a class like those of Django REST framework."""

_PASSING = (
    "HTTP_ACCEPT",
    "HTTP_CACHE_",
    "HTTP_CONNECTION",
    "HTTP_IF_",
    "HTTP_LAST_EVENT_ID",
    "HTTP_PRAGMA",
    "HTTP_PRIORITY",
    "HTTP_REFERER",
    "HTTP_SEC_",
    "HTTP_UPGRADE",
    "HTTP_X_CSRFTOKEN",
)
"""How the names of headers begin that say nothing of who somebody is."""
_OF_THE_ADDRESS = ("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")


@dataclass(frozen=True, slots=True)
class Identity:
    """What an authenticator found out."""

    user: Any
    scopes: frozenset[str] | None = None
    """What the token allows; None: whatever its user may."""
    expires: float | None = None
    """When the token ends, in seconds since 1970."""


Authenticator = Callable[[HttpRequest], Any]
"""Answers with an ``Identity`` or a user, None for "nothing of mine here", and raises
``PermissionDenied`` for credentials that are no good."""


class NotAuthenticated(Exception):
    """A request came with credentials that are no good."""


# -- a session -------------------------------------------------------------------------------------


def user_of_session(viewer: Viewer) -> Any:
    """The user of a viewer's session as it is now: gone after a logout, a changed password or the
    session's end. A viewer without a session is the user themself."""
    if viewer.user_id is None:
        return AnonymousUser()
    if viewer.session_key is None:
        user = get_user_model()._default_manager.filter(pk=viewer.user_id).first()
        return user if user is not None and user.is_active else AnonymousUser()
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(viewer.session_key)
    return get_user(request)


def _viewer_by_session(request: HttpRequest, namespace: str) -> Viewer:
    user: Any = getattr(request, "user", None)
    session = getattr(request, "session", None)
    return Viewer(
        user=user if user is not None else AnonymousUser(),
        session_key=session.session_key if session is not None else None,
        namespace=namespace,
        source=user_of_session,
    )


# -- a token ---------------------------------------------------------------------------------------


@cache
def authenticator(dotted: str) -> Authenticator:
    """The authenticator of this name."""
    found = import_string(dotted)
    if isinstance(found, type):
        found = found()
    if hasattr(found, "authenticate"):
        found = import_string(OF_DRF)(found)
    made: Authenticator = found
    return made


def uses_cookies(dotted: str) -> bool:
    """Whether an authenticator says that it reads cookies, which every page's request carries along."""
    found = import_string(dotted)
    return bool(getattr(found, "uses_cookies", False))


class Credentials:
    """What somebody came with, as far as an authenticator needs it to be asked again."""

    __slots__ = ("cookies", "environment", "name", "path", "query")

    def __init__(
        self,
        name: str,
        path: str,
        query: str,
        environment: dict[str, str],
        cookies: dict[str, str],
    ) -> None:
        self.name = name
        """Dotted path of the authenticator."""
        self.path = path
        self.query = query
        self.environment = environment
        self.cookies = cookies

    @classmethod
    def of(cls, request: HttpRequest, name: str) -> Credentials:
        """Without the cookies, unless the authenticator says that it uses them."""
        environment = {
            key: value
            for key, value in request.META.items()
            if isinstance(value, str) and (_tells_who(key) or key in _OF_THE_ADDRESS)
        }
        cookies = dict(request.COOKIES) if uses_cookies(name) else {}
        query = str(request.META.get("QUERY_STRING", ""))
        # Topics, cursors and the like differ from one connection of a token to the next.
        kept = QueryDict(query, mutable=True)
        for ours in ("topic", "cursor", "lastEventId", "known", "wait"):
            kept.pop(ours, None)
        return cls(name, request.path, kept.urlencode(), environment, cookies)

    def as_json(self) -> list[Any]:
        return [self.name, self.path, self.query, self.environment, self.cookies]

    @property
    def digest(self) -> str:
        """The same for the same credentials. Nothing can be read from it."""
        kind = "cookie" if self.cookies else "token"
        text = json.dumps([self.name, self.query, self.environment, self.cookies], sort_keys=True)
        key = settings.SECRET_KEY.encode()[:64]
        return f"{kind}:{hashlib.blake2b(text.encode(), digest_size=12, key=key).hexdigest()}"

    def identity(self) -> Identity | None:
        """Who it is now. Raises ``PermissionDenied``."""
        found = hooks.call_sync(authenticator(self.name), self._request())
        if found is None:
            return None
        identity = found if isinstance(found, Identity) else Identity(found)
        user = identity.user
        if user is None or not (user.is_active or user.is_anonymous):
            raise PermissionDenied
        return identity

    def user_now(self, viewer: Viewer) -> Any:
        """The user of these credentials, if they still hold. What a token allows can only become less
        while a connection is open. Raises ``PermissionDenied``."""
        identity = self.identity()
        if identity is None:
            raise PermissionDenied
        if identity.scopes is not None:
            viewer.scopes = viewer.scopes & identity.scopes if viewer.scoped else identity.scopes
            viewer.scoped = True
        if identity.expires is not None:
            viewer.expires = identity.expires
        if viewer.has_expired:
            raise PermissionDenied
        return identity.user

    def _request(self) -> HttpRequest:
        request = HttpRequest()
        request.method = "GET"
        request.path = request.path_info = self.path
        request.META = {**self.environment, "QUERY_STRING": self.query}
        request.GET = QueryDict(self.query)
        request.COOKIES = dict(self.cookies)
        request.user = AnonymousUser()
        return request


def _tells_who(key: str) -> bool:
    return key.startswith("HTTP_") and key != "HTTP_COOKIE" and not key.startswith(_PASSING)


def _viewer_by(credentials: Credentials, namespace: str) -> Viewer | None:
    try:
        identity = credentials.identity()
    except PermissionDenied as error:
        raise NotAuthenticated from error
    if identity is None:
        return None
    viewer = Viewer(
        user=identity.user,
        namespace=namespace,
        scopes=identity.scopes,
        source=credentials.user_now,
        credential=credentials.digest,
        expires=float("inf") if identity.expires is None else identity.expires,
    )
    if viewer.has_expired:
        raise NotAuthenticated
    return viewer


# -- a ticket --------------------------------------------------------------------------------------


def ticket_for(
    viewer: Viewer, topics: frozenset[str] | None, scopes: frozenset[str] | None
) -> tickets.Ticket:
    """A ticket with which somebody may open connections as this viewer, and as no more than that."""
    return tickets.issue(record_of(viewer, topics, scopes), viewer.expires)


def record_of(
    viewer: Viewer, topics: frozenset[str] | None = None, scopes: frozenset[str] | None = None
) -> tickets.Record:
    """Who a viewer is, to be kept: bounded by these topics and scopes, too."""
    source = getattr(viewer.source, "__self__", None)
    return tickets.Record(
        user=viewer.user_id,
        session=viewer.session_key,
        namespace=viewer.namespace,
        topics=_both(viewer.topics, topics),
        scopes=_both(viewer.scopes if viewer.scoped else None, scopes),
        credentials=source.as_json() if isinstance(source, Credentials) else None,
    )


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> list[str] | None:
    """What two bounds allow together; None is no bound."""
    if one is None or other is None:
        together = other if one is None else one
        return None if together is None else sorted(together)
    return sorted(one & other)


def _viewer_by_ticket(text: str, namespace: str) -> Viewer:
    record = tickets.redeem(text)
    if record is None or record.namespace != namespace:
        raise NotAuthenticated
    viewer = viewer_of_record(record, "ticket")
    if not viewer.still_stands():
        raise NotAuthenticated
    return viewer


def viewer_of_record(record: tickets.Record, kind: str = "") -> Viewer:
    """The viewer that was kept. Whether they still stand is for the caller to ask. ``kind`` begins what
    stands for their credentials."""
    source: Callable[[Viewer], Any] = user_of_session
    if record.credentials is not None:
        credentials = Credentials(*record.credentials)
        source, kind = credentials.user_now, f"{kind}:{credentials.digest}".removeprefix(":")
    return Viewer(
        user_id=record.user,
        session_key=record.session,
        namespace=record.namespace,
        scopes=None if record.scopes is None else frozenset(record.scopes),
        source=source,
        credential=kind,
        topics=None if record.topics is None else frozenset(record.topics),
    )


# -- a request -------------------------------------------------------------------------------------


def viewer_of(request: HttpRequest, namespace: str) -> Viewer:
    """The viewer of a request that went through the site's own middleware. Raises
    ``NotAuthenticated``."""
    ticket = request.GET.get(TICKET_PARAMETER)
    if ticket is not None:
        return _viewer_by_ticket(ticket, namespace)
    takes_cookies = may_use_cookies(request)
    by_session: Viewer | None = None
    for name in live_settings().AUTHENTICATORS:
        if name == SESSION:
            by_session = _viewer_by_session(request, namespace) if takes_cookies else None
            if by_session is not None and by_session.user_id is not None:
                return by_session
        elif takes_cookies or not uses_cookies(name):
            viewer = _viewer_by(Credentials.of(request, name), namespace)
            if viewer is not None:
                return viewer
    return by_session or Viewer(user=AnonymousUser(), namespace=namespace, source=user_of_session)


def is_by_cookie(viewer: Viewer) -> bool:
    """Whether a page of another site could have made its visitor's browser send this: then what is to
    change something needs a CSRF token."""
    return not viewer.credential or viewer.credential.startswith("cookie")
