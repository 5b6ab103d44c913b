"""What a client sends to a topic, whatever it came by: who may, what becomes of it, how much at once.

Must keep true: the messages of one sender to one topic are handled in order, one at a time, and those
to different topics do not wait for each other; what waits is bounded; nothing that a client sends
raises beyond this module, and what the project's own code raises is told by a code; where the sender is
answered before others hear of what was done, that is committed.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.http import Http404

from ..conf import live_settings
from ..core import hooks
from ..core.commits import PutOff, putting_off
from ..core.counting import tally
from ..core.events import encode_data
from ..core.topics import Message, Topic, Viewer
from ..exceptions import Rejected
from .limits import Bucket as TokenBucket
from .limits import Buckets
from .requests import MESSAGES

logger = logging.getLogger("django_live.inbound")

MOST_WAITING = 64
"""Messages of one connection that wait or are being handled."""


class Answer(NamedTuple):
    """What became of a message: JSON, or the code of why not and a text for the user."""

    data: str = "null"
    code: str = ""
    text: str = ""


def refusal(code: str) -> Answer:
    return Answer(code=code, text=MESSAGES[code])


# -- the project's own code ------------------------------------------------------------------------


def _answer_to(error: Exception, topic: Topic) -> Answer:
    """What is told of something that ``can_send`` or ``on_message`` raised."""
    if isinstance(error, Rejected):
        return Answer(code=error.code, text=error.message)
    if isinstance(error, ValidationError):
        return Answer(code="rejected", text=" ".join(error.messages))
    if isinstance(error, PermissionDenied | ObjectDoesNotExist | Http404):
        return refusal("forbidden")
    if isinstance(error, TimeoutError):
        return refusal("timeout")
    logger.error("A message to %r could not be handled.", topic, exc_info=error)
    return refusal("unavailable")


Tell = Callable[[Answer], None]


def handle_in_thread(topic: Topic, message: Message, tell: Tell) -> None:
    """Ask the topic and hand it the message, from a plain thread. ``tell`` gets the answer; this returns
    when the others were told, too."""
    with _replying_first(topic) as others:
        answer = _answer_in_thread(topic, message)
    try:
        tell(answer)
    finally:
        others.tell()


def _replying_first(topic: Topic) -> AbstractContextManager[PutOff]:
    return putting_off() if topic.replies_first else nullcontext(PutOff())


def _answer_in_thread(topic: Topic, message: Message) -> Answer:
    try:
        if not message.viewer.still_stands():
            return refusal("signed-out")  # never as a mere visitor, who may perhaps send, too
        if not message.viewer.may_name(topic.name):
            return refusal("forbidden")
        if not hooks.call_sync(topic.can_send, message.viewer):
            return refusal("forbidden")
        method = topic.on_message
        if inspect.iscoroutinefunction(method):
            return Answer(encode_data(async_to_sync(_in_time)(method, message)))
        return Answer(encode_data(hooks.call_sync(method, message)))
    except Exception as error:
        return _answer_to(error, topic)


async def _in_time(method: Callable[[Message], Awaitable[Any]], message: Message) -> Any:
    async with asyncio.timeout(live_settings().CALL_TIMEOUT):
        return await method(message)


async def _handle_in_loop(topic: Topic, message: Message, tell: Tell) -> None:
    """The same for hooks that are coroutines, on the event loop that is the project's own."""
    with _replying_first(topic) as others:
        answer = await _answer_in_loop(topic, message)
    tell(answer)
    if others.has_any:
        await hooks.in_thread(hooks.message_threads(), others.tell)


async def _answer_in_loop(topic: Topic, message: Message) -> Answer:
    try:
        # This loads the user, too: coroutines cannot, where Django lets nobody ask a database.
        if not await hooks.in_thread(hooks.message_threads(), message.viewer.still_stands):
            return refusal("signed-out")
        if not message.viewer.may_name(topic.name):
            return refusal("forbidden")
        if not await hooks.call(topic.can_send, message.viewer):
            return refusal("forbidden")
        return Answer(encode_data(await hooks.call(topic.on_message, message)))
    except Exception as error:
        return _answer_to(error, topic)


