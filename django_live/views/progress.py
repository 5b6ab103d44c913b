"""``live/progress/``: jobs as JSON, for programs and for whoever has no stream; and the form that
cancels one where there is no JavaScript."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.utils.http import url_has_allowed_host_and_scheme

from ..core.topics import Viewer
from ..features.progress import Job, cancel, jobs_of
from ..features.progress.records import SCOPE, find_lively
from .viewers import for_viewers


@for_viewers("GET")
def jobs(_request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """``GET live/progress/``: the viewer's own jobs, the newest first."""
    if viewer.user_id is None or not viewer.can(SCOPE):
        raise Http404
    found = jobs_of(viewer.user_id, viewer.namespace)
    return JsonResponse({"jobs": [as_json(job, viewer) for job in found]})


@for_viewers("GET", "POST")
def job(request: HttpRequest, viewer: Viewer, id: str) -> HttpResponseBase:
    """``GET live/progress/<id>/``: how far it is. ``POST``: cancel it."""
    found = find_lively(id)
    if found is None or not found.allows(viewer, viewer.namespace):
        raise Http404
    if request.method == "GET":
        return JsonResponse(as_json(found, viewer))
    was_asked = cancel(id)
    address = request.POST.get("next", "")
    if address and url_has_allowed_host_and_scheme(
        address, {request.get_host()}, require_https=request.is_secure()
    ):
        return HttpResponseRedirect(address)
    return JsonResponse({"cancelled": was_asked})


def as_json(found: Job, viewer: Viewer) -> dict[str, Any]:
    """A job's view; for staff with the traceback of its error."""
    is_staff = not viewer.scoped and getattr(viewer.user, "is_staff", False)
    return {**found.view, "traceback": found.traceback} if is_staff else found.view
