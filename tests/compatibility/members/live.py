"""What is live of a member."""

from typing import Any

from django_live import History, Topic, Viewer
from django_live.features.changes import Changes

from .models import Member


class MemberTopic(Topic):
    """A member, for themself."""

    pattern = "members/<uuid:pk>"
    history = History()
    pk: Any

    def can_subscribe(self, viewer: Viewer) -> bool:
        return bool(viewer.user.pk == self.pk)


class MemberChanges(Changes[Member]):
    model = Member
    fields = ["motto"]

    def topics(self, instance: Member) -> list[Topic]:
        return [MemberTopic(pk=instance.pk)]