async def handle(topic: Topic, message: Message, tell: Tell) -> None:
    """Hand a message to its topic. ``tell`` is called once, in time; this returns when the project's
    code has come to its end, which may be later: the next message of the topic waits for that."""
    is_told = False

    def tell_once(answer: Answer) -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            tell(counted(answer))

    methods = topic.can_send, topic.on_message
    in_loop = any(inspect.iscoroutinefunction(method) for method in methods)
    begun = in_loop
    loop = asyncio.get_running_loop()

    def in_thread() -> None:
        nonlocal begun
        begun = True
        handle_in_thread(topic, message, tell_in_loop)

    def tell_in_loop(answer: Answer) -> None:
        # Straight into the loop, so before what the thread does next: writing to everybody who listens.
        loop.call_soon_threadsafe(tell_once, answer)

    if in_loop:
        working = asyncio.ensure_future(_handle_in_loop(topic, message, tell_once))
    else:
        working = asyncio.ensure_future(hooks.in_thread(hooks.message_threads(), in_thread))
    await asyncio.wait({working}, timeout=live_settings().CALL_TIMEOUT)
    if not working.done():
        if not is_told:
            # A thread that has begun cannot be stopped; one that waited for its turn never begins now.
            tell_once(refusal("timeout" if begun else "busy"))
            if in_loop or not begun:
                working.cancel()
        await asyncio.wait({working})
    elif isinstance(error := working.exception(), Exception):
        tell_once(_answer_to(error, topic))


def counted(answer: Answer) -> Answer:
    """The same, counted."""
    # A project's own codes could be any number of labels.
    name = answer.code if answer.code in MESSAGES else "rejected"
    tally.count("messages", name if answer.code else "ok")
    return answer


# -- how much at once ------------------------------------------------------------------------------


class Bucket:
    """Of one connection: ``MESSAGE_BURST`` tokens, of which ``MESSAGE_RATE`` come back each second."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens = TokenBucket(live_settings().MESSAGE_BURST)

    def take(self) -> bool:
        """Whether there is a token for one more message."""
        settings = live_settings()
        return self._tokens.take(settings.MESSAGE_RATE, settings.MESSAGE_BURST)


class Senders:
    """The buckets of users and sessions, whatever they send by. Of this process."""

    def __init__(self) -> None:
        self._buckets = Buckets()

    def take(self, sender: str) -> bool:
        settings = live_settings()
        return self._buckets.take(sender, settings.MESSAGE_RATE, settings.MESSAGE_BURST)


senders = Senders()


def sender_of(viewer: Viewer) -> str:
    """Whom the rate of messages is counted for over all connections; empty where nobody knows."""
    if viewer.user_id is not None:
        return f"user {viewer.user_id}"
    if viewer.session_key is not None:
        return f"session {viewer.session_key}"
    return viewer.credential


Work = Callable[[], Awaitable[None]]


class Lanes:
    """What one connection asked for and is not done: a lane for each topic, served in order."""

    __slots__ = ("_bytes", "_count", "_lanes", "_spawn")

    def __init__(self, spawn: Callable[[Any], Any]) -> None:
        self._spawn = spawn
        self._lanes: dict[str, deque[tuple[Work, int]]] = {}
        self._count = 0
        self._bytes = 0

    @property
    def are_empty(self) -> bool:
        return not self._count

    def put(self, lane: str, work: Work, size: int) -> bool:
        """Do this after what waits in the same lane; False when too much waits already."""
        too_many = self._count >= MOST_WAITING
        if too_many or (self._count and self._bytes + size > 2 * live_settings().MESSAGE_BYTES):
            return False
        self._count += 1
        self._bytes += size
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = deque()
            self._spawn(self._serve(lane, waiting))
        waiting.append((work, size))
        return True

    async def _serve(self, lane: str, waiting: deque[tuple[Work, int]]) -> None:
        try:
            while waiting:
                work, size = waiting.popleft()
                try:
                    await work()
                except Exception:
                    logger.exception("What a client asked for could not be done.")
                finally:
                    self._count -= 1
                    self._bytes -= size
        finally:
            del self._lanes[lane]
