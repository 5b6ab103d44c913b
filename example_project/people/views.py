"""The counter: a page, and its form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from django_live.notifications import EVERYBODY, notify
from example_project.people.live import CounterTopic

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
@login_required
def counter(request: HttpRequest) -> HttpResponse:
    """Who is here, and a form to tell them something."""
    people = User.objects.filter(is_active=True).order_by("first_name", "username")
    return render(request, "people/counter.html", {"topic": CounterTopic(), "people": people})


@require_POST
@login_required
def send_note(request: HttpRequest) -> HttpResponse:
    """A notification to one person, or to everybody."""
    text = request.POST.get("text", "").strip()
    username = request.POST.get("to", "")
    if text:
        sender = get_object_or_404(User, username=request.user.get_username())
        title = _("%(name)s says") % {"name": sender.get_full_name() or sender.get_username()}
        recipients = User.objects.filter(username=username) if username else EVERYBODY
        notify(recipients, title, body=text, kind="note", actor=sender)
        messages.success(request, _("Your note was sent."))
    return redirect("people:counter")
