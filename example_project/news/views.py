"""The feed's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_GET

from example_project.news.live import OrderNews

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
@login_required
def news(request: HttpRequest) -> HttpResponse:
    """What happened last to the orders that this visitor may see."""
    return render(request, "news/news.html", {"feed": OrderNews()})
