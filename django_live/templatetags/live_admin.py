"""``{% load live_admin %}``: filters of the admin's own pages."""

from __future__ import annotations

from datetime import UTC, datetime

from django import template

register = template.Library()


@register.filter
def duration(seconds: float) -> str:
    """Seconds as people say them, in one unit or two: ``42 s``, ``3 min``, ``2 h 10 min``, ``5 d``."""
    seconds = int(seconds)
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


@register.filter
def moment(seconds: float) -> datetime:
    """A point in time of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
