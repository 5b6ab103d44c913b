"""Station 7: commands to every process: disconnect, re-check.

Must keep true: a command reaches every process also when the bus loses it. So commands are events of
an internal topic with a log, and each process reads it as any subscriber reads a topic; a process that
missed some beyond repair asks every permission again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, ClassVar

from asgiref.sync import sync_to_async

from ..conf import live_settings
from .connections import Connection, Sink
from .hub import Hub
from .publishing import publish
from .rechecking import Rechecking, signed_out
from .records import record
from .subscribing import Request, Subscribing
from .topics import History, Topic, Viewer, as_topic

logger = logging.getLogger("django_live.control")

RECENT_COMMANDS = 100
QUESTION = "ask"
EVERYTHING: dict[str, Any] = {}


class ControlTopic(Topic):
    """What processes tell each other. Nobody may subscribe to it from outside."""

    pattern = "django_live/control"
    history = History(events=10_000, age=timedelta(hours=1))

    def forget(self, user: Any, type: str, data: Any) -> Any:
        """Commands stay: they hold primary and session keys only, for an hour."""
        return data


def disconnect(
    *,
    user: Any = None,
    session: str | None = None,
    topic: Topic | str | None = None,
    connection: str | None = None,
    using: str | None = None,
) -> None:
    """End the connections of a user (or their primary key), of a session key, of a topic's
    subscribers, or one by its id, in every process. Several conditions must all hold; at least one
    is needed. After the commit, as ``publish()``."""
    command = _selection(user, session, topic, connection)
    if not command:
        raise ValueError("disconnect() needs a user, a session, a topic or a connection.")
    publish(ControlTopic(), "disconnect", command, using=using)


def sign_out(session: str, *, using: str | None = None) -> None:
    """End the connections that were opened with this session key, in every process. After the
    commit, as ``publish()``."""
    publish(ControlTopic(), "sign_out", {"session": session}, using=using)


def recheck(
    *,
    user: Any = None,
    topic: Topic | str | None = None,
    connection: str | None = None,
    using: str | None = None,
) -> None:
    """Ask again whether a user (or their primary key) may see what they are subscribed to, whether a
    topic's subscribers may, or one connection by its id, in every process; without any for everybody."""
    publish(ControlTopic(), "recheck", _selection(user, None, topic, connection), using=using)


def erased(topic: Topic, *, using: str | None = None) -> None:
    """Say that data of kept events was changed: what processes keep of the topic in memory is read
    from the log again."""
    publish(ControlTopic(), "erased", _selection(None, None, topic, None), using=using)


adisconnect = sync_to_async(disconnect)
arecheck = sync_to_async(recheck)


def _selection(
    user: Any, session: str | None, topic: Topic | str | None, connection: str | None
) -> dict[str, str]:
    chosen = {
        "user": None if user is None else str(getattr(user, "pk", user)),
        "session": session,
        "topic": None if topic is None else as_topic(topic).key,
        "connection": connection,
    }
    return {name: value for name, value in chosen.items() if value is not None}


