"""What the chat's views share: who asks, which room, and what is said to who is refused.

Must keep true: who may not read a room gets what they get for one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

from ...exceptions import Rejected
from ...transports.requests import namespace_of
from ..access import Access, access_of
from ..models import Membership

LARGEST = 2**53


def wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept", "") == "application/json"


def for_members(view: Callable[..., HttpResponseBase]) -> Any:
    """For who is signed in; what is not allowed is not found."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except PermissionDenied as error:
            raise Http404 from error

    return never_cache(login_required(wrapped))


def readable(request: HttpRequest, room: int) -> Access:
    """What the reader is in this room. Raises ``PermissionDenied`` for who may not read it."""
    using = router.db_for_write(Membership)
    access = access_of(room, request.user.pk, namespace=namespace_of(request), using=using)
    if not access.may_read:
        raise PermissionDenied
    return access


def number_in(request: HttpRequest, name: str) -> int | None:
    """A number of the query string or the form; None where there is none."""
    text = request.POST.get(name) or request.GET.get(name) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def refused(
    request: HttpRequest, rejected: Rejected, room: int | None = None, *, is_read: bool = True
) -> HttpResponse:
    """Say no to a form: as JSON, or on the page that it came from. ``is_read=False``: the request is
    larger than anybody wants to read."""
    if wants_json(request):
        error = {"code": rejected.code, "message": rejected.message}
        return JsonResponse({"errors": [error]}, status=422)
    messages.error(request, rejected.message)
    return back(request, room) if is_read else redirect(_page(room))


def back(request: HttpRequest, room: int | None = None) -> HttpResponse:
    """Where the form was."""
    address = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(
        address, {request.get_host()}, require_https=request.is_secure()
    )
    if safe:
        return redirect(address)
    return redirect(_page(room))


def _page(room: int | None) -> str:
    return reverse("live_chat:rooms") if room is None else reverse("live_chat:room", args=[room])
