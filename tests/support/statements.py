"""What a connection was asked, without what begins and ends transactions."""

from __future__ import annotations

from django.test.utils import CaptureQueriesContext

_TRANSACTIONS = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
_BLOCK = "BEGIN NOT ATOMIC"
"""Begins several statements that MariaDB is sent as one."""


def statements_of(captured: CaptureQueriesContext) -> list[str]:
    """The statements, in their order. A block of them is one."""
    found = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in found if sql.startswith(_BLOCK) or not sql.startswith(_TRANSACTIONS)]
