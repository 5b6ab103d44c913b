"""The dashboard."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_GET

from example_project.boards import live
from example_project.orders.permissions import may_see_all_orders

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)


@require_GET
@login_required
def dashboard(request: HttpRequest) -> HttpResponse:
    """All boards that this visitor may see."""
    logger.info("Somebody looks at the dashboard.")
    boards = {
        "system": live.System(),
        "memory": live.Memory(),
        "walk": live.RandomWalk(),
        "log": live.SiteLog(),
        "orders": live.OrderTotals() if may_see_all_orders(request.user) else None,
        "metrics": live.Metrics() if os.environ.get(live.METRICS_URL) else None,
    }
    return render(request, "boards/dashboard.html", boards)
