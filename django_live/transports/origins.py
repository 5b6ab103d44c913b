"""Where a request comes from: pages of this site, of origins that the settings name, or of others.

A stream is a GET that shows a user's data, and a WebSocket is no request that CORS knows of: so what the
browser says of the page is looked at on every transport, before anything else.

Must keep true: a page of an origin that is not named gets nothing; one that is named gets nothing by this
site's cookies unless the settings say so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

from ..conf import live_settings

ANY = "*"
ALLOWED_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-CSRFToken"
EXPOSED_HEADERS = "ETag, Retry-After"
PREFLIGHT_AGE = 600
"""Seconds for which a browser need not ask again."""


def is_allowed(request: HttpRequest) -> bool:
    """Whether the page that made this request may have an answer. Raises ``DisallowedHost``."""
    request.get_host()
    if foreign_origin(request):
        return True
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    # Without either it is no browser: nobody's cookies are being borrowed.
    return "Origin" not in request.headers or _is_own(request)


def foreign_origin(request: HttpRequest) -> str:
    """The origin, if the settings name it and it is not this site's own; else empty. Raises
    ``DisallowedHost``."""
    origin = request.headers.get("Origin", "")
    if not origin or not live_settings().CORS_ORIGINS:
        return ""
    if request.headers.get("Sec-Fetch-Site") == "same-origin" or _is_own(request):
        return ""
    return origin if _named(origin) or ANY in live_settings().CORS_ORIGINS else ""


def _is_own(request: HttpRequest) -> bool:
    """Whether the page is of this host; where that is asked for over TLS, a page without is not. Behind
    a proxy that ends TLS and does not say so the schemes cannot be compared."""
    parts = _split(request.headers.get("Origin", ""))
    if parts is None or parts.netloc != request.get_host():
        return False
    return parts.scheme == "https" or not request.is_secure()


def may_use_cookies(request: HttpRequest) -> bool:
    """Whether cookies say who made this request. Those of a page of another origin count only where
    that is named, and ``CORS_CREDENTIALS`` is set."""
    origin = foreign_origin(request)
    return not origin or (live_settings().CORS_CREDENTIALS and _named(origin))


def _named(origin: str) -> bool:
    """Whether the settings name it other than by "*"."""
    asked = _split(origin)
    if asked is None:
        return False
    return any(_is_same(asked, named) for named in live_settings().CORS_ORIGINS if named != ANY)


def _is_same(asked: SplitResult, named: str) -> bool:
    parts = urlsplit(named)
    if asked.scheme != parts.scheme:
        return False
    if not parts.netloc.startswith("*."):
        return asked.netloc == parts.netloc
    return asked.netloc.endswith(parts.netloc[1:]) and len(asked.netloc) > len(parts.netloc) - 1


def _split(origin: str) -> SplitResult | None:
    """An origin's parts; None for what is none: ``null``, or something with a user or a path."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    is_plain = f"{parts.scheme}://{parts.netloc}" == origin and "@" not in parts.netloc
    return parts if is_plain and parts.netloc else None


# -- what a browser wants to be told -----------------------------------------------------------------

R = TypeVar("R", bound=HttpResponseBase)
View = Callable[[HttpRequest], R]


def shared_with(*methods: str) -> Callable[[View[R]], View[R]]:
    """Let a view answer pages of the origins that the settings name, by these methods."""

    def decorate(view: View[R]) -> View[R]:
        @wraps(view)
        def answer(request: HttpRequest) -> R:
            if not live_settings().CORS_ORIGINS:
                return view(request)
            origin = _answerable(request)
            if request.method == "OPTIONS" and request.headers.get("Access-Control-Request-Method"):
                response: Any = _preflight(methods) if origin else _closed()
            else:
                response = view(request)
            patch_vary_headers(response, ["Origin"])
            if origin:
                _open_to(response, origin)
            return cast("R", response)

        return answer

    return decorate


def _answerable(request: HttpRequest) -> str:
    try:
        return foreign_origin(request)
    except Exception:  # of a host that is none of ours: the view says so
        return ""


def _closed() -> HttpResponse:
    return HttpResponse(status=403)


def _preflight(methods: tuple[str, ...]) -> HttpResponse:
    response = HttpResponse(status=204)
    response["Access-Control-Allow-Methods"] = ", ".join(methods)
    response["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
    response["Access-Control-Max-Age"] = str(PREFLIGHT_AGE)
    return response


def _open_to(response: HttpResponseBase, origin: str) -> None:
    if _named(origin):
        response["Access-Control-Allow-Origin"] = origin
        if live_settings().CORS_CREDENTIALS:
            response["Access-Control-Allow-Credentials"] = "true"
    else:
        response["Access-Control-Allow-Origin"] = ANY
    response["Access-Control-Expose-Headers"] = EXPOSED_HEADERS


def faults(named: str) -> str:
    """What is wrong with a value of ``CORS_ORIGINS``; empty when nothing is."""
    if named == ANY:
        return ""
    parts = _split(named)
    if parts is None or parts.scheme not in ("http", "https"):
        return "is no origin: write it as https://app.example, without a path or a slash at its end"
    host = parts.netloc.removeprefix("*.")
    if "*" in host or not host:
        return "may have one *, as its first part: https://*.example.com"
    if named.lower() != named:
        return "has capital letters, which no browser sends"
    return ""
