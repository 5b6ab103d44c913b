"""A form: one event to many, with a look at how many it reaches."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..core.events import check_type, encode_data
from ..core.records import record
from ..exceptions import InvalidEvent, InvalidTopic, UnknownTopic
from ..features.broadcasts import Audience, NobodyFound, broadcast, reach
from ..features.messages import LEVELS, MESSAGE, message
from ..models import Broadcast
from .pages import LivePage

KINDS = [
    ("everyone", gettext_lazy("Everyone")),
    ("user", gettext_lazy("A user (login name or primary key)")),
    ("group", gettext_lazy("A group (name)")),
    ("permission", gettext_lazy("Holders of a permission (app.codename)")),
    ("topic", gettext_lazy("A topic (name)")),
]


class BroadcastForm(forms.Form):
    kind = forms.ChoiceField(label=gettext_lazy("To"), choices=KINDS)
    value = forms.CharField(
        label=gettext_lazy("Which"),
        required=False,
        max_length=200,
        help_text=gettext_lazy("Left empty for everyone."),
    )
    namespace = forms.CharField(label=gettext_lazy("Tenant"), required=False, max_length=200)
    text = forms.CharField(
        label=gettext_lazy("Message"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Plain text, which pages with live_messages show."),
    )
    level = forms.ChoiceField(
        label=gettext_lazy("Level"), choices=[(level, level) for level in LEVELS], required=False
    )
    url = forms.CharField(
        label=gettext_lazy("Leads to"),
        required=False,
        max_length=500,
        help_text=gettext_lazy("An address on this site, /orders/42/."),
    )
    type = forms.CharField(
        label=gettext_lazy("Or: type of an event"), required=False, max_length=64
    )
    data = forms.CharField(  # type: ignore[assignment]  # a field, as Form makes them
        label=gettext_lazy("Its data, as JSON"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        if given.get("kind") != "everyone" and not given.get("value"):
            self.add_error("value", _("Say which."))
        try:
            given["event"] = self._event(given)
        except InvalidEvent as error:
            raise ValidationError(str(error)) from error
        audience = Audience(
            given.get("kind", ""), given.get("value", ""), given.get("namespace", "")
        )
        if not self.errors:
            try:
                next(audience.topics(), None)
            except (NobodyFound, UnknownTopic, InvalidTopic) as error:
                self.add_error("value", str(error))
        given["audience"] = audience
        return given

    def _event(self, given: dict[str, Any]) -> tuple[str, Any]:
        if given.get("type"):
            if given.get("text"):
                raise InvalidEvent(_("Either a message or an event, not both."))
            try:
                data = json.loads(given.get("data") or "null")
            except ValueError as error:
                raise InvalidEvent(
                    _("The data is no JSON: %(error)s") % {"error": error}
                ) from error
            encode_data(data)
            return check_type(given["type"]), data
        level = given.get("level") or "info"
        return MESSAGE, message(given.get("text", ""), level, given.get("url", ""))


@admin.register(Broadcast)
class BroadcastAdmin(LivePage):
    permission = "broadcast"
    template = "django_live/admin/broadcast.html"

    def show(self, request: HttpRequest) -> dict[str, Any]:
        return {"form": BroadcastForm()}

    def act(self, request: HttpRequest) -> HttpResponse | None:
        form = BroadcastForm(request.POST)
        if not form.is_valid():
            return self.page(request, {"form": form})
        audience: Audience = form.cleaned_data["audience"]
        type, data = form.cleaned_data["event"]
        if "send" not in request.POST:
            return self.page(request, {"form": form, "reach": reach(audience)})
        sent = broadcast(audience, type, data)
        who = str(request.user.pk)
        record("broadcast", audience=str(audience), type=type, topics=sent, by=who)
        told = f"Sent {type} to {audience}: {sent} topics."
        self.note(request, [(audience.kind, str(audience))], told, ADDITION)
        sentence = ngettext("Sent to %(count)d topic.", "Sent to %(count)d topics.", sent)
        self.message_user(request, sentence % {"count": sent}, messages.SUCCESS)
        return HttpResponseRedirect(self.address)
