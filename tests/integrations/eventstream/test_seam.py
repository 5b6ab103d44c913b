"""Whether django-eventstream hands over to us, and what is said when it does not; channels as Topics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.eventstream.conftest import SETTINGS, Site, site_of
from tests.support.databases import ServerDatabase, server_database
from tests.support.sse_reader import SSEReader

pytestmark = pytest.mark.any_database

SELF_CHECK = """
import json
from django.conf import settings
from django.core.checks import run_checks
from django.test import override_settings
from django_eventstream import eventstream, urls, views
from django_live.integrations.eventstream import seam

def told():
    return [f"{one.id} {one.msg}" for one in run_checks() if one.id in ("django_live.E012", "django_live.W023")]

said = {"in order": told()}
kept = views.listener_manager
views.listener_manager = views.ListenerManager()
said["manager"] = told()
views.listener_manager = kept
kept = eventstream.publish_event
eventstream.publish_event = lambda *args, **kwargs: None
said["publish"] = told()
eventstream.publish_event = kept
urls.urlpatterns[0].callback = seam._their_view
said["view"] = told()
seam.install()
kept = eventstream.send_event
eventstream.send_event = lambda channel, type, data: None
said["send_event"] = told()
eventstream.send_event = kept
with override_settings(EVENTSTREAM_STORAGE_CLASS="mysite.Storage"):
    said["storage"] = told()
said["in order again"] = told()
print(json.dumps(said))
"""


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with server_database("sqlite", tmp_path, SETTINGS + "ours") as database:
        yield database


def test_the_self_check_finds_what_does_not_arrive(database: ServerDatabase) -> None:
    said = json.loads(database.python(SELF_CHECK).splitlines()[-1])
    assert said.pop("in order") == said.pop("in order again") == []
    for name, words in {
        "manager": "Its listener manager was replaced again",
        "publish": "What send_event() sends does not arrive here",
        "send_event": "What send_event() sends does not arrive here",
        "view": "Its own view is in your URL conf",
        "storage": "W023",
    }.items():
        assert len(said[name]) == 1, (name, said[name])
        assert words in said[name][0]


def test_everyone_is_not_let_in_by_our_addresses(database: ServerDatabase) -> None:
    """The default permission of django-eventstream is for the channels that its addresses name."""
    said = database.python(
        """
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings
from django_live import Viewer
from django_live.integrations.eventstream.topics import listener_for, topic_of_channel

default = "django_eventstream.channelmanager.DefaultChannelManager"
nobody = Viewer(user=AnonymousUser())
came = listener_for(None, None, frozenset({"news"}))
with override_settings(EVENTSTREAM_CHANNELMANAGER_CLASS=default):
    news, other = topic_of_channel("news"), topic_of_channel("other")
    print(news.can_subscribe(nobody), news.can_subscribe(came), other.can_subscribe(came))
    print(news.can_subscribe(came.refreshed()))
# A permission of the project's own says who may, whatever the address.
user = User.objects.create(username="ann", last_name="allowed")
print(topic_of_channel("secret").can_subscribe(Viewer(user=user)),
      topic_of_channel("secret").can_subscribe(nobody), topic_of_channel("news").can_subscribe(nobody))
"""
    )
    assert said.split() == ["False", "True", "False", "True", "True", "False", "True"]


def test_in_an_event_loop_it_sends_what_it_does_not_keep(database: ServerDatabase) -> None:
    said = database.python(
        """
import asyncio, json
from django.core.exceptions import SynchronousOnlyOperation
from django_eventstream import send_event
from django_live.core.sending import observed_by
from django_live.integrations.eventstream import sending

sent = []
async def view():
    for n in range(5):
        send_event("loose", "message", n)
    try:
        send_event("kept", "message", 1)
    except SynchronousOnlyOperation:
        sent.append("refused")

with observed_by(lambda topic, events: sent.extend(event.data for event in events)):
    asyncio.run(view())
    sending._own_thread().shutdown()
print(json.dumps(sorted(sent)))
"""
    )
    assert json.loads(said) == ["0", "1", "2", "3", "4", "refused"]


def test_channels_can_be_topics(tmp_path: Path) -> None:
    """Its clients hear what is published to a Topic, ours what send_event() sends, with one permission."""
    with site_of("with_topics", tmp_path) as site:
        theirs = listen(site, "/any/?channel=open/shelf&channel=ephemeral/shelf", "stream-open")
        ours = listen(site, "/live/events/?topic=open/shelf", "stream-open")
        site.database.python(
            "from django_live import publish\npublish('open/shelf', 'published', {'n': 1})"
        )
        first = theirs.next_event()
        # Without a channel layer, what is not kept stays in its process.
        site.send(("ephemeral/shelf", "sent", {"n": 2}), ("open/shelf", "sent", {"n": 3}))
        assert [frame.data for frame in (first, *theirs.events(2))] == [
            '{"n": 1}',
            '{"n": 2}',
            '{"n": 3}',
        ]
        assert [frame.data for frame in ours.events(2)] == ['{"n":1}', '{"n":3}']
        for channel in ("readers/all", "none/such"):
            with SSEReader(site.server.host, site.server.port, f"/any/?channel={channel}") as no:
                assert json.loads(no.next_frame().data or "")["condition"] == "forbidden"
        theirs.close()
        ours.close()
        site.leave()


def listen(site: Site, path: str, opened: str) -> SSEReader:
    reader = SSEReader(site.server.host, site.server.port, path)
    reader.wait_for(lambda frame: frame.event == opened)
    return reader
