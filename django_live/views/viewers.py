"""Who asks, for the addresses of features: the same people as for a stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from ..core.topics import Viewer
from ..transports import csrf
from ..transports.authentication import is_by_cookie
from ..transports.origins import shared_with
from ..transports.requests import (
    Refusal,
    Refused,
    refusal_response,
    refuse_strangers,
    viewer_of,
)

View = Callable[..., HttpResponseBase]


def for_viewers(*methods: str) -> Callable[[View], View]:
    """``view(request, viewer, …)`` of something that only some may see: it raises ``Http404`` for what
    is unknown or forbidden, and ``Refused`` as transports do. A POST of a session needs its CSRF token."""

    def decorate(view: View) -> View:
        @csrf_exempt  # checked below, and not of those who bring a token
        @transaction.non_atomic_requests
        @wraps(view)
        def entry(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            return shared_with(*methods)(lambda asked: _answer(view, methods, asked, kwargs))(
                request
            )

        return entry

    return decorate


def _answer(
    view: View, methods: tuple[str, ...], request: HttpRequest, kwargs: dict[str, Any]
) -> HttpResponseBase:
    try:
        response = view(request, _viewer(request, methods), **kwargs)
    except Http404:
        return refusal_response(Refused(404, [Refusal("forbidden")]))
    except Refused as refused:
        response = refusal_response(refused)
        if refused.status == 405:
            response["Allow"] = ", ".join(methods)
    response.headers.setdefault("Cache-Control", "no-store, private")
    return response


def _viewer(request: HttpRequest, methods: tuple[str, ...]) -> Viewer:
    if request.method not in methods:
        raise Refused(405, [Refusal("method-not-allowed")])
    refuse_strangers(request)
    viewer = viewer_of(request)
    if request.method == "POST" and is_by_cookie(viewer) and csrf.fault(request):
        raise Refused(403, [Refusal("csrf-failed")])
    return viewer
