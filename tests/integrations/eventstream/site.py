"""The addresses of both sites. ``send_event`` is imported early and by name, as projects do it."""

import json
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.staticfiles.views import serve
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django_eventstream import channel_permission_changed, get_current_event_id, send_event
from django_eventstream.viewsets import EventsViewSet, configure_events_view_set
from rest_framework.routers import SimpleRouter


def send(request: HttpRequest) -> HttpResponse:
    """Sends each of a JSON list of ``[channel, type, data, json_encode]``."""
    for channel, type, data, json_encode in json.loads(request.GET["events"]):
        send_event(channel, type, data, json_encode=json_encode)
    return HttpResponse("sent")


def burst(request: HttpRequest) -> HttpResponse:
    first, count = int(request.GET["first"]), int(request.GET["count"])
    for n in range(first, first + count):
        send_event(request.GET["channel"], "counted", {"n": n})
    return HttpResponse("sent")


def current(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_current_event_id(request.GET.getlist("channel")))


def sign_in(request: HttpRequest) -> HttpResponse:
    user, _ = User.objects.get_or_create(username=request.GET["name"])
    user.last_name = "allowed"
    user.save()
    login(request, user)
    return JsonResponse({"id": user.pk})


def withdraw(request: HttpRequest) -> HttpResponse:
    user = User.objects.get(username=request.GET["name"])
    User.objects.filter(pk=user.pk).update(last_name="")  # no signal: only what is said below
    user.refresh_from_db()
    channel_permission_changed(user, request.GET["channel"])
    return HttpResponse("withdrawn")


PAGE = """<!doctype html><html lang="en"><title>Its clients</title>
<script src="/static/django_eventstream/eventsource.min.js"></script>
<script src="/static/django_eventstream/reconnecting-eventsource.js"></script>"""


def page(_request: HttpRequest) -> HttpResponse:
    """With django-eventstream's own scripts, as its documentation has it."""
    return HttpResponse(PAGE)


class AnyEvents(EventsViewSet):  # type: ignore[misc]  # untyped
    """Channels from the query, or the address."""


router = SimpleRouter()
news: Any = configure_events_view_set(channels=["news"], messages_types=["message"])
router.register("api/news", news, basename="news")
router.register("api/any", AnyEvents, basename="any")

events = "django_eventstream.urls"
urlpatterns = [
    path("page/", page),
    path("static/<path:path>", serve, {"insecure": True}),
    path("send/", send),
    path("burst/", burst),
    path("current/", current),
    path("sign-in/", sign_in),
    path("withdraw/", withdraw),
    path("fixed/", include(events), {"channels": ["news"]}),
    path("two/", include(events), {"channels": ["news", "sport"]}),
    path("room/<room>/", include(events), {"format-channels": ["room-{room}"]}),
    path("one/<channel>/", include(events)),
    path("any/", include(events)),
    *router.urls,
]
