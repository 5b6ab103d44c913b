"""Files up and down.

Must keep true: no byte more than one file may have is read or kept; nobody gets a file of a room that
they may not read; what a browser would run is never shown, but handed over as a file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_POST

from ...conf import live_settings
from ...exceptions import Rejected
from ...transports.requests import namespace_of
from .. import pace
from ..models import Attachment
from ..rows import IMAGES, file_row
from ..uploads import Quota, store, too_large
from .answering import for_members, readable, refused

ENVELOPE = 128 * 1024
"""Bytes that a request may have beyond its file."""


def bounded(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Refuse a request that is too large before it is read; for views that take a file."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        most = live_settings().CHAT_UPLOAD_BYTES
        quota = Quota(request, most)
        request.upload_handlers.insert(0, quota)
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdigit() or int(length) > most + ENVELOPE:
            return refused(request, too_large(), kwargs.get("room"), is_read=False)
        _ = request.POST  # read here, so that nothing is done of a request that was cut short
        if quota.exceeded:
            return refused(request, too_large(), kwargs.get("room"), is_read=False)
        return view(request, *args, **kwargs)

    return wrapped


def uploaded(request: HttpRequest, room: int) -> Attachment | None:
    """The file of a form, kept; None where it has none. Raises ``Rejected``."""
    file = request.FILES.get("file")
    if not isinstance(file, UploadedFile) or (not file.size and not file.name):
        return None
    return store(room, request.user, file, namespace=namespace_of(request))


@csrf_exempt
@require_POST
@for_members
@bounded
@csrf_protect
def upload(request: HttpRequest, room: int) -> HttpResponse:
    """One file, to be sent with a message later: its row as JSON."""
    try:
        pace.take_turn(request.user.pk)
        one = uploaded(request, room)
    except Rejected as rejected:
        return refused(request, rejected, room)
    if one is None:
        raise PermissionDenied
    return JsonResponse(file_row(one))


@require_GET
@for_members
def download(request: HttpRequest, file: UUID) -> HttpResponseBase:
    """A file, for who may read its room; one that was not sent yet for who uploaded it."""
    one = Attachment.objects.filter(pk=file).first()
    if one is None or (one.message_id is None and one.uploader_id != request.user.pk):
        raise PermissionDenied
    readable(request, one.room_id)
    try:
        content = one.file.open("rb")
    except OSError as error:
        raise PermissionDenied from error
    is_shown = one.content_type in IMAGES
    answer = FileResponse(content, as_attachment=not is_shown, filename=one.name)
    answer["Content-Type"] = one.content_type if is_shown else "application/octet-stream"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer
