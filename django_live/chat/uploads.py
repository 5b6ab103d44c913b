"""Files: how large, of what kind, and whose.

Must keep true: no more of a request is kept than one file may have; a file that says it is a picture is
one; what nobody sent is removed.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta
from typing import Any, NamedTuple

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.db import router, transaction
from django.db.models.signals import post_delete
from django.utils import timezone
from django.utils.translation import gettext as _

from ..conf import live_settings
from ..core.commits import after_commit
from ..exceptions import Rejected
from .access import access_of
from .models import Attachment

MOST_WAITING = 20
"""Files that one user has uploaded and not sent."""
KEPT = timedelta(days=1)
"""How long a file waits to be sent."""


class Kind(NamedTuple):
    content_type: str
    beginning: re.Pattern[bytes] | None = None
    """What such a file begins with; None: there is no such rule, and it is never shown as a page."""


KINDS = {
    "png": Kind("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    "jpg": Kind("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    "jpeg": Kind("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    "gif": Kind("image/gif", re.compile(rb"GIF8[79]a")),
    "webp": Kind("image/webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    "pdf": Kind("application/pdf", re.compile(rb"%PDF-")),
    "zip": Kind("application/zip", re.compile(rb"PK(\x03\x04|\x05\x06)")),
    "txt": Kind("text/plain"),
    "csv": Kind("text/csv"),
    "mp3": Kind("audio/mpeg"),
    "ogg": Kind("audio/ogg", re.compile(rb"OggS")),
    "mp4": Kind("video/mp4", re.compile(rb"....ftyp", re.DOTALL)),
}
"""By the ending of the name. Another one that ``CHAT_UPLOAD_TYPES`` allows is a file to download."""
ANY = Kind("application/octet-stream")


class Quota(FileUploadHandler):
    """Stops reading a request that has more than one file may have, or more than one file."""

    def __init__(self, request: Any, most: int) -> None:
        super().__init__(request)
        self.most = most
        self.had = 0
        self.files = 0
        self.exceeded = False

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.files += 1
        if self.files > 1:
            self.exceeded = True
            raise StopUpload(connection_reset=True)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        self.had += len(raw_data)
        if self.had > self.most:
            self.exceeded = True
            raise StopUpload(connection_reset=True)
        return raw_data

    def file_complete(self, file_size: int) -> None:
        return None


def store(
    room_id: int, user: Any, upload: UploadedFile[bytes], *, namespace: str | None = None
) -> Attachment:
    """Keep a file until it is sent. Raises ``Rejected`` and ``PermissionDenied``."""
    name, kind = _checked(upload)
    using = router.db_for_write(Attachment)
    access_of(room_id, user.pk, namespace=namespace, using=using).require_write()
    with transaction.atomic(using=using):
        _make_room(user, using)
        one = Attachment(
            room_id=room_id,
            uploader=user,
            name=name,
            size=upload.size or 0,
            content_type=kind.content_type,
        )
        one.file.save("", upload, save=False)
        try:
            one.save(using=using, force_insert=True)
        except Exception:
            one.file.delete(save=False)
            raise
    return one


def _checked(upload: UploadedFile[bytes]) -> tuple[str, Kind]:
    settings = live_settings()
    if not upload.size:
        raise Rejected(_("The file is empty."), code="empty")
    if upload.size > settings.CHAT_UPLOAD_BYTES:
        raise too_large()
    name = _name(upload.name or "")
    ending = name.rpartition(".")[2].lower()
    if "." not in name or ending not in settings.CHAT_UPLOAD_TYPES:
        allowed = ", ".join(settings.CHAT_UPLOAD_TYPES)
        raise Rejected(_("Files of these kinds can be sent: %s.") % allowed, code="wrong-type")
    kind = KINDS.get(ending, ANY)
    upload.seek(0)
    beginning = upload.read(16)
    upload.seek(0)
    if kind.beginning is not None and not kind.beginning.match(beginning):
        raise Rejected(_("The file is not what its name says."), code="wrong-type")
    return name, kind


def too_large() -> Rejected:
    most = live_settings().CHAT_UPLOAD_BYTES
    size = f"{most / 2**20:.3g} MiB" if most >= 2**20 else f"{most / 2**10:.3g} KiB"
    return Rejected(_("A file has at most %s.") % size, code="too-large")


def _name(name: str) -> str:
    """The name without a path and without signs that nobody sees."""
    name = re.split(r"[\\/]", name)[-1]
    name = "".join(one for one in name if unicodedata.category(one)[0] != "C").strip()
    stem, dot, ending = name.rpartition(".")
    return name if len(name) <= 200 else stem[: 199 - len(ending)] + dot + ending[:50]


def _make_room(user: Any, using: str) -> None:
    """Remove what nobody sent in time. Raises ``Rejected`` where too much waits."""
    unsent = Attachment.objects.using(using).filter(message=None)
    unsent.filter(created__lt=timezone.now() - KEPT).delete()
    if unsent.filter(uploader=user).count() >= MOST_WAITING:
        raise Rejected(_("Too many files wait to be sent."), code="too-many-files")


def _row_gone(instance: Attachment, using: str, **kwargs: Any) -> None:
    """Whatever took the row away takes the file, once it is gone for good."""
    after_commit(lambda: instance.file.delete(save=False), using)


def listen() -> None:
    """Called when the app is ready."""
    post_delete.connect(_row_gone, Attachment, dispatch_uid=f"{__name__}.gone")
