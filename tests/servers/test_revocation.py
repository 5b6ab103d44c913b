"""What the user may no longer see stops, within a second, in every process."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.servers.test_streams import USERS, open_stream
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.servers import Server
from tests.support.sse_reader import SSEReader
from tests.support.wire import Frame

StartServer = Callable[..., Server]

SAVE = """
from tests.testapp.models import Order
order = Order.objects.get()
order.status = "{status}"
order.save()
"""
# What somebody does in the admin of another process → the code that anna's stream is told.
CHANGES = {
    "logout": ("", "signed-out"),
    "inactive": ("user = anna; user.is_active = False; user.save()", "signed-out"),
    "password": ("anna.set_password('new'); anna.save()", "signed-out"),
    "deleted": ("anna.delete()", "signed-out"),
    "group": ("anna.groups.clear()", "revoked"),
    "group permission": ("Group.objects.get().permissions.clear()", "revoked"),
    "user permission": ("anna.user_permissions.clear()", "revoked"),
    "group deleted": ("Group.objects.get().delete()", "revoked"),
}
ANNA = """
from django.contrib.auth.models import Group, Permission, User
anna = User.objects.get(username="anna")
"""
MEMBERSHIP = (
    ANNA
    + """
permission = Permission.objects.get(codename="view_order", content_type__app_label="testapp")
if {by_group}:
    group = Group.objects.create(name="readers")
    group.permissions.add(permission)
    anna.groups.add(group)
else:
    anna.user_permissions.add(permission)
"""
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_django_signals_ends_the_stream_within_a_second(
    change: str, new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> None:
    database = new_server_database("postgresql")
    database.python(USERS)
    database.python(MEMBERSHIP.format(by_group=change.startswith("group")))
    server = start_server("uvicorn", env=database.env)
    anna, bert = Visitor(server.url), Visitor(server.url)
    anna.log_in("anna", "anna")
    bert.log_in("bert", "bert")
    source, code = CHANGES[change]
    with (
        open_stream(server, "readers/all", visitor=anna) as hers,
        open_stream(server, "open/other", visitor=bert) as his,
    ):
        hers.wait_for(lambda frame: frame.event == "stream-open")
        his.wait_for(lambda frame: frame.event == "stream-open")
        if change == "logout":
            anna.log_out()
        else:
            database.python(ANNA + source)
        changed = time.monotonic()
        frame = hers.wait_for(lambda frame: frame.event == "stream-error", timeout=5)
        # 1 s for the head check where the layer reaches no other process, and a margin for a busy
        # machine; the periodic re-check would take a minute.
        assert time.monotonic() - changed < 3
        assert frame.json()["code"] == code
        database.python("from django_live import publish; publish('readers/all', 'secret')")
        database.python("from django_live import publish; publish('open/other', 'public')")
        assert his.next_event().event == "public"
        assert not [f for f in drained(hers) if f.event == "secret"]


def test_a_change_that_django_does_not_signal_is_found_by_the_recheck(
    new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    database.python(USERS)
    env = {**database.env, "LIVE_TEST_DJANGO_LIVE": '{"RECHECK": 0.5}'}
    server = start_server("uvicorn", env=env)
    anna = Visitor(server.url)
    anna.log_in("anna", "anna")
    with open_stream(server, "orders/1", visitor=anna) as hers:
        hers.wait_for(lambda frame: frame.event == "stream-open")
        database.python(
            "from django.contrib.auth.models import User\n"
            "User.objects.filter(username='anna').update(is_active=False)"
        )
        frame = hers.wait_for(lambda frame: frame.event == "stream-error", timeout=5)
        assert frame.json()["code"] == "signed-out"
        assert hers.wait_until_ended().clean


def drained(reader: SSEReader) -> list[Frame]:
    """Every frame that still comes within half a second, or until the end."""
    try:
        return reader.frames_during(0.5)
    except Exception:
        return list(reader.frames)
