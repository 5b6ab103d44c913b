"""The pages of the chat. They work without JavaScript; the panel fetches older messages from them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from ...exceptions import Rejected
from ...transports.requests import namespace_of
from ..members import members_of
from ..models import Room
from ..reading import PAGE, page_of
from ..rooms import open_rooms, rooms_of, title_of
from ..rows import rows
from ..searching import is_possible, search
from .answering import for_members, number_in, readable


@require_GET
@for_members
def room_list(request: HttpRequest) -> HttpResponse:
    """The reader's rooms, and the public ones that they are not in."""
    namespace = namespace_of(request)
    shown = {
        "rooms": rooms_of(request.user, namespace=namespace),
        "open_rooms": open_rooms(request.user, namespace=namespace),
        "may_create": request.user.has_perm("live_chat.add_room"),
        "kinds": [one for one in Room.Kind.choices if one[0] != Room.Kind.DIRECT],
    }
    return render(request, "django_live/chat/rooms.html", shown)


@require_GET
@for_members
def room_page(request: HttpRequest, room: int) -> HttpResponse:
    """One room."""
    access = readable(request, room)
    shown = {"room": access.room, "title": title_of(access.room, request.user)}
    return render(request, "django_live/chat/room.html", shown)


@require_GET
@for_members
def messages(request: HttpRequest, room: int) -> HttpResponse:
    """``?before=`` or ``?after=`` a number: the messages there, as JSON."""
    access = readable(request, room)
    found = page_of(
        access.room, before=number_in(request, "before"), after=number_in(request, "after")
    )
    answer = {"messages": rows(found, request.user.pk), "last": access.room.last_number}
    return JsonResponse({**answer, "more": len(found) == PAGE})


@require_GET
@for_members
def search_page(request: HttpRequest, room: int) -> HttpResponse:
    """``?q=`` words to look for in a room."""
    access = readable(request, room)
    words = request.GET.get("q", "")
    shown: dict[str, Any] = {
        "room": access.room,
        "title": title_of(access.room, request.user),
        "words": words,
        "is_possible": is_possible(),
        "found": [],
    }
    if words:
        try:
            found = search(access.room, request.user, words, namespace=namespace_of(request))
            shown["found"] = rows(found, request.user.pk)
        except Rejected as rejected:
            shown["problem"] = rejected.message
    return render(request, "django_live/chat/search.html", shown)


@require_GET
@for_members
def member_page(request: HttpRequest, room: int) -> HttpResponse:
    """Who is in a room; for moderators with what they may do about it."""
    access = readable(request, room)
    moderates = access.may_moderate(request.user)
    found = [one for one in members_of(access.room) if moderates or not one.banned]
    shown = {
        "room": access.room,
        "title": title_of(access.room, request.user),
        "members": found,
        "access": access,
        "may_moderate": moderates and not access.room.is_direct,
    }
    return render(request, "django_live/chat/members.html", shown)
