"""What people write, as text: bounded, without control characters; and the links and names in it.

Must keep true: what comes out is text in pieces, never HTML; a link leads to http or https.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from django.utils.translation import gettext as _

from ..conf import live_settings
from ..exceptions import Rejected

CLIENT_ID = re.compile(r"[a-z0-9_-]{8,64}", re.ASCII)
MOST_MENTIONS = 20
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""New lines and tabs are none of them. Signs that turn the direction of text are allowed: each message
is an island of its own on the page."""
# The same expression as in client/src/features/chat/text.ts.
_PIECES = re.compile(r"(https?://[^\s<>\"']+)|(?<![\w@.])@([\w.+-]+)", re.IGNORECASE)
_AT_THE_END = ".,;:!?)]}»”’"
_INVISIBLE = frozenset({"Cf", "Cc", "Zs", "Zl", "Zp", "Cn", "Co"})


class Piece(NamedTuple):
    """A stretch of a message. ``kind``: ``text``, ``link`` or ``name``."""

    kind: str
    text: str


def clean(text: object, *, may_be_empty: bool = False) -> str:
    """The text as it is kept. Raises ``Rejected`` for what is none, empty, too long or has control
    characters in it."""
    if not isinstance(text, str):
        raise Rejected(_("A message is text."), code="malformed")
    most = live_settings().CHAT_LENGTH
    if len(text) > 2 * most:  # before any work is done with it
        raise _too_long(most)
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if _CONTROLS.search(text):
        raise Rejected(_("The message has characters in it that no text has."), code="malformed")
    if all(unicodedata.category(character) in _INVISIBLE for character in text):
        if may_be_empty:
            return ""
        raise Rejected(_("Write something."), code="empty")
    if len(text) > most:
        raise _too_long(most)
    return text


def _too_long(most: int) -> Rejected:
    sentence = _("A message has at most %(most)d characters.") % {"most": most}
    return Rejected(sentence, code="too-long")


def checked_client_id(client_id: object) -> str:
    """The client's own name for a message; one of ours where it has none. Raises ``Rejected``."""
    if client_id == "":
        return f"server-{secrets.token_hex(12)}"
    if not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id):
        raise Rejected(_("This message cannot be read."), code="malformed")
    return client_id


def pieces(text: str) -> Iterator[Piece]:
    """The text cut at links and at ``@names``."""
    done = 0
    for found in _PIECES.finditer(text):
        whole = _without_end(found[0])
        if len(whole) <= (len("https://") if found[1] else 1):
            continue
        if found.start() > done:
            yield Piece("text", text[done : found.start()])
        yield Piece("link" if found[1] else "name", whole)
        done = found.start() + len(whole)
    if done < len(text):
        yield Piece("text", text[done:])


def _without_end(text: str) -> str:
    """Without the full stop of the sentence around it; a bracket that was opened in it stays."""
    while text and text[-1] in _AT_THE_END:
        if text[-1] == ")" and text.count("(") >= text.count(")"):
            break
        text = text[:-1]
    return text


def mentioned(text: str) -> list[str]:
    """The names that are mentioned, each once."""
    if "@" not in text:
        return []
    names = (piece.text[1:] for piece in pieces(text) if piece.kind == "name")
    return list(dict.fromkeys(names))[:MOST_MENTIONS]


def excerpt(text: str, length: int = 120) -> str:
    """The beginning, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
