"""Whatever a client says on a WebSocket, the site stays well and nobody hears of it."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_live.asgi import get_live_application
from django_live.core.runtime import runtime
from tests.support.socket_client import binary
from tests.transports.driver import tell
from tests.transports.socket_driver import SteppedPeer

WHOLE = binary("rooms/a", "describe", b"abc", flags=4, sequence=1)

MESSAGES = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=60),
    st.sampled_from([WHOLE, WHOLE[:-1], binary("rooms/a", "describe", b"abc", flags=1)]),
    st.fixed_dictionaries(
        {"action": st.sampled_from(["send", "subscribe", "unsubscribe", "ping", "pong"])},
        optional={
            "ref": st.one_of(st.integers(), st.text(max_size=70), st.none(), st.booleans()),
            "topic": st.sampled_from(["rooms/a", "async-rooms/open", "open/a", "nothing", "\0"]),
            "topics": st.lists(st.sampled_from(["rooms/a", "open/a", "nothing/x", "", "\0"])),
            "type": st.sampled_from(["describe", "reject", "hello", "open", "ü"]),
            "data": st.one_of(st.none(), st.integers(), st.text(max_size=5)),
            "cursor": st.one_of(st.none(), st.text(max_size=20)),
        },
    ).map(json.dumps),
)


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(MESSAGES, max_size=30))
@pytest.mark.usefixtures("settings_in_force")
def test_whatever_a_client_says_the_site_stays_well(
    caplog: pytest.LogCaptureFixture, said: list[str | bytes]
) -> None:
    caplog.set_level(logging.INFO)

    async def talk() -> None:
        application = get_live_application()
        async with SteppedPeer(application) as other, SteppedPeer(application) as peer:
            await other.opened()
            await other.subscribe("open/a")
            await peer.opened()
            for message in said:
                peer.say_bytes(message) if isinstance(message, bytes) else peer.say_text(message)
            await tell("open/a", "said", 1)
            await other.until(lambda: other.said() == [1])
            peer.say(action="send", ref="the last", topic="rooms/z", type="hello")
            await peer.until(
                lambda: peer.close_code or [f for f in peer.frames if f.ref == "the last"]
            )
            assert peer.close_code in (None, 4201)
        await runtime().stop()

    asyncio.run(talk())
    assert not [r for r in caplog.records if r.name.startswith("django_live")]
