"""Which parts of a page a request is for: the whole page, or those that a browser brings up to date.

Must keep true: a request that does not say so is for the whole page.
"""

from __future__ import annotations

from urllib.parse import unquote

from django.http import HttpRequest

HEADER = "X-Live-Refresh"
"""Ids of elements, percent-encoded and separated by commas."""


def live_due(request: HttpRequest, *ids: str) -> bool:
    """Whether this answer needs one of these parts of the page (``id="…"`` of a live tag): always
    when the whole page is asked for. Without ids: whether it is."""
    asked_for = request.headers.get(HEADER)
    if asked_for is None:
        return True
    return not {unquote(one.strip()) for one in asked_for.split(",")}.isdisjoint(ids)
