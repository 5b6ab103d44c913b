"""``{% load live %}``: the client, and live topics in a page. No inline script, so any CSP fits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote

from django import template
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest
from django.template.base import (
    FilterExpression,
    Node,
    NodeList,
    Origin,
    Parser,
    Token,
    token_kwargs,
)
from django.template.context import Context
from django.template.defaulttags import ForNode
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.crypto import salted_hmac
from django.utils.functional import LazyObject, empty
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from ..assets import csp_nonce
from ..core.events import mark_of_somebody
from ..core.positions import page_cursor, page_places
from ..core.topics import Topic, as_topic
from ..transports.requests import namespace_of

register = template.Library()


@register.simple_tag(takes_context=True)
def live_client(context: Context, share: bool | str = True) -> SafeString:
    """The client's script. Uses ``csp_nonce`` of the context or the request where there is one.

    All tabs of a browser that have the same session share one connection. ``share=False`` gives each
    page its own; a text stands for the user where the session does not."""
    try:
        address = reverse("django_live:events")
    except NoReverseMatch as error:
        raise template.TemplateSyntaxError(
            '{% live_client %} finds no address for the stream. Add path("live/", '
            'include("django_live.urls")) to your urls.py.'
        ) from error
    nonce = csp_nonce(context)
    request = context.get("request")
    known = mark_of_somebody() if _is_somebodys(request) else ""
    key = _share_key(request, share, known)
    return format_html(
        '<script src="{}" data-events="{}" data-more="{}"{}{} defer{}></script>',
        static("django_live/live.js"),
        address,
        static("django_live/live-more.js"),
        format_html(' data-share="{}"', key) if key else "",
        format_html(' data-known="{}"', known) if known else "",
        format_html(' nonce="{}"', nonce) if nonce else "",
    )


def _is_somebodys(request: HttpRequest | None) -> bool:
    """Whether the page is that of somebody who has said who they are. A visitor without a session costs
    nothing, and their page stays the same for all."""
    user: Any = getattr(request, "user", None)
    session = getattr(request, "session", None)
    is_unread = isinstance(user, LazyObject) and vars(user)["_wrapped"] is empty
    if is_unread and getattr(session, "session_key", None) is None:
        return False
    try:
        return bool(user is not None and user.is_authenticated)
    except SynchronousOnlyOperation:  # a template in a coroutine; the first stream will tell
        return False


def _share_key(request: HttpRequest | None, share: bool | str, known: str) -> str:
    """What tabs have in common that may share a connection: a digest of session, user and tenant.
    Empty where nothing stands for the visitor."""
    session = getattr(request, "session", None)
    if not share or request is None or (share is True and session is None):
        return ""
    # One that is not there yet, or was read from the session, is that of the session.
    user = getattr(request, "user", None)
    user_id = "" if isinstance(user, LazyObject) else getattr(user, "pk", "")
    whose = (share, getattr(session, "session_key", ""), user_id, known, namespace_of(request))
    return salted_hmac("django_live.share", repr(whose), algorithm="sha256").hexdigest()[:20]


@register.simple_tag
def live_status() -> SafeString:
    """Tells the reader when the page may be old: nothing while all is well. With its style sheet."""
    texts = {
        "data-text-stale": _("Connection lost. Trying to reconnect …"),
        "data-text-stopped": _("Live updates have ended. Reload the page to go on."),
    }
    return format_html(
        '<link rel="stylesheet" href="{}"><live-status role="status" aria-live="polite"{}></live-status>',
        static("django_live/live-status.css"),
        format_html_join("", ' {}="{}"', texts.items()),
    )


@register.simple_tag(takes_context=True)
def live_topic(context: Context, *topics: Any) -> SafeString:
    """Subscribe the page to topics. Each becomes a ``<live-topic>`` element, which hears events."""
    found = topics_of(context, topics)
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
    expressions, options = tag_arguments(parser, token.split_contents()[1:])
    if not expressions or options.keys() - PART_OPTIONS:
        raise template.TemplateSyntaxError(
            "{% live_refresh %} takes at least one topic, and id=…, debounce=… and jitter=… "
            "(milliseconds) if you like."
        )
    content = parser.parse(("endlive_refresh",))
    parser.delete_first_token()
    return LiveRefreshNode(expressions, options, content)


@register.tag
def live_list(parser: Parser, token: Token) -> Node:
    """``{% live_list orders [topics=…] [key=…] [id="…"] [debounce=ms] [jitter=ms] as order %}…
    {% empty %}…{% endlive_list %}``: ``{% for %}`` whose rows are known apart, so that they come,
    go and change places one by one. With ``topics`` it is fetched again when one of them speaks;
    without, with the ``{% live_refresh %}`` around it."""
    bits = token.split_contents()[1:]
    expressions, options = tag_arguments(parser, bits[:-2])
    if (
        len(expressions) != 1
        or bits[-2:-1] != ["as"]
        or not bits[-1].isidentifier()
        or options.keys() - {"topics", "key", *PART_OPTIONS}
        or ("topics" not in options and options.keys() & PART_OPTIONS)
    ):
        raise template.TemplateSyntaxError(
            "Write {% live_list orders topics=topic as order %}. key=… may be added, and beside "
            "topics=… also id=…, debounce=… and jitter=… (milliseconds)."
        )
    loop = row_loop(parser, token, bits[-1], expressions[0], options.pop("key", None))
    return LiveListNode(options.pop("topics", None), options, loop)


PART_OPTIONS = {"id", "debounce", "jitter"}


def row_loop(
    parser: Parser, token: Token, name: str, items: Any, key: FilterExpression | None = None
) -> ForNode:
    """The loop over ``items`` (an expression) that begins behind this token: rows with keys, and
    perhaps ``{% empty %}``."""
    end = f"end{token.split_contents()[0]}"
    row = LiveRowNode(name, key, parser.parse(("empty", end)))
    empty = None
    if parser.next_token().contents == "empty":
        empty = parser.parse((end,))
        parser.delete_first_token()
    loop = ForNode([name], items, False, NodeList([row]), empty)
    # Django's error page asks every node where it stands.
    for node in (row, loop):
        node.token = token
        node.origin = cast(Origin, parser.origin)
    return loop


def tag_arguments(
    parser: Parser, bits: Iterable[str]
) -> tuple[list[FilterExpression], dict[str, FilterExpression]]:
    expressions: list[FilterExpression] = []
    options: dict[str, FilterExpression] = {}
    for bit in bits:
        named = token_kwargs([bit], parser)
        if named:
            options.update(named)
        else:
            expressions.append(parser.compile_filter(bit))
    return expressions, options


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
        # Before the content is rendered: lazy querysets are evaluated in there.
        found = topics_of(context, [expression.resolve(context) for expression in self.topics])
        attributes = attributes_of_part(context, found, resolved(context, self.options))
        with inside_a_part(context):
            content = self.nodelist.render(context)
        return format_html("<live-refresh{}>{}</live-refresh>", attributes, content)


class LiveListNode(Node):
    child_nodelists = ("nodelist",)

    def __init__(
        self,
        topics: FilterExpression | None,
        options: dict[str, FilterExpression],
        loop: ForNode,
    ) -> None:
        self.topics = topics
        self.options = options
        self.nodelist = NodeList([loop])

    def render(self, context: Context) -> SafeString:
        if self.topics is None:
            if not _rendering(context).get(INSIDE):
                raise template.TemplateSyntaxError(
                    "{% live_list %} is not live: give it topics=…, or put it inside of a "
                    "{% live_refresh %}."
                )
            return rendered_rows(context, self.nodelist)
        # Before the rows are rendered: the queryset is evaluated there.
        found = topics_of(context, [self.topics.resolve(context)])
        attributes = attributes_of_part(context, found, resolved(context, self.options))
        with inside_a_part(context):
            rows = rendered_rows(context, self.nodelist)
        # No other element of ours stays where it is written when that is a table. At the end, where
        # it does not shift the rows that a style sheet counts.
        return format_html("{}<template{}></template>", rows, attributes)


def rendered_rows(context: Context, loop: NodeList) -> SafeString:
    with context.push(**{KEYS: {}}):
        return loop.render(context)


class LiveRowNode(Node):
    """One turn of a list: writes the row's key into its element."""

    def __init__(self, name: str, key: FilterExpression | None, nodelist: NodeList) -> None:
        self.name = name
        self.key = key
        self.nodelist = nodelist

    def render(self, context: Context) -> SafeString:
        key = self._key(context)
        html = self.nodelist.render(context)
        if not html.strip():
            return html
        start = ROW_START.match(html)
        if start is None:
            raise template.TemplateSyntaxError(
                "A row of {% live_list %} has to be one element, such as <tr>…</tr>; this one "
                f"begins with {html.strip()[:40]!r}."
            )
        attribute = format_html(' data-live-key="{}"', key)
        return mark_safe(html[: start.end()] + attribute + html[start.end() :])  # noqa: S308

    def _key(self, context: Context) -> str:
        item = context[self.name]
        if self.key is not None:
            key = self.key.resolve(context)
        else:
            key = getattr(item, "pk", None)
            if key is not None and hasattr(item, "_meta"):
                # Lists may stand beside each other, and one list may have rows of several models.
                key = f"{item._meta.model_name}-{key}"
        if key is None or key == "":
            raise template.TemplateSyntaxError(
                f"{item!r} has nothing to be known by among the rows: it is no saved object of a "
                "model. Add key=… to {% live_list %}, such as key=row.number."
            )
        # A row that a join repeats is another row.
        seen: dict[str, int] = context[KEYS]
        count = seen[str(key)] = seen.get(str(key), 0) + 1
        return str(key) if count == 1 else f"{key}~{count}"


