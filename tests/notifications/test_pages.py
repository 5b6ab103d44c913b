"""The pages and the bell, as a server answers: without JavaScript, to their owner only, in few queries."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

import django_live
from django_live.notifications import declare_kind, notify, unread_count
from django_live.notifications.inbox import unread_rows
from django_live.notifications.kinds import preferences_of
from django_live.notifications.models import Notification
from django_live.notifications.views import IN_THE_BELL, ON_A_PAGE
from tests.support.own_base import own_base


@pytest.fixture
def browser(ann: User, client: Client) -> Client:
    client.force_login(ann)
    return client


def bell(user: object, **options: str) -> str:
    request = RequestFactory().get("/")
    request.user = user  # type: ignore[assignment]
    given = " ".join(f"{name}={value}" for name, value in options.items())
    template = Template(f"{{% load live_notifications %}}{{% live_notifications {given} %}}")
    return template.render(Context({"request": request}))


def fill(user: User, count: int, *, is_read: bool = False) -> None:
    read_at = timezone.now() if is_read else None
    rows = [
        Notification(recipient=user, kind="k", title=f"number {n}", read_at=read_at)
        for n in range(count)
    ]
    Notification.objects.bulk_create(rows, batch_size=200)


def test_the_list_is_in_pages_the_newest_first(browser: Client, ann: User) -> None:
    fill(ann, ON_A_PAGE + 3)
    first = browser.get("/notifications/")
    assert f"number {ON_A_PAGE + 2}" in first.text
    assert "number 2<" not in first.text
    older = first.context["older"]
    second = browser.get("/notifications/", {"before": older})
    assert [one.title for one in second.context["notifications"]] == [
        "number 2",
        "number 1",
        "number 0",
    ]
    assert second.context["older"] is None
    for odd in ("x", "-1", "٣", "9" * 40, ""):
        assert browser.get("/notifications/", {"before": odd}).status_code == 200


def test_those_of_one_moment_are_each_on_one_page(browser: Client, ann: User) -> None:
    fill(ann, ON_A_PAGE + 3)
    Notification.objects.update(created=timezone.now())
    first = browser.get("/notifications/")
    second = browser.get("/notifications/", {"before": first.context["older"]})
    shown = [*first.context["notifications"], *second.context["notifications"]]
    assert [one.title for one in shown] == [f"number {n}" for n in reversed(range(ON_A_PAGE + 3))]


def test_one_that_was_counted_to_again_is_on_the_first_page_alone(
    browser: Client, ann: User
) -> None:
    fill(ann, ON_A_PAGE + 3)
    oldest = Notification.objects.earliest("pk")
    Notification.objects.filter(pk=oldest.pk).update(created=timezone.now())
    first = browser.get("/notifications/")
    second = browser.get("/notifications/", {"before": first.context["older"]})
    assert first.context["notifications"][0] == oldest
    assert oldest not in second.context["notifications"]


def test_each_page_has_a_title_in_a_base_of_the_sites_own(browser: Client, tmp_path: Path) -> None:
    with own_base("notifications", tmp_path):
        for address in ("", "preferences/"):
            assert re.search(r"<title>\w", browser.get(f"/notifications/{address}").text), address


JSON = {"Accept": "application/json"}


def test_forms_mark_as_read_without_javascript(browser: Client, ann: User, bob: User) -> None:
    notify([ann, bob], "one")
    notify(ann, "two")
    page = browser.get("/notifications/")
    assert page.text.count('action="/notifications/read/"') == 3
    own = Notification.objects.filter(recipient=ann).first()
    others = Notification.objects.get(recipient=bob)
    assert own is not None
    ids = [own.pk, others.pk, "x", "9" * 30]
    answer = browser.post("/notifications/read/", {"id": ids, "next": "/orders/"})
    assert answer["Location"] == "/orders/"
    assert (unread_count(ann), unread_count(bob)) == (1, 1)
    answer = browser.post("/notifications/read/", {"all": "1", "next": "https://evil.example/"})
    assert answer["Location"] == "/notifications/"
    assert unread_count(ann) == 0
    answer = browser.post("/notifications/read/", {}, headers=JSON)
    assert answer.json() == {"ids": [], "newest": 0, "unread": 0}
    notify(ann, "three")
    newest = Notification.objects.latest("pk").pk
    answer = browser.post("/notifications/read/", {"all": "1"}, headers=JSON)
    assert answer.json() == {"ids": None, "newest": newest, "unread": 0}


def test_how_long_it_is_ago(ann: User, browser: Client) -> None:
    notify(ann, "one")
    assert "just now" in browser.get("/notifications/").text
    hour_ago = timezone.now() - timedelta(hours=1)
    Notification.objects.update(created=hour_ago)
    assert "1\xa0hour ago" in browser.get("/notifications/").text


def test_a_form_from_elsewhere_is_refused(ann: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ann)
    notify(ann, "one")
    assert strict.post("/notifications/read/", {"all": "1"}).status_code == 403
    assert unread_count(ann) == 1


def test_a_notification_leads_to_its_address_and_is_read(browser: Client, ann: User) -> None:
    notify(ann, "one", url="/orders/1/")
    notify(ann, "two")
    two, one = Notification.objects.of(ann)
    assert browser.get(f"/notifications/{one.pk}/")["Location"] == "/orders/1/"
    assert unread_count(ann) == 1
    Notification.objects.filter(pk=two.pk).update(url="javascript:alert(1)")
    assert browser.get(f"/notifications/{two.pk}/")["Location"] == "/notifications/"


@pytest.mark.parametrize("url", ["?page=2", "#here", "admin"])
def test_an_address_is_never_taken_for_the_name_of_a_view(
    browser: Client, ann: User, url: str
) -> None:
    notify(ann, "one", url=url)
    one = Notification.objects.of(ann).get()
    assert browser.get(f"/notifications/{one.pk}/")["Location"] == url


def test_nobody_reads_what_is_anothers(browser: Client, bob: User) -> None:
    notify(bob, "secret of bob", url="/secret/")
    one = Notification.objects.get()
    assert browser.get(f"/notifications/{one.pk}/").status_code == 404
    assert "secret of bob" not in browser.get("/notifications/").text
    assert "secret of bob" not in browser.get("/notifications/latest/").text
    for path in ("", "latest/", f"{one.pk}/", "preferences/"):
        assert Client().get(f"/notifications/{path}").status_code == 302


def test_text_is_text(browser: Client, ann: User) -> None:
    notify(ann, "<script>alert(1)</script>", body="<img src=x onerror=alert(1)>", url="/x/?a=1&b=2")
    for page in ("/notifications/", "/notifications/latest/"):
        text = browser.get(page).text
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_opening_the_bell_costs_two_queries_however_many_there_are(
    browser: Client, ann: User
) -> None:
    fill(ann, 300)
    fill(ann, 300, is_read=True)
    browser.get("/notifications/latest/")
    with CaptureQueriesContext(connection) as queries:
        page = browser.get("/notifications/latest/")
    own = [q["sql"] for q in queries if "live_notifications" in q["sql"]]
    assert len(own) <= 2
    assert page.text.count('class="live-notification-item"') == IN_THE_BELL


def test_the_bell_reads_a_few_of_all_that_was_ever_told(ann: User, bob: User) -> None:
    fill(bob, 2000)
    fill(ann, 4000, is_read=True)
    fill(ann, 1)
    with connection.cursor() as cursor:
        analyze = "ANALYZE TABLE" if connection.vendor == "mysql" else "ANALYZE"
        cursor.execute(f"{analyze} {Notification._meta.db_table}")
    newest = Notification.objects.of(ann)[:IN_THE_BELL].explain()
    assert "live_notif_newest" in newest
    for sorting in ("TEMP B-TREE", "Sort", "filesort"):
        assert sorting not in newest
    assert "live_notif_unread_newest" in unread_rows(ann.pk).explain()


def test_the_bell_counts_with_one_query_and_says_no_more_than_99(ann: User) -> None:
    assert "hidden>0<" in bell(ann)
    fill(ann, 3)
    with CaptureQueriesContext(connection) as queries:
        html = bell(ann)
    assert len([q for q in queries if "live_notifications" in q["sql"]]) == 1
    assert ">3</span>" in html
    assert 'aria-label="Notifications, 3 unread"' in html
    assert f'topic="live/inbox/{ann.pk}"' in html
    fill(ann, 300)
    assert ">99+</span>" in bell(ann)


def test_the_bell_is_for_those_who_are_signed_in(ann: User) -> None:
    from django.contrib.auth.models import AnonymousUser

    assert bell(AnonymousUser()).strip() == ""
    assert Template("{% load live_notifications %}{% live_notifications %}").render(Context()) == ""
    assert "data-toasts" in bell(ann)
    assert "data-toasts" not in bell(ann, toasts="False")


def test_people_choose_what_they_are_told(browser: Client, ann: User) -> None:
    declare_kind("news", "News", site=True, email=False)
    page = browser.get("/notifications/preferences/")
    assert "News" in page.text
    browser.post("/notifications/preferences/", {"kind-news": ["email"], "kind-unknown": ["site"]})
    chosen = {kind.name: channels for kind, channels in preferences_of(ann)}
    assert chosen["news"] == (False, True)
    assert "unknown" not in chosen
    assert "Saved." in browser.get("/notifications/preferences/?saved").text


def test_the_pages_speak_german(ann: User) -> None:
    notify(ann, "one", url="/x/")
    with translation.override("de"):
        html = bell(ann)
    assert 'aria-label="Benachrichtigungen, 1 ungelesen"' in html
    from django.template.loader import render_to_string

    with translation.override("de"):
        text = render_to_string(
            "django_live/notifications/items.html", {"notifications": Notification.objects.of(ann)}
        )
    assert "Gelesen" in text
    assert "Neu" in text


def test_the_admin_shows_them(ann: User, admin_client: Client) -> None:
    notify(ann, "in the admin")
    page = admin_client.get("/admin/live_notifications/notification/", {"q": "admin"})
    assert "in the admin" in page.text
    pk = Notification.objects.get().pk
    assert (
        admin_client.get(f"/admin/live_notifications/notification/{pk}/change/").status_code == 200
    )
    assert admin_client.get("/admin/live_notifications/notificationpreference/").status_code == 200
    assert admin_client.get("/admin/live_notifications/notification/add/").status_code == 403


def test_every_text_is_there_in_german() -> None:
    """What ``makemessages`` would find of notifications and presence has a translation."""
    package = Path(django_live.__file__).parent
    catalogue = (package / "locale/de/LC_MESSAGES/django.po").read_text()
    templates = package / "templates/django_live"
    pages = [*templates.glob("notifications/*"), *templates.glob("*presence*")]
    found: set[str] = set()
    for path in pages:
        found |= set(re.findall(r'{% (?:translate|trans) "([^"]+)"', path.read_text()))
    for path in (package / "notifications").rglob("*.py"):
        found |= set(re.findall(r'\b(?:_|gettext|gettext_lazy)\(\s*"([^"]+)"', path.read_text()))
    assert len(found) > 30
    assert {text for text in found if f'msgid "{text}"\nmsgstr "' not in catalogue} == set()
