"""Django's own protection against forged requests, with an answer that a client can read.

Must keep true: it asks for exactly what Django's middleware would ask for, under the site's settings.
"""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware, get_token


class _Csrf(CsrfViewMiddleware):
    """Django's own check, asked for its reason instead of its page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def fault(request: HttpRequest) -> str | None:
    """Why Django would refuse this request; None when it would not."""
    check = _Csrf(lambda request: HttpResponse())
    check.process_request(request)
    # The client knows this name; a site may have another.
    request.META.setdefault(settings.CSRF_HEADER_NAME, request.headers.get("X-CSRFToken", ""))
    view: Any = _protected
    return cast("str | None", check.process_view(request, view, (), {}))


def _protected(request: HttpRequest) -> None:
    """Stands for a view that is not exempt."""


def token_answer(request: HttpRequest) -> HttpResponse:
    """A token, and the cookie that goes with it."""
    # As the middleware does, for sites that use Django's decorators in place of it.
    check = _Csrf(lambda request: HttpResponse())
    check.process_request(request)
    response = JsonResponse({"csrfToken": get_token(request)})
    response["Cache-Control"] = "no-store, private"
    check.process_response(request, response)
    return response
