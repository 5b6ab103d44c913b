"""django_live as shipped: default settings, a topic with history, permission by the logged-in user."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.fanout.apps.settings")

from typing import Any

from django_live.asgi import get_live_application

inner = get_live_application()

from benchmarks.fanout.apps.publishing import with_publisher
from django_live import History, Topic, apublish


class Ticks(Topic):
    pattern = "ticks/<int:pk>"
    history = History()

    def can_subscribe(self, viewer: Any) -> bool:
        return bool(viewer.user.is_authenticated)


application = with_publisher(inner, lambda data, number: apublish(Ticks(pk=number), "tick", data))
