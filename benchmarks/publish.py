"""Publishing from sync code: how long one `publish()` takes, also while Redis does not answer, how many
messages it costs on the pub/sub layer, as Redis counts them, and how many events `publish_many()` keeps in
a second (the best of three runs), by store and channel layer; beside it the two halves of a `publish()`, each
alone (the append, and the layer's `group_send` in our loop), and `async_to_sync(group_send)`.

`python benchmarks/publish.py --times 1000`
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from common import arguments, each, in_children, in_milliseconds, own_redis, report, seconds

LAYERS = {
    "none": "",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "redis": "channels_redis.core.RedisChannelLayer",
}
DATA = {"text": "x" * 180}
MANY = 5000


def wall_and_cpu(work: Callable[[], Any]) -> tuple[float, float]:
    """How long it takes, and how much of that is ours."""
    began = time.process_time()
    return seconds(work), time.process_time() - began


def messages_sent(url: str) -> int:
    """How often Redis was asked to PUBLISH, since it began."""
    from redis import Redis

    with Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0))


def while_stopped(url: str, work: Callable[[], Any]) -> float:
    """The longest of three calls, in seconds, while Redis takes connections and answers nobody."""
    from redis import Redis

    from django_live.exceptions import StoreError

    def attempt() -> None:
        with contextlib.suppress(StoreError):
            work()

    with Redis.from_url(url) as client:
        process = int(client.info("server")["process_id"])
    os.kill(process, signal.SIGSTOP)
    try:
        return max(seconds(attempt) for _ in range(3))
    finally:
        os.kill(process, signal.SIGCONT)


def measure(database: str, layer: str, times: int) -> list[dict[str, Any]]:
    """In a child: each store with this layer."""
    import django

    django.setup()
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer
    from django.test import override_settings

    from django_live import publish, publish_many
    from django_live.core.events import Draft
    from django_live.core.log import get_log
    from django_live.core.spare_loop import spare_loop
    from django_live.core.topics import as_topic

    def row(store: str, what: str, durations: list[float]) -> dict[str, Any]:
        where = database if store == "database" else store
        return {"store": where, "layer": layer, "what": what, **in_milliseconds(durations)}

    rows: list[dict[str, Any]] = []
    topic, draft = as_topic("open/one"), Draft(type="said", data=json.dumps(DATA))
    url = os.environ["BENCH_REDIS"]
    stores = ["database"] if database != "sqlite" else ["database", "memory", "redis"]
    for store in stores:
        with override_settings(DJANGO_LIVE={"STORE": store, "REDIS_URL": url}):
            before = messages_sent(url)
            one = each(lambda n: publish("open/one", "said", DATA), times, warm_up=50)
            rows.append(row(store, "publish()", one))
            if layer == "pubsub":
                rows[-1]["layer_messages"] = (messages_sent(url) - before) / (times + 50)
            if store == "redis":
                alone = each(lambda n: get_log().append(topic, [draft]), times, warm_up=50)
                rows.append(row(store, "its append, alone", alone))
            if layer != "none" or store == "redis":
                longest = while_stopped(url, lambda: publish("open/one", "said", DATA))
                stopped = {"store": rows[-1]["store"], "layer": layer}
                rows.append(
                    {**stopped, "what": "publish(), Redis stopped", "max_s": round(longest, 2)}
                )
            same = [("open/one", "said", DATA)] * MANY
            spread = [(f"open/t{n % 100}", "said", DATA) for n in range(MANY)]
            publish_many(spread)
            for what, items in (("1 topic", same), ("100 topics", spread)):
                took, cpu = min(
                    wall_and_cpu(lambda items=items: publish_many(items)) for _ in range(3)
                )  # type: ignore[misc]
                rows.append(
                    {
                        "store": database if store == "database" else store,
                        "layer": layer,
                        "what": f"publish_many(), {what}",
                        "events_per_s": int(MANY / took),
                        "per_cpu_s": int(MANY / cpu),
                    }
                )
    if layer != "none":
        group_send = get_channel_layer().group_send
        message = {"type": "said", "data": DATA}
        half = each(
            lambda n: spare_loop.run(lambda: group_send("bench", message), 2), times, warm_up=50
        )
        rows.append(row("", "its group_send, alone", half))
        send = async_to_sync(group_send)
        bare = each(lambda n: send("bench", message), times)
        rows.append(row("", "async_to_sync(group_send)", bare))
    return rows


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", times=1000)
    if chosen.in_child:
        print(json.dumps(measure(chosen.in_child, os.environ["BENCH_LAYER"], chosen.times)))
    else:
        found: list[dict[str, Any]] = []
        with own_redis() as url:
            for name, backend in LAYERS.items():
                env = {"BENCH_REDIS": url, "BENCH_LAYER": name}
                if backend:
                    env |= {"LIVE_TEST_LAYER": url, "LIVE_TEST_LAYER_BACKEND": backend}
                found += in_children(__file__, chosen.databases, env)
        report("publish", found)
