"""What clients of others are told, frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from django_live.core.events import Event, encode_data
from django_live.features.token_streams import AnswerTopic
from django_live.features.token_streams.folding import Folding
from django_live.models import Answer
from django_live.views.conventions import BEGAN_ANEW, Convention, OpenAIDeltas, UIMessages

ID = "0123456789abcdef"
TOPIC = AnswerTopic(id=ID)


class Client:
    """One connection's dialect, told by a log."""

    def __init__(self, kind: type[Convention], so_far: Folding | None = None) -> None:
        self.dialect = kind(Answer(key=ID, created=1.0))
        self.overs = 0
        self.dialect.over = self._over
        self.heard: list[Any] = []
        self._take(self.dialect.snapshot(TOPIC.name, json.dumps((so_far or Folding()).as_json())))

    def _over(self) -> None:
        self.overs += 1

    def say(self, type: str, t: int, n: int, **data: Any) -> Client:
        event = Event(type, encode_data({"t": t, "n": n, **data}), offset=n + 1)
        self._take(self.dialect.event(TOPIC, event))
        return self

    def _take(self, frames: bytes) -> None:
        for frame in frames.decode().split("\n\n")[:-1]:
            data = frame.removeprefix("data: ")
            self.heard.append(data if data == "[DONE]" else json.loads(data))

    @property
    def types(self) -> list[str]:
        return [one if isinstance(one, str) else one.get("type", "") for one in self.heard]


def on_a_loop(test: Callable[[], None]) -> None:
    async def run() -> None:
        test()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_a_message_of_all_there_is() -> None:
    def test() -> None:
        client = Client(UIMessages)
        client.say("begin", 1, 0).say("reasoning", 1, 1, text="Hm").say("text", 1, 2, text="a")
        client.say("text", 1, 3, text="b").say("tool", 1, 4, id="c", name="find", input=1)
        client.say("tool", 1, 5, id="c", name="find", output=2)
        client.say("data", 1, 6, id="d", name="src", value=[3]).say("text", 1, 7, text="e")
        client.say("end", 1, 8, state="done", error="")
        assert client.heard == [
            {"type": "start", "messageId": ID},
            {"type": "reasoning-start", "id": "reasoning-1"},
            {"type": "reasoning-delta", "id": "reasoning-1", "delta": "Hm"},
            {"type": "reasoning-end", "id": "reasoning-1"},
            {"type": "text-start", "id": "text-2"},
            {"type": "text-delta", "id": "text-2", "delta": "a"},
            {"type": "text-delta", "id": "text-2", "delta": "b"},
            {"type": "text-end", "id": "text-2"},
            {"type": "tool-input-available", "toolCallId": "c", "toolName": "find", "input": 1},
            {"type": "tool-output-available", "toolCallId": "c", "output": 2},
            {"type": "data-src", "id": "d", "data": [3]},
            {"type": "text-start", "id": "text-3"},
            {"type": "text-delta", "id": "text-3", "delta": "e"},
            {"type": "text-end", "id": "text-3"},
            {"type": "finish"},
            "[DONE]",
        ]

    on_a_loop(test)


def test_deltas_of_all_there_is() -> None:
    def test() -> None:
        client = (
            Client(OpenAIDeltas)
            .say("text", 1, 1, text="a")
            .say("end", 1, 2, state="done", error="")
        )
        assert client.heard[-1] == "[DONE]"
        chunks = client.heard[:-1]
        assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
            {"role": "assistant", "content": ""},
            {"content": "a"},
            {},
        ]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert {chunk["id"] for chunk in chunks} == {f"chatcmpl-{ID}"}

    on_a_loop(test)


def test_each_tool_has_an_index_of_its_own_among_the_deltas() -> None:
    def test() -> None:
        client = Client(OpenAIDeltas)
        for n, id in enumerate(("a", "b", "a"), 1):
            client.say("tool", 1, n, id=id, name="search", input={"q": id})
        calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in client.heard[1:]]
        assert [(call["index"], call["id"]) for call in calls] == [(0, "a"), (1, "b")]

    on_a_loop(test)


@pytest.mark.parametrize("kind", [OpenAIDeltas, UIMessages])
class TestEach:
    def test_who_comes_later_is_told_what_was_said_and_nothing_twice(
        self, kind: type[Convention]
    ) -> None:
        def test() -> None:
            so_far = Folding(1, 2, "running", text="so far")
            client = (
                Client(kind, so_far).say("text", 1, 2, text="far").say("text", 1, 3, text=" on")
            )
            assert json.dumps(client.heard).count("far") == 1
            assert "on" in json.dumps(client.heard[-1])

        on_a_loop(test)

    def test_an_answer_that_is_over_is_told_whole_and_ended(self, kind: type[Convention]) -> None:
        clients: list[Client] = []

        def test() -> None:
            clients.append(Client(kind, Folding(1, 2**52, "done", text="all")))
            assert clients[0].heard[-1] == "[DONE]"

        on_a_loop(test)
        assert clients[0].overs == 1

    @pytest.mark.parametrize("state", ["failed", "lost", "stopped"])
    def test_each_end_is_one(self, kind: type[Convention], state: str) -> None:
        clients: list[Client] = []

        def test() -> None:
            client = Client(kind).say("text", 1, 1, text="a")
            client.say("end", 1, 2, state=state, error="Why").say(
                "end", 1, 2, state="done", error=""
            )
            client.say("text", 1, 3, text="late").say("text", 2, 0, text="anew")
            clients.append(client)
            assert client.heard[-1] == "[DONE]"
            assert client.heard.count("[DONE]") == 1
            assert ("Why" in json.dumps(client.heard)) == (state != "stopped")

        on_a_loop(test)
        assert clients[0].overs == 1

    def test_a_superseded_writer_reaches_nobody(self, kind: type[Convention]) -> None:
        def test() -> None:
            client = Client(kind, Folding(2, 1, "running", text="new"))
            before = list(client.heard)
            client.say("text", 1, 9, text="late").say("end", 1, 10, state="done", error="")
            assert client.heard == before

        on_a_loop(test)

    def test_what_was_said_cannot_be_taken_back(self, kind: type[Convention]) -> None:
        def test() -> None:
            client = Client(kind).say("begin", 1, 0).say("text", 1, 1, text="old")
            client.say("begin", 2, 0).say("text", 2, 1, text="new")
            assert BEGAN_ANEW in json.dumps(client.heard)
            assert client.heard[-1] == "[DONE]"

        on_a_loop(test)

    def test_another_attempt_before_the_first_word_goes_on(self, kind: type[Convention]) -> None:
        def test() -> None:
            client = (
                Client(kind).say("begin", 1, 0).say("begin", 2, 0).say("text", 2, 1, text="new")
            )
            assert "new" in json.dumps(client.heard[-1])

        on_a_loop(test)

    def test_a_lost_place_and_an_error_end_it(self, kind: type[Convention]) -> None:
        def test() -> None:
            for frames in (
                Client(kind).dialect.reset("t", "epoch", True),
                Client(kind).dialect.error("t", "revoked", "No more."),
            ):
                assert frames.endswith(b"data: [DONE]\n\n")

        on_a_loop(test)
