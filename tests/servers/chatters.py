"""Members of a room who write over plain sockets, come back when a server is gone, and send again what was
not acknowledged. And a judge of what became of it. Nothing of the package is used here."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.servers import Server
from tests.support.socket_client import SocketClient

MAKE = """
import json
from django.contrib.auth.models import User
from django.test import Client
from django_live.chat import create_room
keys = {}
users = []
for n in range(COUNT):
    user = User(username=f"m{n}")
    user.set_unusable_password()
    user.save()
    client = Client()
    client.force_login(user)
    users.append(user)
    keys[user.username] = client.session.session_key
room = create_room("Hall", by=users[0], members=users)
print(json.dumps([room.pk, keys]))
"""
KEPT = """
import json
from django_live.chat.models import Message
rows = Message.objects.filter(room=ROOM).order_by("number")
print(json.dumps(list(rows.values_list("number", "text"))))
"""

LOST = (ConnectionClosed, InvalidHandshake, OSError, TimeoutError, EOFError)


@dataclass
class Chatter:
    """One member. ``is_new_each_time``: sends again as if it were another message; ``forgets``: comes
    back without its cursor. Both are wrong, and there to be found out."""

    name: str
    session: str
    topic: str
    servers: Sequence[Server]
    count: int
    is_new_each_time: bool = False
    forgets: bool = False
    acknowledged: dict[str, int] = field(default_factory=dict)
    """By text the number that the server answered with."""
    heard: list[tuple[int, str]] = field(default_factory=list)
    resets: int = 0
    cuts: int = 0
    problem: str = ""
    _client: SocketClient | None = None
    _read: int = 0
    _cursor: str = ""

    def write(self) -> None:
        """Say everything; each until it is acknowledged. The answer to the second one is lost, whatever
        happens to the servers."""
        try:
            for n in range(self.count):
                text = f"{self.name} says {n}"
                self._say(text, n)
                if n == 1:
                    self._say(text, n, again=True)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    def hear(self, last: int, timeout: float = 30) -> None:
        """Listen until the message with this number is there."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                client = self._connected()
                self._note()  # what came before an answer was passed over
                if self.heard and max(number for number, _ in self.heard) >= last:
                    return
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                try:
                    client.wait_for(lambda frame: frame.event == "message", min(left, 5))
                except TimeoutError:
                    continue
                except LOST:  # who had said everything learns of the kill now
                    self.cuts += 1
                    self.leave()
        except Exception as error:
            self.problem = self.problem or f"hearing: {type(error).__name__}: {error}"
        finally:
            self.leave()

    def leave(self) -> None:
        if self._client is not None:
            self._note()
            self._client.cut()
            self._client = None

    def _say(self, text: str, n: int, *, again: bool = False) -> None:
        for attempt in range(20):
            own = attempt + 100 * again if self.is_new_each_time else 0
            data = {"text": text, "client_id": f"{self.name}-{n:04}-{own:04}"}
            try:
                reply = self._connected().call("send", topic=self.topic, type="send", data=data)
            except LOST:
                self.cuts += 1
                self.leave()
                continue
            if reply.error and reply.error["code"] in ("unavailable", "timeout", "busy"):
                continue
            assert not reply.error, reply.error
            self.acknowledged[text] = reply.data["number"]
            return
        raise TimeoutError(f"{text!r} was never acknowledged")

    def _connected(self) -> SocketClient:
        while self._client is None:
            server = self.servers[self.cuts % len(self.servers)]
            try:
                client = SocketClient(server.url, {"Cookie": f"sessionid={self.session}"})
                reply = client.subscribe(self.topic, cursor="" if self.forgets else self._cursor)
            except LOST:
                self.cuts += 1
                if self.cuts > 200:
                    raise
                continue
            assert reply.data["topics"] == [self.topic], reply
            self._client, self._read = client, 0
        return self._client

    def _note(self) -> None:
        client = self._client
        assert client is not None
        for frame in client.frames[self._read :]:
            if frame.event == "message":
                self.heard.append((frame.data["number"], frame.data["text"]))
            self.resets += frame.event == "stream-reset"
        self._read = len(client.frames)
        self._cursor = client.cursor or self._cursor


def all_at_once(work: Sequence[Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for one in threads:
        one.start()
    return threads


def judge(chatters: Sequence[Chatter], kept: Sequence[tuple[int, str]]) -> list[str]:
    """What is wrong, as sentences."""
    wrong = [f"{one.name}: {one.problem}" for one in chatters if one.problem]
    numbers = [number for number, _ in kept]
    if numbers != list(range(1, len(kept) + 1)):
        wrong.append("the numbers have holes, or are doubled")
    texts = Counter(text for _, text in kept)
    wrong += [f"doubled: {text}" for text, count in texts.items() if count > 1]
    said = dict(kept)
    for one in chatters:
        wrong += [
            f"lost: {text}" for text, number in one.acknowledged.items() if said.get(number) != text
        ]
        if len(one.acknowledged) != one.count:
            wrong.append(f"{one.name} was not acknowledged everything")
        if one.resets:
            wrong.append(f"{one.name} was reset")
        if one.heard != sorted(set(one.heard)):
            wrong.append(f"{one.name} heard something twice or out of order")
        if one.heard != list(kept):
            wrong.append(f"{one.name} did not hear what was kept")
    return wrong


def read_json(printed: str) -> Any:
    return json.loads(printed.splitlines()[-1])
