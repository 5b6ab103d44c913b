"""System checks: what would go wrong later, said at start. Listed in docs/reference/checks.md."""

from __future__ import annotations

from .access import check_bounds, check_origins, check_sessions
from .databases import check_autocommit, check_sqlite
from .declarations import check_changes, check_topics, check_triggers
from .integrations import check_chat_files, check_notifications_hq
from .redis import check_layer, check_redis
from .serving import check_application, check_processes, check_runserver, check_urls
from .settings import check_settings

__all__ = [
    "check_application",
    "check_autocommit",
    "check_bounds",
    "check_changes",
    "check_chat_files",
    "check_layer",
    "check_notifications_hq",
    "check_origins",
    "check_processes",
    "check_redis",
    "check_runserver",
    "check_sessions",
    "check_settings",
    "check_sqlite",
    "check_topics",
    "check_triggers",
    "check_urls",
]
