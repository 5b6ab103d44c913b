"""How old a token is when its viewer has it: many streams, written and held by one process.

Writers and viewers' streams are in one server process, the viewers' ends in this one. Of each event the
age of its oldest token counts, once all streams have begun: `WARM_UP` seconds after the first.

`python benchmarks/token_streams.py --streams 100 --tokens 50 --viewers 3 --seconds 20 --store redis`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common import ROOT, own_redis, report

WARM_UP = 3.0
Age = tuple[float, float]
"""When a token was made, and how old it was at its viewer."""
TEXT = re.compile(rb'"text":"(\d+\.\d+) ')


def serve(options: argparse.Namespace) -> None:
    """In the child: the site over uvicorn, and the writers on an event loop of their own."""
    import threading

    import django

    django.setup()
    import uvicorn
    from django.contrib.auth.models import User
    from django.test import Client

    from django_live.asgi import get_live_application
    from django_live.features.token_streams import TokenStream, reserve

    user = User.objects.create_user("ann")
    client = Client()
    client.force_login(user)
    ids = [reserve(owner=user).key for _ in range(options.streams)]
    go = threading.Event()

    async def write(id: str) -> None:
        async with TokenStream(id=id) as stream:
            due = time.monotonic()
            for _ in range(options.tokens * options.seconds):
                stream.text(f"{time.time():.4f} ")
                due += 1 / options.tokens
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def write_all() -> None:
        await asyncio.gather(*(write(id) for id in ids))

    def writers() -> None:
        go.wait()
        asyncio.run(write_all())

    def wait_for_the_word() -> None:
        sys.stdin.readline()
        go.set()

    threading.Thread(target=writers, daemon=True).start()
    threading.Thread(target=wait_for_the_word, daemon=True).start()
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    print(json.dumps({"ids": ids, "cookie": cookie}), flush=True)
    uvicorn.run(
        get_live_application(),
        port=options.port,
        log_level="warning",
        loop="uvloop",
        http="httptools",
    )


async def view(port: int, id: str, cookie: str, opened: asyncio.Semaphore, ages: list[Age]) -> None:
    """One viewer, to the end of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /live/events/?topic=live/answers/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    writer.write(f"{head}Accept: text/event-stream\r\nCookie: {cookie}\r\n\r\n".encode())
    rest = b""
    is_open = False
    while chunk := await reader.read(65_536):
        now = time.time()
        whole, _, rest = (rest + chunk).rpartition(
            b"\n"
        )  # cheaply: this end must not be what is slow
        for found in TEXT.finditer(whole):
            made = float(found[1])
            ages.append((made, now - made))
        if not is_open and b"event: stream-open" in whole:
            is_open = True
            opened.release()
        if b"event: end" in whole:
            writer.close()
            return
    raise ConnectionError("a stream was cut")


async def watch(options: argparse.Namespace, told: dict[str, Any], go: Any) -> list[Age]:
    ages: list[Age] = []
    opened = asyncio.Semaphore(0)
    viewers = [
        asyncio.ensure_future(view(options.port, id, told["cookie"], opened, ages))
        for id in told["ids"] * options.viewers
    ]
    for _ in viewers:
        await opened.acquire()
    go()
    await asyncio.gather(*viewers)
    return ages


def measure(options: argparse.Namespace, store: str) -> dict[str, Any]:
    from tests.support.databases import server_database
    from tests.support.servers import free_port

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        database = stack.enter_context(
            server_database(options.database, Path(folder), "tests.settings")
        )
        live = {"STORE": store, "MAX_CONNECTIONS_PER_USER": 10_000}
        if store == "redis":
            live["REDIS_URL"] = stack.enter_context(own_redis())
        live |= {"OPENING_RATE": 10_000, "OPENING_BURST": 10_000}
        options.port = free_port()
        env = {**os.environ, **database.env, "PYTHONPATH": str(ROOT)}
        env["LIVE_TEST_DJANGO_LIVE"] = json.dumps(live)
        child = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--in-child", str(options.port)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin
        assert child.stdout
        try:
            told = json.loads(child.stdout.readline())
            wait_for_port(options.port)
            stdin = child.stdin

            def go() -> None:
                stdin.write("\n")
                stdin.flush()

            began = cpu_of(child.pid)
            heard = asyncio.run(watch(options, told, go))
            used = cpu_of(child.pid) - began
        finally:
            child.kill()
            child.wait()
    begun = min(made for made, _ in heard) + WARM_UP
    ages = [age for made, age in heard if made >= begun]
    cuts = statistics.quantiles(ages, n=100)
    return {
        "store": store,
        "database": options.database,
        "streams": options.streams,
        "tokens/s": options.tokens,
        "viewers": options.viewers,
        "events": len(ages),
        "p50_ms": round(cuts[49] * 1000, 1),
        "p99_ms": round(cuts[98] * 1000, 1),
        "max_ms": round(max(ages) * 1000, 1),
        "server CPU": f"{used / options.seconds:.0%}",
        "load": round(os.getloadavg()[0], 1),
    }


def cpu_of(pid: int) -> float:
    """Seconds of processor time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_port(port: int) -> None:
    import socket

    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the server does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"streams": 100, "tokens": 50, "viewers": 3, "seconds": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", default="redis,memory", help="separated by commas")
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--in-child", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_child:
        options.port = options.in_child
        serve(options)
        return
    report("token_streams", [measure(options, store) for store in options.store.split(",")])


if __name__ == "__main__":
    main()
