"""What ``live_doctor`` looks at, one after the other, and what it says to each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from ..conf import live_settings
from ..core import bus, survey
from ..core.control import ControlTopic
from ..core.log import get_log
from ..core.publishing import publish
from ..core.state import get_state
from ..exceptions import StoreError
from ..features.doctor import new_topic
from .through_proxy import PINGS, Silent, Stream, Unreachable, listen, websocket_status

State = Literal["ok", "warning", "error", "skipped"]
TRIES = 5
SLOW_STORE = 0.1
"""Seconds for one question to the store."""
BUNCHED = 0.5
"""Seconds of which events that were sent one after the other may not be late, with a layer."""
CLOCK = "django_live/doctor"


class Finding(NamedTuple):
    """What one look found."""

    name: str
    state: State
    found: str
    advice: str = ""
    seconds: float | None = None
    """What the hop takes, where one was measured."""


def examine(url: str | None, timeout: float) -> Iterator[Finding]:
    """Everything, the nearest first. What cannot be asked is a finding, not an error."""
    yield from settings()
    looks = [store, clock, layer, processes]
    for look in looks:
        try:
            yield from look()
        except (DatabaseError, StoreError, ImproperlyConfigured, OSError) as error:
            yield Finding(
                look.__name__,
                "error",
                f"{type(error).__name__}: {error}",
                "Is the service running, and is `manage.py migrate` done?",
            )
    if url is None:
        yield Finding(
            "proxy", "skipped", "no address was given", "--url https://your.site/live/ tries it"
        )
        return
    yield from proxy(url, timeout)


def settings() -> Iterator[Finding]:
    """The system checks of ours, those for a site that other people use included."""
    found: list[CheckMessage] = run_checks(tags=["django_live"], include_deployment_checks=True)
    if not found:
        yield Finding("settings", "ok", "every check is content")
    for one in found:
        state: State = "error" if one.is_serious() else "warning"
        yield Finding("settings", state, f"{one.id}: {one.msg}", one.hint or "")


def store() -> Iterator[Finding]:
    log = get_log()
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        log.heads([ControlTopic()])
        times.append(time.perf_counter() - began)
    took = statistics.median(times)
    name = live_settings().STORE
    if not log.shared:
        yield Finding(
            "store",
            "warning",
            f"{name}: other processes do not see what this one publishes",
            'Take "database" or "redis" where more than one process runs.',
            took,
        )
    elif took > SLOW_STORE:
        advice = "Is it far away, or busy? Each delivery that the bus loses waits for it."
        yield Finding("store", "warning", f"{name} answers slowly", advice, took)
    else:
        yield Finding("store", "ok", f"{name} answers", "", took)


def clock() -> Iterator[Finding]:
    """A change of the shared state is numbered by the store's time in microseconds."""
    state = get_state()
    if not state.shared:
        yield Finding("clock", "skipped", "the store is this process's own")
        return
    before = time.time()
    version = state.set(CLOCK, {"at": str(before)}, ttl=60).version
    after = time.time()
    between = (before + after) / 2
    # No more is known than that the store looked at its clock in between.
    ahead = max(abs(version / 1e6 - between) - (after - before) / 2, 0.0)
    allowed = live_settings().CLOCK_SKEW
    if ahead > allowed:
        yield Finding(
            "clock",
            "error",
            f"the store's clock differs from this host's by {ahead:.1f} s",
            f"Run an NTP service on both, or raise CLOCK_SKEW above {ahead:.1f} "
            f"(it is {allowed}): events between a page and its stream may be missed.",
            ahead,
        )
    else:
        yield Finding("clock", "ok", "the store's clock agrees with this host's", "", ahead)


def layer() -> Iterator[Finding]:
    if not bus.reaches_other_processes():
        yield Finding(
            "layer",
            "warning",
            "there is no channel layer that reaches other processes",
            "They hear of events in about a second, from the store. CHANNEL_LAYERS with "
            "channels_redis.pubsub.RedisPubSubChannelLayer makes it milliseconds.",
        )
        return
    try:
        took = async_to_sync(_round_trip)()
    except Exception as error:
        yield Finding(
            "layer",
            "error",
            f"it does not answer ({type(error).__name__}: {error})",
            "Look at the address in CHANNEL_LAYERS; events arrive from the store until then.",
        )
        return
    if took is None:
        yield Finding(
            "layer",
            "error",
            "it takes messages, and delivers none",
            "Do all processes have the same Redis, database number and prefix?",
        )
        return
    yield Finding("layer", "ok", "a message came back", "", took)


