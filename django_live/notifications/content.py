"""What is told, before it is somebody's notification. What came from a stranger is text, and short."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from .models import Notification

logger = logging.getLogger("django_live.notifications")

TITLE, BODY, URL, GROUP, KIND, DATA = 200, 4000, 2000, 200, 100, 10_000
"""Characters at most."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Also those that turn the direction of what follows them in other people's pages."""


@dataclass(frozen=True)
class Content:
    """What a notification says, whoever gets it."""

    kind: str
    title: str
    body: str = ""
    url: str = ""
    summary: str = ""
    actor_id: Any = None
    target_type_id: Any = None
    target_id: str = ""
    data: Any = None
    group: str = ""
    namespace: str = ""
    source: str = ""
    """Who tells it: a name for the log."""

    @property
    def open_group(self) -> str | None:
        """Stands for the group among the unread ones of a recipient."""
        if not self.group:
            return None
        text = f"{self.kind}\0{self.group}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def notification(self, recipient: Any, **more: Any) -> Notification:
        """What this recipient gets, not saved."""
        return Notification(recipient_id=recipient.pk, **self.fields(), **more)

    def fields(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "title": self.title,
            "summary": self.summary,
            "body": self.body,
            "url": self.url,
            "actor_id": self.actor_id,
            "target_type_id": self.target_type_id,
            "target_id": self.target_id,
            "data": self.data,
            "group": self.group,
        }


def content(
    title: Any,
    *,
    kind: str,
    body: Any = "",
    url: Any = "",
    summary: Any = "",
    actor: Any = None,
    target: Model | None = None,
    data: Any = None,
    group: Any = "",
    namespace: str = "",
    source: str = "",
) -> Content:
    """The content of these parts, made harmless: too long texts are cut, an address that is none of
    the web is left out, and the log says so. Raises ``ValueError`` where there is no title."""
    source = source or f"notify({kind!r})"
    cleaned = _text(title, TITLE)
    if not cleaned:
        raise ValueError("A notification needs a title.")
    is_there = target is not None and target.pk is not None
    return Content(
        kind=_text(kind, KIND),
        title=cleaned,
        body=_text(body, BODY),
        url=_address(url, source),
        summary=_text(summary, TITLE),
        actor_id=getattr(actor, "pk", None),
        target_type_id=ContentType.objects.get_for_model(target).pk
        if is_there and target
        else None,
        target_id=str(target.pk)[:255] if is_there and target else "",
        data=_data(data, source),
        group=_text(group, GROUP),
        namespace=namespace,
        source=source,
    )


def is_safe(url: str) -> bool:
    """Whether a link to this address is one of the web: http, https, or relative. What browsers skip
    when they read an address (``java\\nscript:``) is in none."""
    if any(character <= " " or character == "\x7f" for character in url) or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme in ("http", "https"):
        return bool(parts.netloc)
    return not parts.scheme and not url.startswith("//") and ":" not in url.partition("/")[0]


def _address(url: Any, source: str) -> str:
    text = str(url or "").strip()
    if text and (len(text) > URL or not is_safe(text)):
        logger.warning("%s: the address %.100r was left out.", source, text)
        return ""
    return text


def _text(value: Any, most: int) -> str:
    text = _CONTROLS.sub("", str(value or "")).strip()
    text = text.encode("utf-8", "replace").decode()  # half of a pair, which no database takes
    return text if len(text) <= most else text[: most - 1] + "…"


def _data(data: Any, source: str) -> Any:
    if data is None:
        return {}
    try:
        text = json.dumps(data, cls=DjangoJSONEncoder)
    except (TypeError, ValueError):
        text = ""
    if not text or len(text) > DATA or "\\u0000" in text:
        logger.warning("%s: its data is no JSON of %d characters, and was left out.", source, DATA)
        return {}
    return json.loads(text)
