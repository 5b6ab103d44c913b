"""The polling view: what came since the client's cursor, as one JSON answer.

A short poll is answered at once, straight from the log: it needs no event loop, so it works under WSGI.
A long poll that has nothing to hear yet is held open, without a thread, by the same wrapper as a stream,
and ends with the first thing that the hub writes.

Must keep true: an answer's cursor covers exactly the frames of that answer, so a client that lost one
asks again with its old cursor and gets the same; cursors, reasons and codes are those of the stream; a
client that does what ``retry_after`` says is never in a busy loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags

from ..conf import live_settings
from ..core import hooks
from ..core.connections import Sink
from ..core.events import Event, Position, encode_data, join_places, place_text
from ..core.feeds import Dialect
from ..core.log import Head, get_log
from ..core.runtime import runtime
from ..core.subscribing import Request
from ..core.topics import Topic
from .frames import JSON
from .hold import HEADER, SCOPE_KEY, Slot
from .origins import shared_with
from .requests import MESSAGES, Plan, Refusal, Refused, place_for, plan_of, refusal_response
from .sockets import Message, Send, said_at_the_end

logger = logging.getLogger("django_live.polling")

ANSWER_EVENTS = 500
ANSWER_BYTES = 256 * 1024
"""What one answer carries at most, shared by the topics that moved; each gives one event at least."""
LONGEST_WAIT = 50.0
"""Seconds that a poll is held at most: proxies commonly give up on a silent server after 60."""


@transaction.non_atomic_requests
@shared_with("GET")
def poll(request: HttpRequest) -> HttpResponse:
    """``GET live/poll/?topic=a&cursor=…&wait=25``: see docs/reference/protocol.md."""
    try:
        if request.method != "GET":
            raise Refused(405, [Refusal("method-not-allowed")])
        plan = plan_of(request)
        wait = _wait_of(request)
        answer = read_now(plan)
    except Refused as refused:
        return refusal_response(refused)
    known = _known_tags(request)
    slot: Slot | None = request.scope.get(SCOPE_KEY) if isinstance(request, ASGIRequest) else None
    can_wait = slot is not None and wait > 0
    if slot is not None and can_wait and answer.may_wait(known):
        try:
            plan.place = place_for(request, plan.viewer)
        except Refused:
            can_wait = False  # an answer at once needs no place
        else:
            return _held(answer, slot, plan, Waiting(wait, answer.repeated, known))
    return _at_once(answer, known, can_wait=can_wait)


def _wait_of(request: HttpRequest) -> float:
    try:
        wait = float(request.GET.get("wait") or 0)
    except ValueError:
        wait = -1.0
    if not wait >= 0:  # NaN is not, either
        raise Refused(400, [Refusal("malformed-request")])
    return min(wait, LONGEST_WAIT)


def _known_tags(request: HttpRequest) -> frozenset[str]:
    """The entity tags that the client has; middleware that compresses makes them weak."""
    tags = parse_etags(request.headers.get("If-None-Match", ""))
    return frozenset(tag.removeprefix("W/") for tag in tags)


def tag_of(cursor: str, repeated: Iterable[bytes]) -> str:
    """The entity tag of an answer that tells nothing but this."""
    digest = hashlib.blake2b(cursor.encode() + b"\n" + b"".join(repeated), digest_size=16)
    return f'"{digest.hexdigest()}"'


# -- from the log ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Answer:
    """What a poll is told."""

    lines: list[bytes] = field(default_factory=list)
    repeated: list[bytes] = field(default_factory=list)
    """Those of the lines that the next poll would be told again: refusals, and how topics without
    history begin. Who shows their tag has them already."""
    places: list[str] = field(default_factory=list)
    news: bool = False
    """Whether there is something that the client does not know whatever tag it shows."""
    more: bool = False
    failed: bool = False

    @property
    def cursor(self) -> str:
        return join_places(self.places)

    @property
    def tag(self) -> str:
        return tag_of(self.cursor, self.repeated)

    def is_known(self, tags: frozenset[str]) -> bool:
        return not self.news and self.tag in tags

    def may_wait(self, tags: frozenset[str]) -> bool:
        """Whether there is nothing to tell yet."""
        return not self.news and (not self.repeated or self.tag in tags)


def read_now(plan: Plan) -> Answer:
    """What there is to tell now: one question for all heads, one more for each topic that moved.
    Runs in a plain thread. Raises ``Refused`` when the store does not answer."""
    return read_by(Reading, plan).answer


R = TypeVar("R", bound="Reading")


def read_by(reading: Callable[[Plan], R], plan: Plan) -> R:
    """The same by a reading of another dialect."""
    try:
        return reading(plan)
    except Exception as error:
        _report(error)
        raise Refused(503, [Refusal("unavailable")]) from error


def _report(error: Exception) -> None:
    logger.error(
        "The store does not answer (%s: %s); polls are refused until it does.",
        type(error).__name__,
        error,
        # A database's own words are enough.
        exc_info=None if isinstance(error, DatabaseError) else error,
    )


class Reading:
    """Makes the answer, topic by topic."""

    dialect: Dialect = JSON

    def __init__(self, plan: Plan) -> None:
        self.answer = Answer()
        self._log = get_log()
        self._known = plan.viewer.is_known
        logged = [r.topic for r in plan.requests if r.topic.history is not None]
        # Before anything else is read: what comes meanwhile is in the next answer.
        self.heads = self._log.heads(logged) if logged else {}
        moved = sum(self._is_behind(request) for request in plan.requests) or 1
        self._limits = max(1, ANSWER_EVENTS // moved), max(1, ANSWER_BYTES // moved)
        for refusal in plan.refusals:
            message = MESSAGES[refusal.code]
            self._tell(self.dialect.error(refusal.topic, refusal.code, message), repeated=True)
            self.answer.failed |= refusal.code == "unavailable"
        for request in plan.requests:
            if request.place is None:
                self.answer.news = True  # a place to begin from
            if request.topic.history is not None:
                self._from_log(request)
            else:
                self._without_history(request)
        self.answer.places += plan.kept_places

    def _is_behind(self, request: Request) -> bool:
        head, place = self.heads.get(request.topic.key), request.place
        if head is None or place is None or place.position is None:
            return False
        return place.position.epoch == head.epoch and place.position.offset < head.last

    def _from_log(self, request: Request) -> None:
        head, place = self.heads[request.topic.key], request.place
        if place is None:
            self._begin(request, head, None)
        elif not place.genuine or place.position is None:
            self._begin(request, head, "unknown-cursor")
        elif place.position.epoch != head.epoch:
            self._begin(request, head, "epoch")
        elif place.position.offset > head.last:
            # The log gave this place out and no longer knows it: it was set back.
            self._begin(request, self._log.begin_epoch(request.topic, head), "epoch")
        elif place.position.offset == head.last:
            self._stay(request, place.position)
        else:
            self._replay(request, place.position)

    def _replay(self, request: Request, position: Position) -> None:
        topic, wanted = request.topic, position.offset + 1
        page = self._log.read(topic, position.offset, *self._limits)
        first = page.events[0].offset if page.events else page.head.floor + 1
        if page.head.epoch != position.epoch:
            self._begin(request, page.head, "epoch")
        elif first > wanted:
            self._begin(request, page.head, "trimmed")
        elif not page.events:
            self._stay(request, position)  # not readable yet
        else:
            last = page.events[-1].offset
            for event in page.events:
                if event.created >= request.visible_from:
                    self._tell_event(topic, event, position.epoch)
            self.answer.news = True  # the cursor moved
            self.answer.more |= last < page.head.last
            self._stay(request, Position(position.epoch, last))

    def _without_history(self, request: Request) -> None:
        if request.place is None or request.topic.has_snapshot():
            self._begin(request, None, None)
        else:
            self._begin(request, None, "not-resumable")

    def _begin(self, request: Request, head: Head | None, reason: str | None) -> None:
        """Begin the topic where its log stands: what to forget, and what to start from."""
        topic, repeated = request.topic, head is None
        snapshot = ""
        if topic.has_snapshot():
            try:
                snapshot = encode_data(hooks.call_sync(topic.snapshot))
            except Exception:
                logger.exception("%r.snapshot() failed; a poll was told to come back.", topic)
                self._fail(request)
                return
        if reason is not None:
            self._tell(self.dialect.reset(topic.name, reason, bool(snapshot)), repeated=repeated)
        if snapshot:
            self._tell(self.dialect.snapshot(topic.name, snapshot), repeated=repeated)
        self._stay(request, head.position if head is not None else None)

    def _fail(self, request: Request) -> None:
        """The client may resume where it was."""
        code = "unavailable"
        self._tell(self.dialect.error(request.topic.name, code, MESSAGES[code]))
        self.answer.failed = True
        if request.place is not None:
            self.answer.places.append(request.place.text)

    def _stay(self, request: Request, position: Position | None) -> None:
        self.answer.places.append(place_text(request.topic.key, position, known=self._known))

    def _tell_event(self, topic: Topic, event: Event, epoch: str) -> None:
        self._tell(self.dialect.event(topic, event))

    def _tell(self, line: bytes, *, repeated: bool = False) -> None:
        self.answer.lines.append(line)
        if repeated:
            self.answer.repeated.append(line)
        else:
            self.answer.news = True


def _at_once(answer: Answer, known: frozenset[str], *, can_wait: bool) -> HttpResponse:
    if answer.is_known(known):
        response = HttpResponse(status=304)
        del response["Content-Type"]
        response["Retry-After"] = str(max(1, round(live_settings().RETRY)))
    else:
        waits_next = can_wait and answer.news and not answer.failed
        retry_after = 0.0 if answer.more or waits_next else live_settings().RETRY
        response = _json(JSON.answer(answer.lines, answer.cursor, retry_after, answer.more))
    if answer.is_known(known) or answer.tag not in known:
        # Else this tag would let middleware make "not modified" of an answer to an older cursor.
        response["ETag"] = answer.tag
    response["Cache-Control"] = "no-store, private"
    return response


def _json(body: bytes) -> HttpResponse:
    return HttpResponse(body, content_type="application/json")


# -- held ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Waiting:
    """What a poll that is held knows beside its plan."""

    seconds: float
    repeated: list[bytes]
    """Lines that the client has, and that the hub will say again."""
    known: frozenset[str]


def _held(answer: Answer, slot: Slot, plan: Plan, waiting: Waiting) -> HttpResponse:
    """For the wrapper to hold. What middleware does not let it hold is a short poll's answer."""
    body = JSON.answer(answer.lines, answer.cursor, live_settings().RETRY, answer.more)
    response = _json(body)
    response["Cache-Control"] = "no-store, private"
    response["Content-Encoding"] = "identity"  # GZipMiddleware leaves an encoded response alone
    slot.plan = plan
    slot.serve = partial(serve_poll, waiting)
    response[HEADER] = slot.token
    return response


