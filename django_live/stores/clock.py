"""The one clock of the stores. Tests put their own in its place."""

from __future__ import annotations

import time

SERVERS_NOW = {
    # Not now(), which is when the transaction began: before it waited for its lock.
    "postgresql": "EXTRACT(EPOCH FROM clock_timestamp())::double precision",
    # 1e6, a double: divided by a whole number MariaDB would keep four digits.
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6",
}
"""Seconds since 1970 by the database's own clock, in SQL, by ``connection.vendor``. SQLite's is the host's."""


def now() -> float:
    """Seconds since 1970, to the microsecond."""
    return round(time.time(), 6)


def instead_of_the_servers() -> float | None:
    """What a store takes for the time whose server has a clock of its own, in place of that clock.
    None, but in tests: the clocks of the hosts need not agree."""
    return None


def microseconds(seconds: float) -> int:
    """Whole microseconds, for arithmetic without rounding."""
    return round(seconds * 1_000_000)


def words_for_now() -> str | int:
    """The time for a server's script. Empty: it asks its own clock."""
    instead = instead_of_the_servers()
    return "" if instead is None else microseconds(instead)
