"""Statements that are one round trip where the database takes a block of them.

Must keep true: what a block was given is done when it ends, in the order in which it was given.
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
    """Statements that return nothing. Each is executed at once, or, on MariaDB, at the block's end."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.collects = bool(getattr(connection, "mysql_is_mariadb", False))
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
        text = statements[0]
        if len(statements) > 1:
            text = f"BEGIN NOT ATOMIC {'; '.join(statements)}; END"
        with self.connection.cursor() as cursor:
            cursor.execute(text, values)


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