async def serve_poll(
    waiting: Waiting,
    plan: Plan | None,
    start: Message,
    gone: asyncio.Future[Message],
    send: Send,
) -> None:
    """Wait for something to tell, then write the answer."""
    assert plan is not None
    place = plan.place
    live = runtime()
    collecting = CollectingSink(waiting.repeated, join_places(_places_of(plan)))
    # A little less than allowed, and not all at once: polls that began together spread.
    seconds = waiting.seconds * random.uniform(0.9, 1.0)
    timer = live.hub.loop.call_later(0 if live.draining else seconds, collecting.end)
    gone.add_done_callback(lambda _: collecting.end())
    connection = None
    try:
        connection = await live.open(
            collecting,
            JSON,
            plan.viewer,
            plan.requests,
            decided=plan.decided,
            kept_places=plan.kept_places,
            transport="polling",
            peer=plan.peer,
        )
        plan = None
        await collecting.ended
    finally:
        timer.cancel()
        left = gone.done()
        gone.cancel()
        if connection is not None:
            live.hub.drop(connection)
        if place is not None:
            place.release()
    if not left:
        with said_at_the_end():
            await _write(collecting, waiting, start, send, draining=live.draining)


def _places_of(plan: Plan) -> list[str]:
    return [r.place.text for r in plan.requests if r.place is not None] + plan.kept_places


