"""The topics of the package itself: found by autodiscovery, as those of any app."""

from __future__ import annotations

from .features import progress, token_streams  # noqa: F401  imported for what they declare
