"""One open WebSocket: what its client says, and what becomes of it.

Must keep true: nothing that a client sends ends more than its own connection, or is seen in the log;
what it asked for is bounded, and answered in order for each topic.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..conf import live_settings
from ..core import hooks
from ..core.connections import Connection
from ..core.counting import tally
from ..core.rechecking import signed_out
from ..core.runtime import Runtime, runtime
from ..core.topics import Message as TopicMessage
from ..core.topics import Topic, registry
from ..exceptions import InvalidTopic, UnknownTopic
from . import inbound
from .actions import (
    Action,
    BadAction,
    Parts,
    Ping,
    Pong,
    Ref,
    Sent,
    Subscribe,
    Unsubscribe,
    read_text,
)
from .frames import compact
from .inbound import Answer, Bucket, Lanes, handle, refusal, sender_of
from .requests import MESSAGES, SHOWN_NAME, Plan, Refusal, Refused, decide
from .socket_frames import SOCKET
from .socket_sink import SocketSink
from .sockets import LAST_WRITE, Message, Receive, Send

logger = logging.getLogger("django_live.websocket")

FIRST_WORD = 1.0
"""Seconds in which a client that was just let in may ask for topics by what was found out of it then."""
MOST_BAD = 20
"""Messages in a row that cannot be read, after which the protocol counts as broken."""
CLOSE_CODES = {
    "good-bye": 4000,
    "silent": 4001,
    "too-slow": 4002,
    "": 4003,
    "too-many-connections": 4004,
    "at-capacity": 4005,
    "signed-out": 4100,
    "expired": 4101,
    "not-authenticated": 4102,
    "disconnected": 4200,
    "broken": 4201,
    "cross-site": 4202,
    "unknown-version": 4203,
    "refused": 4204,
}


class Socket:
    """One open WebSocket: what its client says, and what becomes of it."""

    __slots__ = (
        "_bad",
        "_bucket",
        "_connection",
        "_decided",
        "_lanes",
        "_live",
        "_parts",
        "_receive",
        "_send",
        "_sink",
        "_told",
        "_undo",
    )

    def __init__(self, receive: Receive, send: Send, send_frames: Send) -> None:
        reader = asyncio.current_task()
        assert reader is not None
        self._receive = receive
        self._send = send
        self._live: Runtime = runtime()
        self._sink = SocketSink(send_frames, reader)
        self._connection: Connection | None = None
        self._undo: Callable[[], None] = lambda: None
        self._bucket: Bucket | None = None
        self._lanes: Lanes | None = None
        self._parts: Parts | None = None
        self._bad = 0
        self._decided = 0.0
        """While the viewer still has the user as they were let in: as of when, by ``time.monotonic()``."""
        self._told = float("-inf")
        """When the client was last told that it sends too much, without a ref to tell it by."""

    async def open(self, plan: Plan) -> None:
        self._connection = await self._live.open(
            self._sink,
            SOCKET,
            plan.viewer,
            [],
            decided=plan.decided,
            two_way=True,
            transport="websocket",
            peer=plan.peer,
        )
        self._undo = self._sink.attach(self._connection)
        self._connection.is_busy = self._is_busy
        if plan.viewer.has_loaded_user:
            self._decided = plan.decided
            asyncio.get_running_loop().call_later(FIRST_WORD, self._forget_user)

    def _forget_user(self) -> None:
        """From here on permissions are asked for with the user as they are then."""
        if self._decided and self._connection is not None:
            self._decided = 0.0
            self._connection.viewer.forget_user()

    async def listen(self) -> None:
        """Take what the client says until one side ends the connection."""
        try:
            while not self._sink.ended:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._sink.disconnect()
                else:
                    self._take(message)
        except asyncio.CancelledError:
            reader = asyncio.current_task()
            # Ours, when the hub ended the connection; the server's own is none of our business.
            if not self._sink.ended or (reader is not None and reader.uncancel() > 0):
                raise

    async def leave(self) -> None:
        """Say why it is over, if there is still somebody to hear it."""
        connection = self._connection
        if connection is not None:
            self._live.hub.drop(connection)
        try:
            if await self._sink.finished():
                self._undo()
                ending = connection.ending if connection is not None else ""
                close = {"type": "websocket.close", "code": CLOSE_CODES[ending]}
                async with asyncio.timeout(LAST_WRITE):
                    await self._send(close)
        except Exception:
            logger.debug("A WebSocket could not be closed.", exc_info=True)

    # -- what the client says ----------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        connection = self._connection
        assert connection is not None
        connection.heard = True
        connection.last_active = time.monotonic()
        try:
            action = self._read(message)
        except BadAction as bad:
            self._bad += 1
            if self._has_token():
                self._answer(bad.ref, bad.topic, refusal(bad.code))
            else:
                self._refuse_flood(bad.ref, bad.topic)
            if self._bad >= MOST_BAD:
                connection.close(live_settings().RETRY, ending="broken")
        else:
            self._bad = 0
            if action is not None:
                self._do(action)

    def _read(self, message: Message) -> Action | None:
        limit = live_settings().MESSAGE_BYTES
        text = message.get("text")
        if text is not None:
            # A character has up to four bytes: so the cheap question comes first.
            if len(text) * 4 > limit and len(text.encode(errors="replace")) > limit:
                raise BadAction("too-large")
            return read_text(text)
        data = message.get("bytes") or b""
        if self._parts is None:
            self._parts = Parts()
        return self._parts.read(data, limit)

    def _do(self, action: Action) -> None:
        assert self._connection is not None
        if isinstance(action, Pong):
            return
        topic = action.topic if isinstance(action, Sent) else ""
        ref = None if isinstance(action, Ping) else action.ref
        if not self._has_token():
            self._refuse_flood(ref, topic)
            return
        if isinstance(action, Ping):
            beat = SOCKET.keep_alive() + SOCKET.end(self._connection.cursor)
            self._notify(beat)
            return
        if isinstance(action, Sent):
            lane, size, work = topic, action.size, partial(self._hand_over, action)
        elif isinstance(action, Subscribe):
            lane, size, work = "", len(action.cursor), partial(self._subscribe, action)
        else:
            lane, size, work = "", 0, partial(self._unsubscribe, action)
        if self._lanes is None:
            self._lanes = Lanes(self._live.spawn)
        if not self._lanes.put(lane, work, size):
            self._answer(ref, topic, refusal("busy"))

    def _has_token(self) -> bool:
        assert self._connection is not None
        sender = sender_of(self._connection.viewer)
        if sender:  # a second connection gives nobody a second allowance
            return inbound.senders.take(sender)
        if self._bucket is None:
            self._bucket = Bucket()
        return self._bucket.take()

    def _refuse_flood(self, ref: Ref | None, topic: str) -> None:
        """Say so, but to a flood without refs only once a second."""
        now = self._live.hub.loop.time()
        if ref is not None or now - self._told >= 1.0:
            self._told = now if ref is None else self._told
            self._answer(ref, topic, refusal("too-many-messages"))

    def _answer(self, ref: Ref | None, topic: str, answer: Answer) -> None:
        topic = topic[:SHOWN_NAME]
        if not answer.code:
            if ref is not None:
                self._notify(SOCKET.reply(ref, answer.data))
        elif ref is None:
            say = SOCKET.send_error if topic else SOCKET.error
            self._notify(say(topic, answer.code, answer.text))
        else:
            error = {"code": answer.code, "message": answer.text}
            self._notify(SOCKET.refused(ref, {**error, "topic": topic} if topic else error))

    def _notify(self, frame: bytes) -> None:
        connection = self._connection
        assert connection is not None
        if connection.closed:
            return
        connection.notify(frame)
        if connection.blocked and sum(map(len, connection.notices)) > live_settings().QUEUE_BYTES:
            # It asks and asks, and reads no answer.
            connection.ending = "too-slow"
            self._live.hub.drop(connection)

    # -- what it asked for -------------------------------------------------------------------------

    async def _subscribe(self, asked: Subscribe) -> None:
        connection = self._connection
        assert connection is not None
        if self._is_over():
            return
        known = {s.feed.topic.name for s in connection.subscriptions.values()}
        fresh = [name for name in asked.topics if name not in known]
        free = max(0, live_settings().MAX_TOPICS - len(known))
        decided = self._decided
        viewer = connection.viewer if decided else connection.viewer.refreshed()

        def decide_now() -> Plan | None:
            # Who has signed out must not be given what anybody may see, as if nothing had happened.
            if not viewer.still_stands():
                return None
            try:
                return decide(viewer, fresh, asked.cursor, free)
            except Refused:
                return None

        try:
            plan = await hooks.in_thread(hooks.hook_threads(), decide_now)
        except Exception:
            logger.exception("What a WebSocket asked for could not be decided.")
            self._answer(asked.ref, "", refusal("unavailable"))
            return
        self._forget_user()
        if self._is_over():
            return
        if plan is None:
            signed_out(connection)
            return
        for place in plan.kept_places:
            connection.forget_place(place)
            connection.keep_place(place)
        had = [name for name in asked.topics if name in known]
        if asked.cursor and not known:
            tally.count("reconnects")

        def reply(begun: list[str], failed: list[str]) -> bytes:
            refusals = plan.refusals + [Refusal("unavailable", name) for name in failed]
            if asked.ref is None:
                errors = (SOCKET.error(r.topic, r.code, MESSAGES[r.code]) for r in refusals)
                return b"".join(errors)
            accepted = [name for name in asked.topics if name in had or name in begun]
            return SOCKET.reply(asked.ref, _as_json(accepted, refusals))

        # What was commanded since the user was loaded is carried out on what begins here, too.
        await self._live.subscribe(
            connection, plan.requests, reply, decided=decided or plan.decided
        )

    async def _unsubscribe(self, asked: Unsubscribe) -> None:
        connection = self._connection
        assert connection is not None
        if self._is_over():
            return
        topics = [topic for name in asked.topics if (topic := self._topic(name)) is not None]
        left = [topic.name for topic in topics if topic.key in connection.subscriptions]
        self._live.unsubscribe(connection, topics)
        self._answer(asked.ref, "", Answer(_as_json(left, None)))

    async def _hand_over(self, sent: Sent) -> None:
        connection = self._connection
        assert connection is not None
        if connection.ending in ("signed-out", "disconnected"):
            return

        def tell(answer: Answer) -> None:
            self._answer(sent.ref, sent.topic, answer)
            if answer.code == "signed-out":
                signed_out(connection)

        try:
            topic = registry.resolve(sent.topic, connection.viewer.namespace)
        except UnknownTopic:
            tell(refusal("forbidden"))
            return
        except InvalidTopic:
            tell(refusal("malformed-topic"))
            return
        message = TopicMessage(
            type=sent.type,
            data=sent.data,
            viewer=connection.viewer.refreshed(),
            connection=connection.id,
            sequence=sent.sequence,
            sent=sent.sent,
        )
        await handle(topic, message, tell)

    def _is_busy(self) -> bool:
        return self._lanes is not None and not self._lanes.are_empty

    def _is_over(self) -> bool:
        return self._sink.ended

    def _topic(self, name: str) -> Topic | None:
        assert self._connection is not None
        try:
            return registry.resolve(name, self._connection.viewer.namespace)
        except InvalidTopic:
            return None


def _as_json(topics: list[str], refusals: list[Refusal] | None) -> str:
    body: dict[str, Any] = {"topics": topics}
    if refusals is not None:
        body["errors"] = [refusal.as_json() for refusal in refusals]
    return compact(body)
