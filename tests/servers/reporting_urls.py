"""The addresses of the tests' site, and those of a site that answers chats."""

from __future__ import annotations

from threading import Thread

from django.db import connections
from django.http import HttpRequest, HttpResponseBase
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_live.features.token_streams import TokenStream, reserve
from django_live.views.answers import answer_response
from tests.urls import urlpatterns as of_the_site


@csrf_exempt
def chat(request: HttpRequest, convention: str) -> HttpResponseBase:
    """Has a worker write an answer, and hands it on as it is written."""
    answer = reserve(owner=request.user)

    def work() -> None:
        with TokenStream(id=answer.key) as stream:
            stream.reasoning("Hm.")
            call = stream.tool("search", input={"q": "mill"})
            stream.tool("search", output=["stone"], id=call)
            for word in ("Because ", "it is ", "so."):
                stream.text(word)
            stream.data("sources", ["a"])
        connections.close_all()

    Thread(target=work).start()
    return answer_response(request, answer.key, convention)


urlpatterns = [
    path("chat/", chat, {"convention": "ui"}),
    path("v1/chat/completions", chat, {"convention": "openai"}),
    *of_the_site,
]
