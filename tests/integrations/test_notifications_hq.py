"""django-notifications-hq, in a process of its own: it is installed there, and nowhere else."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission, User

from django_live.integrations import notifications_hq
from django_live.notifications.models import Notification
from tests.support.databases import ServerDatabase

pytestmark = pytest.mark.any_database

needs_it = pytest.mark.skipif(
    importlib.util.find_spec("notifications") is None, reason="django-notifications-hq is missing"
)

STORY = """
import json
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings
from notifications.models import Notification as Theirs
from notifications.signals import notify as their_notify
from django_live.core.log import get_log
from django_live.notifications import mark_read, unread_count
from django_live.notifications.inbox import inbox_of
from django_live.notifications.models import Notification

ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
said = {}

def ours(user):
    return [(n.title, n.body, n.is_unread) for n in Notification.objects.of(user)]

with transaction.atomic():
    their_notify.send(ann, recipient=[bob, ann], verb="praised", target=bob, description="well done")
    said["before the commit"] = Notification.objects.count()
said["told"] = [ours(bob), ours(ann)]
page = get_log().read(inbox_of(bob.pk), 0, 10, 10**6)
said["live"] = [event.type for event in page.events]

mark_read(bob)
said["read here"] = list(Theirs.objects.filter(recipient=bob).values_list("unread", flat=True))
Theirs.objects.get(recipient=ann).mark_as_read()
said["read there"] = unread_count(ann)

with override_settings(DJANGO_LIVE={"NOTIFICATIONS_HQ": False}):
    their_notify.send(ann, recipient=bob, verb="waved")
said["switched off"] = [Theirs.objects.count(), Notification.objects.count()]
print(json.dumps(said))
"""


@needs_it
def test_what_it_notifies_of_goes_live_by_one_setting(
    new_server_database: Callable[..., ServerDatabase],
) -> None:
    database = new_server_database("sqlite", settings="tests.integrations.hq_settings")
    said = json.loads(database.python(STORY).splitlines()[-1])
    assert said == {
        "before the commit": 0,
        "told": [
            [["ann praised \u2192 bob", "well done", True]],
            [["ann praised \u2192 bob", "well done", True]],
        ],
        "live": ["notified"],
        "read here": [False],
        "read there": 0,
        "switched off": [3, 2],
    }


@pytest.mark.django_db(transaction=True)
def test_a_key_that_looks_like_a_permission_is_still_a_users() -> None:
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    bob.user_permissions.add(Permission.objects.get(codename="view_order"))
    theirs = SimpleNamespace(
        pk=1,
        recipient=ann,
        recipient_id="testapp.view_order",  # a user model may have text as its key
        actor=bob,
        verb="waved",
        action_object=None,
        target=None,
        description=None,
    )
    notifications_hq._tell(theirs, "default")
    assert [one.recipient for one in Notification.objects.all()] == [ann]
