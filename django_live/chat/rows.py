"""A message as pages and events have it: JSON, the same for every reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Count, Q
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime

from .models import Attachment, Message, Reaction
from .texts import excerpt

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types that browsers show and that run nothing."""


def name_of(user: Any) -> str:
    """What a user is called in the chat."""
    return str(getattr(user, "get_full_name", str)() or user.get_username())


def person(user: Any) -> dict[str, str] | None:
    """Who somebody is, for others; None for somebody whose account is gone."""
    return None if user is None else {"id": str(user.pk), "name": name_of(user)}


def row(message: Message, files: Iterable[Attachment] = ()) -> dict[str, Any]:
    """The message, with what it answers to if that is loaded."""
    answered = message.reply_to
    return {
        "id": message.pk,
        "number": message.number,
        "client_id": message.client_id,
        "author": person(message.author),
        "text": message.text,
        "at": message.created.isoformat(timespec="milliseconds"),
        "edited": message.edited_at is not None,
        "deleted": message.deleted_at is not None,
        "reply_to": answered
        and {
            "id": answered.pk,
            "author": person(answered.author),
            "text": excerpt(answered.text),
        },
        "files": [file_row(one) for one in files],
        "reactions": {},
    }


def file_row(one: Attachment) -> dict[str, Any]:
    try:
        url = reverse("live_chat:file", args=[one.pk])
    except NoReverseMatch:  # a site that has the topics and no pages
        url = ""
    return {
        "id": str(one.pk),
        "name": one.name,
        "size": one.size,
        "type": one.content_type,
        "is_image": one.content_type in IMAGES,
        "url": url,
    }


def rows(messages: Sequence[Message], user_id: Any) -> list[dict[str, Any]]:
    """Many, with files and reactions: two more queries. ``mine`` has this user's own reactions."""
    keys = [message.pk for message in messages]
    files: dict[int, list[Attachment]] = {}
    for one in Attachment.objects.filter(message__in=keys).order_by("created", "pk"):
        assert one.message_id is not None
        files.setdefault(one.message_id, []).append(one)
    counts, mine = _reactions(keys, user_id)
    return [
        {
            **row(message, files.get(message.pk, ())),
            "reactions": counts.get(message.pk, {}),
            "mine": mine.get(message.pk, []),
            "shown_at": date_format(localtime(message.created), "SHORT_DATETIME_FORMAT"),
        }
        for message in messages
    ]


def _reactions(
    keys: Sequence[int], user_id: Any
) -> tuple[dict[int, dict[str, int]], dict[int, list[str]]]:
    counted = Reaction.objects.filter(message__in=keys).values("message_id", "code")
    counted = counted.annotate(
        count=Count("pk"), own=Count("pk", filter=Q(user_id=user_id))
    ).order_by("message_id", "code")
    counts: dict[int, dict[str, int]] = {}
    mine: dict[int, list[str]] = {}
    for one in counted:
        counts.setdefault(one["message_id"], {})[one["code"]] = one["count"]
        if one["own"]:
            mine.setdefault(one["message_id"], []).append(one["code"])
    return counts, mine


def reactions_of(message_id: int) -> dict[str, int]:
    return _reactions([message_id], None)[0].get(message_id, {})
