"""``path("live/", include("django_live.urls"))``: the addresses of the transports."""

from __future__ import annotations

from django.urls import path

from .integrations.grip import events
from .integrations.prometheus import metrics
from .transports.health import alive, health
from .transports.issuing import tickets
from .transports.polling import poll
from .transports.uplink import uplink
from .transports.websocket import websocket
from .views.answers import answer, openai, ui
from .views.progress import job, jobs

app_name = "django_live"

urlpatterns = [
    path("events/", events, name="events"),
    path("poll/", poll, name="poll"),
    path("send/", uplink, name="send"),
    path("tickets/", tickets, name="tickets"),
    path("ws/", websocket, name="websocket"),
    path("metrics/", metrics, name="metrics"),
    path("progress/", jobs, name="jobs"),
    path("progress/<slug:id>/", job, name="job"),
    path("answers/<slug:id>/", answer, name="answer"),
    path("answers/<slug:id>/openai/", openai, name="answer-openai"),
    path("answers/<slug:id>/ui/", ui, name="answer-ui"),
    path("health/", health, name="health"),
    path("health/alive/", alive, name="alive"),
]
