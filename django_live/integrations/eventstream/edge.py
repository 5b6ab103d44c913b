"""Channels at a GRIP proxy: what django-eventstream answers and publishes, after the commit and once.

Must keep true: ``es-meta``, which says who somebody is and what they may read, is taken from a proxy that
has signed; what the proxy asks later is asked of the user as they are then.
"""

from __future__ import annotations

import re
import secrets
from typing import Any
from urllib.parse import parse_qsl, quote

from django.http import HttpResponse, HttpResponseBase
from django_eventstream.eventstream import get_events
from django_eventstream.utils import sse_encode_error, sse_encode_event

from ...conf import live_settings
from ...core.events import Position
from ...core.log import Appended
from ...core.sending import forward_to
from ...core.topics import Topic, Viewer
from ...transports.requests import Refused
from .. import grip
from ..grip import is_proxied
from .ids import number_of
from .payload import said_of
from .topics import channel_of_topic, listener_for

IDS = re.compile(rb"^id: .*$", re.MULTILINE)
RESET = re.compile(rb"(^event: stream-reset\n(?:id: .*\n)?)(data: .*)$", re.MULTILINE)

__all__ = ["hold_response", "install", "is_proxied", "publish_kick", "viewer_of_link"]


def install() -> None:
    """Publish channels to the proxy, if the site has one. Called when the apps are ready."""
    if grip.is_configured():
        forward_to(forward)


def forward(topic: Topic, appended: Appended) -> None:
    """Publish numbered events to the proxy."""
    channel = None if topic.is_internal else channel_of_topic(topic)
    if channel is None:
        return
    for event in appended.events:
        said = said_of(event)
        meta = {"skip_users": ",".join(said.skip)} if said.skip else {}
        here = before = None
        if event.offset:
            here, before = (
                str(number_of(Position(appended.epoch, offset)))
                for offset in (event.offset, event.offset - 1)
            )
        content = sse_encode_event(
            said.type, said.text, event_id="%I" if here else None, escape=here is not None
        )
        name = f"events-{quote(channel)}"
        grip.publish(name, content, id=here, prev_id=before, meta=meta)


def publish_kick(user_id: Any, channel: str) -> None:
    """In the place of its function of this name, which writes no JSON, and whose second call within a
    minute a proxy takes for the first one again."""
    if not grip.is_configured():
        return
    text = f"Permission denied to channels: {channel}"
    error = sse_encode_error("forbidden", text, {"channels": [channel]})
    once, name, listens = secrets.token_hex(8), f"user-{user_id}", f"events-{quote(channel)}"
    grip.publish(name, error, id=f"{once}-1", meta={"require_sub": listens}, filters=())
    grip.close(name, require=listens, id=f"{once}-2", prev_id=f"{once}-1")


def viewer_of_link(request: Any) -> Viewer | None:
    """Whose stream the proxy asks about, by the link that it was given; None when it is no longer, or
    never was, anybody's."""
    try:
        return grip.viewer_of_handle(request.GET.get(grip.HANDLE, ""))
    except Refused:
        return None


def hold_response(request: Any, asked: Any, viewer: Viewer | None) -> HttpResponseBase:
    """What django-eventstream tells the proxy, and what ours needs to know beside it. ``viewer``: of a
    stream that goes on. Raises its ``EventPermissionError``."""
    if viewer is None:
        viewer = listener_for(request, asked.user, frozenset(asked.channels))
    found = get_events(asked)
    response: HttpResponse = found.to_grip_response(request)
    grip.leave_as_it_is(response)
    instruct = request.grip.instruct
    if any("build-id" in channel.filters for channel in instruct.channels):
        response.content = _escaped(response.content, has_reset=bool(found.channel_reset))
    # Its link has the path as Django has decoded it, which may hold a "?" of its own.
    _, _, query = instruct.next_link[len(request.path) :].partition("?")
    parameters = [(k, v) for k, v in parse_qsl(query) if k != grip.HANDLE]
    link = grip.link_to(request.path, [*parameters, (grip.HANDLE, grip.handle_of(viewer))])
    instruct.set_next_link(link, max(1, round(live_settings().RECHECK)))
    for name in grip.channels_of_viewer(viewer):
        instruct.add_channel(grip.channel_with(name, "require-sub"))
    return response


def _escaped(body: bytes, *, has_reset: bool) -> bytes:
    """The body with all percent signs doubled for the proxy's "build-id", which ends a stream at a lone
    one. django-eventstream doubles those in types and data of events, not in ids, where each sign of a
    channel's name that is not plain has one, nor in what it tells of a reset."""
    if has_reset:  # it comes first: an event that somebody has called so is not meant
        body = RESET.sub(lambda found: found[1] + _doubled(found[2]), body, count=1)
    return IDS.sub(lambda found: _doubled(found[0]), body)


def _doubled(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")
