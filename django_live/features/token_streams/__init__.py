"""Answers that are read while they are written:
``from django_live.features.token_streams import TokenStream``."""

from __future__ import annotations

from .answers import answer_ended, areserve, find, reserve, stop
from .stream import Stopped, TokenStream
from .topics import AnswerTopic

__all__ = [
    "AnswerTopic",
    "Stopped",
    "TokenStream",
    "answer_ended",
    "areserve",
    "find",
    "reserve",
    "stop",
]
