"""Addresses of the site that the tests of transports and tabs browse: `ROOT_URLCONF` of its own."""

import json

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from django_live import live_position, publish

PAGE = """{% load live %}<!doctype html><html lang="en"><title>Listening</title>
<meta name="viewport" content="width=device-width">
{% if share %}{% live_client %}{% else %}{% live_client share=False %}{% endif %}
{% live_status %}{% live_topic topics %}
<script src="/listen.js" defer></script>
<main><h1>Listening</h1><p>To {{ topics|join:", " }}.</p></main>"""

SCRIPT = """
window.heard = [];
window.startedAt = performance.now();
document.addEventListener("live:event", ({ detail }) => heard.push(detail.data.n));
document.addEventListener("live:reset", ({ detail }) => heard.push("reset " + detail.data.reason));
live.onStatus((status) => status === "live" && (window.liveAfter ??= performance.now()));
addEventListener("pageshow", ({ persisted }) => (window.cameBack = persisted));
"""

# No inline code, no eval, nothing from elsewhere.
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'"


def listen(request: HttpRequest) -> HttpResponse:
    """`?topic=…&share=1`: a page that writes down what it hears."""
    topics = request.GET.getlist("topic")
    # As of now and no earlier: what the test before this one said is not this page's.
    live_position(request, *topics)
    page = engines["django"].from_string(PAGE)
    html = page.render({"topics": topics, "share": request.GET.get("share")}, request)
    return HttpResponse(html, headers={"Content-Security-Policy": CSP})


def script(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(SCRIPT, content_type="text/javascript")


def begin_a_session(request: HttpRequest) -> HttpResponse:
    """A session of its own, of a visitor; the cookie is the answer."""
    request.session.save()
    request.session.modified = True
    return HttpResponse(request.session.session_key)


@csrf_exempt
def say(request: HttpRequest) -> HttpResponse:
    """Publishes the events that are posted: `{"topic": …, "numbers": […]}`."""
    wanted = json.loads(request.body)
    for n in wanted["numbers"]:
        publish(wanted["topic"], "counted", {"n": n})
    return HttpResponse(status=204)


urlpatterns = [
    path("listen/", listen),
    path("listen.js", script),
    path("say/", say),
    path("begin-a-session/", begin_a_session),
    path("", include("tests.urls")),
]
