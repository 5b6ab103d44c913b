"""Its addresses, its page, and the policy that every answer carries."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template import engines
from django.urls import include, path

from .members.live import MemberTopic

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE = """{% load live live_presence live_progress %}<!doctype html><html lang="en">
<title>Mine</title>{% live_client %}{% live_status %}
{% live_refresh topic %}<p>Motto: <strong>{{ user.motto }}</strong></p>{% endlive_refresh %}
{% live_jobs %}"""


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return answer


@login_required
def mine(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    template = engines["django"].from_string(PAGE)
    return HttpResponse(template.render({"topic": MemberTopic(pk=user.pk)}, request))


urlpatterns = [
    path("", mine),
    path("accounts/", include("allauth.account.urls")),
    path("live/", include("django_live.urls")),
    path("notifications/", include("django_live.notifications.urls")),
]
