"""``{% load live_feeds %}``: a feed, and times that say how long ago they are."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast
from urllib.parse import urlencode

from django import template
from django.http import HttpRequest
from django.template.base import FilterExpression, Node, NodeList, Parser, Token
from django.template.context import Context
from django.template.defaulttags import ForNode
from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..assets import feature_assets
from ..features.feeds import MOST_COUNTED, Feed, FeedPage
from ..parts import wish
from ..showing import may_show, reader_of
from .live import (
    PART_OPTIONS,
    attributes_of_part,
    id_of_part,
    inside_a_part,
    rendered_rows,
    resolved,
    row_loop,
    tag_arguments,
    topics_of,
)

register = template.Library()

PAGE = "_live_feed_page"
"""In the context: what the feed that is rendered shows."""


@register.tag
def live_feed(parser: Parser, token: Token) -> Node:
    """``{% live_feed feed [param="before"] [id="…"] [debounce=ms] [jitter=ms] as item %}…{% empty %}…
    {% endlive_feed %}``: a page of a feed, newest first, with links to older items. Each item is one
    ``<li>``. ``param`` names the parameter of the page's address that says which page it is."""
    bits = token.split_contents()[1:]
    expressions, options = tag_arguments(parser, bits[:-2])
    if (
        len(expressions) != 1
        or bits[-2:-1] != ["as"]
        or not bits[-1].isidentifier()
        or options.keys() - {"param", *PART_OPTIONS}
    ):
        raise template.TemplateSyntaxError(
            "Write {% live_feed feed as item %}. param=…, id=…, debounce=… and jitter=… "
            "(milliseconds) may be added."
        )
    return LiveFeedNode(expressions[0], options, row_loop(parser, token, bits[-1], _Items()))


class _Items:
    """The expression that the loop goes over."""

    def resolve(self, context: Context, **kwargs: Any) -> list[Any]:
        return cast(FeedPage, context[PAGE]).items


class LiveFeedNode(Node):
    child_nodelists = ("nodelist",)

    def __init__(
        self, feed: FilterExpression, options: dict[str, FilterExpression], loop: ForNode
    ) -> None:
        self.feed = feed
        self.options = options
        self.nodelist = NodeList([loop])

    def render(self, context: Context) -> SafeString:
        feed, request = self._feed(context)
        options = resolved(context, self.options)
        param = str(options.pop("param", "before"))
        options["id"] = id_of_part(context, [feed], options)
        # Before the items are read.
        attributes = attributes_of_part(context, [feed], options)
        before = request.GET.get(param, "")
        page = self._page(context, feed, before, wish(request, options["id"]))
        with inside_a_part(context), context.push(**{PAGE: page}):
            rows = rendered_rows(context, self.nodelist)
        shown = {
            "attributes": attributes,
            "first": page.first,
            "newest": _address(request, param, ""),
            "new": _count(page.new),
            "older": page.older and _address(request, param, page.older),
            "is_newest": not before,
            "rows": rows,
        }
        html = render_to_string("django_live/feed.html", shown, request)
        return feature_assets(context, "feeds") + mark_safe(html)  # noqa: S308 - a template made it

    def _page(self, context: Context, feed: Feed, before: str, top: str) -> FeedPage:
        """What the reader may see. Nothing of it for who may not subscribe, but still a part of the page:
        what was shown before has to go, when it is fetched again."""
        viewer = reader_of(context).viewer
        if viewer is None or not may_show(context, feed):
            return FeedPage([], "", "", 0)
        return feed.page(viewer, before=before, top=top)

    def _feed(self, context: Context) -> tuple[Feed, HttpRequest]:
        request = context.get("request")
        given = self.feed.resolve(context)
        [feed] = topics_of(context, [given])
        if request is None or not isinstance(feed, Feed):
            raise template.TemplateSyntaxError(
                f"{{% live_feed %}} shows a Feed to the viewer of a request; this is {given!r}, and "
                f"the context has {'no' if request is None else 'a'} request."
            )
        return feed, request


def _address(request: HttpRequest, param: str, place: str) -> str:
    """The page's address with another page of the feed, and everything else as it is."""
    query = request.GET.copy()
    query.pop(param, None)
    if place:
        query[param] = place
    return f"?{urlencode(list(query.lists()), doseq=True)}" if query else request.path


def _count(new: int) -> str:
    if not new:
        return ""
    if new > MOST_COUNTED:
        return _("More than %(count)s new") % {"count": MOST_COUNTED}
    return ngettext("%(count)s new", "%(count)s new", new) % {"count": new}


@register.simple_tag
def live_ago(moment: dt.datetime) -> SafeString:
    """A time, which the page turns into how long ago it is, and keeps right."""
    shown = localtime(moment) if is_aware(moment) else moment
    return format_html(
        '<live-ago><time datetime="{}">{}</time></live-ago>',
        shown.isoformat(),
        date_format(shown, "DATETIME_FORMAT"),
    )
