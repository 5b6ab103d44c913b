"""Pages on which each shipped element shows, or hears, what somebody hostile has saved: `ROOT_URLCONF` of
its own. Without a policy (CSP): it is the elements that have to withstand."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from tests.testapp.live import CustomerTopic
from tests.testapp.models import Order


@dataclass(frozen=True)
class Element:
    """A tag as a page has it. `{{ order.status }}` is what somebody else writes."""

    template: str
    shows: bool
    """Whether it shows the text; the others only hear of it, and show nothing."""


ELEMENTS = {
    "live-topic": Element("{% live_topic topic %}", shows=False),
    "live-status": Element("{% live_topic topic %}{% live_status %}", shows=False),
    "live-refresh": Element(
        '{% live_refresh topic id="part" %}<p title="{{ order.status }}">{{ order.status }}</p>'
        "{% endlive_refresh %}",
        shows=True,
    ),
    "live-list": Element(
        '<ul>{% live_list orders topics=topic id="rows" as row %}'
        '<li title="{{ row.status }}">{{ row.status }}</li>{% endlive_list %}</ul>',
        shows=True,
    ),
}
"""Each element that the package ships. A new one belongs here."""

PAGE = """{% load live %}<!doctype html><html lang="en"><title>Attacked</title>{% live_client %}
<script>
  window.all = [];
  const note = (data) => void window.all.push({ data, renewed: window.renewed === true });
  addEventListener("live:event", ({ detail }) => note((window.heard = detail).data));
  const listen = (transport) => void live.subscribe("open/a", { "*": note }, { transport });
</script>
<main>@</main>"""


def attacked(request: HttpRequest, name: str) -> HttpResponse:
    orders = Order.objects.visible_to(request.user).order_by("pk")
    context = {
        "order": orders.first(),
        "orders": orders,
        "topic": CustomerTopic(pk=request.user.pk),
        "name": name,
    }
    page = engines["django"].from_string(PAGE.replace("@", ELEMENTS[name].template))
    return HttpResponse(page.render(context, request))


def listening(request: HttpRequest) -> HttpResponse:
    """A page that anybody may see, with a topic that anybody may hear."""
    page = engines["django"].from_string(PAGE.replace("@", "{% live_topic 'open/a' %}"))
    return HttpResponse(page.render({}, request))


def listening_later(request: HttpRequest) -> HttpResponse:
    """The same, and its topics come later."""
    page = engines["django"].from_string(PAGE.replace("@", ""))
    return HttpResponse(page.render({}, request))


@require_POST
@csrf_exempt
def sign_in(request: HttpRequest) -> HttpResponse:
    """What a page's `onRenew` asks for; a real one would want a password."""
    login(request, User.objects.get(), "django.contrib.auth.backends.ModelBackend")
    return HttpResponse(status=204)


urlpatterns = [
    path("listening/", listening),
    path("listening-later/", listening_later),
    path("sign-in/", sign_in),
    path("attacked/<slug:name>/", attacked),
    path("", include("tests.urls")),
]
