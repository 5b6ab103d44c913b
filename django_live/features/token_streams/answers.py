"""The row of a token stream: who may read it, and what it came to.

Must keep true: only the writer with the greatest token changes a row, and its end is written once;
what a dead writer had said is kept.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from django.db.models import F
from django.dispatch import Signal
from django.utils.translation import gettext

from ...core.events import encode_data
from ...core.hooks import in_thread, store_threads
from ...core.publishing import publish
from ...core.topics import Topic, Viewer
from ...models import Answer
from ..liveness import Access, ask_to_stop, check_id, is_alive, new_id, owner_id
from .folding import Folding, folded_log

logger = logging.getLogger("django_live.token_streams")

SCOPE = "live:answers"
"""What a token with scopes has to allow."""
MOST_TITLE = 200
KEEP_STOP = 3600.0
"""Seconds that a request to stop waits for a writer."""

answer_ended = Signal()
"""Sent with ``answer`` by whoever wrote the end of a stream into its row, once: the worker, or, where
that has died, the process that found out."""


def access_of(answer: Answer) -> Access:
    return Access(answer.owner, answer.permission, answer.namespace)


def allows(answer: Answer, viewer: Viewer, namespace: str) -> bool:
    return access_of(answer).allows(viewer, namespace, SCOPE)


def reserve(
    title: str = "",
    *,
    owner: Any = None,
    permission: str = "",
    namespace: str = "",
    id: str | None = None,
) -> Answer:
    """An answer that waits for its writer: hand its ``key`` over (in a transaction, after the commit),
    and ``TokenStream(id=…)`` writes it. Raises ``ValueError`` for an id that could be guessed."""
    now = time.time()
    return Answer.objects.create(
        key=new_id() if id is None else check_id(id),
        namespace=namespace,
        owner=owner_id(owner),
        permission=permission,
        title=title.replace("\0", "")[:MOST_TITLE],
        created=now,
        updated=now,
    )


async def areserve(title: str = "", **options: Any) -> Answer:
    """``reserve()`` for async callers."""
    return await in_thread(store_threads(), lambda: reserve(title, **options))


def find(id: str) -> Answer | None:
    """The answer with this id, or None. Asks nobody for permission."""
    try:
        check_id(id)
    except ValueError:
        return None
    return Answer.objects.filter(key=id).first()


def find_lively(id: str) -> Answer | None:
    """``find()``, after a look whether its writer is alive."""
    answer = find(id)
    if answer is not None and answer.state == "running" and not is_alive(id):
        end_of_dead(answer)
        answer = find(id)
    return answer


# -- writing ---------------------------------------------------------------------------------------


def take_over(answer: Answer, token: int) -> bool:
    """Begin to write a row. False: somebody with a greater token has it."""
    return bool(
        Answer.objects.filter(key=answer.key, token__lt=token).update(
            token=token,
            state="running",
            attempt=F("attempt") + 1,
            text="",
            reasoning="",
            parts="[]",
            error="",
            updated=time.time(),
        )
    )


def save(id: str, folding: Folding) -> bool:
    """Put by what was said; at its end, once, also tell the site. False: the row is somebody else's, or
    over."""
    saved = Answer.objects.filter(key=id, token=folding.token, state="running").update(
        state=folding.state,
        text=folding.text,
        reasoning=folding.reasoning,
        parts=encode_data(folding.parts),
        error=folding.error,
        updated=time.time(),
    )
    if saved and folding.is_over:
        answer = Answer.objects.get(key=id)
        for receiver, fault in answer_ended.send_robust(sender=Answer, answer=answer):
            if isinstance(fault, Exception):
                logger.error("%r failed at the end of %s.", receiver, id, exc_info=fault)
    return bool(saved)


def end_of_dead(answer: Answer) -> None:
    """The writer gives no sign of life: say so, and keep what it had said."""
    from .topics import AnswerTopic

    topic = AnswerTopic(namespace=answer.namespace, id=answer.key)
    folding, _position, is_whole = folded_log(topic)
    if folding.token != answer.token:
        folding = Folding(token=answer.token, n=0)
    if not is_whole and len(answer.text) > len(folding.text):
        folding.text, folding.reasoning = answer.text, answer.reasoning
    if not folding.is_over:
        folding.state, folding.error = "lost", gettext("The worker that wrote this is gone.")
    if save(answer.key, folding):
        tell_end(topic, folding)


def tell_end(topic: Topic, folding: Folding) -> None:
    """Tell viewers of an end that no writer tells of; whoever else does it, once."""
    data = {"t": folding.token, "n": folding.n + 1, "state": folding.state, "error": folding.error}
    publish(topic, "end", data, idempotency_key=f"{folding.token}.end")


def stop(id: str) -> bool:
    """Ask a stream to stop; whether there is one that can be asked. Its viewers hear of its end within
    a second, its writer with its next word."""
    answer = find(id)
    if answer is None or answer.is_over:
        return False
    if Answer.objects.filter(key=id, state="waiting").update(state="stopped", updated=time.time()):
        from .topics import AnswerTopic

        topic = AnswerTopic(namespace=answer.namespace, id=id)
        publish(topic, "end", {"t": answer.token, "n": 0, "state": "stopped", "error": ""})
    ask_to_stop(id, KEEP_STOP)
    return True


def folding_of(answer: Answer) -> Folding:
    """What a row says. Once it is over nothing more comes, so its number is greater than any."""
    return Folding(
        token=answer.token,
        n=2**52,
        state=answer.state,
        text=answer.text,
        reasoning=answer.reasoning,
        parts=json.loads(answer.parts),
        error=answer.error,
    )
