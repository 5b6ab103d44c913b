"""The page: a question, and what was answered so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from django_live.features.token_streams import reserve
from django_live.models import Answer
from example_project.assistant import model
from example_project.assistant.writing import begin_in_thread

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

SHOWN = 5
LONGEST = 200


@require_GET
@login_required
def page(request: HttpRequest) -> HttpResponse:
    answers = Answer.objects.filter(owner=str(request.user.pk)).order_by("-pk")[:SHOWN]
    context = {"answers": answers, "is_toy": not model.setting("URL"), "longest": LONGEST}
    return render(request, "assistant/page.html", {**context, "model": model.setting("MODEL")})


@require_POST
@login_required
def ask(request: HttpRequest) -> HttpResponse:
    """The answer is written by somebody else; this request ends at once."""
    question = request.POST.get("question", "").strip()[:LONGEST]
    if question:
        answer = reserve(question, owner=request.user)
        begin_in_thread(answer.key, question)
    return redirect("assistant:page")
