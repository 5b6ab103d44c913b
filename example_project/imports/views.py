"""The page with the form, the bars, and nothing else to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from django_live import Rejected
from django_live.features.progress import reserve
from example_project.imports.orders import begin_in_thread, decoded, sample

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

SAMPLE_ROWS = 120


@require_GET
@login_required
@permission_required("orders.add_order", raise_exception=True)
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "imports/page.html", {"rows": SAMPLE_ROWS})


@require_POST
@login_required
@permission_required("orders.add_order", raise_exception=True)
def begin(request: HttpRequest) -> HttpResponse:
    """Take the file, or make one, and come back at once: the job goes on without this request."""
    file = request.FILES.get("file")
    try:
        text = (
            sample(SAMPLE_ROWS, int(time.time()) % 100_000)
            if file is None
            else decoded(file.chunks())
        )
    except Rejected as rejected:
        messages.error(request, rejected.message)
        return redirect("imports:page")
    job = reserve(
        _("Import of orders"), owner=request.user, permission="orders.view_order", unit="%"
    )
    begin_in_thread(text, job.id)
    return redirect("imports:page")
