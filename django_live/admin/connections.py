"""Every open connection of every process."""

from __future__ import annotations

import time
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..core import control, survey
from ..models import Connection
from .pages import LivePage, chosen, label, missing, names_of, users_like

PAGE = 100
ORDERS = ("since", "active", "unsent", "lag")
TRANSPORTS = ("sse", "websocket", "polling")
ACTIONS = ("disconnect", "recheck")


@admin.register(Connection)
class ConnectionAdmin(LivePage):
    permission = "view_connection"
    template = "django_live/admin/connections.html"
    part = "django_live/admin/connections_part.html"

    def show(self, request: HttpRequest) -> dict[str, Any]:
        text = request.GET.get("q", "").strip()[:200]
        transport = request.GET.get("transport", "")
        order = request.GET.get("order", "since")
        page = survey.connections(
            limit=PAGE,
            after=_place(request.GET.get("after", "")),
            order=order if order in ORDERS else "since",
            text=text,
            users=users_like(text) if text else [],
            transport=transport if transport in TRANSPORTS else "",
        )
        names = names_of(row["user"] for row in page.rows)
        rows = [
            {
                **row,
                "user_name": names.get(row["user"], row["user"]),
                "process": label(page.survey, row["process"]),
                "more_topics": row["topic_count"] - len(row["topics"]),
                "for_seconds": max(time.time() - row["since"], 0),
                "quiet_seconds": max(time.time() - row["active"], 0),
            }
            for row in page.rows
        ]
        return {
            "rows": rows,
            "total": page.total,
            "matching": page.matching,
            "missing": missing(page.survey),
            "q": text,
            "transport": transport,
            "transports": TRANSPORTS,
            "order": order,
            "orders": [
                ("since", _("newest first")),
                ("active", _("last active first")),
                ("unsent", _("most unsent bytes first")),
                ("lag", _("furthest behind first")),
            ],
            "is_first": "after" not in request.GET,
            "first": _link(request.GET, None),
            "next": _link(request.GET, page.next) if page.next else "",
            "can_end": self.may(request, "disconnect_connection"),
        }

    def act(self, request: HttpRequest) -> HttpResponse | None:
        action = request.POST.get("action")
        if action not in ACTIONS or not self.may(request, "disconnect_connection"):
            raise PermissionDenied
        ids = chosen(request)
        if not ids:
            self.message_user(request, _("Tick at least one connection."), messages.WARNING)
        for id in ids:
            if action == "disconnect":
                control.disconnect(connection=id)
            else:
                control.recheck(connection=id)
        if ids and action == "disconnect":
            self.note(request, ((id, id) for id in ids), "Disconnected.")
            sentence = ngettext(
                "%(count)d connection is being ended.",
                "%(count)d connections are being ended.",
                len(ids),
            )
            self.message_user(request, sentence % {"count": len(ids)}, messages.SUCCESS)
        elif ids:
            self.note(request, ((id, id) for id in ids), "Permissions asked again.")
            sentence = ngettext(
                "%(count)d connection's permissions are asked again.",
                "%(count)d connections' permissions are asked again.",
                len(ids),
            )
            self.message_user(request, sentence % {"count": len(ids)}, messages.SUCCESS)
        return HttpResponseRedirect(request.get_full_path())


def _place(text: str) -> tuple[float, str] | None:
    """Where a page begins; the first for what is none."""
    value, _, id = text.partition("~")
    try:
        return (float(value), id) if id else None
    except ValueError:
        return None


def _link(given: QueryDict, after: tuple[float, str] | None) -> str:
    query = given.copy()
    query.pop("after", None)
    if after is not None:
        query["after"] = f"{after[0]}~{after[1]}"
    return f"?{query.urlencode()}"
