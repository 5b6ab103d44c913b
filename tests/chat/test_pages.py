"""The pages and forms of the chat, as a server answers: without JavaScript, to members only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.translation import override

import django_live
from django_live.chat import ban, mute, react, send
from django_live.chat.models import Attachment, Membership, Message, Reaction, Room
from django_live.chat.templatetags.live_chat import chat_text
from django_live.chat.uploads import MOST_WAITING
from tests.chat.conftest import NewUser
from tests.chat.test_rooms import fill
from tests.support.own_base import own_base

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100
AS_JSON = {"Accept": "application/json"}

pytestmark = pytest.mark.any_database


@pytest.fixture
def hers(ann: User) -> Client:
    client = Client()
    client.force_login(ann)
    return client


@pytest.fixture
def his(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


@pytest.fixture
def strangers(cat: User) -> Client:
    client = Client()
    client.force_login(cat)
    return client


@pytest.fixture
def kept_files(tmp_path: Path) -> Iterator[Path]:
    with override_settings(MEDIA_ROOT=str(tmp_path)):
        yield tmp_path


def files_in(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()]


def upload(client: Client, room: Room, name: str, content: bytes) -> Any:
    file = SimpleUploadedFile(name, content)
    return client.post(f"/chat/{room.pk}/upload/", {"file": file}, headers=AS_JSON)


def test_a_room_is_a_page_with_forms(room: Room, hers: Client, bob: User) -> None:
    send(room, bob, "Milk <b>or</b> tea? https://example.com/a?b=c&d=e. @ann")
    page = hers.get(f"/chat/{room.pk}/").text
    assert "&lt;b&gt;or&lt;/b&gt;" in page
    assert '<a href="https://example.com/a?b=c&amp;d=e" rel="nofollow noopener' in page
    assert 'role="log"' in page
    assert f'action="/chat/{room.pk}/send/"' in page
    assert "<style" not in page
    assert "onclick" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)", page), "no inline code"


def test_a_message_is_sent_by_a_form_once(room: Room, hers: Client) -> None:
    page = hers.get(f"/chat/{room.pk}/")
    client_id = re.search(r'name="client_id" value="([^"]+)"', page.text)
    assert client_id
    form = {"text": "from a form", "client_id": client_id[1]}
    for _ in range(2):
        answer = hers.post(f"/chat/{room.pk}/send/", form)
        assert answer["Location"] == f"/chat/{room.pk}/"
    assert [one.text for one in Message.objects.all()] == ["from a form"]
    assert Membership.objects.get(room=room, user__username="ann").read_number == 1
    refused = hers.post(f"/chat/{room.pk}/send/", {"text": " "}, follow=True)
    assert "Write something." in refused.text
    assert Message.objects.count() == 1


def test_forms_answer_edit_delete_react_and_read(
    room: Room, hers: Client, ann: User, bob: User
) -> None:
    theirs = send(room, bob, "cake?")
    page = hers.get(f"/chat/{room.pk}/", {"reply": theirs.pk})
    assert f'name="reply_to" value="{theirs.pk}"' in page.text
    hers.post(f"/chat/{room.pk}/send/", {"text": "yes", "reply_to": theirs.pk})
    own = Message.objects.get(author=ann)
    assert own.reply_to == theirs
    act = f"/chat/{room.pk}/act/"
    hers.post(act, {"do": f"react:{theirs.pk}:1f44d"})
    assert Reaction.objects.get().user == ann
    assert 'aria-pressed="true"' in hers.get(f"/chat/{room.pk}/").text
    hers.post(act, {"do": f"unreact:{theirs.pk}:1f44d"})
    assert not Reaction.objects.exists()
    edit = f"/chat/message/{own.pk}/edit/"
    assert "yes" in hers.get(edit).text
    assert "Write something." in hers.post(edit, {"text": ""}).text
    form = {"text": "yes, please", "next": "/orders/"}
    assert hers.post(edit, form)["Location"] == "/orders/"
    own.refresh_from_db()
    assert own.text == "yes, please"
    assert hers.get(f"/chat/message/{theirs.pk}/edit/").status_code == 404
    form = {"do": f"delete:{own.pk}", "next": "https://evil.example/"}
    assert hers.post(act, form)["Location"] == f"/chat/{room.pk}/"
    own.refresh_from_db()
    assert own.deleted_at is not None
    for odd in ("", "delete", "delete:x", f"dance:{own.pk}", "delete:" + "9" * 40, "react:1:٣"):
        assert hers.post(act, {"do": odd}).status_code in (302, 404)
    hers.post(act, {"do": "read:2"})
    assert Membership.objects.get(room=room, user=ann).read_number == 2


def test_strangers_find_nothing(room: Room, strangers: Client, bob: User, kept_files: Path) -> None:
    message = send(room, bob, "secret")
    paths = ["", "messages/", "search/", "members/"]
    for path in paths:
        for key in (room.pk, 99999):
            assert strangers.get(f"/chat/{key}/{path}").status_code == 404
    for path in ("send/", "act/", "join/", "moderate/", "upload/"):
        data = {
            "text": "x",
            "do": f"delete:{message.pk}",
            "file": SimpleUploadedFile("a.txt", b"x"),
        }
        assert strangers.post(f"/chat/{room.pk}/{path}", data).status_code in (302, 404)
    assert strangers.get(f"/chat/message/{message.pk}/edit/").status_code == 404
    assert Message.objects.get().text == "secret"
    assert not Membership.objects.filter(user__username="cat").exists()
    assert files_in(kept_files) == []
    assert Client().get(f"/chat/{room.pk}/").status_code == 302


def test_forms_from_elsewhere_are_refused(room: Room, ann: User, kept_files: Path) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ann)
    for path in ("send/", "act/", "join/", "leave/", "moderate/", "upload/"):
        file = SimpleUploadedFile("a.txt", b"x")
        data = {"text": "x", "do": "read:1", "file": file}
        assert strict.post(f"/chat/{room.pk}/{path}", data).status_code == 403, path
    assert not Message.objects.exists()
    assert files_in(kept_files) == []


def test_a_file_goes_with_a_message(
    room: Room, hers: Client, his: Client, strangers: Client, kept_files: Path, ann: User
) -> None:
    answer = upload(hers, room, "../../My cat.png", PNG)
    file = answer.json()
    assert (file["name"], file["size"], file["is_image"]) == ("My cat.png", len(PNG), True)
    assert his.get(file["url"]).status_code == 404, "not sent yet"
    (kept,) = files_in(kept_files)
    assert kept.name == file["id"], "nothing of its name"
    send(room, ann, "", files=[file["id"]])
    got = his.get(file["url"])
    assert got.getvalue() == PNG
    assert got["Content-Type"] == "image/png"
    assert got["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in got["Content-Security-Policy"]
    assert strangers.get(file["url"]).status_code == 404
    assert f'<img src="{file["url"]}" alt="My cat.png"' in his.get(f"/chat/{room.pk}/").text
    message = Message.objects.get()
    hers.post(f"/chat/{room.pk}/act/", {"do": f"delete:{message.pk}"})
    assert files_in(kept_files) == []
    assert his.get(file["url"]).status_code == 404


def test_a_form_may_bring_a_file(room: Room, hers: Client, kept_files: Path) -> None:
    file = SimpleUploadedFile("notes.txt", b"<script>alert(1)</script>")
    hers.post(f"/chat/{room.pk}/send/", {"text": "", "file": file})
    one = Attachment.objects.get()
    assert one.message is not None
    got = hers.get(f"/chat/file/{one.pk}/")
    assert got["Content-Disposition"] == 'attachment; filename="notes.txt"'
    assert got["Content-Type"] == "application/octet-stream"
    got.close()
    assert len(files_in(kept_files)) == 1
    room.delete()
    assert files_in(kept_files) == [], "a room takes its files along"


WRONG_FILES = {
    "a page": ("page.html", b"<script>"),
    "a drawing that runs": ("a.svg", b"<svg onload='x'/>"),
    "a page that says it is a picture": ("a.png", b"<html>"),
    "no ending": ("README", b"x"),
    "two endings": ("a.png.exe", PNG),
    "empty": ("a.png", b""),
    "no name": (".png\x00", b"x"),
}


@pytest.mark.parametrize(("name", "content"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_other_files_are_refused(
    room: Room, hers: Client, kept_files: Path, name: str, content: bytes
) -> None:
    answer = upload(hers, room, name, content)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"]
    assert not Attachment.objects.exists()
    assert files_in(kept_files) == []


@override_settings(DJANGO_LIVE={"CHAT_UPLOAD_BYTES": 1000})
def test_an_upload_bomb_is_not_read(room: Room, hers: Client, kept_files: Path) -> None:
    for size in (1001, 100_000, 3_000_000):
        answer = upload(hers, room, "a.txt", b"x" * size)
        assert answer.status_code == 422, size
        assert answer.json()["errors"][0]["code"] == "too-large"
    many = [SimpleUploadedFile(f"{n}.txt", b"x" * 10) for n in range(50)]
    answer = hers.post(f"/chat/{room.pk}/upload/", {"file": many}, headers=AS_JSON)
    assert answer.status_code == 422
    assert files_in(kept_files) == []
    told = hers.post(
        f"/chat/{room.pk}/send/",
        {"text": "beside it", "file": SimpleUploadedFile("a.txt", b"x" * 50_000)},
        follow=True,
    )
    assert "at most 1000 " in told.text or "KiB" in told.text
    assert not Message.objects.exists()


def test_what_waits_is_bounded_and_removed(room: Room, hers: Client, kept_files: Path) -> None:
    with override_settings(DJANGO_LIVE={"CHAT_RATE": 1000, "CHAT_BURST": 1000}):
        for n in range(MOST_WAITING):
            assert upload(hers, room, f"{n}.txt", b"x").status_code == 200
        assert upload(hers, room, "more.txt", b"x").json()["errors"][0]["code"] == "too-many-files"
        old = timezone.now() - timedelta(days=2)
        Attachment.objects.update(created=old)
        assert upload(hers, room, "more.txt", b"x").status_code == 200
    assert Attachment.objects.count() == 1
    assert len(files_in(kept_files)) == 1


def test_who_may_not_write_may_not_upload(
    room: Room, his: Client, ann: User, bob: User, kept_files: Path
) -> None:
    mute(room, bob, by=ann)
    assert upload(his, room, "a.txt", b"x").json()["errors"][0]["code"] == "muted"
    assert "You were muted" in his.get(f"/chat/{room.pk}/").text
    ban(room, bob, by=ann)
    assert upload(his, room, "a.txt", b"x").status_code == 422
    assert his.get(f"/chat/{room.pk}/").status_code == 404
    assert files_in(kept_files) == []


def test_moderation_by_forms(room: Room, hers: Client, his: Client, bob: User, cat: User) -> None:
    moderate = f"/chat/{room.pk}/moderate/"
    hers.post(moderate, {"do": "add", "name": "cat"})
    assert Membership.objects.filter(room=room, user=cat).exists()
    for word, field, value in (
        ("mute", "muted", True),
        ("unmute", "muted", False),
        ("ban", "banned", True),
        ("unban", "banned", False),
        ("role", "role", "moderator"),
    ):
        rest = ":moderator" if word == "role" else ""
        hers.post(moderate, {"do": f"{word}:{cat.pk}{rest}"})
        assert getattr(Membership.objects.get(room=room, user=cat), field) == value
    assert LogEntry.objects.count() == 5
    assert his.post(moderate, {"do": f"ban:{cat.pk}"}).status_code == 404
    assert (
        "There is nobody" in hers.post(moderate, {"do": "add", "name": "nobody"}, follow=True).text
    )
    for odd in ("", "ban:x", "role:1:king", "dance:1"):
        assert hers.post(moderate, {"do": odd}).status_code in (302, 404)
    hers.post(moderate, {"do": f"remove:{cat.pk}"})
    assert not Membership.objects.filter(room=room, user=cat).exists()
    page = hers.get(f"/chat/{room.pk}/members/").text
    assert f"mute:{bob.pk}" in page
    assert f"mute:{bob.pk}" not in his.get(f"/chat/{room.pk}/members/").text


def test_each_page_has_a_title_in_a_base_of_the_sites_own(
    room: Room, hers: Client, tmp_path: Path
) -> None:
    addresses = ["", f"{room.pk}/", f"{room.pk}/search/", f"{room.pk}/members/"]
    with own_base("chat", tmp_path):
        for address in addresses:
            assert re.search(r"<title>\w", hers.get(f"/chat/{address}").text), address


def test_rooms_are_listed_made_joined_and_left(
    hers: Client, his: Client, ann: User, bob: User
) -> None:
    assert hers.post("/chat/new/", {"name": "Hall", "kind": "public"}).status_code == 404
    ann.user_permissions.add(Permission.objects.get(codename="add_room"))
    assert hers.post("/chat/new/", {"name": "Hall", "kind": "direct"}).status_code == 404
    hers.post("/chat/new/", {"name": "Hall", "kind": "public"})
    hall = Room.objects.get()
    assert "Hall" in his.get("/chat/").text
    page = his.get(f"/chat/{hall.pk}/").text
    assert "Join this room" in page
    assert 'name="text"' not in page
    his.post(f"/chat/{hall.pk}/join/")
    send(hall, ann, "welcome")
    assert "1 unread" in his.get("/chat/").text
    his.post(f"/chat/{hall.pk}/leave/")
    assert not Membership.objects.filter(user=bob).exists()
    assert his.post(f"/chat/direct/{ann.pk}/")["Location"].startswith("/chat/")
    assert "There is nobody" in his.post("/chat/direct/999999/", follow=True).text
    assert "Ann Lee" in his.get("/chat/").text


def test_older_messages_are_a_page_and_json(room: Room, hers: Client, ann: User) -> None:
    fill(room, ann, 120)
    assert 'href="?before=71"' in hers.get(f"/chat/{room.pk}/").text
    page = hers.get(f"/chat/{room.pk}/?before=71").text
    assert "number 70" in page
    assert "number 71<" not in page
    assert "Newest messages" in page
    found = hers.get(f"/chat/{room.pk}/messages/?before=71").json()
    assert [one["number"] for one in found["messages"]] == list(range(21, 71))
    for odd in ("x", "-1", "٣", "9" * 40, ""):
        assert hers.get(f"/chat/{room.pk}/messages/", {"before": odd}).status_code == 200


def test_a_page_costs_the_same_however_much_was_said(
    room: Room, hers: Client, ann: User, bob: User
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            hers.get(f"/chat/{room.pk}/")
        return len(captured)

    fill(room, ann, 60)
    queries()
    few = queries()
    for message in Message.objects.all()[:30]:
        Reaction.objects.create(message=message, user=bob, code="1f44d")
    assert queries() == few
    assert few <= 14


REL = 'rel="nofollow noopener noreferrer ugc"'
HOSTILE = {
    "a script": ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
    "javascript": ("javascript:alert(1)", "javascript:alert(1)"),
    "quotes in an address": (
        'https://a.example/"onx=',
        f'<a href="https://a.example/" {REL}>https://a.example/</a>&quot;onx=',
    ),
    "a sentence": (
        "(see https://a.example/b_(c)).",
        f'(see <a href="https://a.example/b_(c)" {REL}>https://a.example/b_(c)</a>).',
    ),
    "nothing behind": ("https:// and @", "https:// and @"),
}


@pytest.mark.parametrize(("text", "html"), HOSTILE.values(), ids=HOSTILE)
def test_text_is_text_and_links_are_of_the_web(text: str, html: str) -> None:
    assert chat_text(text) == html


def test_the_panel_speaks_german(room: Room, hers: Client) -> None:
    with override("de"):
        page = hers.get(f"/chat/{room.pk}/").text
    assert "Senden" in page
    assert "Hier wurde noch nichts gesagt." in page


def test_every_text_is_there_in_german() -> None:
    package = Path(django_live.__file__).parent
    catalogue = (package / "locale/de/LC_MESSAGES/django.po").read_text()
    found: set[str] = set()
    for path in (package / "templates/django_live/chat").iterdir():
        found |= set(re.findall(r'{% translate "([^"]+)"', path.read_text()))
    for path in (package / "chat").rglob("*.py"):
        found |= set(re.findall(r'\b(?:_|gettext|gettext_lazy)\(\s*"([^"]+)"', path.read_text()))
    assert len(found) > 100
    assert {text for text in found if f'msgid "{text}"\nmsgstr "' not in catalogue} == set()


def test_the_admin_moderates_and_writes_it_down(room: Room, bob: User, new_user: NewUser) -> None:
    boss = new_user("boss", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(boss)
    message = send(room, bob, "rude words")
    react(message.pk, bob, "👍")
    for name in ("room", "membership", "message", "attachment"):
        assert client.get(f"/admin/live_chat/{name}/").status_code == 200
    assert client.get(f"/admin/live_chat/message/{message.pk}/change/").status_code == 200
    assert client.get(f"/admin/live_chat/room/{room.pk}/change/").status_code == 200
    listed = "/admin/live_chat/message/"
    client.post(listed, {"action": "take_away", "_selected_action": [message.pk]})
    message.refresh_from_db()
    assert (message.text, message.deleted_at is None) == ("", False)
    entry = LogEntry.objects.get()
    assert (entry.user, "rude words" in entry.change_message) == (boss, True)
    membership = Membership.objects.get(room=room, user=bob)
    listed = "/admin/live_chat/membership/"
    client.post(listed, {"action": "ban_them", "_selected_action": [membership.pk]})
    membership.refresh_from_db()
    assert membership.banned
    assert LogEntry.objects.filter(user=boss).count() == 2