ROW_START = re.compile(r"(?:\s|<!--.*?-->)*<[a-zA-Z][^\s/>]*", re.DOTALL)
KEYS = "_live_list_keys"
"""In the context, of the list that is rendered: how often each key was met."""
INSIDE = "_live_refresh_depth"
IDS = "_live_refresh_ids"


def resolved(context: Context, options: dict[str, FilterExpression]) -> dict[str, Any]:
    return {name: option.resolve(context) for name, option in options.items()}


def attributes_of_part(
    context: Context, topics: list[Topic], options: dict[str, Any]
) -> SafeString:
    """Those of a part that is fetched again when one of the topics speaks."""
    others = {name: value for name, value in options.items() if name != "id"}
    attributes = {
        "id": id_of_part(context, topics, options),
        "topics": " ".join(quote(topic.name, safe="") for topic in topics),
        "data-cursor": page_cursor(context.get("request"), topics),
        "data-transport": "sse",
        **others,
    }
    return format_html_join("", ' {}="{}"', attributes.items())


@contextmanager
def inside_a_part(context: Context) -> Iterator[None]:
    rendering = _rendering(context)
    rendering[INSIDE] = rendering.get(INSIDE, 0) + 1
    try:
        yield
    finally:
        rendering[INSIDE] -= 1


