"""``live_forget``: what the chat holds of a person is taken out of it.

Must keep true: conversations of others keep their order and their numbers.
"""

from __future__ import annotations

from typing import Any

from django.db import router, transaction

from ..core.forgetting import forgets
from .changing import empty
from .models import Message, Reaction

AT_ONCE = 200


def without(user_id: str, data: Any) -> Any:
    """What stays of an event's data when this user is to be forgotten."""
    if not isinstance(data, dict):
        return data
    if (data.get("author") or {}).get("id") == user_id:
        left = {**data, "author": None, "text": "", "files": [], "reply_to": None}
        return {**left, "deleted": True}
    answered = data.get("reply_to") or {}
    if (answered.get("author") or {}).get("id") == user_id:
        return {**data, "reply_to": {**answered, "author": None, "text": ""}}
    if data.get("by") == user_id:
        return {**data, "by": ""}
    return data


def forget_person(user: Any, dry_run: bool) -> int:
    """Empty the messages that a user wrote, and remove their reactions."""
    using = router.db_for_write(Message)
    rows = Message.objects.using(using).filter(author=user)
    reactions = Reaction.objects.using(using).filter(user=user)
    if dry_run:
        return rows.filter(deleted_at=None).count() + reactions.count()
    count = reactions.delete()[0]
    while messages := list(rows.filter(deleted_at=None)[:AT_ONCE]):
        with transaction.atomic(using=using):
            empty(messages, using)
        count += len(messages)
    return int(count)


def listen() -> None:
    """Called when the app is ready."""
    forgets(forget_person)
