"""Statements that are one round trip where the database takes a block of them.

Must keep true: what a block was given is done when it ends. Its statements do not depend on each other:
MariaDB does them in the order in which they were given, PostgreSQL at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

BLOCK_CHARACTERS = 2 * 1024 * 1024
"""Text in one statement, unless a single value is longer. MariaDB hangs up on a statement that is larger
than its ``max_allowed_packet``, 16 MB unless somebody changed it; as UTF-8 and escaped, text may be
four times that long."""


class Block:
    """Statements that return nothing, and of which none needs what another one does. Each is executed
    at once, or, on MariaDB and PostgreSQL, at the block's end."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        is_mariadb = bool(getattr(connection, "mysql_is_mariadb", False))
        self.collects = is_mariadb or connection.vendor == "postgresql"
        self._statements: list[str] = []
        self._values: list[Any] = []
        self._size = 0

    def execute(self, statement: str, values: Sequence[Any]) -> None:
        size = sum(len(value) for value in values if isinstance(value, str))
        if self._size + size > BLOCK_CHARACTERS:
            self.run()
        self._statements.append(statement)
        self._values += values
        self._size += size
        if not self.collects:
            self.run()

    def run(self) -> None:
        """Execute what has been collected so far."""
        statements, values = self._statements, self._values
        self._statements, self._values, self._size = [], [], 0
        if not statements:
            return
        with self.connection.cursor() as cursor:
            cursor.execute(self._as_one(statements), values)

    def _as_one(self, statements: Sequence[str]) -> str:
        *others, last = statements
        if not others:
            return last
        if self.connection.vendor == "postgresql":
            parts = ", ".join(f"part{n} AS ({one})" for n, one in enumerate(others))
            return f"WITH {parts} {last}"
        return f"BEGIN NOT ATOMIC {'; '.join(statements)}; END"


@contextmanager
def block_of(using: str, block: Block | None = None) -> Iterator[Block]:
    """The block that is given, or one that ends with the ``with``. What was collected when an exception
    leaves it is not executed."""
    if block is not None:
        yield block
        return
    own = Block(connections[using])
    yield own
    own.run()
