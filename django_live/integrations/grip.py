"""The edge: a GRIP proxy (Pushpin, Fastly Fanout) holds the streams, outside of Python.

Django answers a request with what there is to tell and with instructions to hold it; from there on events
are published to the proxy, once, by the process that has numbered them. Where the proxy misses one it asks
again by the link that it was given, and so it does now and then to hear whether the viewer may still see it.
Needs no event loop: a site under WSGI streams this way, too.

Must keep true: only a proxy that has signed its request is answered so; what is read from the log and what
is published make one chain of places without a hole; who may no longer see something is cut off as fast as
on connections of our own.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core import signing
from django.core.checks import CheckMessage, Warning, register
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from ..conf import live_settings
from ..core.control import ControlTopic
from ..core.events import Event, Position, place_text
from ..core.log import Appended
from ..core.sending import forward_to
from ..core.state import get_state
from ..core.subscribing import Request
from ..core.topics import Topic, Viewer
from ..transports import sse
from ..transports.authentication import record_of, viewer_of_record
from ..transports.frames import SSE
from ..transports.origins import shared_with
from ..transports.polling import Reading, read_by
from ..transports.requests import (
    MESSAGES,
    Plan,
    Refusal,
    Refused,
    decide,
    plan_of,
    refusal_response,
)
from ..transports.tickets import Record

MIDDLEWARE = "django_grip.GripMiddleware"
EVERYBODY = "live-all"
HANDLE = "live-edge"
"""Parameter of the link that says whose stream it is."""
MAP = "django_live/edge/"
KEY = "viewer"
KEPT_FOR = 7200.0
"""Seconds for which it is known who a handle stands for, after the proxy has last shown it."""
SALT = "django_live.edge"


def is_configured() -> bool:
    """Whether the site has a GRIP proxy."""
    named = getattr(settings, "GRIP_PROXIES", None) or getattr(settings, "GRIP_URL", None)
    return bool(named) and find_spec("django_grip") is not None


def install() -> None:
    """Publish to the proxy what is numbered from now on. Called when the apps are ready."""
    if is_configured():
        forward_to(forward)
        register(check_proxies, "django_live")


def check_proxies(app_configs: object, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """W024: a proxy that will not be believed."""
    faults = []
    if MIDDLEWARE not in settings.MIDDLEWARE:
        faults.append(f'"{MIDDLEWARE}" is not in MIDDLEWARE')
    named = getattr(settings, "GRIP_PROXIES", None) or []
    if any("key" not in proxy for proxy in named):
        faults.append('a proxy in GRIP_PROXIES has no "key"')
    return [
        Warning(
            f"No GRIP proxy is believed, and streams are held here: {fault}.",
            hint="See docs/howto/edge.md.",
            id="django_live.W024",
        )
        for fault in faults
    ]


def is_proxied(request: Any) -> bool:
    """Whether a GRIP proxy of the site's has signed this request."""
    grip = getattr(request, "grip", None)
    return grip is not None and bool(grip.signed)


# -- what is published -----------------------------------------------------------------------------


def forward(topic: Topic, appended: Appended) -> None:
    """Publish numbered events to the proxy, and what commands mean for those it holds."""
    if isinstance(topic, ControlTopic):
        for event in appended.events:
            _carry_out(event.type, json.loads(event.data))
    elif not topic.is_internal:
        for event in appended.events:
            _publish_event(topic, appended.epoch, event)


def _publish_event(topic: Topic, epoch: str, event: Event) -> None:
    frame = SSE.event(topic, event).decode()
    if not event.offset:
        publish(channel_of(topic), f"{frame}\n")
        return
    before, here = (
        place_text(topic.key, Position(epoch, offset))
        for offset in (event.offset - 1, event.offset)
    )
    # The proxy makes the id of all places of a stream: "%I".
    content = frame.replace("%", "%%") + "id: %I\n\n"
    publish(channel_of(topic), content, id=here, prev_id=before)


def _carry_out(command: str, selection: dict[str, str]) -> None:
    """End the streams that a command concerns. Whoever may still see them comes back, and resumes."""
    if command not in ("disconnect", "sign_out", "recheck") or "connection" in selection:
        return
    topic = f"live-{selection['topic']}" if "topic" in selection else ""
    if "session" in selection:
        close(_of_session(selection["session"]), require=topic)
    elif "user" in selection:
        close(_of_user(selection["user"]), require=topic)
    else:
        close(topic or EVERYBODY)


def publish(
    channel: str,
    content: str,
    *,
    id: str | None = None,
    prev_id: str | None = None,
    meta: dict[str, str] | None = None,
    filters: Sequence[str] = ("build-id",),
) -> None:
    """Hand a piece of a stream to the proxy, in the background. What has an id passes the filters:
    ``%I`` in it is replaced, and other percent signs have to be doubled."""
    import django_grip
    from gripcontrol import HttpStreamFormat

    item = HttpStreamFormat(content, content_filters=list(filters) if id is not None else [])
    django_grip.publish(channel, item, id=id, prev_id=prev_id, meta=meta or {})


