"""Channels that are Topics: a channel manager for projects that declare theirs."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django_eventstream.channelmanager import DefaultChannelManager

from ...core import hooks
from ...core.topics import Topic, Viewer, registry
from ...exceptions import InvalidTopic, UnknownTopic
from ...transports.authentication import user_of_session


class TopicChannelManager(DefaultChannelManager):  # type: ignore[misc]  # untyped
    """``EVENTSTREAM_CHANNELMANAGER_CLASS = "django_live.integrations.eventstream.TopicChannelManager"``:
    each channel is the Topic of that name. Its permissions are asked, its history is what makes it
    reliable, and what is published to it arrives at django-eventstream's clients, too."""

    def topic_of_channel(self, channel: str) -> Topic:
        """Raises ``UnknownTopic``, ``InvalidTopic``."""
        return registry.resolve(channel)

    def can_read_channel(self, user: Any, channel: str) -> bool:
        try:
            topic = self.topic_of_channel(channel)
        except (UnknownTopic, InvalidTopic):
            return False
        viewer = Viewer(user=user if user is not None else AnonymousUser(), source=user_of_session)
        return bool(hooks.call_sync(topic.can_subscribe, viewer))

    def is_channel_reliable(self, channel: str) -> bool:
        try:
            return self.topic_of_channel(channel).history is not None
        except (UnknownTopic, InvalidTopic):
            return False
