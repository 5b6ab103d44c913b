"""The chat in real browsers: three people in one room, the example's page. And the remote control."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

pytestmark = requires("chromium")

NEW_ROOM = """
from django.contrib.auth.models import User
from django_live.chat import create_room, send
from django_live.chat.models import Message, Room
from django_live.notifications.models import Notification
users = {{user.username: user for user in User.objects.all()}}
room = create_room("{name}", kind="{kind}", by=users["staff"], members=users.values())
Notification.objects.all().delete()
rows = [Message(room=room, author=users["bert"], number=n, client_id=f"old-{{n:06}}", text=f"old {{n}}") for n in range(1, {old} + 1)]
Message.objects.bulk_create(rows)
Room.objects.filter(pk=room.pk).update(last_number={old})
answer = room.pk
"""
SAY = """
from django.contrib.auth.models import User
from django_live.chat import send
answer = send({room}, User.objects.get(username="{user}"), {text!r}).number
"""
KEPT = """
from django_live.chat.models import Message
answer = list(Message.objects.filter(room={room}, deleted_at=None).order_by("number").values_list("text", flat=True))
"""
MODERATE = """
from django.contrib.auth.models import User
from django_live.chat import {word}
{word}({room}, User.objects.get(username="{user}"), by=User.objects.get(username="staff"))
answer = None
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("chat"), "example_project") as site:
        yield site


@pytest.fixture(autouse=True)
def patient(expect: Expect) -> Iterator[None]:
    options: Any = expect
    options.set_options(timeout=PATIENCE)
    yield
    options.set_options(timeout=None)


def new_room(shop: Site, name: str, *, kind: str = "private", old: int = 0) -> int:
    return int(shop.run(NEW_ROOM.format(name=name, kind=kind, old=old)))


def texts(page: Page) -> list[str]:
    return page.locator(".live-chat-list > li > .live-chat-text").all_inner_texts()


def message(page: Page, text: str) -> Locator:
    return page.locator(".live-chat-message", has_text=text)


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def do(page: Page, text: str, what: str) -> None:
    row = message(page, text).last
    row.locator("summary").click()
    row.locator(f'[data-do="{what}"]').click()


def test_three_people_talk(shop: Site, new_context: NewContext, expect: Expect) -> None:
    room = new_room(shop, "Three")
    path = f"/chat/{room}/"
    anna = shop.visit(new_context, "anna", path)
    bert = shop.visit(new_context, "bert", path, viewport={"width": 390, "height": 800})
    staff = shop.visit(new_context, "staff", path)
    everybody = (anna, bert, staff)
    log = anna.get_by_role("log")
    expect(log).to_have_attribute("tabindex", "0")

    anna.get_by_role("textbox", name="Message").press_sequentially("Hel")
    expect(bert.locator("[data-part=typing]")).to_have_text("Anna Lindqvist is writing …")
    say(anna, "Hello <b>all</b>, https://example.com/x. @bert")
    for page in everybody:
        expect(message(page, "Hello <b>all</b>")).to_have_count(1)
        expect(page.locator("[data-pending]")).to_have_count(0)
    expect(bert.locator("[data-part=typing]")).to_be_empty()
    link = message(bert, "Hello").locator("a[href^=http]")
    expect(link).to_have_attribute("href", "https://example.com/x")
    expect(link).to_have_attribute("rel", "nofollow noopener noreferrer ugc")
    expect(message(bert, "Hello").locator("[data-me]")).to_have_text("@bert")
    expect(bert.locator("[data-live-badge]")).to_have_text("1")
    expect(anna.locator("[data-part=seen]")).to_contain_text("Bert Hagemann")
    expect(anna.locator("[data-part=seen]")).to_contain_text("Mira Okafor")

    for n in range(4):
        for page, name in ((anna, "a"), (bert, "b"), (staff, "s")):
            say(page, f"{name}{n}")
    expect(anna.locator(".live-chat-list > li")).to_have_count(13)
    for page in everybody:
        expect(page.locator(".live-chat-list > li:not([data-pending])")).to_have_count(13)
        assert texts(page) == texts(anna), "everybody sees one order"
    assert texts(anna) == shop.run(KEPT.format(room=room))

    do(bert, "Hello", "reply")
    expect(bert.locator("[data-part=reply]")).to_contain_text("Anna Lindqvist")
    expect(bert.get_by_role("textbox", name="Message")).to_be_focused()
    say(bert, "An answer")
    expect(message(anna, "An answer").locator(".live-chat-quote")).to_contain_text("Hello")
    do(bert, "An answer", "edit")
    field = bert.locator(".live-chat-edit textarea")
    expect(field).to_be_focused()
    field.fill("A better answer")
    field.press("Enter")
    expect(message(anna, "A better answer").locator("[data-show=edited]")).to_have_text("edited")
    row = message(staff, "A better answer").last
    row.locator("summary").click()
    row.locator(".live-chat-signs button").first.click()
    for page in everybody:
        expect(message(page, "A better answer").locator(".live-chat-reaction")).to_contain_text("1")
    pressed = message(staff, "A better answer").locator(".live-chat-reaction")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    pressed.click()
    expect(message(anna, "A better answer").locator(".live-chat-reaction")).to_have_count(0)
    assert message(anna, "A better answer").locator('[data-do="edit"]').is_hidden()
    assert message(anna, "A better answer").locator('[data-do="delete"]').count() == 0 or (
        message(anna, "A better answer").locator('[data-do="delete"]').is_hidden()
    )
    do(staff, "A better answer", "delete")  # she owns the room
    expect(message(staff, "This message was deleted.")).to_be_focused()
    for page in everybody:
        expect(message(page, "This message was deleted.")).to_have_count(1)
    assert anna.evaluate("window.sameDocument") is True


