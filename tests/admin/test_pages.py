"""The admin's pages: what they show, who may see and do what, and what is written down of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client, override_settings

from django_live import publish
from django_live.core import survey
from django_live.core.log import get_log
from django_live.core.state import get_state
from django_live.core.topics import Viewer, as_topic
from django_live.features.operations import OperationsTopic, tick
from django_live.testing import capture_events
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.django_db(transaction=True)

PAGES = {
    "connection": "view_connection",
    "livetopic": "view_livetopic",
    "process": "view_process",
    "broadcast": "broadcast",
}
As = Callable[..., Client]


@pytest.fixture
def process(transactional_db: None) -> Iterator[Serving]:  # noqa: ARG001 - its threads see it
    with serving() as one:
        yield one


@pytest.fixture
def staff(transactional_db: None) -> As:  # noqa: ARG001 - they are rows
    """``staff("view_connection", …)``: somebody of the staff with these permissions."""

    def log_in(*codenames: str, name: str = "staff") -> Client:
        user = User.objects.create_user(name, is_staff=True)
        found = Permission.objects.filter(
            codename__in=codenames, content_type__app_label="django_live"
        )
        assert found.count() == len(codenames)
        user.user_permissions.add(*found)
        client = Client()
        client.force_login(user)
        return client

    return log_in


def address(page: str) -> str:
    return f"/admin/django_live/{page}/"


# -- who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_there_for_its_permission_and_for_no_other(page: str, staff: As) -> None:
    may = staff(PAGES[page], name="may")
    others = [codename for one, codename in PAGES.items() if one != page]
    may_not = staff(*others, name="may_not")
    assert may.get(address(page)).status_code == 200
    assert may_not.get(address(page)).status_code == 403
    assert Client().get(address(page)).status_code == 302
    assert address(page) in may.get("/admin/").text
    assert address(page) not in may_not.get("/admin/").text


def test_nothing_is_done_without_the_permission_to(process: Serving, staff: As) -> None:
    client = staff("view_connection", "view_livetopic", "view_storedevent", "view_process")
    connection = process.connect("open/a")
    publish("open/a", "said", 1)
    for page, form in (
        ("connection/", {"action": "disconnect", "id": connection.id}),
        ("connection/", {"action": "recheck", "id": connection.id}),
        ("connection/", {"action": "fly", "id": connection.id}),
        ("livetopic/", {"action": "trim"}),
        ("livetopic/?topic=open/a", {"action": "replay", "offset": "1"}),
        ("process/", {}),
        ("broadcast/", {"kind": "everyone", "text": "x", "send": "1"}),
    ):
        assert client.post(f"/admin/django_live/{page}", form).status_code == 403, (page, form)
    assert not connection.closed
    assert LogEntry.objects.count() == 0
    html = client.get(address("connection")).text
    assert connection.id in html
    assert 'value="disconnect"' not in html


# -- connections -----------------------------------------------------------------------------------


def test_connections_are_shown_searched_and_paged(
    process: Serving, staff: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_live.admin.connections.PAGE", 2)
    anna = User.objects.create_user("anna")
    hers = process.connect("open/a", user=anna)
    others = [process.connect("open/b", transport="websocket") for _ in range(4)]
    client = staff("view_connection")
    seen: list[str] = []
    query = "?"
    for _ in range(5):
        response = client.get(address("connection") + query)
        seen += [row["id"] for row in response.context["rows"]]
        query = response.context["next"]
        if not query:
            break
    assert sorted(seen) == sorted([hers.id, *(one.id for one in others)])
    for query, found in (
        ("?q=ann", [hers.id]),
        ("?q=OPEN/A", [hers.id]),
        ("?transport=sse", [hers.id]),
        ("?order=nonsense&after=nonsense&transport=nonsense&q=192.0.2.77", []),
    ):
        response = client.get(address("connection") + query)
        assert [row["id"] for row in response.context["rows"]] == found, query
    html = client.get(address("connection") + "?q=ann").text
    assert "anna" in html
    assert "a &lt;browser&gt;" in html, "what visitors say is text"
    assert "1 matches" in html


def test_connections_are_ended_and_rechecked_and_that_is_written_down(
    process: Serving, staff: As
) -> None:
    client = staff("view_connection", "disconnect_connection")
    first, second = process.connect("open/a"), process.connect("open/a")
    form = {"action": "disconnect", "id": [first.id]}
    page = client.post(address("connection"), form, follow=True)
    assert "1 connection is being ended" in page.text
    process.wait_for(lambda: first.closed)
    assert not second.closed
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == (first.id, "Disconnected.")
    assert entry.content_type is not None
    assert entry.content_type.model == "connection"
    client.post(address("connection"), {"action": "recheck", "id": [second.id]})
    assert LogEntry.objects.filter(change_message="Permissions asked again.").count() == 1
    page = client.post(address("connection"), {"action": "disconnect"}, follow=True)
    assert "Tick at least one" in page.text


def test_a_process_that_does_not_answer_is_named(process: Serving, staff: As) -> None:
    process.connect("open/a")
    told = '{"host": "web9", "pid": 7, "started": 1.0, "version": "0", "release": ""}'
    get_state().set(survey.PROCESSES, {"web9 7 beef": told}, ttl=30)
    html = staff("view_connection").get(address("connection")).text
    assert "web9, process 7" in html
    assert "1 open connection" in html


def test_a_database_that_fails_is_a_sentence(staff: As, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("no such table")

    monkeypatch.setattr(survey, "ask", fails)
    response = staff("view_connection", "view_process").get(address("process"))
    assert response.status_code == 200
    assert "could not be asked" in response.text


def test_a_survey_is_heard_where_every_request_is_a_transaction(
    process: Serving, staff: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = process.connect("open/a")
    client = staff("view_connection")
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert opened.id in client.get(address("connection")).text


@override_settings(ROOT_URLCONF="tests.admin.urls_without_live")
def test_without_addresses_for_streams_the_page_is_there_and_is_not_live(
    process: Serving, staff: As
) -> None:
    connection = process.connect("open/a")
    html = staff("view_connection").get(address("connection")).text
    assert connection.id in html
    assert '<script src="/static/django_live/live.js"' not in html
    assert "<live-refresh" not in html


# -- topics ----------------------------------------------------------------------------------------


def test_topics_and_their_events(process: Serving, staff: As) -> None:
    process.connect("open/a")
    publish("open/a", "said", {"text": "<script>"})
    reader = staff("view_livetopic", "view_storedevent", name="reader")
    html = reader.get(address("livetopic")).text
    assert "open/a" in html
    assert "open/&lt;slug:slug&gt;" in html
    assert "django_live/control" not in html
    html = reader.get(address("livetopic") + "?topic=open/a").text
    assert "&lt;script&gt;" in html
    assert "Publish again" not in html
    html = staff("view_livetopic", name="other").get(address("livetopic") + "?topic=open/a").text
    assert "You may not read events" in html
    assert "&lt;script&gt;" not in html
    for name in ("nothing/declares/this", "django_live/control", " "):
        response = reader.get(address("livetopic"), {"topic": name})
        assert response.status_code == 404, name


def test_an_event_is_published_again_and_the_log_is_trimmed(staff: As) -> None:
    client = staff("view_livetopic", "view_storedevent", "replay_livetopic", "trim_livetopic")
    publish("small/a", "said", {"n": 1})
    publish("small/a", "raw", b"\x00\x01")
    page = address("livetopic") + "?topic=small/a"
    with capture_events() as captured:
        for offset in ("1", "2", "99", "x"):
            client.post(page, {"action": "replay", "offset": offset})
    assert [(event.type, event.topic) for event in captured] == [
        ("said", "small/a"),
        ("raw", "small/a"),
    ]
    assert captured[0].data == {"n": 1}
    for _ in range(30):
        publish("small/a", "said", 1)
    client.post(address("livetopic"), {"action": "trim"})
    head = get_log().heads([as_topic("small/a")])[as_topic("small/a").key]
    assert head.last - head.floor == 10
    messages = list(LogEntry.objects.values_list("change_message", flat=True))
    assert "Published event 1 again." in messages
    assert any(message.startswith("Trimmed: ") for message in messages)


# -- processes -------------------------------------------------------------------------------------


def test_processes_with_charts(process: Serving, staff: As) -> None:
    process.connect("open/a", transport="websocket")
    process.live.witness.facts.look()
    html = staff("view_process").get(address("process")).text
    (one,) = survey.processes().values()
    assert f"{one.host}:{one.pid}" in html
    assert html.count("<polyline") == 4
    assert "websocket 1" in html


# -- broadcast -------------------------------------------------------------------------------------


def test_a_broadcast_is_previewed_then_sent_and_written_down(process: Serving, staff: As) -> None:
    anna = User.objects.create_user("anna")
    Group.objects.create(name="readers").user_set.add(anna)
    process.connect(f"user/{anna.pk}", user=anna)
    client = staff("broadcast")
    form = {"kind": "group", "value": "readers", "text": "Hello", "level": "success"}
    with capture_events() as captured:
        response = client.post(address("broadcast"), {**form, "preview": "1"})
    assert [event.type for event in captured] == ["ask"], "it asks, and sends nothing"
    assert (response.context["reach"].connections, response.context["reach"].users) == (1, 1)
    assert "Hello" in response.text, "the form keeps what was written"
    with capture_events() as captured:
        client.post(address("broadcast"), {**form, "send": "1"})
    (event,) = captured
    assert (event.topic, event.type) == (f"user/{anna.pk}", "message")
    assert event.data == {"text": "Hello", "level": "success"}
    (entry,) = LogEntry.objects.all()
    assert "group readers: 1 topics" in entry.change_message
    with capture_events() as captured:
        data = {"kind": "topic", "value": "open/a", "type": "said", "data": '{"n": 1}'}
        client.post(address("broadcast"), {**data, "send": "1"})
    assert [(event.topic, event.data) for event in captured] == [("open/a", {"n": 1})]


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "everyone"},
        {"kind": "planet", "text": "x"},
        {"kind": "user", "text": "x"},
        {"kind": "user", "value": "nobody", "text": "x"},
        {"kind": "topic", "value": "nothing/declares/this", "text": "x"},
        {"kind": "everyone", "type": "said", "data": "{"},
        {"kind": "everyone", "type": "said", "data": "NaN"},
        {"kind": "everyone", "type": "stream-open", "data": "1"},
        {"kind": "everyone", "type": "said", "text": "x"},
        {"kind": "everyone", "text": "x", "url": "https://evil.test"},
        {"kind": "everyone", "text": "x", "level": "shout"},
    ],
    ids=json.dumps,
)
def test_what_cannot_be_broadcast_is_said_in_the_form(form: dict[str, str], staff: As) -> None:
    client = staff("broadcast")
    with capture_events() as captured:
        response = client.post(address("broadcast"), {**form, "send": "1"})
    assert response.status_code == 200
    assert response.context["form"].errors
    assert captured == []
    assert LogEntry.objects.count() == 0


# -- live ------------------------------------------------------------------------------------------


def test_the_tick_is_heard_by_whoever_may_see_a_page() -> None:
    permission = Permission.objects.get(codename="view_process")
    may = User.objects.create_user("may", is_staff=True)
    may.user_permissions.add(permission)
    no_staff = User.objects.create_user("no_staff")
    no_staff.user_permissions.add(permission)
    staff_only = User.objects.create_user("staff_only", is_staff=True)
    topic = OperationsTopic()
    viewers = [Viewer(user=user) for user in (may, no_staff, staff_only)]
    assert [topic.can_subscribe(viewer) for viewer in viewers] == [True, False, False]
    assert topic.can_subscribe(Viewer()) is False


def test_it_ticks_only_while_somebody_looks(process: Serving) -> None:
    boss = User.objects.create_superuser("boss")

    def ticks() -> int:
        with capture_events() as captured:
            process.do(tick())
        return len([event for event in captured if event.type == "tick"])

    assert ticks() == 0
    process.connect("django_live/operations", user=boss)
    assert ticks() == 1


def test_every_text_of_the_pages_is_there_in_german() -> None:
    """What ``makemessages`` would find has a translation."""
    import re
    from pathlib import Path

    import django_live

    package = Path(django_live.__file__).parent
    catalogue = (package / "locale/de/LC_MESSAGES/django.po").read_text()
    found: set[str] = set()
    for path in (package / "templates/django_live/admin").glob("*.html"):
        found |= set(re.findall(r'{% translate "([^"]+)"', path.read_text()))
    for path in (package / "admin").glob("*.py"):
        found |= set(re.findall(r'\b(?:_|gettext_lazy)\(\s*"([^"]+)"', path.read_text()))
    assert len(found) > 60
    missing = {text for text in found if f'msgid "{text}"\nmsgstr "' not in catalogue}
    assert not missing
