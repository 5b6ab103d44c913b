"""The channel manager of the tests' site."""

from typing import Any

from django.contrib.auth.models import User
from django_eventstream.channelmanager import DefaultChannelManager


class ChannelManager(DefaultChannelManager):  # type: ignore[misc]  # untyped
    """``secret-…`` is for active users with a last name; ``loose-…`` is not kept."""

    def can_read_channel(self, user: Any, channel: str) -> bool:
        if not channel.startswith("secret"):
            return True
        # As they are now: its view asks with the user as they were when the stream began.
        allowed = User.objects.filter(is_active=True).exclude(last_name="")
        return bool(user and allowed.filter(pk=user.pk).exists())

    def is_channel_reliable(self, channel: str) -> bool:
        return not channel.startswith("loose")
