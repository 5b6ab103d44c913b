"""The remote control: what is asked of the roaster, and what all who watch it are told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from django_live import History, Message, Rejected, Topic, Viewer, publish
from example_project.talk.models import Roaster

RANGES = {"degrees": range(20, 241), "drum": range(10, 81)}


class RoasterTopic(Topic):
    """Whoever is signed in watches it and works it."""

    pattern = "roasters/<int:pk>"
    history = History(events=100, age=timedelta(hours=1))
    interactive = True
    pk: int

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.is_authenticated)

    can_send = can_subscribe

    def snapshot(self) -> dict[str, Any]:
        return state_of(Roaster.objects.get(pk=self.pk))

    def on_message(self, message: Message) -> dict[str, Any]:
        """``set`` with what is to be another; the answer is how the roaster stands after it."""
        if message.type != "set" or not isinstance(message.data, Mapping):
            raise Rejected(_("The roaster does not know what that means."))
        return work(self.pk, message.data, message.viewer.user.get_username())


def work(pk: int, changes: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Do it or say why not; and tell those who watch."""
    values = {name: _checked(name, value) for name, value in changes.items()}
    with transaction.atomic():
        Roaster.objects.filter(pk=pk).update(**values, worked_by=by)
        roaster = Roaster.objects.get(pk=pk)
        if not roaster.is_on and "drum" in values:
            raise Rejected(_("The drum does not turn while the roaster is off."), code="off")
        state = state_of(roaster)
        publish(RoasterTopic(pk=pk), "changed", state)
    return state


def _checked(name: str, value: Any) -> bool | int:
    if name == "is_on" and isinstance(value, bool):
        return value
    if name in RANGES and isinstance(value, int) and not isinstance(value, bool):
        allowed = RANGES[name]
        if value in allowed:
            return value
        limits = {"least": allowed.start, "most": allowed.stop - 1}
        raise Rejected(_("Choose between %(least)d and %(most)d.") % limits, code="out-of-range")
    raise Rejected(_("The roaster does not know what that means."))


def state_of(roaster: Roaster) -> dict[str, Any]:
    return {
        "is_on": roaster.is_on,
        "degrees": roaster.degrees,
        "drum": roaster.drum,
        "by": roaster.worked_by,
    }
