"""What is declared, what somebody listens to, and what the log keeps of it."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from ..core import survey
from ..core.events import Event, bytes_of
from ..core.log import get_log
from ..core.publishing import publish
from ..core.topics import INTERNAL, Topic, as_topic, declarations
from ..exceptions import InvalidEvent, InvalidTopic, UnknownTopic
from ..models import LiveTopic
from .pages import LivePage, missing

MOST = 200
EVENTS = 50
MOST_BYTES = 1024 * 1024
BATCHES = 20
"""Of a trim that was asked for; what is left the servers do."""
SHOWN = 2000
"""Characters of an event's data."""


@admin.register(LiveTopic)
class LiveTopicAdmin(LivePage):
    permission = "view_livetopic"
    template = "django_live/admin/topics.html"
    part = "django_live/admin/topics_part.html"

    def show(self, request: HttpRequest) -> dict[str, Any]:
        name = request.GET.get("topic")
        return self._one(request, name) if name else self._all(request)

    def _all(self, request: HttpRequest) -> dict[str, Any]:
        text = request.GET.get("q", "").strip()[:200]
        found, rows = survey.topics(text=text, limit=MOST)
        return {
            "q": text,
            "rows": rows,
            "is_cut": len(rows) >= MOST,
            "missing": missing(found),
            "declared": [
                {name.replace(" ", "_"): value for name, value in row.items()}
                for row in declarations()
                if not row["pattern"].startswith(INTERNAL)
            ],
            "can_trim": self.may(request, "trim_livetopic"),
        }

    def _one(self, request: HttpRequest, name: str) -> dict[str, Any]:
        topic = _topic(request, name)
        found, rows = survey.topics(names=[topic.name])
        rows = [row for row in rows if row["namespace"] == topic.namespace]
        row: dict[str, Any] = {"name": topic.name, "namespace": topic.namespace, "subscribers": 0}
        row = rows[0] if rows else row
        if not rows:
            survey.with_heads([row])
        may_read = self.may(request, "view_storedevent")
        return {
            "one": row,
            "pattern": type(topic).pattern,
            "missing": missing(found),
            "may_read": may_read,
            "can_replay": may_read and self.may(request, "replay_livetopic"),
            "events": _recent(topic, row["last"]) if may_read and row["last"] else [],
            "title": topic.name,
        }

    def act(self, request: HttpRequest) -> HttpResponse | None:
        action = request.POST.get("action")
        if action == "trim" and self.may(request, "trim_livetopic"):
            removed = 0
            for _batch in range(BATCHES):
                count = get_log().trim()
                removed += count
                if not count:
                    break
            self.note(request, [("", "log")], f"Trimmed: {removed} events removed.")
            sentence = _("%(count)d events were removed.") % {"count": removed}
            self.message_user(request, sentence, messages.SUCCESS)
        elif (
            action == "replay"
            and self.may(request, "replay_livetopic")
            and self.may(request, "view_storedevent")
        ):
            self._publish_again(request)
        else:
            raise PermissionDenied
        return HttpResponseRedirect(request.get_full_path())

    def _publish_again(self, request: HttpRequest) -> None:
        topic = _topic(request, request.GET.get("topic", ""))
        offset = request.POST.get("offset", "")
        event = _event_at(topic, int(offset)) if offset.isdecimal() else None
        if event is None:
            self.message_user(request, _("This event is kept no more."), messages.WARNING)
            return
        raw = bytes_of(event.data)
        try:
            publish(topic, event.type, json.loads(event.data) if raw is None else raw)
        except InvalidEvent as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        self.note(request, [(topic.key, topic.name)], f"Published event {offset} again.")
        self.message_user(request, _("The event was published again."), messages.SUCCESS)


def _topic(request: HttpRequest, name: str) -> Topic:
    try:
        topic = as_topic(name, request.GET.get("namespace", ""))
    except (UnknownTopic, InvalidTopic) as error:
        raise Http404(str(error)) from error
    if topic.is_internal:  # commands carry keys of sessions
        raise Http404
    return topic


def _recent(topic: Topic, last: int) -> list[dict[str, Any]]:
    """The newest events, the newest first."""
    page = get_log().read(topic, max(last - EVENTS, 0), EVENTS, MOST_BYTES)
    return [
        {"offset": e.offset, "type": e.type, "created": e.created, "data": e.data[:SHOWN]}
        for e in reversed(page.events)
    ]


def _event_at(topic: Topic, offset: int) -> Event | None:
    if topic.history is None or offset < 1:
        return None
    events = get_log().read(topic, offset - 1, 1, MOST_BYTES).events
    return events[0] if events and events[0].offset == offset else None