async def _round_trip() -> float | None:
    import asyncio

    found: Any = bus.layer_in_force()
    channel = await found.new_channel("live")
    group = f"live.doctor.{time.time_ns()}"
    await found.group_add(group, channel)
    await asyncio.sleep(0.2)  # some layers subscribe a moment later
    began = time.perf_counter()
    await found.group_send(group, {"type": "live.probe", "number": 0})
    try:
        await asyncio.wait_for(found.receive(channel), 2.0)
    except TimeoutError:
        return None
    took = time.perf_counter() - began
    await found.group_discard(group, channel)
    close = getattr(found, "close_pools", None)
    if close is not None:
        await close()
    return took


def processes() -> Iterator[Finding]:
    found = survey.ask("process")
    if not found.processes:
        yield Finding(
            "processes",
            "warning",
            "no process serves streams",
            "Is the site running, with an ASGI server, and with these settings? A process enrols with "
            "its first request.",
        )
        return
    for process in found.missing:
        yield Finding(
            "processes",
            "error",
            f"{process.host} (process {process.pid}) did not answer",
            "It was killed a moment ago, or it hangs.",
        )
    releases = {process.version for process in found.processes.values()}
    if len(releases) > 1:
        yield Finding(
            "processes",
            "warning",
            f"several releases of django_live run: {', '.join(sorted(releases))}",
            "Fine during a deploy.",
        )
    allowed = live_settings().CLOCK_SKEW + found.took
    for id, answer in found.answers.items():
        ahead = abs(float(answer.get("clock", time.time())) - time.time())
        if ahead > allowed:
            yield Finding(
                "processes",
                "error",
                f"the clock of {found.processes[id].host} differs from this host's by {ahead:.1f} s",
                "Run an NTP service on both.",
                ahead,
            )
    if found.answers:
        yield Finding("processes", "ok", f"{len(found.answers)} answered", "", found.took)


# -- through whatever stands before the site -------------------------------------------------------


def proxy(url: str, timeout: float) -> Iterator[Finding]:
    topic = new_topic()
    try:
        stream = listen(url, topic.name, lambda number: publish(topic, "ping", number), timeout)
    except Silent:
        yield from _of_stream(Stream(200, {"content-type": "text/event-stream"}))
    except Unreachable as error:
        yield Finding("proxy", "error", f"{url}: {error}", "Is the address right, from this host?")
        return
    else:
        yield from _of_stream(stream)
    yield from _of_websocket(url, timeout)


_OF_STATUS = {
    403: "Are the address's SECRET_KEY and settings those of this command?",
    404: 'Give the address that django_live.urls is included at: "https://your.site/live/".',
    400: "Does ALLOWED_HOSTS name this host?",
    501: "That process runs under WSGI: lead this address to an ASGI server.",
    502: "The proxy does not reach the server.",
    504: "The server does not answer the proxy in time.",
}


def _of_stream(stream: Stream) -> Iterator[Finding]:
    if stream.status != 200 or "text/event-stream" not in stream.headers.get("content-type", ""):
        advice = _OF_STATUS.get(stream.status, "What answers there is not django_live.")
        yield Finding("proxy", "error", f"the stream is answered with {stream.status}", advice)
        return
    encoding = stream.headers.get("content-encoding", "identity")
    if encoding != "identity":
        yield Finding(
            "proxy",
            "warning",
            f"the stream is compressed ({encoding}) on its way",
            "Take text/event-stream out of what the proxy compresses: it may hold events back.",
        )
    if stream.first is None:
        yield Finding(
            "proxy",
            "error",
            "the stream was opened, and nothing came: something on the way collects it",
            "nginx: `proxy_buffering off;` and `gzip off;` for this address. "
            "Others: turn response buffering off.",
        )
        return
    yield Finding("proxy", "ok", "a stream begins", "", stream.first)
    if len(stream.pings) < PINGS:
        yield Finding(
            "events",
            "error",
            f"of {PINGS} events that were published here, {len(stream.pings)} came in time",
            "Do this command and the server have the same store and channel layer? Else something on "
            "the way collects the stream.",
        )
        return
    median = statistics.median(stream.pings)
    if median > BUNCHED:
        yield Finding(
            "events",
            "warning",
            "events come late",
            "Without a channel layer that is so. Else something on the way collects them.",
            median,
        )
    else:
        yield Finding("events", "ok", "published here, they came through", "", median)


def _of_websocket(url: str, timeout: float) -> Iterator[Finding]:
    began = time.perf_counter()
    try:
        status = websocket_status(url, timeout)
    except Unreachable as error:
        yield Finding("websocket", "error", str(error), "Is the address right, from this host?")
        return
    took = time.perf_counter() - began
    if status == 101:
        yield Finding("websocket", "ok", "a WebSocket opens", "", took)
        return
    yield Finding(
        "websocket",
        "error",
        f"the handshake of a WebSocket is answered with {status or 'nothing'}",
        f"Let {urlsplit(url).path}ws/ pass with the headers Upgrade and Connection. Pages use the "
        "stream and POST until then.",
    )
