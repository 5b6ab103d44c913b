"""Which parts of a page a request is for: the whole page, or those that a browser brings up to date.

Must keep true: a request that does not say so is for the whole page.
"""

from __future__ import annotations

from urllib.parse import unquote

from django.http import HttpRequest

HEADER = "X-Live-Refresh"
"""Ids of elements, separated by commas; after an id, behind "=", what its element wishes for. Both are
percent-encoded."""


def live_due(request: HttpRequest, *ids: str) -> bool:
    """Whether this answer needs one of these parts of the page (``id="…"`` of a live tag): always
    when the whole page is asked for. Without ids: whether it is."""
    asked_for = _asked_for(request)
    return asked_for is None or not asked_for.keys().isdisjoint(ids)


def wish(request: HttpRequest, id: str) -> str:
    """What the browser wishes to see in this part of the page; empty for the whole page."""
    return (_asked_for(request) or {}).get(id, "")


def _asked_for(request: HttpRequest) -> dict[str, str] | None:
    header = request.headers.get(HEADER)
    if header is None:
        return None
    pairs = (one.strip().partition("=") for one in header.split(","))
    return {unquote(id): unquote(wish) for id, _, wish in pairs}
