"""What Django's signals do not tell of is found by the periodic re-check: each session is read again, and
each user loaded anew. (What they tell of: `test_permissions.py`.)"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.servers.test_streams import open_stream
from tests.support.databases import ServerDatabase
from tests.support.http import Visitor
from tests.support.other_process import OtherProcess
from tests.support.servers import Server

StartServer = Callable[..., Server]

RECHECK = 0.5
LEFT = 3
MAKE = """
import json
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.test import Client
permission = Permission.objects.get(codename="view_order", content_type__app_label="testapp")
group = Group.objects.create(name="readers")
group.permissions.add(permission)
keys = {}
for name in json.loads('NAMES'):
    user = User.objects.create_user(name)
    user.groups.add(group)
    client = Client()
    client.force_login(user)
    keys[name] = client.session.session_key
answer = keys
"""
# Nothing of this calls save() or a method of a manager that sends a signal.
HAPPEN = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone
keys = json.loads('KEYS')
past = timezone.now() - timedelta(seconds=1)
User.objects.filter(username="update").update(is_active=False)
User.groups.through.objects.filter(user__username="membership").delete()
with connection.cursor() as cursor:
    cursor.execute("UPDATE auth_user SET password = 'x' WHERE username = 'raw'")
Session.objects.filter(pk=keys["expired"]).update(expire_date=past)
Session.objects.filter(pk=keys["removed"]).delete()
"""
ENDS = {
    "update": "signed-out",
    "raw": "signed-out",
    "expired": "signed-out",
    "removed": "signed-out",
    "membership": "revoked",
    "steady": "",
    "extended": "",
}
EXTEND = """
import json
from datetime import timedelta
from django.contrib.sessions.models import Session
from django.utils import timezone
expires = timezone.now() + timedelta(LEFT)
Session.objects.filter(pk=json.loads('KEYS')["extended"]).update(expire_date=expires)
"""


def test_each_change_that_nobody_tells_of_is_found(
    new_server_database: Callable[..., ServerDatabase], start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    env = {**database.env, "LIVE_TEST_DJANGO_LIVE": json.dumps({"RECHECK": RECHECK})}
    with ExitStack() as stack:
        elsewhere = stack.enter_context(OtherProcess(env))
        keys = elsewhere.run(MAKE.replace("NAMES", json.dumps(list(ENDS))))

        def run(source: str, left: str = "") -> None:
            elsewhere.run(source.replace("KEYS", json.dumps(keys)).replace("LEFT", left))

        server = start_server("uvicorn", env=env)
        # Its session has seconds left when the stream opens, and weeks soon after: it is read again.
        run(EXTEND, f"seconds={LEFT}")
        until = time.time() + LEFT + 2 * RECHECK
        readers = {}
        for name, key in keys.items():
            visitor = Visitor(server.url)
            visitor.cookies["sessionid"] = key
            reader = stack.enter_context(open_stream(server, "readers/all", visitor=visitor))
            reader.wait_for(lambda frame: frame.event == "stream-open")
            readers[name] = reader
        run(EXTEND, "days=14")
        run(HAPPEN)
        for name, code in ENDS.items():
            if code:
                frame = readers[name].wait_for(lambda f: f.event == "stream-error", timeout=20)
                assert frame.json()["code"] == code, name
                assert readers[name].wait_until_ended().clean
        extended = readers["extended"]
        assert not extended.frames_during(max(0.0, until - time.time()))
        run("from django_live import publish\npublish('readers/all', 'late')")
        for name, code in ENDS.items():
            if not code:
                assert readers[name].next_event().event == "late"
            assert [f.event for f in readers[name].frames].count("late") == (not code)
