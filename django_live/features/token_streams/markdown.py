"""An answer as HTML: Markdown by ``markdown-it-py``, made safe by ``nh3``, both optional.

Must keep true: nothing that a model says runs in a browser, or loads anything from elsewhere.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from django.utils.html import linebreaks
from django.utils.safestring import SafeString, mark_safe

TAGS = {
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
}
TAGS |= {"ol", "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"}
# No images: an address with what was said in it would carry that away.
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}}


def is_available() -> bool:
    return find_spec("markdown_it") is not None and find_spec("nh3") is not None


def as_html(text: str) -> SafeString:
    """Safe HTML of Markdown; paragraphs and line breaks only, where the packages are missing."""
    if not is_available():
        return mark_safe(linebreaks(text, autoescape=True))  # noqa: S308
    import nh3

    html = nh3.clean(
        _parser().render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(
        ["table", "strikethrough"]
    )
