"""Publishing inside the server's own process: what is compared is the way from the hub to the socket."""

from __future__ import annotations

import json

from django.core.management import call_command
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from django_live import publish_many
from django_live.core.control import disconnect
from tests.transport_contract.site.live import subscribed, unsubscribed


@csrf_exempt
def say(request: HttpRequest) -> HttpResponse:
    """`{"topic", "first", "count", "size", "keys"}`: that many numbered events of about that many
    characters, in one transaction. Of `keys` different things they are the newest value."""
    asked = json.loads(request.body)
    keys = asked["keys"]
    events = [
        {
            "topic": asked["topic"],
            "type": "counted",
            "data": {"n": n, "filling": "x" * asked["size"]},
            "conflate": f"thing-{n % keys}" if keys else "",
        }
        for n in range(asked["first"], asked["first"] + asked["count"])
    ]
    with transaction.atomic():
        publish_many(events)
    return HttpResponse(status=204)


@csrf_exempt
def end(request: HttpRequest) -> HttpResponse:
    """An operator ends the connections of the posted topic."""
    disconnect(topic=request.body.decode())
    return HttpResponse(status=204)


@csrf_exempt
def trim(_request: HttpRequest) -> HttpResponse:
    """What the topics no longer keep is removed now."""
    call_command("live_trim", verbosity=0)
    return HttpResponse(status=204)


def hooks(request: HttpRequest) -> JsonResponse:
    """`?topic=…`: how often it was subscribed to and given up."""
    topic = request.GET["topic"]
    return JsonResponse({"subscribed": subscribed[topic], "unsubscribed": unsubscribed[topic]})


urlpatterns = [
    path("say/", say),
    path("end/", end),
    path("trim/", trim),
    path("hooks/", hooks),
    path("live/", include("django_live.urls")),
]
