"""Channels as topics. A channel is the topic ``eventstream/<channel>``, or, with the channel manager of
``managers.py``, a Topic of the project's own.

Must keep true: whoever asks for such a topic by our own addresses gets it only where the project's channel
manager has a permission of its own; django-eventstream's default, "everyone", is for the addresses whose
channels the project has written into its URL conf.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote

from django.contrib.auth.models import AnonymousUser
from django_eventstream.channelmanager import DefaultChannelManager
from django_eventstream.utils import get_channelmanager

from ...core.topics import History, Topic, Viewer
from ...exceptions import InvalidTopic
from ...transports.authentication import user_of_session

KEPT_FOR = timedelta(days=1)
"""As long as django-eventstream keeps an event."""
KEPT_EVENTS = 10_000


class Listener:
    """The source of a viewer who came through django-eventstream's own view, and of nobody else: which
    channels that view has let them ask for."""

    __slots__ = ("channels",)

    def __init__(self, channels: frozenset[str]) -> None:
        self.channels = channels

    def user(self, viewer: Viewer) -> Any:
        return user_of_session(viewer)


def listener_for(request: Any, user: Any, channels: frozenset[str]) -> Viewer:
    """The viewer for a request that asks for these channels. ``user`` is who django-eventstream says it
    is: that may be a user of a token, which has no session."""
    by_session: Any = getattr(request, "user", None)
    session: Any = getattr(request, "session", None) if user in (None, by_session) else None
    return Viewer(
        user=user if user is not None else AnonymousUser(),
        session_key=session.session_key if session is not None else None,
        source=Listener(channels).user,
    )


class _Channel(Topic):
    """What both kinds of channels have in common."""

    escaped: str

    @property
    def channel(self) -> str:
        """The channel's name, as the project knows it."""
        return unquote(self.escaped)

    def can_subscribe(self, viewer: Viewer) -> bool:
        owner = getattr(viewer.source, "__self__", None)
        manager = get_channelmanager()
        if not isinstance(owner, Listener):
            if _lets_everyone_in(manager):
                return False
        elif self.channel not in owner.channels:
            return False
        return bool(manager.can_read_channel(as_their_user(viewer.user), self.channel))


class ChannelTopic(_Channel):
    """A reliable channel: its events are kept, and a client resumes."""

    pattern = "eventstream/<path:escaped>"
    history = History(events=KEPT_EVENTS, age=KEPT_FOR)


class PassingChannelTopic(_Channel):
    """A channel whose events are sent and forgotten."""

    pattern = "eventstream-passing/<path:escaped>"


def topic_of_channel(channel: str, *, kept: bool | None = None) -> Topic:
    """The topic that stands for a channel. ``kept`` says whether it is reliable; None: ask the project's
    channel manager. Raises ``InvalidTopic`` for a channel whose name is too long, or empty."""
    manager = get_channelmanager()
    own = getattr(manager, "topic_of_channel", None)
    if own is not None:
        found: Topic = own(channel)
        return found
    if kept is None:
        kept = is_kept(channel)
    if not channel:
        raise InvalidTopic("A channel has a name.")
    return (ChannelTopic if kept else PassingChannelTopic)(escaped=_escaped(channel))


def channel_of_topic(topic: Topic) -> str | None:
    """The channel that a topic stands for; None for a topic that is none."""
    if isinstance(topic, _Channel):
        return topic.channel
    reads_topics = hasattr(get_channelmanager(), "topic_of_channel")
    return topic.name if reads_topics and not topic.is_internal else None


def is_kept(channel: str) -> bool:
    """Whether a channel's events are kept: there is a storage, and the channel manager says so."""
    from .storage import get_storage

    return bool(get_storage() is not None and get_channelmanager().is_channel_reliable(channel))


def as_their_user(user: Any) -> Any:
    """A user as channel managers get them: None for a visitor."""
    return user if user is not None and user.is_authenticated else None


def _lets_everyone_in(manager: Any) -> bool:
    return type(manager).can_read_channel is DefaultChannelManager.can_read_channel


def _escaped(channel: str) -> str:
    """What a topic may be called: only signs that cannot be seen are written otherwise."""
    return "".join(
        sign if sign.isprintable() and sign not in "% " else quote(sign, safe="")
        for sign in channel
    )
