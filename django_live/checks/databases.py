"""The databases that transactions and the log are in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

from ..conf import SETTING, live_settings, problems


@register("django_live")
def check_autocommit(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W004: without autocommit Django never tells when a transaction is committed."""
    return [
        Warning(
            f"DATABASES[{alias!r}] has AUTOCOMMIT off: what is published outside of atomic() waits "
            "for the sweep.",
            hint="Leave AUTOCOMMIT on, as Django has it, and use transaction.atomic().",
            id="django_live.W004",
        )
        for alias, database in settings.DATABASES.items()
        if database.get("AUTOCOMMIT", True) is False
    ]


@register("django_live", deploy=True)
def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W005: an SQLite file on which two writers at once fail."""
    if problems(getattr(settings, SETTING, {})) or live_settings().STORE != "database":
        return []
    database = settings.DATABASES.get(live_settings().DATABASE, {})
    missing = _missing_for_writers(database) if _is_sqlite_file(database) else []
    return [
        Warning(
            f"The log is in an SQLite file without {' and '.join(missing)}: writers fail with "
            '"database is locked" when several come at once.',
            hint="See docs/howto/deploy.md, under SQLite.",
            id="django_live.W005",
        )
        for _ in missing[:1]
    ]


def _is_sqlite_file(database: dict[str, Any]) -> bool:
    name = str(database.get("NAME") or "")
    in_memory = not name or ":memory:" in name or "mode=memory" in name
    return str(database.get("ENGINE", "")).endswith(".sqlite3") and not in_memory


def _missing_for_writers(database: dict[str, Any]) -> list[str]:
    options = database.get("OPTIONS", {})
    has_wal = "wal" in str(options.get("init_command", "")).lower() or _is_wal(database["NAME"])
    missing = [] if has_wal else ["WAL"]
    if str(options.get("transaction_mode", "")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        missing.append('"transaction_mode": "IMMEDIATE"')
    if options.get("timeout", 5) < SHORTEST_WAIT:
        missing.append('"timeout": 20')
    return missing


SHORTEST_WAIT = 10
"""Seconds a writer of SQLite should be ready to wait. With its default of 5 some failed in our runs."""


def _is_wal(name: Any) -> bool:
    """Whether the file was put into WAL mode once, which it keeps (https://sqlite.org/fileformat.html)."""
    try:
        with Path(name).open("rb") as file:
            return file.read(20)[18:20] == b"\x02\x02"
    except (OSError, ValueError):
        return False
