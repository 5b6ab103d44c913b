"""Which process made a page: `make demo-cluster` has several."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import HttpRequest


def served_by(_request: HttpRequest) -> dict[str, str]:
    """A context processor: the name that the process was given, or an empty text."""
    return {"served_by": os.environ.get("EXAMPLE_PROCESS", "")}
