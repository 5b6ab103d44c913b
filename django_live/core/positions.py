"""The position of a page: where its live topics stood when what it shows was read.

Must keep true: nothing that happens between a page's queries and its subscription is lost. A page's
queries come before its template, so the position has to be older than they are: either read by the
view before its queries (``live_position``), or taken as of the moment the request began.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from ..conf import live_settings
from .events import join_places, place_text
from .log import get_log
from .topics import Topic, as_topic

logger = logging.getLogger("django_live.positions")

ATTRIBUTE = "_live_positions"
BEGAN_ATTRIBUTE = "_live_began"
"""Where the middleware notes when a request began."""
BEGAN_SCOPE = "django_live.began"
"""Where the ASGI wrapper does."""
LONGEST_REQUEST = 10.0
"""Seconds: how long ago a request is taken to have begun when nobody noted it."""


def live_position(request: Any, *topics: Topic | str, namespace: str = "") -> str:
    """Read where these topics stand, now, for ``{% live_topic %}`` to print later. Call it before
    the queries whose result the page shows. Answers the cursor of all of them."""
    found = [as_topic(topic, namespace) for topic in topics]
    logged = [topic for topic in found if topic.history is not None]
    heads = get_log().heads(logged) if logged else {}
    known = _noted(request)
    for topic in logged:
        # Where a view asks twice, what it read after the first time counts from there.
        known.setdefault(topic.key, place_text(topic.key, heads[topic.key].position))
    return join_places(known[topic.key] for topic in logged)


def page_places(request: Any | None, topics: Iterable[Topic]) -> dict[str, str]:
    """The cursors that a page is rendered with, by ``Topic.key``: what the view noted, else the
    positions of when the request began. Missing when the store does not answer: a page without them
    is still a page."""
    known = _noted(request)
    topics = [topic for topic in topics if topic.history is not None]
    unknown = [topic for topic in topics if topic.key not in known]
    if unknown:
        try:
            positions = get_log().positions(unknown, request_began(request))
        except Exception:
            logger.exception("The positions of a page's topics could not be read.")
        else:
            known.update((key, place_text(key, place)) for key, place in positions.items())
    return {topic.key: known[topic.key] for topic in topics if topic.key in known}


def page_cursor(request: Any | None, topics: Iterable[Topic]) -> str:
    """``page_places()`` as one cursor."""
    return join_places(page_places(request, topics).values())


def _noted(request: Any | None) -> dict[str, str]:
    noted: dict[str, str] = request.__dict__.setdefault(ATTRIBUTE, {}) if request else {}
    return noted


def request_began(request: Any | None) -> float:
    """Seconds since 1970 that are surely not after the page's first query."""
    began = getattr(request, BEGAN_ATTRIBUTE, None)
    if began is None:
        began = getattr(request, "scope", {}).get(BEGAN_SCOPE)
    if began is None:
        began = time.time() - LONGEST_REQUEST
    return float(began) - live_settings().CLOCK_SKEW