def id_of_part(context: Context, topics: list[Topic], options: dict[str, Any]) -> str:
    """What it was given; else the same at every rendering of the page: the topics, and which of
    those with the same. Asked once for each part."""
    if given := options.get("id"):
        return str(given)
    names = "\0".join(topic.name for topic in topics)
    digest = hashlib.blake2b(names.encode(), digest_size=4).hexdigest()
    counts: dict[str, int] = _rendering(context).setdefault(IDS, {})
    count = counts[digest] = counts.get(digest, 0) + 1
    return f"live-{digest}" if count == 1 else f"live-{digest}-{count}"


def _rendering(context: Context) -> dict[Any, Any]:
    """What lives as long as the rendering of the page, `{% include … only %}` and all."""
    rendering: dict[Any, Any] = context.render_context.dicts[0]
    return rendering


def topics_of(context: Context, given: Iterable[Any]) -> list[Topic]:
    """The topics that a tag was given: Topics, names, or lists of them."""
    request = context.get("request")
    namespace = namespace_of(request) if request is not None else ""
    topics: list[Topic] = []
    for one in given:
        if isinstance(one, list | tuple):
            topics += topics_of(context, one)
        elif isinstance(one, Topic):
            topics.append(one if one.namespace else one.within(namespace))
        elif isinstance(one, str) and one:
            topics.append(as_topic(one, namespace))
        else:
            raise template.TemplateSyntaxError(
                f"{one!r} is not a topic. Pass a Topic or its name from the view."
            )
    return topics
