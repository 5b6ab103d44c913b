"""``path("live/", include("django_live.urls"))``: the addresses of the transports."""

from __future__ import annotations

from django.urls import path

from .transports.polling import poll
from .transports.sse import events

app_name = "django_live"

urlpatterns = [
    path("events/", events, name="events"),
    path("poll/", poll, name="poll"),
]
