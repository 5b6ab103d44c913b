"""`{% load live_answers %}`, and the addresses of answers that do not stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.template import Context, Template, TemplateSyntaxError
from django.test import Client, RequestFactory

from django_live.features.scribe import scribe
from django_live.features.token_streams import TokenStream, find, reserve

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nobody_reports_afterwards() -> Iterator[None]:
    yield
    scribe.flush()


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password="pw")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob", password="pw")


def rendered(answer: Any, user: Any) -> str:
    request: HttpRequest = RequestFactory().get("/ask/?page=2")
    request.user = user
    template = Template("{% load live_answers %}{% live_answer answer %}")
    return template.render(Context({"request": request, "csrf_token": "TOKEN", "answer": answer}))


def client_of(user: User) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def written(owner: User, text: str = "It is **so** <b>.") -> TokenStream:
    with TokenStream("Why?", owner=owner) as stream:
        stream.reasoning("<hm>")
        stream.text(text)
    return stream


class TestTheElement:
    def test_a_finished_answer_is_rendered_and_listens_to_nothing(self, ann: User) -> None:
        html = rendered(written(ann), ann)
        assert "It is <strong>so</strong> &lt;b&gt;." in html
        assert "&lt;hm&gt;" in html
        assert " topic=" not in html
        assert 'data-state="done"' in html
        assert re.search(r"<form[^>]* hidden>", html)
        assert html.count("live-answer.js") == html.count("live-answer.css") == 1

    def test_one_that_is_written_shows_so_far_as_text_and_goes_on_from_there(
        self, ann: User
    ) -> None:
        with TokenStream(owner=ann) as stream:
            stream.text("So **far** <b>")
            while not (answer := find(stream.id)) or "So" not in (html := rendered(answer, ann)):
                pass
        assert "So **far** &lt;b&gt;</div>" in html
        cursor = re.search(r'data-cursor="([^"]+)"', html)
        assert cursor
        assert cursor[1].split(".")[2] == "2", "begin, and the text"
        assert f'topic="live/answers/{stream.id}"' in html
        assert 'data-n="1"' in html
        assert 'name="next" value="/ask/?page=2"' in html

    def test_there_is_nothing_for_others(self, ann: User, bob: User) -> None:
        answer = reserve(owner=ann)
        for who, what in ((bob, answer), (AnonymousUser(), answer), (bob, "0123456789abcdef")):
            assert rendered(what, who) == ""

    def test_it_needs_to_know_who_looks(self) -> None:
        with pytest.raises(TemplateSyntaxError, match="needs `request`"):
            Template("{% load live_answers %}{% live_answer 'x' %}").render(Context())


class TestTheAddresses:
    def test_an_answer_as_json(self, ann: User, bob: User) -> None:
        stream = written(ann)
        told = client_of(ann).get(f"/live/answers/{stream.id}/").json()
        assert (told["state"], told["text"], told["title"]) == ("done", "It is **so** <b>.", "Why?")
        assert told["html"] == "<p>It is <strong>so</strong> &lt;b&gt;.</p>\n"
        foreign = client_of(bob).get(f"/live/answers/{stream.id}/")
        unknown = client_of(bob).get("/live/answers/0123456789abcdef/")
        assert (foreign.status_code, foreign.content) == (404, unknown.content)

    def test_a_post_stops(self, ann: User) -> None:
        answer = reserve(owner=ann)
        client = client_of(ann)
        address = f"/live/answers/{answer.key}/"
        assert client.post(address).status_code == 403, "without a CSRF token"
        token = client.get("/live/send/").json()["csrfToken"]
        form = {"csrfmiddlewaretoken": token, "next": "/ask/"}
        gone = client.post(address, form)
        assert (gone.status_code, gone["Location"]) == (302, "/ask/")
        assert find(answer.key).state == "stopped"  # type: ignore[union-attr]
        assert client.post(address, {"csrfmiddlewaretoken": token}).json() == {"stopped": False}

    def test_streams_need_asgi_and_an_answer_that_is_not_over(self, ann: User) -> None:
        waiting, over = reserve(owner=ann), written(ann)
        client = client_of(ann)
        assert client.get(f"/live/answers/{waiting.key}/ui/").status_code == 501
        assert client.get(f"/live/answers/{waiting.key}/openai/").status_code == 501
        assert client.get(f"/live/answers/{over.id}/ui/").status_code == 204
        assert client.get("/live/answers/0123456789abcdef/ui/").status_code == 404
