"""Notifications by e-mail: nobody waits for a mail server, and one that is down costs a mail only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db.models import F
from django.test import override_settings

from django_live.notifications import declare_kind, notify
from django_live.notifications import mail as mail_module
from django_live.notifications.kinds import prefer
from django_live.notifications.mail import PAUSES, errands, send_due
from django_live.notifications.models import Notification

DOWN = {"now": False, "for": ""}
BACKEND = f"{__name__}.Unreliable"
SERVER: dict[str, Any] = (
    {"MAILERS": {"default": {"BACKEND": BACKEND}}}  # Django 6.1
    if hasattr(mail, "mailers")
    else {"EMAIL_BACKEND": BACKEND}
)


class Unreliable(EmailBackend):
    """A server that is down when the test says so, or refuses one address."""

    def open(self) -> bool:
        if DOWN["now"]:
            raise ConnectionRefusedError("no mail server")
        return True

    def send_messages(self, messages: Any) -> int:
        if DOWN["for"] and DOWN["for"] in messages[0].to[0]:
            raise OSError("mailbox unavailable")
        return super().send_messages(messages)


@pytest.fixture(autouse=True)
def mail_server() -> Iterator[None]:
    declare_kind("letter", "Letters", site=True, email=True)
    DOWN.update(now=False)
    DOWN["for"] = ""
    with override_settings(**SERVER):
        yield


def later() -> None:
    Notification.objects.filter(email_due__isnull=False).update(email_due=F("created"))


def test_a_mail_is_sent_beside_the_notification(
    ann: User, bob: User, mailoutbox: list[Any]
) -> None:
    prefer(bob, "letter", site=True, email=False)
    notify([ann, bob], "Hello\nBcc: all@example.com", body="<b>text</b>", kind="letter")
    assert errands.flush()
    (message,) = mailoutbox
    assert message.to == ["ann@example.com"]
    assert message.subject == "Hello Bcc: all@example.com"
    assert "<b>text</b>" in message.body
    assert not Notification.objects.filter(email_due__isnull=False).exists()


def test_mail_only_is_not_in_the_inbox(ann: User, mailoutbox: list[Any]) -> None:
    prefer(ann, "letter", site=False, email=True)
    notify(ann, "Hello", kind="letter")
    assert errands.flush()
    assert len(mailoutbox) == 1
    assert not Notification.objects.of(ann).exists()


def test_a_server_that_is_down_costs_nothing_but_the_mail_which_comes_later(
    ann: User, bob: User, mailoutbox: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    DOWN["now"] = True
    notify([ann, bob], "Hello", kind="letter")
    assert errands.flush()
    assert Notification.objects.count() == 2
    assert mailoutbox == []
    assert "letter" in caplog.text
    assert "no mail server" in caplog.text
    DOWN["now"] = False
    assert send_due("default") == 0, "not before its time"
    later()
    assert send_due("default") == 2
    assert len(mailoutbox) == 2


def test_one_that_is_refused_costs_the_others_nothing_and_is_given_up_in_the_end(
    ann: User, bob: User, mailoutbox: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    DOWN["for"] = "ann"
    notify([ann, bob], "Hello", kind="letter")
    assert errands.flush()
    assert [message.to for message in mailoutbox] == [["bob@example.com"]]
    for _ in PAUSES:
        assert Notification.objects.get(recipient=ann).email_due is not None
        later()
        send_due("default")
    assert Notification.objects.get(recipient=ann).email_due is None
    assert caplog.text.count("could not be sent") == len(PAUSES) + 1


def test_of_two_who_look_at_the_same_time_one_sends(
    ann: User, mailoutbox: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_module, "send_soon", lambda using: None)
    notify(ann, "Hello", kind="letter")
    row = Notification.objects.get()
    assert mail_module._claim(row, "default")
    assert not mail_module._claim(row, "default")
    assert send_due("default") == 0
    assert mailoutbox == []


def test_a_sweep_sends_what_another_process_has_left(
    ann: User, mailoutbox: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(mail_module, "send_soon", lambda using: None)  # it was killed
        notify(ann, "Hello", kind="letter")
    monkeypatch.setattr(mail_module, "_looked", {})
    mail_module._look("default")
    assert errands.flush()
    assert len(mailoutbox) == 1
    Notification.objects.update(email_due=F("created") - timedelta(days=1))
    mail_module._look("default")
    assert errands.flush()
    assert len(mailoutbox) == 1, "it does not ask the database at each sweep"


def test_users_without_an_address_are_no_fault(
    ann: User, mailoutbox: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.update(email="")
    ann.refresh_from_db()
    notify(ann, "Hello", kind="letter")
    assert errands.flush()
    assert mailoutbox == []
    assert caplog.text == ""
    assert Notification.objects.count() == 1
