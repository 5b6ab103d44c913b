"""Where django-eventstream hands over to us, and whether it does.

Five names of its modules and the view behind its addresses are replaced when the apps are ready. Projects
import ``send_event`` and the rest by name, and earlier; so no function that they call is replaced, only what
these look up each time they are called.

Must keep true: a release of django-eventstream in which one of these is not what it was is an error of
``manage.py check``, never an event that reaches nobody.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from threading import local
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver, get_resolver
from django_eventstream import eventstream, urls
from django_eventstream import views as their_views

from ...core import control
from .edge import publish_kick
from .payload import Said, as_text, skipped
from .sending import send
from .storage import get_storage
from .topics import is_kept, topic_of_channel
from .views import events

VIEWSETS = "django_eventstream.viewsets"
REPLACED = ("get_storage", "publish_event", "publish_kick", "redis_client")
PROBE = "django_live/probe"

_their_view = their_views.events
_probing = local()


class Listeners:
    """In the place of its ``ListenerManager``: nobody listens there any more."""

    def add_to_queues(self, channel: str, event: Any) -> None:
        """Send an event that somebody hands over without ``send_event()``."""
        said = Said(event.type, as_text(event.data, json_encode=not isinstance(event.data, str)))
        send(channel, said, kept=is_kept(channel))

    def kick(self, user_id: Any, channel: str) -> None:
        """Ask again whether this user, or visitors, may read the channel."""
        topic = topic_of_channel(channel)
        if user_id == "anonymous":
            control.recheck(topic=topic)
        else:
            control.recheck(user=user_id, topic=topic)


class LeftToUs:
    """In the place of the connection that ``EVENTSTREAM_REDIS`` asks for: takes what ``send_event()``
    publishes there and drops it. What it calls next knows more, and sends it."""

    def publish(self, name: str, message: str) -> None:
        pass


def publish_event(
    channel: str,
    event_type: str,
    data: str,
    pub_id: str | None,
    pub_prev_id: str | None,  # noqa: ARG001 -- its signature
    skip_user_ids: Iterable[Any] | None = None,
    **publish_options: Any,
) -> None:
    """The last thing that ``send_event()`` calls."""
    if getattr(_probing, "is_on", False):
        _probing.arrived = True
        return
    said = Said(event_type, data, skipped(list(skip_user_ids or ())))
    send(channel, said, kept=pub_id is not None)


def install() -> None:
    """Take over. Called when the apps are ready; a second time it changes nothing."""
    missing = [name for name in REPLACED if not hasattr(eventstream, name)]
    if missing or not hasattr(their_views, "listener_manager"):
        raise ImproperlyConfigured(
            "This release of django-eventstream is not one that django_live knows: install 5.3."
        )
    their_views.listener_manager = Listeners()
    eventstream.redis_client = LeftToUs()
    eventstream.get_storage = get_storage
    eventstream.publish_event = publish_event
    eventstream.publish_kick = publish_kick
    their_views.events = events
    for pattern in urls.urlpatterns:
        if pattern.callback is _their_view:
            pattern.callback = events
    if VIEWSETS in sys.modules:
        sys.modules[VIEWSETS].events = events  # type: ignore[attr-defined]


def faults() -> list[str]:
    """What of it does not hold, as sentences."""
    found = []
    manager = their_views.get_listener_manager()
    if not isinstance(manager, Listeners):
        found.append("Its listener manager was replaced again, by another app.")
    if not _send_event_arrives():
        found.append("What send_event() sends does not arrive here.")
    if _their_view in _callbacks(get_resolver().url_patterns):
        found.append(
            "Its own view is in your URL conf: something imported it before the apps were ready."
        )
    viewsets = sys.modules.get(VIEWSETS)
    if viewsets is not None and getattr(viewsets, "events", None) is not events:
        found.append("Its viewsets use its own view.")
    return found


def _send_event_arrives() -> bool:
    """Try it, without sending anything."""
    if eventstream.publish_event is not publish_event:
        return False
    send_event = inspect.unwrap(eventstream.send_event)
    _probing.is_on, _probing.arrived = True, False
    manager_of = eventstream.get_channelmanager
    eventstream.get_channelmanager = _Probe
    try:
        send_event(PROBE, "probe", None)
    except Exception:
        return False
    finally:
        eventstream.get_channelmanager = manager_of
        _probing.is_on = False
    return bool(_probing.arrived)


class _Probe:
    """A channel manager that no project has to answer for."""

    def is_channel_reliable(self, channel: str) -> bool:
        return True


def _callbacks(patterns: Iterable[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _callbacks(pattern.url_patterns)
        elif isinstance(pattern, URLPattern):
            yield pattern.callback