def close(
    channel: str, *, require: str = "", id: str | None = None, prev_id: str | None = None
) -> None:
    """Have the proxy end the streams that listen to this channel, and to ``require``."""
    import django_grip
    from gripcontrol import HttpStreamFormat

    meta = {"require_sub": require} if require else {}
    django_grip.publish(channel, HttpStreamFormat(close=True), id=id, prev_id=prev_id, meta=meta)


def channel_of(topic: Topic) -> str:
    """What the proxy knows a topic by."""
    return f"live-{topic.key}"


def channels_of_viewer(viewer: Viewer) -> list[str]:
    """By what the streams of a viewer are ended."""
    found = [EVERYBODY]
    if viewer.user_id is not None:
        found.append(_of_user(viewer.user_id))
    if viewer.session_key:
        found.append(_of_session(viewer.session_key))
    return found


def _of_user(user_id: str) -> str:
    return f"live-user-{_digest(user_id)}"


def _of_session(session_key: str) -> str:
    return f"live-session-{_digest(session_key)}"


def _digest(text: str) -> str:
    """No proxy gets to know the keys of sessions."""
    key = settings.SECRET_KEY.encode()[:64]
    return hashlib.blake2b(text.encode(), digest_size=12, key=key).hexdigest()


# -- what is answered ------------------------------------------------------------------------------


def events(request: HttpRequest) -> HttpResponseBase:
    """``GET live/events/``: the stream, whoever holds it."""
    return _events_for_proxy(request) if is_proxied(request) else sse.events(request)


@shared_with("GET")
def _events_for_proxy(request: HttpRequest) -> HttpResponseBase:
    goes_on = HANDLE in request.GET
    try:
        if request.method != "GET":
            raise Refused(405, [Refusal("method-not-allowed")])
        plan = _plan_of_link(request) if goes_on else plan_of(request)
        reading = read_by(_ReadingOn if goes_on else _ReadingForProxy, plan)
    except Refused as refused:
        # In the middle of a stream there is no status any more.
        return _last_words(refused) if goes_on else refusal_response(refused)
    response = HttpResponse(reading.body(), content_type=SSE.content_type)
    response["Cache-Control"] = "no-store, no-transform, private"
    response["X-Accel-Buffering"] = "no"
    leave_as_it_is(response)
    _instruct(request, response, plan, reading)
    return response


def leave_as_it_is(response: HttpResponse) -> None:
    """For GZipMiddleware: what the proxy writes behind it is not compressed."""
    response["Content-Encoding"] = "identity"


def _plan_of_link(request: HttpRequest) -> Plan:
    """What the proxy asks by the link that it was given: whose stream it is, and where that stands."""
    viewer = viewer_of_handle(request.GET[HANDLE])
    places = {entry[:12]: entry for entry in request.GET.get("cursor", "").split(",") if entry}
    grip: Any = getattr(request, "grip", None)
    for name, place in grip.last.items():
        if name.startswith("live-") and place:
            places[name.removeprefix("live-")[:12]] = place
    names = list(dict.fromkeys(request.GET.getlist("topic")))
    plan = decide(viewer, names, ",".join(places.values()), live_settings().MAX_TOPICS)
    if not plan.requests:
        raise Refused(403, plan.refusals)
    return plan


def _last_words(refused: Refused) -> HttpResponse:
    """The end of a stream whose viewer may no longer see it; they hear why when they come back."""
    frames = (SSE.error(r.topic, r.code, MESSAGES[r.code]) for r in refused.refusals)
    return HttpResponse(b"".join(frames), content_type=SSE.content_type)


def _instruct(
    request: HttpRequest, response: HttpResponse, plan: Plan, reading: _ReadingForProxy
) -> None:
    """Tell the proxy what to hold, and where to ask again."""
    wanted, handle = live_settings(), handle_of(plan.viewer)
    grip: Any = getattr(request, "grip", None)
    instruct = grip.start_instruct()  # from here on nothing may fail: the middleware would, too
    parameters = [("topic", asked.topic.name) for asked in plan.requests]
    parameters += [("cursor", reading.cursor), (HANDLE, handle)]
    instruct.set_next_link(link_to(request.path, parameters), max(1, round(wanted.RECHECK)))
    id_format = []
    for asked in plan.requests:
        name = channel_of(asked.topic)
        place = reading.place(asked)
        if place:
            instruct.add_channel(channel_with(name, "build-id", prev_id=place))
            id_format.append(f"%({name})s")
        else:
            instruct.add_channel(name)
    for name in channels_of_viewer(plan.viewer):
        instruct.add_channel(channel_with(name, "require-sub"))
    if id_format:
        instruct.meta["id_format"] = ",".join(id_format + plan.kept_places)
        # "build-id" changes not only what is published: it reads this body, too, and a lone percent
        # sign in it ends the stream.
        response.content = response.content.replace(b"%", b"%%")
    if not reading.answer.more:
        instruct.set_hold_stream()
        keep_alive = (SSE.keep_alive() + b"\n").decode()
        instruct.set_keep_alive(keep_alive, max(1, round(wanted.HEARTBEAT)))


