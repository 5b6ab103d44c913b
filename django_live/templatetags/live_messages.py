"""``{% load live_messages %}``: messages to everyone and to this user, shown as they come."""

from __future__ import annotations

from django import template
from django.template.context import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..assets import feature_assets
from ..core.positions import page_cursor
from ..core.topics import Topic
from ..exceptions import InvalidTopic
from ..features.messages import EveryoneTopic, UserTopic
from ..transports.requests import namespace_of

register = template.Library()


@register.simple_tag(takes_context=True)
def live_messages(context: Context, seconds: float = 8) -> SafeString:
    """Where messages to everyone, and to the user who is signed in, are shown. One that is neither a
    warning nor an error goes away after so many ``seconds``, 0: when it is closed. Behind
    ``{% live_client %}``."""
    request = context.get("request")
    namespace = namespace_of(request) if request is not None else ""
    topics: list[Topic] = [EveryoneTopic(namespace=namespace)]
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        topics.append(UserTopic(pk=str(user.pk), namespace=namespace))
    ours = [topic for topic in topics if _is_ours(topic)]
    return format_html(
        '{}<live-messages topics="{}" data-cursor="{}" data-seconds="{}" data-text-close="{}"'
        ' aria-label="{}" role="region"></live-messages>',
        feature_assets(context, "messages"),
        " ".join(topic.name for topic in ours),
        page_cursor(request, ours),
        seconds,
        _("Close"),
        _("Messages"),
    )


def _is_ours(topic: Topic) -> bool:
    """Whether the name is not that of a topic of the project, which may say anything there."""
    try:
        return bool(topic.name)
    except InvalidTopic:
        return False