def test_what_is_said_offline_is_sent_once_and_survives_a_reload(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    room = new_room(shop, "Tunnel")
    path = f"/chat/{room}/"
    anna = shop.visit(new_context, "anna", path)
    bert = shop.visit(new_context, "bert", path)
    say(anna, "before")
    expect(message(bert, "before")).to_have_count(1)
    shop.server.pause()  # it takes what is sent, and answers nothing
    say(anna, "in the dark")
    expect(message(anna, "in the dark")).to_have_attribute("data-pending", "sending")
    shop.server.kill()
    say(anna, "two in the dark")
    expect(anna.locator("[data-pending]")).to_have_count(2)
    shop.server.start()
    for page in (anna, bert):
        expect(message(page, "two in the dark")).to_have_count(1)
        expect(page.locator("[data-pending]")).to_have_count(0)
        assert texts(page) == ["before", "in the dark", "two in the dark"]
    assert shop.run(KEPT.format(room=room)) == ["before", "in the dark", "two in the dark"]

    # The answers are lost, and the page is loaded anew before the client sends it again.
    anna.evaluate(
        "void (live.call = () => Promise.reject(Object.assign(new Error('x'), { code: 'timeout' })))"
    )
    say(anna, "kept over a reload")
    expect(message(anna, "kept over a reload")).to_have_attribute("data-pending", "waiting")
    anna.reload()
    expect(message(bert, "kept over a reload")).to_have_count(1)
    expect(anna.locator("[data-pending]")).to_have_count(0)
    assert shop.run(KEPT.format(room=room)).count("kept over a reload") == 1


SCROLL_UP_TO = """count => {
    document.querySelector("[data-part=log]").scrollTop = 0;
    return document.querySelectorAll(".live-chat-list > li").length === count;
}"""
"""Scrolling back again and again, as far as there are so many messages."""


def test_history_unread_and_what_is_new(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    room = new_room(shop, "Archive", old=180)
    rooms = shop.visit(new_context, "anna", "/chat/")
    badge = rooms.locator(f'[data-room="{room}"] [data-part=unread]')
    expect(badge).to_have_text("180 unread")
    shop.run(SAY.format(room=room, user="bert", text="new one"))
    expect(badge).to_have_text("181 unread")
    anna = shop.visit(new_context, "anna", f"/chat/{room}/")
    expect(message(anna, "new one")).to_be_visible()
    expect(badge).to_be_hidden()
    assert anna.locator(".live-chat-list > li").count() == 50
    log = anna.locator("[data-part=log]")
    log.evaluate("log => (log.scrollTop = 0)")
    expect(anna.locator(".live-chat-list > li")).to_have_count(100)
    assert log.evaluate("log => log.scrollTop") > 500, "what was read stays where it was"
    shop.run(SAY.format(room=room, user="bert", text="while you read"))
    newer = anna.locator("[data-part=newer]")
    expect(newer).to_have_text("New messages: 1")
    expect(badge).to_have_text("1 unread")
    newer.click()
    expect(newer).to_be_hidden()
    expect(badge).to_be_hidden()
    anna.wait_for_function(SCROLL_UP_TO, arg=182)
    numbers = anna.locator(".live-chat-list > li").evaluate_all(
        "rows => rows.map(row => Number(row.dataset.number))"
    )
    assert numbers == list(range(1, 183))


def test_files_refusals_muting_and_a_ban(
    shop: Site, new_context: NewContext, expect: Expect, tmp_path: Path
) -> None:
    room = new_room(shop, "Rules")
    bert = shop.visit(new_context, "bert", f"/chat/{room}/")
    anna = shop.visit(new_context, "anna", f"/chat/{room}/")
    notice = bert.locator("[data-part=notice]")
    page = tmp_path / "page.html"
    page.write_text("<script>")
    bert.locator("[data-part=file]").set_input_files(str(page))
    expect(notice).to_contain_text("Files of these kinds")
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    bert.locator("[data-part=file]").set_input_files(str(notes))
    expect(bert.locator("[data-part=files]")).to_contain_text("notes.txt")
    bert.get_by_role("button", name="Send").click()  # perhaps the file is not there yet
    link = anna.get_by_role("link", name="notes.txt")
    expect(link).to_be_visible()
    with anna.expect_download() as download:
        link.click()
    assert Path(download.value.path()).read_text() == "hello"

    bert.evaluate("document.querySelector('[data-part=text]').removeAttribute('maxlength')")
    say(bert, "x" * 4001)
    failed = bert.locator('[data-pending="failed"]')
    expect(failed).to_contain_text("at most 4000 characters")
    failed.get_by_role("button", name="Discard").click()
    expect(failed).to_have_count(0)

    shop.run(MODERATE.format(word="mute", room=room, user="bert"))
    expect(notice).to_have_text("You were muted in this room.")
    expect(bert.locator("[data-part=text]")).to_be_disabled()
    shop.run(MODERATE.format(word="unmute", room=room, user="bert"))
    expect(bert.locator("[data-part=text]")).to_be_enabled()
    shop.run(MODERATE.format(word="ban", room=room, user="bert"))
    expect(notice).to_have_text("You may no longer read this room.")
    expect(bert.locator("[data-part=text]")).to_be_disabled()
    say(anna, "without him")
    expect(message(anna, "without him")).to_have_count(1)
    assert message(bert, "without him").count() == 0


HOLD_UPLOADS = """
const real = window.fetch;
window.fetch = async (address, ...rest) => {
  if (String(address).includes("/upload/")) await new Promise((go) => (window.letGo = go));
  return real(address, ...rest);
};
"""


def test_a_message_waits_for_its_file(
    shop: Site, new_context: NewContext, expect: Expect, tmp_path: Path
) -> None:
    room = new_room(shop, "Slow")
    bert = shop.visit(new_context, "bert", f"/chat/{room}/")
    bert.evaluate(f"() => {{ {HOLD_UPLOADS} }}")
    files = bert.locator("[data-part=files]")
    chosen = bert.locator("[data-part=file]")
    notes, page = tmp_path / "notes.txt", tmp_path / "page.html"
    notes.write_text("hello")
    page.write_text("<script>")

    chosen.set_input_files(str(notes))
    expect(files).to_contain_text("Sending notes.txt")
    say(bert, "with a file")
    assert texts(bert) == []
    bert.evaluate("window.letGo()")
    expect(message(bert, "with a file").get_by_role("link", name="notes.txt")).to_be_visible()

    chosen.set_input_files(str(page))
    expect(files).to_contain_text("Sending page.html")
    say(bert, "not without it")
    bert.evaluate("window.letGo()")
    expect(bert.locator("[data-part=notice]")).to_contain_text("Files of these kinds")
    expect(bert.get_by_role("textbox", name="Message")).to_have_value("not without it")
    assert shop.run(KEPT.format(room=room)) == ["with a file"]


SHOW = """
import struct, zlib
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django_live.chat import send
from django_live.chat.uploads import store
def chunk(type, data):
    return struct.pack(">I", len(data)) + type + data + struct.pack(">I", zlib.crc32(type + data))
head = chunk(b"IHDR", struct.pack(">IIBBBBB", 200, 250, 8, 0, 0, 0, 0))
body = chunk(b"IDAT", zlib.compress((b"\\0" + b"\\x80" * 200) * 250))
picture = b"\\x89PNG\\r\\n\\x1a\\n" + head + body + chunk(b"IEND", b"")
anna = User.objects.get(username="anna")
file = store({room}, anna, SimpleUploadedFile("grey.png", picture))
answer = send({room}, anna, "look", files=[str(file.pk)]).number
"""
IS_AT_END = """() => {
  const log = document.querySelector("[data-part=log]");
  const pictures = [...log.querySelectorAll("img")];
  const areThere = pictures.length && pictures.every((one) => one.complete && one.naturalHeight);
  return areThere && log.scrollHeight - log.scrollTop - log.clientHeight < 2;
}"""


def is_in_log(page: Page, row: Locator) -> bool:
    own, log = row.bounding_box(), page.locator("[data-part=log]").bounding_box()
    assert own
    assert log
    return log["y"] <= own["y"] + 1 and own["y"] + own["height"] <= log["y"] + log["height"] + 1


def test_a_room_opens_at_its_end_with_pictures_and_without_javascript(
    shop: Site, new_context: NewContext
) -> None:
    room = new_room(shop, "Gallery", old=40)
    shop.run(SHOW.format(room=room))
    anna = shop.visit(new_context, "anna", f"/chat/{room}/")
    anna.wait_for_function(IS_AT_END)
    shop.run(SHOW.format(room=room))
    anna.locator(".live-chat-files img").nth(1).wait_for()
    anna.wait_for_function(IS_AT_END)
    anna.locator("[data-part=log]").evaluate("log => (log.scrollTop -= 300)")
    shop.run(SAY.format(room=room, user="bert", text="while you look up"))
    anna.locator("[data-part=newer]").wait_for()
    assert not anna.evaluate(IS_AT_END), "who has scrolled back stays there"

    plain = shop.visit(new_context, "bert", f"/chat/{room}/", java_script_enabled=False)
    assert is_in_log(plain, message(plain, "while you look up"))
    assert not is_in_log(plain, message(plain, "old 1").first)
    message(plain, "while you look up").locator("summary").click()
    assert is_in_log(plain, message(plain, "while you look up").locator(".live-chat-menu"))
    short = new_room(shop, "Short")
    shop.run(SAY.format(room=short, user="anna", text="alone"))
    plain.goto(f"{shop.url}/chat/{short}/")
    own = message(plain, "alone").bounding_box()
    log = plain.locator("[data-part=log]").bounding_box()
    assert own
    assert log
    assert own["y"] < log["y"] + 40, "few messages stand at the top"


def test_the_menu_of_a_message_stays_inside_the_log(shop: Site, new_context: NewContext) -> None:
    """On a phone as well, in either direction of writing, however short the message."""
    room = new_room(shop, "Narrow")
    for user, text in (("bert", "x"), ("anna", "y"), ("bert", "long " * 60), ("anna", "z " * 90)):
        shop.run(SAY.format(room=room, user=user, text=text))
    anna = shop.visit(new_context, "anna", f"/chat/{room}/", viewport={"width": 390, "height": 800})
    for direction in ("ltr", "rtl"):
        anna.evaluate(f"document.documentElement.dir = '{direction}'")
        for n in range(4):
            row = anna.locator(".live-chat-list > li").nth(n)
            row.locator("summary").click()
            menu = row.locator(".live-chat-menu")
            menu.scroll_into_view_if_needed()
            own, log = menu.bounding_box(), anna.locator("[data-part=log]").bounding_box()
            assert own
            assert log
            assert log["x"] <= own["x"], (direction, n)
            assert own["x"] + own["width"] <= log["x"] + log["width"], (direction, n)
            row.locator("summary").click()


def test_without_javascript_and_with_a_clock_far_off(
    shop: Site, new_context: NewContext, expect: Expect
) -> None:
    room = new_room(shop, "Plain")
    path = f"/chat/{room}/"
    live = shop.visit(new_context, "anna", path)
    live.clock.set_fixed_time("1999-12-31T23:59:00Z")
    plain = shop.visit(new_context, "bert", path, java_script_enabled=False)
    plain.get_by_role("textbox", name="Message").fill("from a form")
    plain.get_by_role("button", name="Send").click()
    expect(message(live, "from a form")).to_have_count(1)
    say(live, "from the past")
    expect(live.locator("[data-pending]")).to_have_count(0)
    stamp = message(live, "from the past").locator("time")
    assert not str(stamp.get_attribute("datetime")).startswith("1999"), "the server's clock counts"
    plain.reload()
    assert texts(plain) == texts(live) == ["from a form", "from the past"]
    row = message(plain, "from the past")
    row.locator("summary").click()
    row.get_by_role("link", name="Reply").click()
    plain.get_by_role("textbox", name="Message").fill("answered")
    plain.get_by_role("button", name="Send").click()
    expect(message(live, "answered").locator(".live-chat-quote")).to_contain_text("from the past")
    row = message(plain, "from a form").first
    row.locator("summary").click()
    row.get_by_role("link", name="Edit").click()
    plain.locator("textarea").fill("from a better form")
    plain.get_by_role("button", name="Save").click()
    expect(message(live, "from a better form")).to_have_count(1)
    row = message(plain, "from a better form")
    row.locator("summary").click()
    row.get_by_role("button", name="Delete").click()
    expect(message(live, "This message was deleted.")).to_have_count(1)


def test_where_websockets_are_blocked(shop: Site, new_context: NewContext, expect: Expect) -> None:
    """By the same code, over a stream and POSTs."""
    room = new_room(shop, "Behind a proxy")
    path = f"/chat/{room}/"
    anna = shop.visit(new_context, "anna", path)
    bert = shop.visit(new_context, "bert", "/chat/")
    bert.context.add_init_script("delete window.WebSocket")
    bert.goto(shop.url + path)
    bert.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
    assert bert.evaluate("typeof WebSocket") == "undefined"
    say(bert, "by a POST")
    expect(message(anna, "by a POST")).to_have_count(1)
    expect(bert.locator("[data-pending]")).to_have_count(0)
    say(anna, "by a socket")
    expect(message(bert, "by a socket")).to_have_count(1)
    do(bert, "by a POST", "delete")
    for page in (anna, bert):
        expect(message(page, "This message was deleted.")).to_have_count(1)
    assert shop.run(KEPT.format(room=room)) == ["by a socket"]


def test_the_remote_control(shop: Site, new_context: NewContext, expect: Expect) -> None:
    anna = shop.visit(new_context, "anna", "/remote/")
    bert = shop.visit(new_context, "bert", "/remote/")
    plain = shop.visit(new_context, "staff", "/remote/", java_script_enabled=False)
    anna.get_by_role("button", name="Turn on").click()
    expect(anna.locator("[data-answer]")).to_contain_text("Acknowledged after")
    expect(bert.locator("[data-show=is_on]")).to_have_text("on")
    bert.evaluate("document.querySelector('#degrees').removeAttribute('max')")
    bert.locator("#degrees").fill("900")
    bert.locator('[data-lever="degrees"]').click()
    expect(bert.locator("[data-answer]")).to_have_text("Choose between 20 and 240.")
    bert.locator("#degrees").fill("210")
    bert.locator('[data-lever="degrees"]').click()
    expect(anna.locator("[data-show=degrees]")).to_have_text("210")
    expect(anna.locator("[data-show=by]")).to_have_text("bert")
    plain.reload()
    plain.get_by_role("button", name="Turn off").click()
    expect(anna.locator("[data-show=is_on]")).to_have_text("off")
    anna.locator("#drum").fill("50")
    anna.locator('[data-lever="drum"]').click()
    expect(anna.locator("[data-answer]")).to_contain_text("does not turn")
    assert anna.evaluate("window.sameDocument") is True