async def _write(
    collected: CollectingSink, waiting: Waiting, start: Message, send: Send, *, draining: bool
) -> None:
    tag = tag_of(collected.cursor, waiting.repeated)
    unchanged = not collected.lines and tag in waiting.known and not draining
    if draining:
        retry_after = random.uniform(0, live_settings().RETRY)
    else:
        retry_after = live_settings().RETRY if collected.is_only_about_itself else 0.0
    body = b""
    if not unchanged:
        lines = collected.lines
        body = JSON.answer(lines, collected.cursor, retry_after, collected.is_full)
    left_out = (b"etag", b"content-type", b"content-length") if unchanged else (b"etag",)
    headers = [(n, v) for n, v in start["headers"] if bytes(n).lower() not in left_out]
    headers.append((b"ETag", tag.encode()))
    if unchanged:
        headers.append((b"Retry-After", b"0"))
    else:
        headers.append((b"Content-Length", str(len(body)).encode()))
    try:
        await send({**start, "status": 304 if unchanged else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
    except Exception:
        # What a server raises for a client that left meanwhile; it asks again with its old cursor.
        logger.debug("A poll could not be answered.", exc_info=True)


class CollectingSink(Sink):
    """Takes what the hub writes until there is something to tell, and what comes with it."""

    def __init__(self, repeated: Iterable[bytes], cursor: str) -> None:
        self.lines: list[bytes] = []
        self.cursor = cursor
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._repeated = set(repeated)
        self._size = 0

    @property
    def is_full(self) -> bool:
        return self._size >= ANSWER_BYTES

    @property
    def is_only_about_itself(self) -> bool:
        """Whether there are frames, and no event among them."""
        own = b'{"event":"stream-'
        return bool(self.lines) and all(line.startswith(own) for line in self.lines)

    def put(self, prepared: bytes) -> bool:
        if self.ended.done() or self.is_full:
            return False
        for line in prepared.splitlines(keepends=True):
            if line.startswith(b"#"):
                self.cursor = line[1:].decode().strip()
            elif line in self._repeated:
                self._repeated.discard(line)
            else:
                self._take(line)
        return not self.is_full

    def _take(self, line: bytes) -> None:
        if not self.lines:  # what the same dispatch still brings is in the answer
            self._loop.call_soon(self.end)
        self.lines.append(line)
        self._size += len(line)

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
