"""``{% load live %}``: the client, and live topics in a page. No inline script, so any CSP fits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from django import template
from django.template.base import FilterExpression, Node, NodeList, Parser, Token, token_kwargs
from django.template.context import Context
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..core.positions import page_cursor, page_places
from ..core.topics import Topic, as_topic
from ..transports.requests import namespace_of

register = template.Library()


@register.simple_tag(takes_context=True)
def live_client(context: Context) -> SafeString:
    """The client's script. Uses ``csp_nonce`` of the context or the request where there is one."""
    try:
        address = reverse("django_live:events")
    except NoReverseMatch as error:
        raise template.TemplateSyntaxError(
            '{% live_client %} finds no address for the stream. Add path("live/", '
            'include("django_live.urls")) to your urls.py.'
        ) from error
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    # As text before it is asked whether there is one: Django's lazy nonce is false until it is made.
    nonce = "" if nonce is None else str(nonce)
    return format_html(
        '<script src="{}" data-events="{}" defer{}></script>',
        static("django_live/live.js"),
        address,
        format_html(' nonce="{}"', nonce) if nonce else "",
    )


@register.simple_tag(takes_context=True)
def live_topic(context: Context, *topics: Any) -> SafeString:
    """Subscribe the page to topics. Each becomes a ``<live-topic>`` element, which hears events."""
    found = _topics(context, topics)
    places = page_places(context.get("request"), found)
    return format_html_join(
        "",
        '<live-topic topic="{}" data-cursor="{}" data-transport="{}" hidden></live-topic>',
        (
            (topic.name, places.get(topic.key, ""), "ws" if topic.interactive else "sse")
            for topic in found
        ),
    )


@register.tag
def live_refresh(parser: Parser, token: Token) -> Node:
    """``{% live_refresh topic … [id="…"] [debounce=ms] [jitter=ms] %}…{% endlive_refresh %}``: this
    part of the page is fetched again, as its viewer may see it, when one of the topics speaks."""
    bits = token.split_contents()[1:]
    options: dict[str, FilterExpression] = {}
    expressions = []
    for bit in bits:
        named = token_kwargs([bit], parser)
        if named:
            options.update(named)
        else:
            expressions.append(parser.compile_filter(bit))
    if not expressions or options.keys() - {"id", "debounce", "jitter"}:
        raise template.TemplateSyntaxError(
            "{% live_refresh %} takes at least one topic, and id=…, debounce=… and jitter=… "
            "(milliseconds) if you like."
        )
    content = parser.parse(("endlive_refresh",))
    parser.delete_first_token()
    return LiveRefreshNode(expressions, options, content)


class LiveRefreshNode(Node):
    def __init__(
        self,
        topics: list[FilterExpression],
        options: dict[str, FilterExpression],
        nodelist: NodeList,
    ) -> None:
        self.topics = topics
        self.options = options
        self.nodelist = nodelist

    def render(self, context: Context) -> SafeString:
        topics = _topics(context, [expression.resolve(context) for expression in self.topics])
        # Before the content is rendered: lazy querysets are evaluated in there.
        cursor = page_cursor(context.get("request"), topics)
        options = {name: option.resolve(context) for name, option in self.options.items()}
        attributes = {
            "id": options.pop("id", None) or self._id(context, topics),
            "topics": " ".join(quote(topic.name, safe="") for topic in topics),
            "data-cursor": cursor,
            "data-transport": "sse",
            **options,
        }
        return format_html(
            "<live-refresh{}>{}</live-refresh>",
            format_html_join("", ' {}="{}"', attributes.items()),
            self.nodelist.render(context),
        )

    def _id(self, context: Context, topics: list[Topic]) -> str:
        """The same at every rendering of the page: the topics, and which of those with the same."""
        names = "\0".join(topic.name for topic in topics)
        digest = hashlib.blake2b(names.encode(), digest_size=4).hexdigest()
        # The lowest of these lives as long as the rendering, `{% include … only %}` and all.
        rendering: dict[Any, Any] = context.render_context.dicts[0]
        counts: dict[str, int] = rendering.setdefault("_live_refresh_ids", {})
        count = counts[digest] = counts.get(digest, 0) + 1
        return f"live-{digest}" if count == 1 else f"live-{digest}-{count}"


def _topics(context: Context, given: Iterable[Any]) -> list[Topic]:
    """The topics that a tag was given: Topics, names, or lists of them."""
    request = context.get("request")
    namespace = namespace_of(request) if request is not None else ""
    topics: list[Topic] = []
    for one in given:
        if isinstance(one, list | tuple):
            topics += _topics(context, one)
        elif isinstance(one, Topic):
            topics.append(one if one.namespace else one.within(namespace))
        elif isinstance(one, str) and one:
            topics.append(as_topic(one, namespace))
        else:
            raise template.TemplateSyntaxError(
                f"{one!r} is not a topic. Pass a Topic or its name from the view."
            )
    return topics
