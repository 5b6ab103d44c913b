"""``send()``: one message, in one transaction, whatever the size of the room.

Must keep true: numbers, commits and events of a room have one order; the same message again is stored
once; what is refused leaves nothing behind, not even a number.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, router, transaction
from django.db.models import F
from django.utils.translation import gettext as _

from ..core.publishing import publish
from ..exceptions import Rejected
from . import mentions
from .access import Access, access_of
from .live import RoomTopic
from .models import Attachment, Message, Room
from .rows import row
from .texts import checked_client_id, clean

MOST_FILES = 10


def send(
    room: Room | int,
    author: Any,
    text: str,
    *,
    client_id: str = "",
    reply_to: int | None = None,
    files: Sequence[str] = (),
    namespace: str | None = None,
) -> Message:
    """Say something in a room, as ``author``, and tell everybody there.

    ``client_id`` is the sender's own name for the message (8 to 64 of ``a-z0-9_-``): the same one again
    answers with the message that is there already, whatever became of its author or of what it answers
    to since. ``reply_to`` is the key of a message of the room,
    ``files`` those of uploads. Raises ``Rejected`` with a text for the author and a code, and
    ``PermissionDenied`` where they may not know of the room.
    """
    text = clean(text, may_be_empty=bool(files))
    name, keys = checked_client_id(client_id), _keys(files)
    room_id = room if isinstance(room, int) else room.pk
    using = router.db_for_write(Message)
    try:
        with transaction.atomic(using=using):
            access = _take_number(room_id, author, namespace, using)
            answered = _answered(reply_to, room_id, using)
            message = Message.objects.using(using).create(
                room_id=room_id,
                number=access.room.last_number,
                author=author,
                client_id=name,
                text=text,
                reply_to=answered,
            )
            sent = _attach(keys, message, using)
            topic = RoomTopic(room=room_id, namespace=access.room.namespace)
            publish(topic, "message", row(message, sent), using=using)
            mentions.tell(message, access.room, using)
            return message
    except (IntegrityError, Rejected, PermissionDenied):
        # What was done now is undone, the number included. Who sends again is answered as they were, or
        # would have been, the first time: that they were muted since does not unsay it.
        known = _sent_before(room_id, author, name, namespace, using) if client_id else None
        if known is None:
            raise
        return known


def _sent_before(
    room_id: int, author: Any, client_id: str, namespace: str | None, using: str
) -> Message | None:
    own = Message.objects.using(using).filter(room_id=room_id, author=author, client_id=client_id)
    if namespace is not None:
        own = own.filter(room__namespace=namespace)
    return own.select_related("author").first()


def _take_number(room_id: int, author: Any, namespace: str | None, using: str) -> Access:
    """The next number of the room, whose row is ours then; and what the author is there."""
    # First of all, so that SQLite has its writer and MariaDB reads what is true after the wait.
    if not Room.objects.using(using).filter(pk=room_id).update(last_number=F("last_number") + 1):
        raise PermissionDenied
    access = access_of(room_id, author.pk, namespace=namespace, using=using)
    access.require_write()
    return access


def _answered(reply_to: int | None, room_id: int, using: str) -> Message | None:
    if reply_to is None:
        return None
    rows = Message.objects.using(using).select_related("author")
    found = rows.filter(pk=reply_to, room_id=room_id, deleted_at=None).first()
    if found is None:
        raise Rejected(_("What you answer to is not here any more."), code="no-such-message")
    return found


def _keys(files: Sequence[str]) -> list[uuid.UUID]:
    if len(files) > MOST_FILES:
        sentence = _("A message has at most %(most)d files.") % {"most": MOST_FILES}
        raise Rejected(sentence, code="too-many-files")
    try:
        return list(dict.fromkeys(uuid.UUID(str(one)) for one in files))
    except ValueError as error:
        raise _no_file() from error


def _attach(keys: Sequence[uuid.UUID], message: Message, using: str) -> list[Attachment]:
    """Make the author's uploads the message's."""
    if not keys:
        return []
    own = Attachment.objects.using(using).filter(
        pk__in=keys, room_id=message.room_id, uploader_id=message.author_id, message=None
    )
    sent = list(own.order_by("created", "pk"))
    if own.update(message=message) != len(keys) or len(sent) != len(keys):
        raise _no_file()
    return sent


def _no_file() -> Rejected:
    return Rejected(_("A file of this message is not here. Choose it again."), code="no-such-file")