class Control:
    """Carries out commands on the connections of one event loop."""

    def __init__(self, hub: Hub, subscribing: Subscribing, spawn: Callable[..., Any]) -> None:
        self.hub = hub
        self.subscribing = subscribing
        self._spawn: Callable[[Coroutine[Any, Any, None]], Any] = spawn
        self._rechecking = Rechecking(subscribing)
        self._ear: Connection | None = None
        self._recent: deque[tuple[float, str, dict[str, str]]] = deque(maxlen=RECENT_COMMANDS)
        self.on_question: Callable[[dict[str, Any]], None] = lambda question: None
        """Called for what ``survey`` asks every process."""
        self._all_since = time.monotonic()
        """What was commanded since then is among the recent ones."""

    async def listen(self) -> None:
        """Subscribe to the commands, and stay subscribed."""
        while True:
            if self._ear is None or not self._ear.subscriptions:
                ear = Connection(self.hub, _Ear(self), _Commands(), Viewer(), self.subscribing.need)
                await self.subscribing.open(ear, [Request(ControlTopic(), None)])
                if ear.subscriptions:
                    self.carry_out("recheck", EVERYTHING)  # commands may have passed by
                    self.carry_out("erased", EVERYTHING)
                    self._ear = ear
            await asyncio.sleep(1.0)

    def catch_up(self, connection: Connection, since: float) -> None:
        """Carry out on a new connection what was commanded after its permissions were decided: it
        was not among the connections yet."""
        if since < self._all_since:
            self._spawn(self.check([connection]))
        for when, command, selection in list(self._recent):
            if when >= since:
                self._carry_out_on([connection], command, selection)

    def carry_out(self, command: str, selection: dict[str, str]) -> None:
        """Do what a command says here."""
        if len(self._recent) == RECENT_COMMANDS:
            self._all_since = self._recent[0][0]
        if command == "erased":  # no connection is concerned
            self._forget_rings(selection)
            return
        if command == QUESTION:  # it asks, and changes nothing
            self.on_question(selection)
            return
        self._recent.append((time.monotonic(), command, selection))
        self._carry_out_on(list(self.hub.connections.values()), command, selection)

    def _forget_rings(self, selection: dict[str, str]) -> None:
        for feed in self.hub.feeds.values():
            if selection.get("topic", feed.key) == feed.key:
                feed.forget_ring()

    def _carry_out_on(
        self, connections: Iterable[Connection], command: str, selection: dict[str, str]
    ) -> None:
        chosen = [c for c in connections if _is_chosen(c, selection)]
        if chosen and selection:
            # Not the session: its key is a secret.
            whose: dict[str, Any] = {
                name: selection.get(name) for name in ("user", "connection", "topic")
            }
            record("command", command=command, connections=len(chosen), **whose)
        if command == "disconnect":
            for connection in chosen:
                frame = connection.dialect.error(
                    "", "disconnected", "This connection was closed by the site."
                )
                connection.close(live_settings().RETRY, frame, "disconnected")
        elif command == "sign_out":
            for connection in chosen:
                signed_out(connection)
        elif command == "recheck":
            self._spawn(self.check(chosen, selection.get("topic")))
        else:
            logger.warning("Another release sent the command %r, unknown here.", command)

    async def check(self, connections: Iterable[Connection], topic_key: str | None = None) -> None:
        """Ask the permissions of these connections again, each viewer and topic once."""
        await self._rechecking.check(connections, topic_key)


def _is_chosen(connection: Connection, selection: dict[str, str]) -> bool:
    return (
        selection.get("user") in (None, connection.viewer.user_id)
        and selection.get("session") in (None, connection.viewer.session_key)
        and selection.get("connection") in (None, connection.id)
        and ("topic" not in selection or selection["topic"] in connection.subscriptions)
    )


class _Commands:
    """The dialect of the control topic: a JSON line each, ``[command, selection]``."""

    name = "commands"
    everything: ClassVar[bytes] = b"".join(
        json.dumps([command, EVERYTHING]).encode() + b"\n" for command in ("recheck", "erased")
    )

    def event(self, topic: Topic, event: Any) -> bytes:
        return json.dumps([event.type, json.loads(event.data)]).encode() + b"\n"

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        return self.everything

    def end(self, cursor: str) -> bytes:
        return b""

    def moved(self, cursor: str) -> bytes:
        return b""

    def keep_alive(self) -> bytes:
        return b""

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        return b""

    def snapshot(self, topic: str, data: str) -> bytes:
        return b""

    def error(self, topic: str, code: str, message: str) -> bytes:
        return b""

    def goodbye(self, retry: float) -> bytes:
        return b""


class _Ear(Sink):
    """The socket of the control topic's reader: it acts on what is written to it."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def put(self, prepared: bytes) -> bool:
        for line in prepared.splitlines():
            command, selection = json.loads(line)
            self._control.carry_out(command, selection)
        return True

    def end(self) -> None:
        pass
