"""Counters of the database's state in one statement, where the database can do that.

Must keep true: what several count at once is counted; a counter that has expired begins again, once.
"""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.state import Count
from ..models import StateCounter
from . import clock
from .versions import digest

# The moment is asked for once, when the row is locked: it would be another one each time.
_IN_POSTGRESQL = """
    INSERT INTO {table} AS counter ("key", "name", "value", "expires")
    SELECT %(key)s, %(name)s, %(amount)s, moment."now" + %(ttl)s FROM (SELECT {now} AS "now") AS moment
    ON CONFLICT ("key") DO UPDATE SET ("value", "expires") = (
        SELECT CASE WHEN counter."expires" <= moment."now" THEN 0 ELSE counter."value" END + %(amount)s,
            CASE WHEN counter."expires" <= moment."now" THEN moment."now" + %(ttl)s
            ELSE counter."expires" END
        FROM (SELECT {now} AS "now") AS moment)
    RETURNING "value", "expires" - {now}
"""
_IN_SQLITE = """
    INSERT INTO {table} AS counter ("key", "name", "value", "expires")
    VALUES (%(key)s, %(name)s, %(amount)s, %(now)s + %(ttl)s)
    ON CONFLICT ("key") DO UPDATE SET
        "value" = CASE WHEN counter."expires" <= %(now)s THEN 0 ELSE counter."value" END + %(amount)s,
        "expires" = CASE WHEN counter."expires" <= %(now)s THEN %(now)s + %(ttl)s
            ELSE counter."expires" END
    RETURNING "value", "expires" - %(now)s
"""
# In this order: the second assignment sees what the first one did.
_IN_MARIADB = """
    INSERT INTO {table} (`key`, `name`, `value`, `expires`)
    VALUES (%(key)s, %(name)s, %(amount)s, {now} + %(ttl)s)
    ON DUPLICATE KEY UPDATE
        `value` = IF(`expires` <= {now}, 0, `value`) + %(amount)s,
        `expires` = IF(`expires` <= {now}, {now} + %(ttl)s, `expires`)
    RETURNING `value`, `expires` - {now}
"""
_STATEMENTS = {"postgresql": _IN_POSTGRESQL, "sqlite": _IN_SQLITE, "mysql": _IN_MARIADB}


def counts_at_once(using: str) -> bool:
    """Whether ``count_at_once()`` can be asked: not with MySQL, and not with SQLite before 3.35."""
    connection = connections[using]
    features = connection.features
    return connection.vendor in _STATEMENTS and bool(features.can_return_columns_from_insert)


def count_at_once(using: str, name: str, amount: int, ttl: float) -> Count:
    """See ``SharedState.count()``."""
    connection = connections[using]
    statement = _STATEMENTS[connection.vendor]
    now = clock.SERVERS_NOW.get(connection.vendor, "")
    values: dict[str, Any] = {"key": digest(name), "name": name, "amount": amount, "ttl": ttl}
    instead = clock.instead_of_the_servers()
    if instead is not None or not now:
        now = "%(now)s"
        values["now"] = clock.now() if instead is None else instead
    return _asked(connection, statement, now, values)


def _asked(
    connection: BaseDatabaseWrapper, statement: str, now: str, values: dict[str, Any]
) -> Count:
    table = connection.ops.quote_name(StateCounter._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(statement.format(table=table, now=now), values)
        ((value, left),) = cursor.fetchall()
    return Count(int(value), max(float(left), 0.0))
