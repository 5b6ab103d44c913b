"""The page, and its form for browsers without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from example_project.transports.live import BeatTopic, beat

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
@login_required
def side_by_side(request: HttpRequest) -> HttpResponse:
    """The same topic over three connections."""
    return render(request, "transports/side_by_side.html", {"topic": BeatTopic()})


@require_POST
@login_required
def send_beat(request: HttpRequest) -> HttpResponse:
    """An ordinary form: no transport is needed to publish."""
    beat("form")
    messages.success(request, _("An event was published. Every page that listens has it by now."))
    return redirect("transports:side-by-side")
