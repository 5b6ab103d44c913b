"""``{% load live_chat %}``: a room, and the list of one's rooms."""

from __future__ import annotations

import json
import secrets
from typing import Any

from django import template
from django.core.exceptions import PermissionDenied
from django.db import router
from django.template.context import Context
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ...assets import feature_assets
from ...conf import live_settings
from ...core.positions import page_places
from ...transports.requests import namespace_of
from ..access import Access, access_of
from ..changing import signs
from ..live import ReaderTopic, room_topics
from ..models import Membership, Message, Room
from ..reading import PAGE, page_of, receipts
from ..rooms import rooms_of, title_of
from ..rows import name_of, rows
from ..searching import is_possible
from ..texts import excerpt, pieces

register = template.Library()


@register.simple_tag(takes_context=True)
def live_chat(context: Context, room: Room | int, *, heading: int = 2) -> SafeString:
    """A room: what was said last, and a form to say something. It follows what happens, and works as
    plain forms without JavaScript. ``heading``: the level of its heading. For who may not read the
    room it is a sentence that says so."""
    request = context.get("request")
    user = getattr(request, "user", None)
    try:
        if request is None or user is None or not user.is_authenticated:
            raise PermissionDenied
        namespace = namespace_of(request)
        using = router.db_for_write(Membership)
        key = room if isinstance(room, int) else room.pk
        access = access_of(key, user.pk, namespace=namespace, using=using)
        if not access.may_read:
            raise PermissionDenied
    except PermissionDenied:
        return format_html("<p>{}</p>", _("You may not read this room."))
    html = render_to_string(
        "django_live/chat/panel.html", _panel(request, access, heading), request
    )
    return feature_assets(context, "chat") + SafeString(html)


