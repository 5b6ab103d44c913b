"""What a client asks of a room, read without trust: the same over every transport.

Must keep true: what cannot be read is refused with a code, and nothing of it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import router
from django.utils.translation import gettext as _

from ..core.publishing import publish
from ..core.topics import Message as Asked
from ..exceptions import Rejected
from . import changing, pace, reading, sending
from .access import access_of
from .live import NowTopic, RoomTopic
from .models import Membership, Message
from .rows import name_of

LARGEST = 2**53


def do(topic: RoomTopic, asked: Asked) -> Any:
    """Do what a message asks for; what it returns goes back to the sender."""
    work = _WORK.get(asked.type)
    if work is None or not isinstance(asked.data, Mapping):
        raise _malformed()
    return work(topic, asked, asked.data)


def _send(topic: RoomTopic, asked: Asked, data: Mapping[str, Any]) -> Any:
    _only(data, "client_id", "text", "reply_to", "files")
    files = data.get("files", [])
    if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
        raise _malformed()
    pace.take_turn(asked.viewer.user_id)
    message = sending.send(
        topic.room,
        asked.viewer.user,
        data.get("text", ""),
        client_id=data.get("client_id", ""),
        reply_to=None if data.get("reply_to") is None else _key(data, "reply_to"),
        files=files,
        namespace=topic.namespace,
    )
    return {
        "id": message.pk,
        "number": message.number,
        "client_id": message.client_id,
        "at": message.created.isoformat(timespec="milliseconds"),
    }


def _edit(topic: RoomTopic, asked: Asked, data: Mapping[str, Any]) -> Any:
    _only(data, "id", "text")
    pace.take_turn(asked.viewer.user_id)
    key = _own_key(topic, data)
    changing.edit(key, asked.viewer.user, data.get("text", ""), namespace=topic.namespace)
    return {"id": key}


def _delete(topic: RoomTopic, asked: Asked, data: Mapping[str, Any]) -> Any:
    _only(data, "id")
    key = _own_key(topic, data)
    changing.delete(key, asked.viewer.user, namespace=topic.namespace)
    return {"id": key}


def _react(topic: RoomTopic, asked: Asked, data: Mapping[str, Any]) -> Any:
    _only(data, "id", "code", "on")
    pace.take_turn(asked.viewer.user_id)
    on = data.get("on", True)
    if not isinstance(on, bool):
        raise _malformed()
    key, code = _own_key(topic, data), data.get("code", "")
    counts = changing.react(key, asked.viewer.user, code, on=on, namespace=topic.namespace)
    return {"id": key, "reactions": counts}


def _read(topic: RoomTopic, asked: Asked, data: Mapping[str, Any]) -> Any:
    _only(data, "number")
    number = _key(data, "number")
    user = asked.viewer.user
    return {"number": reading.mark_read(topic.room, user, number, namespace=topic.namespace)}


def _typing(topic: RoomTopic, asked: Asked, data: Mapping[str, Any]) -> None:
    _only(data)
    user = asked.viewer.user
    using = router.db_for_write(Membership)
    access_of(topic.room, user.pk, namespace=topic.namespace, using=using).require_write()
    now = NowTopic(room=topic.room, namespace=topic.namespace)
    told = {"id": str(user.pk), "name": name_of(user)}
    publish(now, "typing", told, conflate=f"typing {user.pk}", exclude=asked.connection or None)


_WORK: dict[str, Callable[[RoomTopic, Asked, Mapping[str, Any]], Any]] = {
    "send": _send,
    "edit": _edit,
    "delete": _delete,
    "react": _react,
    "read": _read,
    "typing": _typing,
}


def _only(data: Mapping[str, Any], *names: str) -> None:
    """What is not asked for is not there: a client's clock, for instance."""
    if not data.keys() <= set(names):
        raise _malformed()


def _key(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LARGEST:
        raise _malformed()
    return value


def _own_key(topic: RoomTopic, data: Mapping[str, Any]) -> int:
    """The key of a message, which has to be one of this room."""
    key = _key(data, "id")
    using = router.db_for_write(Message)
    if not Message.objects.using(using).filter(pk=key, room_id=topic.room).exists():
        raise PermissionDenied
    return key


def _malformed() -> Rejected:
    return Rejected(_("This message cannot be read."), code="malformed")
