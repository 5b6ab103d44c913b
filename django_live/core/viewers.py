"""Station 1: who subscribes and who sends.

Must keep true: a viewer is small, and whoever asks it for its user after ``refreshed()`` gets the user
as they are then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


class Viewer:
    """Who subscribes. Small, because every open connection keeps one.

    ``user`` is loaded when it is asked for, and again after ``refreshed()``: a permission that is
    checked an hour after connecting is checked against the user as they are then.
    """

    __slots__ = (
        "_user",
        "credential",
        "expires",
        "namespace",
        "scoped",
        "scopes",
        "session_key",
        "source",
        "topics",
        "user_id",
    )

    def __init__(
        self,
        *,
        user: User | AnonymousUser | None = None,
        user_id: str | None = None,
        session_key: str | None = None,
        namespace: str = "",
        scopes: frozenset[str] | None = None,
        source: Callable[[Viewer], Any] | None = None,
        credential: str = "",
        expires: float = float("inf"),
        topics: frozenset[str] | None = None,
    ) -> None:
        if user_id is None and user is not None and user.pk is not None:
            user_id = str(user.pk)
        self._user = user
        self.user_id = user_id
        """Primary key as text; None for a visitor who is not logged in."""
        self.session_key = session_key
        self.namespace = namespace
        self.scopes = scopes or frozenset()
        """What a token or a ticket allows; empty for a session."""
        self.scoped = scopes is not None
        """Whether ``scopes`` bound what it may do: see ``can()``."""
        self.source = source
        """Loads the user anew: a callable(viewer) -> user, AnonymousUser when it is gone. Raises
        ``PermissionDenied`` for a token that is no longer good."""
        self.credential = credential
        """Stands for the token or the ticket that it came with; empty for a session."""
        self.expires = expires
        """When the token ends, in seconds since 1970."""
        self.topics = topics
        """Names of topics that a ticket is for; None: no bound."""

    @property
    def user(self) -> Any:
        """The user, or an ``AnonymousUser``; None where nobody said who it is."""
        if self._user is None and self.source is not None:
            self._user = self.source(self)
        return self._user

    @property
    def has_loaded_user(self) -> bool:
        return self._user is not None

    def forget_user(self) -> None:
        """Keep only who it is; the user is loaded again when somebody asks."""
        self._user = None

    def refreshed(self) -> Viewer:
        """The same viewer, without the user that was loaded before."""
        return Viewer(
            user_id=self.user_id,
            session_key=self.session_key,
            namespace=self.namespace,
            scopes=self.scopes if self.scoped else None,
            source=self.source,
            credential=self.credential,
            expires=self.expires,
            topics=self.topics,
        )

    def can(self, scope: str) -> bool:
        """Whether a token lets its user do this. A session, and a token without scopes, let them do
        whatever they may."""
        return not self.scoped or scope in self.scopes

    def may_name(self, topic: str) -> bool:
        """Whether this is among the topics that a ticket is for. No permission: that comes after."""
        return self.topics is None or topic in self.topics

    @property
    def is_known(self) -> bool:
        """Whether somebody has said who they are: not a mere visitor."""
        return self.user_id is not None or bool(self.credential)

    @property
    def has_expired(self) -> bool:
        return self.expires <= time.time()

    @property
    def identity(self) -> Hashable:
        """Two viewers with the same one are answered alike."""
        scopes = self.scopes if self.scoped else None
        return self.user_id, self.session_key, self.namespace, scopes, self.credential, self.topics

    def still_stands(self) -> bool:
        """Whether who it was is who it is: the session or token is good, and the user active. Loads the
        user, so it runs in a plain thread."""
        if self.has_expired:
            return False
        try:
            user = self.user
        except PermissionDenied:
            return False
        if self.user_id is None:
            return True
        return user is not None and str(user.pk) == self.user_id and bool(user.is_active)

    def __repr__(self) -> str:
        return f"<Viewer user={self.user_id} namespace={self.namespace!r}>"


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sent to a topic, as ``on_message`` gets it."""

    type: str
    data: Any
    """Parsed JSON, or ``bytes``. It comes from a browser: trust none of it."""
    viewer: Viewer
    """Who sent it, with the user as they are now."""
    connection: str = ""
    """The sender's connection, for ``publish(…, exclude=message.connection)``; empty if not told."""
    sequence: int = 0
    """The client's own number of a binary message."""
    sent: float | None = None
    """When the client says it sent a binary message, in seconds since 1970."""