def _panel(request: Any, access: Access, heading: int) -> dict[str, Any]:
    room, user = access.room, request.user
    topic, now = room_topics(room.pk, room.namespace)
    reader = ReaderTopic(user=str(user.pk), namespace=room.namespace)
    try:
        send = reverse("live_chat:send", args=[room.pk])
    except NoReverseMatch as error:
        raise template.TemplateSyntaxError(
            '{% live_chat %} finds no address for its forms. Add path("chat/", '
            'include("django_live.chat.urls")) to your urls.py.'
        ) from error
    places = page_places(request, [topic, reader])  # before the messages are read
    before = _number(request.GET.get("before"))
    found = page_of(room, before=before)
    own, may_moderate = access.membership, access.may_moderate(user)
    first, last = (found[0].number, found[-1].number) if found else (0, 0)
    title = title_of(room, user)
    attributes = {
        "topic": topic.name,
        "now": now.name,
        "reader": reader.name,
        "data-cursor": places.get(topic.key, ""),
        "data-reader-cursor": places.get(reader.key, ""),
        "data-transport": "ws",
        "data-room": room.pk,
        "data-me": user.pk,
        "data-my-name": name_of(user),
        "data-my-handle": user.get_username(),
        "data-history": reverse("live_chat:messages", args=[room.pk]),
        "data-upload": reverse("live_chat:upload", args=[room.pk]),
        "data-edit": reverse("live_chat:edit", args=[0]),
        "data-first": first,
        "data-last": last,
        "data-read": own.read_number if own else 0,
        "data-signs": json.dumps(signs(), ensure_ascii=False),
        "data-receipts": json.dumps(receipts(room.pk), ensure_ascii=False),
        "data-upload-bytes": live_settings().CHAT_UPLOAD_BYTES,
        **({"data-moderator": ""} if may_moderate else {}),
        **({"data-member": ""} if access.is_member else {}),
        **({"data-muted": ""} if access.is_muted else {}),
        **({"data-past": ""} if before is not None and last < room.last_number else {}),
        **{f"data-text-{name}": text for name, text in _texts().items()},
    }
    return {
        "attributes": format_html_join("", ' {}="{}"', attributes.items()),
        "room": room,
        "title": title,
        "heading": f"h{heading}",
        "rows": rows(found, user.pk),
        "older": first if len(found) == PAGE and first > 1 else None,
        "newer": before is not None and last < room.last_number,
        "is_member": access.is_member,
        "is_muted": access.is_muted,
        "may_moderate": may_moderate,
        "can_search": is_possible(),
        "me": str(user.pk),
        "unread": max(0, room.last_number - own.read_number) if own else 0,
        "read_number": own.read_number if own else 0,
        "signs": signs(),
        "client_id": f"form-{secrets.token_hex(12)}",
        "reply": _reply(request, room),
        "length": live_settings().CHAT_LENGTH,
        "endings": ",".join(f".{one}" for one in live_settings().CHAT_UPLOAD_TYPES),
        "send": send,
        "here": request.path,
        "empty_row": _empty_row(),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def _reply(request: Any, room: Room) -> dict[str, Any] | None:
    """What the form answers to: ``?reply=`` in the address, for pages without JavaScript."""
    key = _number(request.GET.get("reply"))
    if key is None:
        return None
    rows = Message.objects.filter(pk=key, room=room, deleted_at=None).select_related("author")
    one = rows.first()
    if one is None:
        return None
    return {"id": one.pk, "author": name_of(one.author), "text": excerpt(one.text)}


def _empty_row() -> dict[str, Any]:
    """What the template for new messages is made from."""
    return {"id": "", "number": "", "client_id": "", "author": None, "text": "", "reactions": {}}


def _texts() -> dict[str, str]:
    """What the element says, in the reader's language."""
    return {
        "sending": _("Sending …"),
        "waiting": _("Waits for the connection"),
        "failed": _("Not sent"),
        "again": _("Send again"),
        "discard": _("Discard"),
        "edited": _("edited"),
        "deleted": _("This message was deleted."),
        "gone": _("Somebody who is gone"),
        "typing-one": _("%s is writing …"),
        "typing-many": _("%s are writing …"),
        "and": _("%s and %s"),
        "seen": _("Seen by %s"),
        "newer": _("New messages: %s"),
        "uploading": _("Sending %s …"),
        "remove": _("Leave out %s"),
        "large": _("The file is too large."),
        "answering": _("Answer to %s"),
        "closed": _("You may no longer read this room."),
        "muted": _("You were muted in this room."),
        "left": _("You are not in this room."),
        "error": _("That did not work. Try again."),
        "react": _("%s, %s times"),
        "edit": _("Edit"),
        "save": _("Save"),
        "cancel": _("Cancel"),
    }


@register.simple_tag(takes_context=True)
def live_chat_rooms(context: Context) -> SafeString:
    """The reader's rooms with the number of unread messages in each, which follows what happens."""
    request = context.get("request")
    user = getattr(request, "user", None)
    if request is None or user is None or not user.is_authenticated:
        return SafeString("")
    namespace = namespace_of(request)
    found = rooms_of(user, namespace=namespace)
    topics = [room_topics(one.room.pk, namespace)[0] for one in found[:FOLLOWED]]
    places = page_places(request, topics)
    attributes = {
        "reader": ReaderTopic(user=str(user.pk), namespace=namespace).name,
        "data-me": str(user.pk),
        "data-text-unread": _("%s unread"),
    }
    shown = {
        "attributes": format_html_join("", ' {}="{}"', attributes.items()),
        "rooms": [
            {
                **one._asdict(),
                "topic": topics[n].name if n < FOLLOWED else "",
                "cursor": places.get(topics[n].key, "") if n < FOLLOWED else "",
            }
            for n, one in enumerate(found)
        ],
    }
    html = render_to_string("django_live/chat/room_list.html", shown, request)
    return feature_assets(context, "chat") + SafeString(html)


FOLLOWED = 30
"""Rooms whose numbers follow what happens; a connection carries 50 topics. Others are counted when the
page is loaded."""


@register.filter
def chat_text(text: str) -> SafeString:
    """The text of a message as HTML: text, with its links and the names in it."""
    parts = []
    for piece in pieces(text):
        shown = escape(piece.text)
        if piece.kind == "link":
            parts.append(f'<a href="{shown}" rel="nofollow noopener noreferrer ugc">{shown}</a>')
        elif piece.kind == "name":
            parts.append(f'<b class="live-chat-name">{shown}</b>')
        else:
            parts.append(shown)
    return SafeString("".join(parts))


@register.filter
def chat_sign(code: str) -> str:
    """The sign of these code points."""
    known = signs()
    return known.get(code) or "".join(chr(int(part, 16)) for part in code.split("-"))


@register.filter
def chat_size(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{max(1, round(size / 2**10))} kB"
