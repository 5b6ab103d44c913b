"""What an event costs on the channel layer: one message for each interested process, however many
subscribers it has; and events of very many topics one message for all of them. Redis says how many
processes hear the topic."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from redis import Redis

from django_live.core.bus import PARCELS, group_name
from tests.conftest import NewDatabase, StartServer
from tests.servers.test_streams import open_stream
from tests.support.redis import RedisServer
from tests.testapp.live import OpenTopic

PROCESSES, SUBSCRIBERS, EVENTS, TOPICS = 2, 50, 20, 150
PUBLISH_ALL = f"""
from django_live import publish, publish_many
for n in range({EVENTS}):
    publish("open/counted", "counted", n)
publish_many([("open/counted", "counted", "last"), *((f"open/t{{n}}", "said") for n in range({TOPICS}))])
"""


def channels_of_topic(redis: Redis) -> dict[Any, int]:
    """The pub/sub channel of the topic's group, and how many processes hear it."""
    found: Any = redis.pubsub_channels(f"*{group_name(OpenTopic(slug='counted').key)}*")
    counts: Any = redis.pubsub_numsub(*found)
    return dict(counts)


def messages(spy: Any) -> int:
    """What this subscriber has got; nothing comes for a second."""
    count = 0
    while message := spy.get_message(timeout=1):
        count += message["type"] in ("message", "pmessage")
    return count


def test_an_event_is_one_message_for_each_interested_process(
    new_server_database: NewDatabase, own_redis: RedisServer, start_server: StartServer
) -> None:
    database = new_server_database("sqlite")
    env = {
        **database.env,
        "LIVE_TEST_LAYER": own_redis.url,
        "LIVE_TEST_DJANGO_LIVE": '{"HEAD_CHECK": 3600, "SWEEP": 3600}',
    }
    servers = [start_server("uvicorn", env=env) for _ in range(PROCESSES + 1)]
    with ExitStack() as stack, Redis.from_url(own_redis.url) as redis:
        readers = [
            stack.enter_context(open_stream(server, "open/counted"))
            for server in servers[:PROCESSES]
            for _ in range(SUBSCRIBERS)
        ]
        # The last process listens to something else, and is not interested.
        other = stack.enter_context(open_stream(servers[-1], "open/other"))
        for reader in [*readers, other]:
            reader.wait_for(lambda frame: frame.event == "stream-open")
        channels = channels_of_topic(redis)
        assert list(channels.values()) == [PROCESSES]
        spy = stack.enter_context(redis.pubsub())  # probes and the like have channels of their own
        spy.subscribe(*channels)
        parcels = stack.enter_context(redis.pubsub())
        parcels.psubscribe(f"*{PARCELS}*")
        type(database)(database.engine, database.name, env).python(PUBLISH_ALL)
        for reader in readers:
            heard = [reader.next_event(timeout=20).json() for _ in range(EVENTS + 1)]
            assert heard == [*range(EVENTS), "last"]
        assert messages(spy) == EVENTS
        assert messages(parcels) == 1
