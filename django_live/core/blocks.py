"""What holds for a ``with`` block and for all that is called in it.

A ``ContextVar`` that is set before a block and reset after it stays set for ever where a signal's handler
raises between the two (a time limit of Celery, which hits any moment): from then on the thread would
publish with the patience that one task had left, or keep every change to itself.

Must keep true: a value does not outlive its block, however that ends.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar, Token
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_Holder = tuple["weakref.ref[Block[Any]]", "_Holder | None"]
"""The innermost block, and that around it."""


class Block(Generic[T]):
    """A context manager that yields the value. The ``with`` statement is the only one to hold it: so it
    is gone after the block, also where ``__exit__`` was interrupted."""

    __slots__ = ("__weakref__", "_token", "_variable", "value")

    def __init__(self, variable: BlockVariable[T], value: T) -> None:
        self._variable = variable
        self.value = value

    def __enter__(self) -> T:
        self._token = self._variable.open(self)
        return self.value

    def __exit__(self, *error: object) -> None:
        self._variable.close(self._token)


class BlockVariable(Generic[T]):
    """As a ``ContextVar``; ``default`` is what it is outside of every block."""

    def __init__(self, name: str, default: T) -> None:
        self._holder: ContextVar[_Holder | None] = ContextVar(name, default=None)
        self._default = default

    def get(self) -> T:
        """The value of the innermost block that is open."""
        holder = self._innermost()
        block: Block[T] | None = holder[0]() if holder is not None else None
        return self._default if block is None else block.value

    def holding(self, value: T) -> Block[T]:
        """``with variable.holding(value): …``"""
        return Block(self, value)

    def open(self, block: Block[T]) -> Token[_Holder | None]:
        """For ``Block``."""
        return self._holder.set((weakref.ref(block), self._innermost()))

    def close(self, token: Token[_Holder | None]) -> None:
        """For ``Block``."""
        self._holder.reset(token)

    def _innermost(self) -> _Holder | None:
        holder = self._holder.get()
        while holder is not None and holder[0]() is None:
            holder = holder[1]
        return holder
