"""The remote control: a page, and the form that works where there is no JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from django_live import Rejected, live_position
from example_project.talk.live import RANGES, RoasterTopic, work
from example_project.talk.models import Roaster

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
@login_required
def remote(request: HttpRequest) -> HttpResponse:
    """The roaster as it stands, with its levers."""
    pk = Roaster.objects.values_list("pk", flat=True).order_by("pk").first() or 0
    topic = RoasterTopic(pk=pk)
    cursor = live_position(request, topic)
    roaster = get_object_or_404(Roaster, pk=pk)
    ranges = {name: (one.start, one.stop - 1) for name, one in RANGES.items()}
    shown = {"roaster": roaster, "topic": topic, "cursor": cursor, "ranges": ranges}
    return render(request, "talk/remote.html", shown)


@require_POST
@login_required
def work_it(request: HttpRequest, pk: int) -> HttpResponse:
    """What one lever asks for."""
    roaster = get_object_or_404(Roaster, pk=pk)
    changes: dict[str, Any] = {}
    if "is_on" in request.POST:
        changes["is_on"] = request.POST["is_on"] == "1"
    for name in RANGES:
        text = request.POST.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 6:
            changes[name] = int(text)
    try:
        work(roaster.pk, changes, request.user.get_username())
    except Rejected as rejected:
        messages.error(request, rejected.message)
    return redirect("talk:remote")
