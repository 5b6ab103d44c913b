"""``@name`` in a message notifies, where ``django_live.notifications`` is installed.

Must keep true: only members of the room are told; what goes wrong costs the message nothing.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core.commits import after_commit, tell_of_commit
from .models import Membership, Message, Room
from .rows import name_of
from .texts import excerpt, mentioned

logger = logging.getLogger("django_live.chat")

KIND = "chat_mention"


def _is_heard() -> bool:
    return apps.is_installed("django_live.notifications")


def declare() -> None:
    """Called when the apps are ready."""
    if _is_heard():
        from ..notifications import declare_kind

        declare_kind(KIND, gettext_lazy("Somebody mentions you in the chat"))


def tell(message: Message, room: Room, using: str) -> None:
    """Notify those whom a message mentions, after the commit. Without a mention it costs nothing."""
    names = mentioned(message.text) if _is_heard() else []
    if names:
        telling = partial(_tell, names, message, room, using)
        after_commit(partial(tell_of_commit, telling), using)


def _tell(names: list[str], message: Message, room: Room, using: str) -> None:
    from ..notifications import notify

    try:
        url = reverse("live_chat:room", args=[room.pk]) + f"#live-chat-{message.pk}"
    except NoReverseMatch:
        url = ""
    who = {"name": name_of(message.author), "room": str(room)}
    notify(
        _named(names, message, using),
        (_("%(name)s mentioned you") if room.is_direct else _("%(name)s mentioned you in %(room)s"))
        % who,
        summary="" if room.is_direct else _("{count} mentions in %(room)s") % who,
        body=excerpt(message.text, 300),
        url=url,
        kind=KIND,
        actor=message.author,
        group=f"room {room.pk}",
        namespace=room.namespace,
    )


def _named(names: list[str], message: Message, using: str) -> list[Any]:
    """The users of these names who are in the room and did not mention themselves."""
    field = get_user_model().USERNAME_FIELD
    # A name may end with a full stop, and so may a sentence.
    spelled = {*names, *(name.rstrip(".") for name in names)}
    rows = Membership.objects.using(using).filter(room_id=message.room_id, banned=False)
    rows = rows.filter(**{f"user__{field}__in": spelled}).exclude(user=message.author)
    return [one.user for one in rows.select_related("user")]
