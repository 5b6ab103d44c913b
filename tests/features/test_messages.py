"""Messages to everyone and to one user: who hears them, what they may say, and where they are shown."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.template import Context, Template
from django.test import RequestFactory

from django_live.core.topics import Topic, Viewer, registry
from django_live.exceptions import InvalidEvent, InvalidTopic, UnknownTopic
from django_live.features import messages
from django_live.features.broadcasts import Audience, NobodyFound, broadcast, reach
from django_live.features.messages import EveryoneTopic, UserTopic, message
from django_live.testing import capture_events

pytestmark = pytest.mark.any_database


def test_everyone_hears_what_is_for_everyone_and_a_user_what_is_theirs() -> None:
    nobody, five, fifty = Viewer(), Viewer(user_id="5"), Viewer(user_id="50")
    assert all(EveryoneTopic().can_subscribe(viewer) for viewer in (nobody, five))
    topic = registry.resolve("user/5")
    assert [topic.can_subscribe(v) for v in (nobody, five, fifty)] == [False, True, False]
    assert not topic.can_send(five)


def test_what_was_said_to_somebody_is_forgotten_with_them() -> None:
    assert UserTopic(pk="5").forget(User(pk=5), "message", {"text": "x"}) is None
    assert UserTopic(pk="5").forget(User(pk=6), "message", {"text": "x"}) == {"text": "x"}


def test_a_project_keeps_its_own_topics_of_these_names() -> None:
    with registry.isolated() as declared:
        declared._classes = {}

        class Mine(Topic):
            pattern = "user/<str:pk>"

        class AlsoMine(Topic):
            pattern = "every<slug:rest>"

        messages.declare()
        assert type(declared.resolve("user/5")) is Mine
        assert type(declared.resolve("everyone")) is AlsoMine
        with pytest.raises(InvalidTopic):
            EveryoneTopic().name  # noqa: B018 - it is asked for
        html = Template("{% load live_messages %}{% live_messages %}").render(Context())
        assert 'topics=""' in html


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"text": ""}, "characters"),
        ({"text": " "}, "characters"),
        ({"text": "x" * 2001}, "characters"),
        ({"text": "x", "level": "shout"}, "level"),
        ({"text": "x", "url": "https://evil.test/"}, "on this site"),
        ({"text": "x", "url": "//evil.test/"}, "on this site"),
        ({"text": "x", "url": "/\\evil.test/"}, "on this site"),
        ({"text": "x", "url": "javascript:alert(1)"}, "on this site"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_shown_is_no_message(given: dict[str, str], fault: str) -> None:
    with pytest.raises(InvalidEvent, match=fault):
        message(**given)


def test_the_tag_names_the_topics_of_who_is_looking() -> None:
    request = RequestFactory().get("/")
    template = Template("{% load live_messages %}{% live_messages seconds=3 %}")
    request.user = AnonymousUser()
    html = template.render(Context({"request": request}))
    assert 'topics="everyone"' in html
    assert 'data-seconds="3"' in html
    assert html.count("<script") == 1
    request.user = User(pk=5)
    html = template.render(Context({"request": request}))
    assert 'topics="everyone user/5"' in html
    assert "<script" not in html, "once in an answer is enough"


# -- broadcasts ------------------------------------------------------------------------------------


@pytest.fixture
def people(db: None) -> dict[str, User]:  # noqa: ARG001 - they are rows
    made = {name: User.objects.create_user(name) for name in ("anna", "bert", "carl", "dora")}
    group = Group.objects.create(name="editors")
    group.user_set.add(made["anna"], made["bert"])
    permission = Permission.objects.get(codename="view_order", content_type__app_label="testapp")
    group.permissions.add(permission)
    made["carl"].user_permissions.add(permission)
    User.objects.filter(username="bert").update(is_active=False)
    made["root"] = User.objects.create_superuser("root")
    return made


@pytest.mark.parametrize(
    ("kind", "value", "meant"),
    [
        ("user", "anna", {"anna"}),
        ("user", "bert", set()),
        ("group", "editors", {"anna"}),
        ("permission", "testapp.view_order", {"anna", "carl", "root"}),
    ],
)
def test_whom_an_audience_is(
    kind: str, value: str, meant: set[str], people: dict[str, User]
) -> None:
    names = [topic.name for topic in Audience(kind, value).topics()]
    assert sorted(names) == sorted(f"user/{people[name].pk}" for name in meant)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("user", "nobody"),
        ("user", "999999"),
        ("group", "nobody"),
        ("permission", "nonsense"),
        ("permission", "testapp.fly"),
        ("planet", "mars"),
    ],
)
@pytest.mark.usefixtures("people")
def test_who_is_not_there_is_said(kind: str, value: str) -> None:
    with pytest.raises(NobodyFound):
        list(Audience(kind, value).topics())
    with pytest.raises(UnknownTopic):
        list(Audience("topic", "nothing/declares/this").topics())


def test_a_number_that_is_one_users_key_and_anothers_name_is_refused(
    people: dict[str, User],
) -> None:
    User.objects.create_user(str(people["anna"].pk))
    with pytest.raises(NobodyFound, match="another one's"):
        list(Audience("user", str(people["anna"].pk)).topics())


def test_a_broadcast_is_an_event_for_each_and_tells_how_far_it_is(
    people: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_live.features.broadcasts.AT_ONCE", 2)
    steps: list[int] = []
    with capture_events() as captured:
        sent = broadcast(
            Audience("permission", "testapp.view_order"),
            "message",
            message("Hello"),
            progress=steps.append,
        )
    assert (sent, steps) == (3, [2, 3])
    assert {event.data["text"] for event in captured} == {"Hello"}
    assert len({event.topic for event in captured}) == 3
    with capture_events() as captured:
        assert broadcast(Audience("everyone"), "said", {"x": 1}) == 1
    assert [(event.topic, event.data) for event in captured] == [("everyone", {"x": 1})]
    assert people


@pytest.mark.usefixtures("people")
def test_where_nobody_serves_nobody_is_reached() -> None:
    found = reach(Audience("group", "editors"))
    assert (found.topics, found.connections, found.users, found.missing) == (1, 0, 0, 0)