def link_to(path: str, parameters: Sequence[tuple[str, str]]) -> str:
    """An address as a header can carry it. ``path``: of a request, where Django has decoded it."""
    return f"{quote(path)}?{urlencode(parameters)}"


def channel_with(name: str, passing: str, prev_id: str | None = None) -> Any:
    """A channel of the proxy's, and the filter that what comes there has to pass."""
    from gripcontrol import Channel

    channel = Channel(name, prev_id)
    channel.filters.append(passing)
    return channel


class _ReadingForProxy(Reading):
    """What there is to tell, as frames of a stream that begins: each moves the cursor as far as it goes."""

    dialect = SSE

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._places = {r.topic.key: r.place.text for r in plan.requests if r.place is not None}
        self._frames: list[bytes] = []
        super().__init__(plan)

    @property
    def cursor(self) -> str:
        return self._joined(self._places)

    def body(self) -> bytes:
        body = self._opening() + b"".join(self._frames)
        end = SSE.moved(self.cursor)
        # Whoever is cut off before the first event resumes from here.
        return body if not self.cursor or body.endswith(end) else body + end

    def place(self, asked: Request) -> str:
        """Where the topic stands after the body; empty without history."""
        return self._places.get(asked.topic.key, "") if asked.topic.history is not None else ""

    def _opening(self) -> bytes:
        wanted, names = live_settings(), [asked.topic.name for asked in self._plan.requests]
        begins = {
            asked.topic.key: asked.place.text
            if asked.place is not None
            else place_text(asked.topic.key, self.heads[asked.topic.key].position)
            for asked in self._plan.requests
            if asked.topic.history is not None
        }
        opened = SSE.opened(secrets.token_hex(8), wanted.HEARTBEAT, wanted.RETRY, names)
        return opened + SSE.end(self._joined(begins))

    def _joined(self, places: dict[str, str]) -> str:
        return ",".join(filter(None, [*places.values(), *self._plan.kept_places]))

    def _tell_event(self, topic: Topic, event: Event, epoch: str) -> None:
        self._places[topic.key] = place_text(topic.key, Position(epoch, event.offset))
        super()._tell_event(topic, event, epoch)

    def _tell(self, line: bytes, *, repeated: bool = False) -> None:
        super()._tell(line, repeated=repeated)
        self._frames.append(line if line.endswith(b"\n\n") else line + SSE.end(self.cursor))

    def _stay(self, request: Request, position: Position | None) -> None:
        super()._stay(request, position)
        if request.topic.history is not None:
            # As the proxy gets it with each event: given to anybody.
            self._places[request.topic.key] = place_text(request.topic.key, position)
        else:
            self._places.pop(request.topic.key, None)


class _ReadingOn(_ReadingForProxy):
    """The same for a stream that goes on: it has begun, and what has no history has begun with it."""

    def _opening(self) -> bytes:
        return b""

    def body(self) -> bytes:
        return b"".join(self._frames)

    def _without_history(self, request: Request) -> None:
        self._places.pop(request.topic.key, None)


# -- who it is -------------------------------------------------------------------------------------


def handle_of(viewer: Viewer) -> str:
    """What the proxy shows for a viewer when it asks again: it brings neither cookies nor tokens, and
    its address is written down in logs. So the handle says nothing by itself, and not for long."""
    record = json.dumps(asdict(record_of(viewer)), sort_keys=True)
    name = _digest(record)
    entry = get_state().get(MAP + name, KEY)
    if entry is None or entry.value != record:
        get_state().set(MAP + name, {KEY: record}, ttl=KEPT_FOR)
    else:
        get_state().renew({MAP + name: [KEY]}, KEPT_FOR)
    return signing.TimestampSigner(salt=SALT).sign(name)


def _good_for() -> float:
    """Seconds until the proxy has asked again, and a while more. It signs whatever comes through it, so
    a handle that somebody has read in a log must be worth nothing soon."""
    return 2 * live_settings().RECHECK + 60


def viewer_of_handle(handle: str) -> Viewer:
    """Who a handle stands for, if they are still signed in. Raises ``Refused``."""
    try:
        name = signing.TimestampSigner(salt=SALT).unsign(handle, timedelta(seconds=_good_for()))
    except signing.BadSignature as error:
        raise Refused(400, [Refusal("malformed-request")]) from error
    entry = get_state().get(MAP + name, KEY)
    if entry is None:
        raise Refused(401, [Refusal("signed-out")])
    viewer = viewer_of_record(Record(**json.loads(entry.value)))
    if not viewer.still_stands():
        raise Refused(401, [Refusal("signed-out")])
    return viewer
