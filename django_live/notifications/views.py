"""The pages of a person's notifications. They work without JavaScript; the bell fetches parts of them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from ..transports.requests import namespace_of
from .content import is_safe
from .inbox import inbox_of, mark, mark_read, unread_count
from .kinds import choices, prefer, preferences_of
from .models import Notification

ON_A_PAGE = 30
IN_THE_BELL = 10


@require_GET
@never_cache
@login_required
def notification_list(request: HttpRequest) -> HttpResponse:
    """All notifications, the newest first; ``?before=`` the key of the last one that was seen."""
    rows = Notification.objects.of(request.user)
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        last = rows.filter(pk=before).first()
        if last is not None:
            older = Q(created__lt=last.created) | Q(pk__lt=last.pk)
            rows = rows.filter(older, created__lte=last.created)  # the index begins there
    found = list(rows[: ON_A_PAGE + 1])
    shown = {
        "notifications": found[:ON_A_PAGE],
        "older": found[ON_A_PAGE - 1].pk if len(found) > ON_A_PAGE else None,
        "unread": unread_count(request.user),
        "inbox": inbox_of(request.user.pk, namespace_of(request)),
    }
    return render(request, "django_live/notifications/list.html", shown)


@require_GET
@never_cache
@login_required
def latest(request: HttpRequest) -> HttpResponse:
    """What the opened bell shows: part of a page."""
    shown = {
        "notifications": list(Notification.objects.of(request.user)[:IN_THE_BELL]),
        "unread": unread_count(request.user),
    }
    return render(request, "django_live/notifications/latest.html", shown)


@require_POST
@login_required
def read(request: HttpRequest) -> HttpResponse:
    """Mark as read: those that are posted as ``id``, or ``all``. Back to where the form was."""
    given = request.POST.getlist("id")
    ids = [int(one) for one in given if one.isascii() and one.isdigit() and len(one) < 19]
    namespace = namespace_of(request)
    _, told = mark(request.user, None if "all" in request.POST else ids[:1000], namespace)
    if request.headers.get("Accept") == "application/json":
        return JsonResponse(told)
    return redirect(_back(request, request.POST.get("next", "")))


@require_GET
@never_cache
@login_required
def follow(request: HttpRequest, pk: int) -> HttpResponse:
    """Where a notification leads; it is read with that."""
    one = get_object_or_404(Notification.objects.of(request.user), pk=pk)
    if one.is_unread:
        mark_read(request.user, [one.pk], namespace=namespace_of(request))
    safe = one.url and is_safe(one.url)
    # Not redirect(): "?page=2" is an address here, and no view's name.
    return HttpResponseRedirect(one.url if safe else reverse("live_notifications:list"))


@never_cache
@login_required
def preferences(request: HttpRequest) -> HttpResponse:
    """Which kinds a person wants to hear of, and how."""
    if request.method == "POST":
        for kind in choices():
            chosen: Any = request.POST.getlist(f"kind-{kind.name}")
            prefer(request.user, kind.name, site="site" in chosen, email="email" in chosen)
        return redirect(reverse("live_notifications:preferences") + "?saved")
    shown = {"preferences": preferences_of(request.user), "saved": "saved" in request.GET}
    return render(request, "django_live/notifications/preferences.html", shown)


def _back(request: HttpRequest, address: str) -> str:
    safe = url_has_allowed_host_and_scheme(
        address, {request.get_host()}, require_https=request.is_secure()
    )
    return address if safe else reverse("live_notifications:list")
