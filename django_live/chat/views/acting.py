"""The forms of the chat: what a page without JavaScript does, and what needs none.

Must keep true: a form may do no more than a message over the WebSocket, and is refused for the same
reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST

from ...exceptions import Rejected
from ...transports.requests import namespace_of
from .. import changing, members, pace, reading, rooms, sending
from ..models import Membership, Message, Room
from ..rows import row
from .answering import back, for_members, number_in, readable, refused
from .files import bounded, uploaded


def said_no_to(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """What a form is refused for is said on the page it came from."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except Rejected as rejected:
            room = kwargs.get("room")
            return refused(request, rejected, room if isinstance(room, int) else None)

    return wrapped


@csrf_exempt  # `bounded` looks at the size before anything is read, and protects what comes after
@require_POST
@for_members
@bounded
@csrf_protect
@said_no_to
def send(request: HttpRequest, room: int) -> HttpResponse:
    """A message, perhaps with a file."""
    pace.take_turn(request.user.pk)
    namespace = namespace_of(request)
    file = uploaded(request, room)
    message = sending.send(
        room,
        request.user,
        request.POST.get("text", ""),
        client_id=request.POST.get("client_id", ""),
        reply_to=number_in(request, "reply_to"),
        files=[str(file.pk)] if file is not None else [],
        namespace=namespace,
    )
    reading.mark_read(room, request.user, message.number, namespace=namespace)
    return back(request, room)


@require_POST
@for_members
@said_no_to
def act(request: HttpRequest, room: int) -> HttpResponse:
    """``do=delete:<key>``, ``react:<key>:<code>``, ``unreact:<key>:<code>``, ``read:<number>``."""
    word, _, rest = request.POST.get("do", "").partition(":")
    text, _, code = rest.partition(":")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise PermissionDenied
    number, user, namespace = int(text), request.user, namespace_of(request)
    if word == "read":
        reading.mark_read(room, user, number, namespace=namespace)
        return back(request, room)
    if not Message.objects.filter(pk=number, room_id=room).exists():
        raise PermissionDenied
    if word == "delete":
        changing.delete(number, user, namespace=namespace)
    elif word in ("react", "unreact"):
        pace.take_turn(user.pk)
        changing.react(number, user, code, on=word == "react", namespace=namespace)
    else:
        raise PermissionDenied
    return back(request, room)


@for_members
def edit(request: HttpRequest, message: int) -> HttpResponse:
    """A page with the text in a form, and what it is saved by."""
    one = Message.objects.select_related("room").filter(pk=message, deleted_at=None).first()
    if one is None or one.author_id != request.user.pk:
        raise PermissionDenied
    readable(request, one.room_id)
    problem = ""
    if request.method == "POST":
        try:
            pace.take_turn(request.user.pk)
            text = request.POST.get("text", "")
            changing.edit(message, request.user, text, namespace=namespace_of(request))
            return back(request, one.room_id)
        except Rejected as rejected:
            problem = rejected.message
    leads_to = request.POST.get("next") or request.GET.get("next", "")
    shown = {"row": row(one), "room": one.room, "problem": problem, "next": leads_to}
    return render(request, "django_live/chat/edit.html", shown)


@require_POST
@for_members
@said_no_to
def join(request: HttpRequest, room: int) -> HttpResponse:
    """Come in."""
    members.join(room, request.user, namespace=namespace_of(request))
    return back(request, room)


@require_POST
@for_members
@said_no_to
def leave(request: HttpRequest, room: int) -> HttpResponse:
    """Go out."""
    members.leave(room, request.user, namespace=namespace_of(request))
    return redirect("live_chat:rooms")


@require_POST
@for_members
@said_no_to
def new(request: HttpRequest) -> HttpResponse:
    """A new room, by who may."""
    if not request.user.has_perm("live_chat.add_room"):
        raise PermissionDenied
    kind = request.POST.get("kind")
    if kind not in (Room.Kind.PUBLIC, Room.Kind.PRIVATE):
        raise PermissionDenied
    name = request.POST.get("name", "")
    room = rooms.create_room(name, kind=kind, by=request.user, namespace=namespace_of(request))
    return redirect("live_chat:room", room.pk)


@require_POST
@for_members
@said_no_to
def direct(request: HttpRequest, user: str) -> HttpResponse:
    """The conversation with somebody."""
    room = rooms.direct_room(request.user, _user(pk=user), namespace=namespace_of(request))
    return redirect("live_chat:room", room.pk)


_MODERATING: dict[str, Callable[..., Any]] = {
    "add": members.add_member,
    "remove": members.remove_member,
    "mute": members.mute,
    "unmute": members.unmute,
    "ban": members.ban,
    "unban": members.unban,
}


@require_POST
@for_members
@said_no_to
def moderate(request: HttpRequest, room: int) -> HttpResponse:
    """``do=mute:<user>`` and so on; ``role:<user>:<role>``; ``add`` with ``name``."""
    word, _, rest = request.POST.get("do", "").partition(":")
    key, _, role = rest.partition(":")
    field = get_user_model().USERNAME_FIELD
    other = _user(**{field: request.POST.get("name", "")}) if word == "add" else _user(pk=key)
    namespace = namespace_of(request)
    if word == "role" and role in Membership.Role.values:
        members.set_role(room, other, role, by=request.user, namespace=namespace)
    elif word in _MODERATING:
        _MODERATING[word](room, other, by=request.user, namespace=namespace)
    else:
        raise PermissionDenied
    return redirect("live_chat:members", room)


def _user(**found_by: Any) -> Any:
    try:
        user = get_user_model()._default_manager.filter(**found_by).first()
    except (ValidationError, ValueError):
        user = None
    if user is None or not user.is_active:
        raise Rejected(gettext("There is nobody of this name."))
    return user
