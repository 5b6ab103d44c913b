"""What is live of it."""

from __future__ import annotations

from django_live import History, Topic
from django_live.features.changes import Changes
from tests.triggerapp.models import Reading


class SensorTopic(Topic):
    """The readings of one sensor."""

    pattern = "sensors/<slug:sensor>"
    history = History()


class ReadingChanges(Changes[Reading]):
    model = Reading
    fields = ["value", "taken", "extra", "token"]
    triggers = True

    def topics(self, instance: Reading) -> list[Topic]:
        return [SensorTopic(sensor=instance.sensor)]
