"""Tickets: short-lived stand-ins for a session or a token, for clients that can send neither.

A browser cannot put a header on a WebSocket, and cookies do not reach other origins. So a page fetches a
ticket and puts it into the address. An address is written down in many places; so a ticket says nothing
by itself, is good for a minute, and names a record in the shared state that says whose it is.

Must keep true: what was not issued here opens nothing, and costs the store nothing; a ticket's connection
ends with the session or the token that it was issued to; a ticket is not logged.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from django.core import signing

from ..conf import live_settings
from ..core.state import get_state

SALT = "django_live.ticket"
MAP = "django_live/tickets/"
"""Each ticket has a map of its own, which goes when it expires."""
KEY = "ticket"
LONGEST = 200
"""Characters. Ours are shorter."""


@dataclass(frozen=True, slots=True)
class Record:
    """Whose a ticket is, and what for."""

    user: str | None
    session: str | None
    namespace: str
    topics: list[str] | None
    scopes: list[str] | None
    credentials: list[Any] | None
    """Of a token: what its authenticator needs to be asked again."""


class Ticket(NamedTuple):
    text: str
    left: float
    """Seconds for which it may be used."""


def issue(record: Record, expires: float = float("inf")) -> Ticket:
    """A new ticket, until ``expires`` (in seconds since 1970) at most. Asks the store."""
    left = min(live_settings().TICKET_LIFETIME, expires - time.time())
    name = secrets.token_urlsafe(16)
    get_state().set(MAP + name, {KEY: json.dumps(asdict(record))}, ttl=max(left, 0.001))
    return Ticket(signing.TimestampSigner(salt=SALT).sign(name), left)


def redeem(text: str) -> Record | None:
    """What a ticket stands for; None when it is none, or too old."""
    if len(text) > LONGEST:
        return None
    signer = signing.TimestampSigner(salt=SALT)
    try:
        name = signer.unsign(text, timedelta(seconds=live_settings().TICKET_LIFETIME))
    except signing.BadSignature:
        return None
    entry = get_state().get(MAP + name, KEY)
    return None if entry is None else Record(**json.loads(entry.value))
