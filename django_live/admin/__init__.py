"""The pages of Django's admin for those who operate a live site: Connections, Topics, Processes,
Broadcast. Found by the admin's autodiscovery, and by nobody where there is no admin."""

from __future__ import annotations

from .broadcast import BroadcastAdmin
from .connections import ConnectionAdmin
from .processes import ProcessAdmin
from .topics import LiveTopicAdmin

__all__ = ["BroadcastAdmin", "ConnectionAdmin", "LiveTopicAdmin", "ProcessAdmin"]
