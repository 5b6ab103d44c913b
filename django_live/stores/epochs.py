"""Names for the lives of a log."""

from __future__ import annotations

import random
import string

_LETTERS = string.ascii_letters + string.digits
_random = random.SystemRandom()


def new_epoch() -> str:
    """Eight random letters and digits: a new life is never taken for an earlier one."""
    return "".join(_random.choices(_LETTERS, k=8))
