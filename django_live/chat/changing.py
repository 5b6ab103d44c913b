"""What becomes of a message after it was sent: edited, deleted, reacted to.

Must keep true: only its author edits it; of a deleted one neither text nor files are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from ..conf import live_settings
from ..core.publishing import publish
from ..exceptions import Rejected
from . import audit
from .access import access_of
from .live import RoomTopic
from .models import Attachment, Message, Reaction
from .rows import reactions_of, row
from .texts import clean, excerpt


def edit(message_id: int, author: Any, text: str, *, namespace: str | None = None) -> Message:
    """Change the text of one's own message. Raises ``Rejected`` and ``PermissionDenied``."""
    using = router.db_for_write(Message)
    with transaction.atomic(using=using):
        message = _locked(message_id, using)
        access = access_of(message.room_id, author.pk, namespace=namespace, using=using)
        access.require_write()
        if message.author_id != author.pk:
            raise PermissionDenied
        files = list(message.attachments.using(using).order_by("created", "pk"))
        message.text = clean(text, may_be_empty=bool(files))
        message.edited_at = timezone.now()
        message.save(using=using, update_fields=["text", "edited_at"])
        told = {**row(message, files), "reactions": reactions_of(message.pk)}
        publish(_topic(message, access.room.namespace), "edited", told, using=using)
    return message


def delete(message_id: int, by: Any, *, namespace: str | None = None) -> None:
    """Take back what one has said; a moderator may do it for others. Text, files and reactions are
    gone, the number stays. Raises ``Rejected`` and ``PermissionDenied``."""
    using = router.db_for_write(Message)
    with transaction.atomic(using=using):
        message = _locked(message_id, using)
        access = access_of(message.room_id, by.pk, namespace=namespace, using=using)
        is_own = message.author_id == by.pk
        if not access.may_read or not (is_own or access.may_moderate(by)):
            raise PermissionDenied
        _delete(message, by, access.room.namespace, using)


def delete_many(messages: Iterable[Message], by: Any) -> int:
    """Delete these for the admin, whose permissions were asked already; how many it were."""
    using = router.db_for_write(Message)
    count = 0
    for one in messages:
        with suppress(PermissionDenied), transaction.atomic(using=using):
            message = _locked(one.pk, using)
            _delete(message, by, one.room.namespace, using)
            count += 1
    return count


def _delete(message: Message, by: Any, namespace: str, using: str) -> None:
    if message.author_id != by.pk:
        audit.note(by, message, audit.DELETED, _("Deleted: %s") % excerpt(message.text, 200))
    empty([message], using)
    told = {"id": message.pk, "number": message.number}
    publish(_topic(message, namespace), "deleted", told, using=using)


def react(
    message_id: int, user: Any, code: str, *, on: bool = True, namespace: str | None = None
) -> dict[str, int]:
    """Put a sign to a message, or take it away; how often each stands there now. ``code``: one of
    ``CHAT_REACTIONS``, or its code points (``1f44d``)."""
    code = sign_code(code)
    using = router.db_for_write(Message)
    with transaction.atomic(using=using):
        message = _locked(message_id, using)
        access = access_of(message.room_id, user.pk, namespace=namespace, using=using)
        access.require_write()
        rows = Reaction.objects.using(using)
        if on:
            _, changed = rows.get_or_create(message=message, user=user, code=code)
        else:
            changed = bool(rows.filter(message=message, user=user, code=code).delete()[0])
        counts = reactions_of(message.pk)
        if changed:
            told = {
                "id": message.pk,
                "number": message.number,
                "reactions": counts,
                "by": str(user.pk),
                "code": code,
                "on": on,
            }
            publish(_topic(message, access.room.namespace), "reacted", told, using=using)
    return counts


def signs() -> dict[str, str]:
    """The signs that one may react with, by their code points."""
    return {_code(sign): sign for sign in live_settings().CHAT_REACTIONS}


def sign_code(sign: object) -> str:
    known = signs()
    if isinstance(sign, str):
        if sign in known:
            return sign
        if (code := _code(sign[:20])) in known:
            return code
    raise Rejected(_("This is no sign to react with."), code="malformed")


def _code(sign: str) -> str:
    return "-".join(f"{ord(character):x}" for character in sign)


def _locked(message_id: int, using: str) -> Message:
    """The message, which nobody else changes meanwhile. Raises ``PermissionDenied``."""
    # An UPDATE, not SELECT FOR UPDATE: SQLite, too, takes its writer then.
    rows = Message.objects.using(using).filter(pk=message_id, deleted_at=None)
    if not rows.update(deleted_at=None):
        raise PermissionDenied
    related = ("author", "reply_to__author")
    return Message.objects.using(using).select_related(*related).get(pk=message_id)


def empty(messages: Sequence[Message], using: str) -> None:
    """Take text, files and reactions from these rows, and tell nobody."""
    keys = [message.pk for message in messages]
    Attachment.objects.using(using).filter(message__in=keys).delete()
    Reaction.objects.using(using).filter(message__in=keys).delete()
    rows = Message.objects.using(using).filter(pk__in=keys)
    rows.update(text="", deleted_at=timezone.now())


def _topic(message: Message, namespace: str) -> RoomTopic:
    return RoomTopic(room=message.room_id, namespace=namespace)
