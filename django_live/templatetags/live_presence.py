"""``{% load live_presence %}``: who is in a topic."""

from __future__ import annotations

import logging
from typing import Any

from django import template
from django.template.context import Context
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..assets import feature_assets
from ..core.positions import page_places
from ..core.topics import Topic, as_topic
from ..features.presence import Member, Members, Presence, members_of, presence_of
from ..showing import may_show
from ..transports.requests import namespace_of

logger = logging.getLogger("django_live.presence")

register = template.Library()

NOBODY = Members(0, [], False)


@register.simple_tag(takes_context=True)
def live_presence(
    context: Context, topic: Topic | str, *, join: bool = True, idle: int = 300
) -> SafeString:
    """Show who is in a topic. The reader of the page is one of them, unless ``join=False``; after
    ``idle`` seconds without input they are idle, and away when no tab was in sight for a minute.
    Nothing for who may not subscribe to the topic."""
    request = context.get("request")
    namespace = namespace_of(request) if request is not None else ""
    found = as_topic(topic, namespace)
    if not found.namespace:
        found = found.within(namespace)
    if presence_of(found) is None:
        raise template.TemplateSyntaxError(
            f"{{% live_presence %}}: {type(found).__qualname__} keeps no members. Give the class "
            "an attribute presence = Presence()."
        )
    may = may_show(context, found)
    if may is False:
        return SafeString("")
    here = _members(found) if may else NOBODY
    count_text = _("Here now: %s")
    attributes = {
        "presence": Presence.companion(found).name,
        **(_joining(request, found) if join else {}),
        "data-idle": str(idle),
        "data-count": str(here.count),
        "data-text-count": count_text,
        "data-text-idle": _("idle"),
        "data-text-away": _("away"),
    }
    shown = {
        "attributes": format_html_join("", ' {}="{}"', attributes.items()),
        "count_text": count_text.replace("%s", str(here.count)),
        "members": [_shown(member) for member in here.members],
        "topic": found,
    }
    html = render_to_string("django_live/presence.html", shown, request)
    return feature_assets(context, "presence") + SafeString(html)


def _joining(request: Any, topic: Topic) -> dict[str, str]:
    return {
        "topic": topic.name,
        "data-cursor": page_places(request, [topic]).get(topic.key, ""),
        "data-transport": "ws" if topic.interactive else "sse",
    }


def _members(topic: Topic) -> Members:
    """Who is here as the page is made. Without a store the page is still a page."""
    try:
        return members_of(topic)
    except Exception:
        logger.exception("Who is in %s could not be read.", topic.name)
        return NOBODY


def _shown(member: Member) -> dict[str, Any]:
    words = {"idle": _("idle"), "away": _("away")}
    name = member.info.get("name", "") if isinstance(member.info, dict) else ""
    return {
        **member._asdict(),
        "initial": str(name)[:1].upper(),
        "state_text": words.get(member.state, ""),
    }
