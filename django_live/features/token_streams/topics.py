"""Where the viewers of an answer listen. Nobody declares this topic: it is there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied

from ...core.topics import History, Message, Viewer
from ..liveness import WatchedTopic, is_alive
from . import answers
from .folding import folded_log


class AnswerTopic(WatchedTopic):
    """One answer."""

    pattern = "live/answers/<slug:id>"
    # Half an hour of an event every 40 milliseconds; what is longer is read from its row.
    history = History(events=50_000, age=timedelta(days=1))
    id: str

    def can_subscribe(self, viewer: Viewer) -> bool:
        answer = answers.find_lively(self.id)
        return answer is not None and answers.allows(answer, viewer, self.namespace)

    def can_send(self, viewer: Viewer) -> bool:
        answer = answers.find(self.id)
        return answer is not None and answers.allows(answer, viewer, self.namespace)

    def snapshot(self) -> Any:
        """What was said so far: the same fields as a ``Folding``."""
        answer = answers.find(self.id)
        if answer is None:
            raise ObjectDoesNotExist(f"There is no answer {self.id!r}.")
        if answer.is_over:
            return answers.folding_of(answer).as_json()
        return folded_log(self)[0].as_json()

    def on_message(self, message: Message) -> Any:
        if message.type != "stop":
            raise PermissionDenied
        answers.stop(self.id)

    def found_dead(self) -> None:
        answer = answers.find(self.id)
        if answer is None or answer.state == "waiting":
            return
        if not answer.is_over:
            if not is_alive(self.id):
                answers.end_of_dead(answer)
            return
        # Whoever wrote the end may have died before telling of it.
        said, _, _ = folded_log(self)
        if said.token == answer.token and not said.is_over:
            said.state, said.error = answer.state, answer.error
            answers.tell_end(self, said)

    def forget(self, user: Any, type: str, data: Any) -> Any:
        """What was answered is its owner's, and goes with them."""
        answer = answers.find(self.id)
        is_own = answer is not None and answer.owner == str(user.pk)
        if not is_own:
            return data
        return {"t": data.get("t"), "n": data.get("n"), "text": "", "state": data.get("state", "")}
