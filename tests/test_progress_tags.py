"""`{% load live_progress %}`, and the addresses of jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.template import Context, Template, TemplateSyntaxError
from django.test import Client, RequestFactory

from django_live.features.progress import Progress, find, reserve
from django_live.features.scribe import scribe
from django_live.templatetags.live_progress import counted, left

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


def rendered(source: str, user: Any, **context: Any) -> str:
    request: HttpRequest = RequestFactory().get("/jobs/?page=2")
    request.user = user
    template = Template("{% load live_progress %}" + source)
    return template.render(Context({"request": request, "csrf_token": "TOKEN", **context}))


def client_of(user: User) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def failed_job(owner: User) -> Progress:
    progress = Progress("Import", owner=owner, total=8)

    def work() -> None:
        with progress:
            progress.update(2, "row <2>", rows=2)
            progress.log("line <1>")
            raise KeyError("hunter2")

    with pytest.raises(KeyError):
        work()
    return progress


class TestTheElement:
    def test_is_whole_without_javascript(self, ann: User) -> None:
        html = rendered("{% live_progress job %}", ann, job=failed_job(ann))
        bar = re.search(r"<progress[^>]*>", html)
        assert bar
        for attribute in ('role="progressbar"', 'value="25"', 'aria-valuenow="25"'):
            assert attribute in bar[0]
        assert 'aria-valuetext="2 of 8"' in bar[0]
        assert "row &lt;2&gt;" in html
        assert "line &lt;1&gt;" in html
        assert "Something went wrong" in html
        assert "hunter2" not in html
        assert re.search(r"<form[^>]* hidden>", html), "it is over"
        assert 'data-state="failed"' in html
        assert 'data-cursor="' in html
        assert html.count("live-progress.js") == html.count("live-progress.css") == 1

    def test_staff_gets_the_traceback(self, ann: User) -> None:
        job = failed_job(ann)
        ann.is_staff = True
        assert "hunter2" in rendered("{% live_progress job %}", ann, job=job.id)

    def test_a_waiting_job_can_be_cancelled_by_a_form(self, ann: User) -> None:
        html = rendered("{% live_progress job %}", ann, job=reserve("Import", owner=ann))
        assert 'name="csrfmiddlewaretoken" value="TOKEN"' in html
        assert 'name="next" value="/jobs/?page=2"' in html
        assert not re.search(r"<form[^>]* hidden>", html)
        bar = re.search(r"<progress[^>]*>", html)
        assert bar
        assert " value=" not in bar[0], "nobody knows how far it is"

    def test_there_is_nothing_for_others(self, ann: User, bob: User) -> None:
        job = reserve("Import", owner=ann)
        assert rendered("{% live_progress job %}", bob, job=job) == ""
        assert rendered("{% live_progress job %}", AnonymousUser(), job=job) == ""
        assert rendered("{% live_progress job %}", bob, job="0123456789abcdef") == ""

    def test_it_needs_to_know_who_looks(self, ann: User) -> None:
        with pytest.raises(TemplateSyntaxError, match="needs `request`"):
            Template("{% load live_progress %}{% live_progress job %}").render(
                Context({"job": reserve("Import", owner=ann)})
            )

    def test_my_jobs(self, ann: User, bob: User) -> None:
        first, second = reserve("One", owner=ann), reserve("Two", owner=ann)
        reserve("Bob's", owner=bob)
        html = rendered("{% live_jobs %}", ann)
        assert re.findall(r'data-live-key="([^"]+)"', html) == [second.id, first.id]
        assert f'topics="live%2Fjobs%2F{ann.pk}"' in html
        assert html.count("live-progress.js") == 1
        assert "There are no jobs." in rendered("{% live_jobs %}", User.objects.create_user("cy"))
        assert rendered("{% live_jobs %}", AnonymousUser()) == ""

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (None, ""),
            (0.2, "about 1 second left"),
            (59.4, "about 59 seconds left"),
            (89, "about 1 minute left"),
            (7000, "about 2 hours left"),
        ],
    )
    def test_what_is_left(self, seconds: float | None, words: str) -> None:
        assert left(seconds) == words

    def test_what_is_counted(self) -> None:
        assert counted({"done": 3, "total": None, "unit": ""}) == "3"
        assert counted({"done": 3.2, "total": 10, "unit": "rows"}) == "3 of 10 rows"


class TestTheAddresses:
    def test_a_job_as_json(self, ann: User, bob: User) -> None:
        job = failed_job(ann)
        answer = client_of(ann).get(f"/live/progress/{job.id}/")
        assert answer.status_code == 200
        assert answer["Cache-Control"] == "no-store, private"
        assert (answer.json()["done"], answer.json()["fields"]) == (2, {"rows": 2})
        assert "traceback" not in answer.json()
        User.objects.filter(pk=ann.pk).update(is_staff=True)
        assert "hunter2" in client_of(ann).get(f"/live/progress/{job.id}/").json()["traceback"]

    def test_a_foreign_job_and_an_unknown_one_look_alike(self, ann: User, bob: User) -> None:
        job = reserve("Import", owner=ann)
        answers = [
            client_of(bob).get(f"/live/progress/{job.id}/"),
            client_of(bob).get("/live/progress/0123456789abcdef/"),
            Client().get(f"/live/progress/{job.id}/"),
            client_of(bob).get("/live/progress/short/"),
        ]
        assert {(one.status_code, one.content) for one in answers} == {
            (404, answers[0].content),
        }

    def test_my_jobs(self, ann: User, bob: User) -> None:
        job = reserve("Import", owner=ann)
        reserve("Bob's", owner=bob)
        jobs = client_of(ann).get("/live/progress/").json()["jobs"]
        assert [one["id"] for one in jobs] == [job.id]
        assert Client().get("/live/progress/").status_code == 404
        refused = client_of(ann).post("/live/progress/")
        assert (refused.status_code, refused["Allow"]) == (405, "GET")

    def test_a_post_cancels(self, ann: User, bob: User) -> None:
        job = reserve("Import", owner=ann)
        client = client_of(ann)
        address = f"/live/progress/{job.id}/"
        assert client.post(address).status_code == 403, "without a CSRF token"
        token = client.get("/live/send/").json()["csrfToken"]
        others = client_of(bob)
        theirs = others.get("/live/send/").json()["csrfToken"]
        assert others.post(address, headers={"X-CSRFToken": theirs}).status_code == 404
        assert find(job.id).view["state"] == "waiting"  # type: ignore[union-attr]
        form = {"csrfmiddlewaretoken": token, "next": "/jobs/"}
        answer = client.post(address, form)
        assert (answer.status_code, answer["Location"]) == (302, "/jobs/")
        assert find(job.id).view["state"] == "cancelled"  # type: ignore[union-attr]
        again = client.post(address, {**form, "next": "https://evil.example/"})
        assert json.loads(again.content) == {"cancelled": False}

    def test_pages_of_other_sites_get_nothing(self, ann: User) -> None:
        job = reserve("Import", owner=ann)
        answer = client_of(ann).get(
            f"/live/progress/{job.id}/", headers={"Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status_code == 403
