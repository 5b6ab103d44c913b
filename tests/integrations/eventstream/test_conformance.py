"""The same requests to django-eventstream's own view and to ours: the same bytes, but for the ids."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.integrations.eventstream.conftest import Site, read_until

pytestmark = pytest.mark.any_database

LAST = b"the last one"
HEADERS = (
    "Content-Type",
    "Cache-Control",
    "X-Accel-Buffering",
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Headers",
)


def without_ids(body: bytes) -> bytes:
    return re.sub(rb"^id: [^\n]*:[0-9]+\n", b"", body, flags=re.MULTILINE)


def stream(
    site: Site, path: str, act: Callable[[], Any], headers: dict[str, str] | None = None
) -> tuple[int, list[str | None], bytes]:
    """Open a stream, do something once it is open, and read until the last event."""
    response = site.ask(path, headers)
    body = read_until(response, b"event: stream-open")
    assert b"event: stream-open" in body, body
    act()
    body += read_until(response, LAST)
    response.close()
    return response.status, [response.headers[name] for name in HEADERS], without_ids(body)


Transcript = Callable[[Site], Any]


def of_events(path: str, channel: str, **headers: str) -> Transcript:
    def run(site: Site) -> Any:
        def act() -> None:
            site.send(
                (channel, "message", {"n": 1, "ümlaut": "ä", "nested": [1.5, None, True]}),
                (channel, "message", "text"),
                (channel, "message", '{"a":1}', False),
                (channel, "message", "two\r\nlines\rand\n\none more", False),
                (channel, "message", "", False),
                (channel, "Neue Nachricht", {"n": 2}),
                (channel, "error", "50% of a type that is ours"),
                (channel, "a\r\nb", 5),
                (channel, "x" * 80, [1]),
                (channel, "message", LAST.decode()),
            )

        return stream(site, path, act, headers)

    return run


def resumed(path: str, channel: str, *, by_query: bool) -> Transcript:
    def run(site: Site) -> Any:
        site.send((channel, "message", "before"))
        here = site.get("/current/", channel=channel)
        assert re.fullmatch(rf"{channel}:\d+", here)
        site.send((channel, "message", "one"), (channel, "message", "two"))
        if by_query:
            return stream(site, f"{path}?lastEventId={here}", lambda: last(site, channel))
        return stream(site, path, lambda: last(site, channel), {"Last-Event-ID": here})

    return run


def last(site: Site, channel: str) -> None:
    site.send((channel, "message", LAST.decode()))


def resumed_twice(site: Site) -> Any:
    """From the id of an event, as a browser does it."""
    response = site.ask("/room/twice/")
    assert b"stream-open" in read_until(response, b"stream-open")
    site.send(("room-twice", "message", "one"), ("room-twice", "message", "two"))
    body = read_until(response, b"two")
    response.close()
    ids = re.findall(rb"^id: (.*)$", body, re.MULTILINE)
    site.send(("room-twice", "message", "three"))
    asked = {"Last-Event-ID": ids[-1].decode()}
    return stream(site, "/room/twice/", lambda: last(site, "room-twice"), asked)


def reset(site: Site) -> Any:
    site.send(("room-reset", "message", "before"))
    asked = {"Last-Event-ID": "room-reset:77"}
    return stream(site, "/room/reset/", lambda: last(site, "room-reset"), asked)


def answer(path: str, **headers: str) -> Transcript:
    def run(site: Site) -> Any:
        response = site.ask(path, headers)
        told = [response.headers[name] for name in HEADERS]
        body = response.read().replace(str(site.server.port).encode(), b"PORT")
        body = re.sub(rb'csrfToken"?: "[^"]*"', b"csrfToken", body)
        return response.status, told, without_ids(body)

    return run


def kicked(site: Site) -> Any:
    """Somebody whose permission is taken away is told, and cut off; others are not."""
    ann, bob = site.sign_in("ann"), site.sign_in("bob")
    stays = bob.ask("/one/secret-room/")
    assert b"stream-open" in read_until(stays, b"stream-open")

    def act() -> None:
        site.get("/withdraw/", name="ann", channel="secret-room")

    status, headers, body = stream(ann, "/one/secret-room/", act)
    head, *errors = body.split(b"event: stream-error\n")
    assert len(set(errors)) == 1, "its own view says it twice, the same each time"
    told = status, headers, head, errors[0]
    site.send(("secret-room", "message", LAST.decode()))
    return told, without_ids(read_until(stays, LAST))


def forbidden_when_signed_out(site: Site) -> Any:
    return answer("/one/secret-room/")(site)


def two_channels(site: Site) -> Any:
    def act() -> None:
        site.send(("news", "message", 1), ("sport", "message", 2), ("news", "message", 3))
        last(site, "sport")

    return stream(site, "/two/", act)


def unreliable(site: Site) -> Any:
    def act() -> None:
        site.send(("loose-talk", "message", {"n": 1}))
        last(site, "loose-talk")

    return stream(site, "/one/loose-talk/?lastEventId=loose-talk:3", act)


FRIEND = {"Referer": "https://friend.example/page"}
ELEVEN = "&".join(f"channel=c{n}" for n in range(11))
CASES: dict[str, Transcript] = {
    "channels in the URL conf": of_events("/fixed/", "news"),
    "format-channels": of_events("/room/blue/", "room-blue"),
    "channel from the address": of_events("/one/tiger/", "tiger"),
    "channels from the query": of_events("/any/?channel=lion&channel=tiger", "lion"),
    "a name of other signs": of_events("/any/?channel=L%C3%B6we%20%25%2F%3A", "Löwe %/:"),
    "two channels": two_channels,
    "a channel that is not kept": unreliable,
    "cross-origin": of_events("/fixed/", "news", **FRIEND),
    "resumed by a page": resumed("/room/page/", "room-page", by_query=True),
    "resumed by header": resumed("/room/header/", "room-header", by_query=False),
    "resumed from an event": resumed_twice,
    "an id that is none": reset,
    "permission taken away": kicked,
    "forbidden": forbidden_when_signed_out,
    "two of three are forbidden": answer("/any/?channel=secret-a"),
    "no channels": answer("/any/"),
    "eleven channels": answer(f"/any/?{ELEVEN}"),
    "after an error": answer("/fixed/", **{"Last-Event-ID": "error"}),
    "an id that cannot be read": answer("/fixed/?lastEventId=nonsense"),
    "viewset, streaming": of_events("/api/news/", "news", Accept="text/event-stream"),
    "viewset, of one channel": of_events("/api/any/bear/", "bear", Accept="text/event-stream"),
    "viewset, of the query": of_events("/api/any/?channels=wolf", "wolf", Accept="*/*"),
    "viewset, in a browser": answer("/api/news/", Accept="text/html"),
    "viewset, both": answer("/api/news/?channels=wolf", Accept="text/event-stream"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_answers_as_its_own_view_does(case: str, theirs: Site, ours: Site) -> None:
    transcripts: dict[str, Any] = {}

    def run(name: str, site: Site) -> None:
        transcripts[name] = CASES[case](site)

    both = [threading.Thread(target=run, args=pair) for pair in (("T", theirs), ("O", ours))]
    for one in both:
        one.start()
    for one in both:
        one.join(30)
    assert transcripts["O"] == transcripts["T"]
    assert transcripts["O"]


def test_ids_are_read_by_its_own_functions(ours: Site) -> None:
    """The storage class, as its functions and a project's own code use it."""
    said = ours.database.python(
        """
import json
from django.db import transaction
from django_eventstream import get_current_event_id, get_events, send_event, EventRequest
from django_eventstream.storage import EventDoesNotExist
from django_live.integrations.eventstream import LogStorage

storage = LogStorage()
empty = storage.get_current_id("shelf")
for n in range(3):
    send_event("shelf", "message", {"n": n})
appended = storage.append_event("shelf", "message", "raw")
known = storage.get_events("shelf", empty)
with transaction.atomic():
    inside = storage.append_event("shelf", "message", "later").id
    unseen = len(storage.get_events("shelf", appended.id))
try:
    with transaction.atomic():
        send_event("shelf", "message", "never")
        raise ValueError
except ValueError:
    pass
try:
    storage.get_events("shelf", 5711)
    old = None
except EventDoesNotExist as error:
    old = error.current_id == storage.get_current_id("shelf")
asked = EventRequest()
asked.is_next = asked.is_recover = False
asked.channels, asked.channel_last_ids = {"shelf"}, {"shelf": str(appended.id)}
print(json.dumps({
    "texts": [event.data for event in known],
    "ids": [event.id - empty for event in known] + [appended.id - empty],
    "in a transaction": [inside, unseen],
    "after it": [e.data for e in get_events(asked).channel_items["shelf"]],
    "from the beginning": len(storage.get_events("shelf", 0)),
    "an id of another storage": old,
    "limit": [event.data for event in storage.get_events("shelf", empty, limit=2)],
    "current": get_current_event_id(["shelf"]) == f"shelf:{storage.get_current_id('shelf')}",
    "less than JavaScript can count": empty < 2**53,
}))
"""
    )
    assert json.loads(said.splitlines()[-1]) == {
        "texts": ['{"n": 0}', '{"n": 1}', '{"n": 2}', "raw"],
        "ids": [1, 2, 3, 4, 4],
        "in a transaction": [0, 0],
        "after it": ["later"],
        "from the beginning": 5,
        "an id of another storage": True,
        "limit": ['{"n": 0}', '{"n": 1}'],
        "current": True,
        "less than JavaScript can count": True,
    }
