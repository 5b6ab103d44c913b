"""What a page may show of a topic: what its reader could subscribe to, and no more.

Must keep true: the page asks as a stream would, by the same code, once per page and topic; what could not
be decided is not shown.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.http import HttpRequest
from django.template import TemplateSyntaxError
from django.template.context import Context

from .core.topics import Topic, Viewer
from .transports.requests import Refused, decide, viewer_of

READER = "_live_reader"


class Reader(NamedTuple):
    """Who a page is made for."""

    viewer: Viewer | None
    answers: dict[str, bool | None]
    """By key of the topic."""
    otherwise: bool | None
    """The answer where there is no viewer."""


def reader_of(context: Context) -> Reader:
    """The reader of the page, found once per rendering. Raises ``TemplateSyntaxError`` where the context
    has no request."""
    request = context.get("request")
    if request is None:
        raise TemplateSyntaxError(
            "What a topic holds is shown to those who may see it: the template needs `request` in its "
            "context (the context processor django.template.context_processors.request)."
        )
    rendering: dict[Any, Any] = context.render_context.dicts[0]
    if READER not in rendering:
        rendering[READER] = _find(request)
    found: Reader = rendering[READER]
    return found


def may_show(context: Context, topic: Topic) -> bool | None:
    """Whether the reader of the page may see what the topic holds. None: that could not be decided just
    now, so nothing of it is shown; the page's own stream asks again."""
    reader = reader_of(context)
    if topic.key not in reader.answers:
        reader.answers[topic.key] = _ask(reader, topic)
    return reader.answers[topic.key]


def _find(request: HttpRequest) -> Reader:
    try:
        return Reader(viewer_of(request), {}, None)
    except Refused as refused:
        return Reader(None, {}, None if refused.status == 503 else False)


def _ask(reader: Reader, topic: Topic) -> bool | None:
    if reader.viewer is None:
        return reader.otherwise
    plan = decide(reader.viewer, [topic.name], "", 1)
    if plan.requests:
        return plan.requests[0].topic.key == topic.key  # not the same name in another tenant
    return None if any(one.code == "unavailable" for one in plan.refusals) else False
