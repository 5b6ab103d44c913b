"""What a worker does with a question. In this demonstration it is a thread of the web process."""

from __future__ import annotations

import logging
import random
import time
from threading import Thread

from django.db import connections
from django.utils.translation import gettext as _

from django_live import Rejected
from django_live.features.token_streams import TokenStream
from example_project.assistant import markov, model

logger = logging.getLogger("example_project.assistant")

PAUSE = 0.04
"""Seconds between two words, so that there is something to see."""


def write(answer: str, question: str) -> None:
    """The same in a thread, a task or a command. A viewer who stops it ends the ``with`` early."""
    with TokenStream(id=answer) as stream:
        if model.setting("URL"):
            _ask_model(stream, question)
        else:
            _play_dice(stream, question)


def _ask_model(stream: TokenStream, question: str) -> None:
    try:
        for kind, piece in model.deltas(question):
            if kind == "reasoning":
                stream.reasoning(piece)
            else:
                stream.text(piece)
    except (OSError, ValueError) as error:
        logger.warning("The model does not answer: %s", error)
        raise Rejected(_("The model does not answer just now.")) from error


def _play_dice(stream: TokenStream, question: str) -> None:
    stream.text("> " + _("A toy wrote this: a Markov chain over one page about coffee.") + "\n\n")
    for word in markov.words(question, random.Random()):
        stream.text(f"{word} ")
        time.sleep(PAUSE)


def begin_in_thread(answer: str, question: str) -> None:
    def work() -> None:
        try:
            write(answer, question)
        except Rejected:
            pass  # the page says it
        finally:
            connections.close_all()

    Thread(target=work, daemon=True).start()
