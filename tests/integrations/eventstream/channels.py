"""The channel manager of the tests' site."""

from typing import Any

from django_eventstream.channelmanager import DefaultChannelManager


class ChannelManager(DefaultChannelManager):  # type: ignore[misc]  # untyped
    """``secret-…`` is for active users with a last name; ``loose-…`` is not kept."""

    def can_read_channel(self, user: Any, channel: str) -> bool:
        return not channel.startswith("secret") or bool(user and user.is_active and user.last_name)

    def is_channel_reliable(self, channel: str) -> bool:
        return not channel.startswith("loose")
