"""Who is in a topic: ``presence = Presence()`` in a Topic class.

Whoever is subscribed to the topic, over any transport that keeps a connection, is a member of it. Those
who want to see the members subscribe to the topic's companion, ``live/presence/<name>``: apart from
the topic, so that its own history, resets and handlers know nothing of comings and goings.

Must keep true: nobody sees the members of a topic that they may not subscribe to; nothing here is paid
for per connection that could be paid for per process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.utils.crypto import salted_hmac

from ..core import hooks
from ..core.hooks import in_thread, store_threads
from ..core.publishing import publish_many
from ..core.state import get_state
from ..core.topics import Attendant, History, Message, Topic, Viewer, as_topic
from ..exceptions import InvalidTopic, Rejected
from .attendance import attendance, short
from .seats import STATES, Member, Members, Seats, forget_member

__all__ = ["Member", "Members", "Presence", "PresenceTopic", "amembers_of", "members_of"]

logger = logging.getLogger("django_live.presence")


def name_of(user: Any) -> dict[str, str]:
    """What is shown of a user where the topic says nothing else: a name."""
    name = getattr(user, "get_full_name", str)() or getattr(user, "get_username", str)()
    return {"name": name}


@dataclass(frozen=True)
class Presence(Attendant):
    """Keeps who is in a topic. An attribute of the Topic class, under any name."""

    show: Callable[[Any], Any] | str = name_of
    """What others see of a member: a function of the user, or the name of a method of the topic that
    takes one. At most 2,000 characters of JSON. None: this one is no member."""
    grace: float = 10.0
    """Seconds after which somebody whose last connection has ended has left."""
    names: int = 100
    """A topic with more members tells only how many they are."""
    visitors: bool = False
    """Whether those who are not signed in are members, one per session."""

    def __post_init__(self) -> None:
        if self.grace < 0 or self.names < 0:
            raise InvalidTopic("A Presence has neither a negative grace nor a negative limit.")

    def arrived(self, topic: Topic, viewer: Viewer, connection: str) -> None:
        attendance().arrived(self, topic, viewer, connection)

    def departed(self, topic: Topic, viewer: Viewer, connection: str) -> None:
        attendance().departed(self, topic, viewer, connection)

    def member_id(self, viewer: Viewer) -> str:
        """What a viewer is known by; empty for somebody who cannot be a member."""
        if viewer.user_id is not None:
            return viewer.user_id
        if not self.visitors or not viewer.session_key:
            return ""
        secret = salted_hmac("django_live.presence", viewer.session_key, algorithm="sha256")
        return f"visitor-{secret.hexdigest()[:16]}"

    def shown(self, topic: Topic, user: Any) -> Any:
        show = getattr(topic, self.show) if isinstance(self.show, str) else self.show
        return hooks.call_sync(show, user)

    @staticmethod
    def companion(topic: Topic) -> PresenceTopic:
        """The topic that tells of the members of this one. Raises ``InvalidTopic`` for a topic whose
        name is too long to have one."""
        return PresenceTopic(of=topic.name, namespace=topic.namespace)


def presence_of(topic: Topic) -> Presence | None:
    """What keeps a topic's members; None: nobody does."""
    return next((one for one in topic.attendants if isinstance(one, Presence)), None)


class _Watch(Attendant):
    """Sees to it that a process with nobody but onlookers hears of members whose process has died."""

    def arrived(self, topic: Topic, viewer: Viewer, connection: str) -> None:
        attendance().is_watched = True


class PresenceTopic(Topic):
    """Who is in another topic. For those who may subscribe to that one.

    Its events are ``changed`` (``{"version", "set", "gone"}``: seats of members, by key), ``count``
    (``{"version", "count"}``: there are too many to name) and ``members``, which is the snapshot again
    (``{"version", "entries"}``).
    """

    pattern = "live/presence/<path:of>"
    history = History(events=500, age=timedelta(minutes=10))
    of: str
    watch = _Watch()

    def about(self) -> tuple[Topic, Presence]:
        """The topic whose members these are. ``PermissionDenied`` where there is none."""
        try:
            topic = as_topic(self.of, self.namespace)
        except InvalidTopic as error:
            raise PermissionDenied from error
        presence = presence_of(topic)
        if presence is None:
            raise PermissionDenied
        return topic, presence

    def can_subscribe(self, viewer: Viewer) -> bool:
        topic, _ = self.about()
        return viewer.may_name(topic.name) and bool(hooks.call_sync(topic.can_subscribe, viewer))

    can_send = can_subscribe

    def snapshot(self) -> dict[str, Any]:
        return Seats(get_state()).snapshot(self.about()[0])

    def on_message(self, message: Message) -> None:
        """``state``: the connection is ``active``, ``idle`` or ``away`` now."""
        topic, presence = self.about()
        member = presence.member_id(message.viewer)
        state = message.data
        if message.type != "state" or state not in STATES or not isinstance(state, str):
            raise Rejected("Say that you are active, idle or away.")
        if member and message.connection:
            seats = Seats(get_state())
            publish_many(seats.say_state(topic, self, member, short(message.connection), state))

    def forget(self, user: Any, type: str, data: Any) -> Any:
        return forget_member(str(user.pk), data)


def members_of(topic: Topic | str, *, namespace: str = "") -> Members:
    """Who is in a topic now, over all processes. Raises ``UnknownTopic``, and ``StoreError`` where the
    store cannot be asked."""
    return Seats(get_state()).members(as_topic(topic, namespace))


async def amembers_of(topic: Topic | str, *, namespace: str = "") -> Members:
    """``members_of()`` for async callers."""
    return await in_thread(store_threads(), lambda: members_of(topic, namespace=namespace))
