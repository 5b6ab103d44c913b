"""The topics of the package itself: found by autodiscovery, as those of any app."""

from __future__ import annotations

from .features import progress  # noqa: F401  it is imported for what it declares
