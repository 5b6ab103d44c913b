"""``{% load live_notifications %}``: the bell."""

from __future__ import annotations

import logging

from django import template
from django.template.context import Context
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from ...assets import feature_assets
from ...core.positions import page_places
from ...transports.requests import namespace_of
from ..inbox import MOST_COUNTED, inbox_of, unread_of

logger = logging.getLogger("django_live.notifications")

register = template.Library()


@register.simple_tag(takes_context=True)
def live_notifications(context: Context, toasts: bool = True) -> SafeString:
    """A bell with the number of unread notifications, which opens their list and leads to their page;
    nothing for who is not signed in. ``toasts=False``: new ones are counted, and not shown by
    themselves."""
    request = context.get("request")
    user = getattr(request, "user", None)
    if request is None or user is None or not user.is_authenticated:
        return mark_safe("")
    try:
        address = reverse("live_notifications:list")
    except NoReverseMatch as error:
        raise template.TemplateSyntaxError(
            '{% live_notifications %} finds no address for its pages. Add path("notifications/", '
            'include("django_live.notifications.urls")) to your urls.py.'
        ) from error
    inbox = inbox_of(user.pk, namespace_of(request))
    # Before they are counted. Told once more of what is in the count, the bell knows it by its key.
    cursor = page_places(request, [inbox]).get(inbox.key, "")
    unread = unread_of(user.pk)
    attributes = {
        "topic": inbox.name,
        "data-cursor": cursor,
        "data-transport": "sse",
        "data-latest": reverse("live_notifications:latest"),
        "data-follow": address,
        "data-unread": ",".join(map(str, unread)),
        "data-most": str(MOST_COUNTED),
        "data-text-label": _("Notifications, %s unread"),
        "data-text-close": _("Close"),
        "data-text-failed": _("The list could not be loaded."),
        **({"data-toasts": ""} if toasts else {}),
    }
    shown = {
        "attributes": format_html_join("", ' {}="{}"', attributes.items()),
        "address": address,
        "unread": shown_count(len(unread)),
        "label": attributes["data-text-label"].replace("%s", shown_count(len(unread))),
    }
    html = render_to_string("django_live/notifications/bell.html", shown, request)
    return feature_assets(context, "notifications") + SafeString(html)


def shown_count(count: int) -> str:
    """As the badge has it."""
    return f"{MOST_COUNTED - 1}+" if count >= MOST_COUNTED else str(count)
