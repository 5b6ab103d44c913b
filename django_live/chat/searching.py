"""Looking for words in a room: by the database's own full text. PostgreSQL and MariaDB (MySQL) have one
that needs nothing else; elsewhere ``is_possible()`` says no, and so does the page.

Must keep true: nobody finds what they may not read.
"""

from __future__ import annotations

import re
from typing import Any

from django.db import connections, router
from django.utils.translation import gettext as _

from ..exceptions import Rejected
from .access import access_of
from .models import Message, Room

MOST = 50
LONGEST = 200
WHERE = {
    # The left side is the expression that migration 0002 has an index of.
    "postgresql": "to_tsvector('simple', live_chat_message.text) @@ websearch_to_tsquery('simple', %s)",
    "mysql": "MATCH (live_chat_message.text) AGAINST (%s IN BOOLEAN MODE)",
}


def is_possible() -> bool:
    """Whether this site's database can search."""
    return connections[router.db_for_read(Message)].vendor in WHERE


def search(
    room: Room | int, user: Any, words: str, *, namespace: str | None = None
) -> list[Message]:
    """The newest messages of a room that have these words in them, at most 50. Raises ``Rejected``
    (``no-search``) where the database cannot do that, ``PermissionDenied`` for who may not read."""
    from django.core.exceptions import PermissionDenied

    using = router.db_for_read(Message)
    access = access_of(
        room if isinstance(room, int) else room.pk, user.pk, namespace=namespace, using=using
    )
    if not access.may_read:
        raise PermissionDenied
    vendor = connections[using].vendor
    if vendor not in WHERE:
        raise Rejected(
            _("There is no search here: it needs PostgreSQL or MariaDB."), code="no-search"
        )
    asked = _asked(words, vendor)
    if not asked:
        return []
    rows = Message.objects.using(using).filter(room=access.room, deleted_at=None)
    # A fixed expression of ours; the words are a parameter.
    rows = rows.extra(where=[WHERE[vendor]], params=[asked])  # noqa: S610
    rows = rows.select_related("author", "reply_to__author")
    return list(rows.order_by("-number")[:MOST])


def _asked(words: str, vendor: str) -> str:
    text = " ".join(str(words)[:LONGEST].replace("\x00", " ").split())
    if vendor == "postgresql":
        return text  # it reads what people write, quotes and minus included
    # All of the words, with none of the signs that have a meaning there.
    return " ".join(f"+{word}" for word in re.findall(r"\w+", text))
