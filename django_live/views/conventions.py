"""How an answer is read by clients that know nothing of us: OpenAI-style deltas, and the UI message
stream of the npm package ``ai``.

Both are told everything from the beginning, whenever they come: neither can say where it was. Must keep
true: what a superseded writer says reaches nobody; each stream comes to an end that its client knows.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from ..core.events import Event
from ..core.topics import Topic
from ..features.token_streams.folding import Folding
from ..models import Answer
from ..transports.frames import compact

DONE = "data: [DONE]\n\n"
BEGAN_ANEW = "The answer began anew; ask for it again."


class Convention(ABC):
    """The dialect of one connection, which it keeps in mind what it has said to. ``over`` is called once
    the last frame has been written."""

    name = ""
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, answer: Answer) -> None:
        self.id = answer.key
        self.created = round(answer.created)
        self.over: Callable[[], None] = lambda: None
        self._said = Folding()
        self._has_ended = False

    # -- what differs ------------------------------------------------------------------------------

    @abstractmethod
    def begins(self) -> Iterator[Any]:
        """What comes before everything else."""

    @abstractmethod
    def says(self, type: str, data: dict[str, Any]) -> Iterator[Any]:
        """A ``text``, ``reasoning``, ``tool`` or ``data`` as JSON values."""

    @abstractmethod
    def ends(self, state: str, error: str) -> Iterator[Any]:
        """What comes after it."""

    # -- what a connection asks a dialect ----------------------------------------------------------

    def snapshot(self, topic: str, data: str) -> bytes:
        """All that was said so far, as if it were said now."""
        so_far = json.loads(data)
        values = list(self.begins())
        for type in ("reasoning", "text"):
            if so_far[type]:
                values += self.says(type, {"text": so_far[type]})
        for part in so_far["parts"]:
            values += self.says(part["type"], part)
        self._said = Folding(so_far["t"], so_far["n"], so_far["state"])
        if self._said.is_over:
            values += self._end(so_far["state"], so_far["error"])
        return self._frames(values)

    def event(self, topic: Topic, event: Event) -> bytes:
        if self._has_ended:
            return b""
        data = json.loads(event.data)
        if data["t"] > self._said.token and self._said.n > 0:  # and something was said before
            return self._frames(self._end("failed", BEGAN_ANEW))
        if not self._said.take(event.type, data):
            return b""
        self._said.text = self._said.reasoning = ""  # nobody asks for them here
        if event.type == "end":
            return self._frames(self._end(data["state"], data["error"]))
        return self._frames(self.says(event.type, data)) if event.type != "begin" else b""

    def end(self, cursor: str) -> bytes:
        return b""

    def moved(self, cursor: str) -> bytes:
        return b""

    def keep_alive(self) -> bytes:
        return b": keep-alive\n\n"

    def opened(self, connection: str, heartbeat: float, retry: float, topics: list[str]) -> bytes:
        return b": open\n\n"

    def reset(self, topic: str, reason: str, snapshot_follows: bool) -> bytes:
        """The log lost its place, and what was said cannot be taken back."""
        return self._frames(self._end("failed", BEGAN_ANEW))

    def error(self, topic: str, code: str, message: str) -> bytes:
        return self._frames(self._end("failed", message))

    def goodbye(self, retry: float) -> bytes:
        """A server that ends: the client comes back for all of it."""
        return b""

    # -- inside ------------------------------------------------------------------------------------

    def _end(self, state: str, error: str) -> list[Any]:
        if self._has_ended:
            return []
        self._has_ended = True
        # After what is returned here has been written, which nothing comes between.
        asyncio.get_running_loop().call_soon(lambda: self.over())
        return [*self.ends(state, error), DONE]

    @staticmethod
    def _frames(values: Any) -> bytes:
        frames = (v if isinstance(v, str) else f"data: {compact(v)}\n\n" for v in values)
        return "".join(frames).encode()


class OpenAIDeltas(Convention):
    """``chat.completion.chunk`` objects, as most clients of language models read them. Reasoning is
    ``reasoning_content``; there is no place for data."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._calls: dict[str, None] = {}
        """Ids of the tools that were used: clients put together what has one index."""

    def begins(self) -> Iterator[Any]:
        yield self._chunk({"role": "assistant", "content": ""})

    def says(self, type: str, data: dict[str, Any]) -> Iterator[Any]:
        if type == "text":
            yield self._chunk({"content": data["text"]})
        elif type == "reasoning":
            yield self._chunk({"reasoning_content": data["text"]})
        elif type == "tool" and "input" in data and data["id"] not in self._calls:
            call = {"name": data["name"], "arguments": compact(data["input"])}
            index = len(self._calls)
            self._calls[data["id"]] = None
            entry = {"index": index, "id": data["id"], "type": "function", "function": call}
            yield self._chunk({"tool_calls": [entry]})

    def ends(self, state: str, error: str) -> Iterator[Any]:
        if state in ("failed", "lost"):
            yield {"error": {"message": error, "type": "server_error", "code": state}}
        else:
            yield self._chunk({}, "stop")

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {
            "id": f"chatcmpl-{self.id}",
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": "django_live",
            "choices": [choice],
        }


class UIMessages(Convention):
    """The UI message stream, as ``useChat`` of the npm package ``ai`` reads it."""

    headers: ClassVar[dict[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._open = ""
        """Which of text and reasoning is under way."""
        self._parts = 0

    def begins(self) -> Iterator[Any]:
        yield {"type": "start", "messageId": self.id}

    def says(self, type: str, data: dict[str, Any]) -> Iterator[Any]:
        if type in ("text", "reasoning"):
            yield from self._opens(type)
            yield {"type": f"{type}-delta", "id": self._part_id, "delta": data["text"]}
            return
        yield from self._opens("")
        if type == "data":
            yield {"type": f"data-{data['name']}", "id": data["id"], "data": data["value"]}
            return
        tool = {"toolCallId": data["id"]}
        if "input" in data:
            call = {"toolName": data["name"], "input": data["input"]}
            yield {"type": "tool-input-available", **tool, **call}
        if "output" in data:
            yield {"type": "tool-output-available", **tool, "output": data["output"]}

    def ends(self, state: str, error: str) -> Iterator[Any]:
        yield from self._opens("")
        if state == "stopped":
            yield {"type": "abort"}
        elif state in ("failed", "lost"):
            yield {"type": "error", "errorText": error}
        else:
            yield {"type": "finish"}

    @property
    def _part_id(self) -> str:
        return f"{self._open}-{self._parts}"

    def _opens(self, type: str) -> Iterator[Any]:
        """End the part that is under way, and begin this one, unless they are one."""
        if type == self._open:
            return
        if self._open:
            yield {"type": f"{self._open}-end", "id": self._part_id}
        self._open = type
        if type:
            self._parts += 1
            yield {"type": f"{type}-start", "id": self._part_id}


CONVENTIONS: dict[str, type[Convention]] = {"openai": OpenAIDeltas, "ui": UIMessages}
