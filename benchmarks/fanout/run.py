"""Fan-out: what a delivery costs the server, beside what people would use instead.

    python benchmarks/fanout/run.py                          # all subjects, 3 rounds
    python benchmarks/fanout/run.py --only "uvicorn" --rounds 5
    python benchmarks/fanout/run.py --only "uvicorn" --add   # the other subjects' results are kept
    python benchmarks/fanout/run.py --connections 10000 --rate 2

What cannot do as many events a second on one processor gets fewer (`Subject.most`), and beside it are
django_live and the bare application at that rate, as subjects of their own.

Server and load generator have a processor each. Every round starts each subject anew, one after the other,
so that what disturbs the machine disturbs all of them; the table has medians and the worst round. A row
in which an event is missing, doubled or out of order says FAILED, whatever it cost.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import psutil
from common import own_redis, report, with_rows_kept
from subjects import ROOT, Subject, all_subjects

USERS = 200
FILES = 65_536
SERVER_CPU, LOAD_CPU = "0", "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=20, help="events a second")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--burst", type=int, default=100, help="events at once, afterwards")
    parser.add_argument("--size", type=int, default=200, help="bytes of an event's data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a subject's name; several with commas")
    parser.add_argument("--add", action="store_true", help="keep earlier results of other subjects")
    options = parser.parse_args()
    allow_many_files()
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with own_redis() as redis_url, tempfile.TemporaryDirectory() as folder:
        database, sessions = site(Path(folder))
        subjects = all_subjects(redis_url)
        chosen = choose(subjects, options.only)
        rounds: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in chosen}
        for number in range(options.rounds):
            for subject in chosen:
                print(f"round {number + 1}: {subject.name} …", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory() as own:
                    rounds[subject.name].append(
                        measure(subject, options, database, sessions, Path(own))
                    )
        rows = [row(subject, rounds[subject.name], options.rate) for subject in chosen]
        compare(rows, {subject.name: subject.beside for subject in chosen})
        if options.add:
            # Without its yardstick django_live was only there for others to be compared with.
            rows = [found for found in rows if is_whole(found)] or rows
            rows = with_rows_kept("fanout", rows, "subject", [subject.name for subject in subjects])
        report("fanout", rows)


def compare(rows: list[dict[str, Any]], beside: dict[str, str]) -> None:
    """Set each beside the yardstick on the same server, and django_live beside each (which of its rows,
    ``beside`` says), where both are in this run."""
    by_name = {found["subject"]: found for found in rows}
    for found in rows:
        name = found["subject"]
        bare = by_name.get("bare" + name.removeprefix("live")) if name.startswith("live") else None
        for column in ("µs", "burst µs", "p99 ms") if bare else ():
            found[f"{column} of bare"] = round(found[column] / bare[column], 2)
        live = by_name.get(beside[name])
        if live and live is not found:
            found["live's part"] = round(live["µs"] / found["µs"], 3)


def is_whole(found: dict[str, Any]) -> bool:
    return not found["subject"].startswith("live ") or "µs of bare" in found


def allow_many_files() -> None:
    """Each connection is a file, here and in the servers; many systems begin with 1,024 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def choose(subjects: list[Subject], only: str) -> list[Subject]:
    wanted = [part.strip() for part in only.split(",") if part.strip()]
    chosen = []
    for subject in subjects:
        if wanted and not any(part in subject.name for part in wanted):
            continue
        if subject.is_there():
            chosen.append(subject)
        else:
            print(f"left out: {subject.name} (not installed here)", file=sys.stderr)
    return chosen


def site(folder: Path) -> tuple[Path, list[str]]:
    """A database with tables and logged-in users, and the keys of their sessions."""
    database = folder / "site.sqlite3"
    program = (
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "from django.contrib.auth import get_user_model, HASH_SESSION_KEY, SESSION_KEY, "
        "BACKEND_SESSION_KEY\n"
        "from django.contrib.sessions.backends.db import SessionStore\n"
        "call_command('migrate', verbosity=0)\n"
        f"for n in range({USERS}):\n"
        "    user = get_user_model().objects.create_user(f'user{n}', password='x')\n"
        "    session = SessionStore()\n"
        "    session[SESSION_KEY] = str(user.pk)\n"
        "    session[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend'\n"
        "    session[HASH_SESSION_KEY] = user.get_session_auth_hash()\n"
        "    session.save()\n"
        "    print(session.session_key)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(database),
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return database, done.stdout.split()


def environment(database: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "benchmarks.fanout.apps.settings",
        "BENCH_DATABASE": str(database),
        "PYTHONPATH": str(ROOT),
    }


def measure(
    subject: Subject, options: argparse.Namespace, database: Path, sessions: list[str], folder: Path
) -> dict[str, Any]:
    """One round of one subject."""
    port = free_port()
    env = {**environment(database), **subject.env}
    with running(["taskset", "-c", SERVER_CPU, *subject.command(port, folder)], env) as server:
        wait_until_it_listens(port)
        # What the first connections cost once (threads, the heap) is not what one more costs.
        with Load() as warm_up:
            warm_up.ask({"open": subject.opening(port, 200, sessions)})
        time.sleep(1.0)
        before = Usage.of(server)
        with Load() as load:
            opened = load.ask({"open": subject.opening(port, options.connections, sessions)})
            time.sleep(2.0)
            idle = Usage.of(server)
            rate = subject.rate(options.rate)
            paced, at_once = rate * options.seconds, min(options.burst, 5 * rate)
            found = {
                "machines_load": os.getloadavg()[0],
                "connects_per_second": opened["connections"] / opened["seconds"],
                "memory_kb": (idle.memory - before.memory) / 1024 / options.connections,
                "threads": idle.threads,
                **run(subject, server, load, port, paced, rate, options.size),
            }
            burst = run(subject, server, load, port, at_once, 0, options.size)
            found["burst_us"] = burst["us"]
            found["failed"] = wrong(found) or wrong(burst)
            return found


def run(
    subject: Subject,
    server: psutil.Process,
    load: Load,
    port: int,
    count: int,
    rate: int,
    size: int,
) -> dict[str, Any]:
    """So many events; what they cost the server, and what the load generator saw of them."""
    before = Usage.of(server)
    # A subject that needs three times as long as it was given does not keep up.
    load.order({"expect": count, "within": 30 + (3 * count / rate if rate else 0)})
    publisher = publish(subject, port, rate, count, size)
    seen = load.answer()
    if publisher:
        publisher.join()
    spent = Usage.of(server).cpu - before.cpu
    return {**seen, "us": spent / max(1, seen["deliveries"]) * 1e6}


def publish(
    subject: Subject, port: int, rate: int, count: int, size: int
) -> threading.Thread | None:
    if not subject.publish_at:
        request(port, "GET", f"/publish?rate={rate}&count={count}&size={size}")
        return None
    thread = threading.Thread(
        target=post_each, args=(port, subject.publish_at, rate, count, size), daemon=True
    )
    thread.start()
    return thread


_posted = 0


def post_each(port: int, path: str, rate: int, count: int, size: int) -> None:
    """From outside, for subjects that cannot make their own events. Numbers go on, within a round."""
    global _posted  # noqa: PLW0603
    connection = http.client.HTTPConnection("127.0.0.1", port)
    began = time.monotonic()
    for sent in range(count):
        if rate:
            time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        data = {"n": _posted, "t": time.monotonic(), "pad": "x" * (size - 40)}
        _posted += 1
        connection.request("POST", path, json.dumps(data))
        connection.getresponse().read()


def request(port: int, method: str, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    answer.read()
    connection.close()


def wrong(seen: dict[str, Any]) -> str:
    """What was not as it should be; empty: nothing."""
    missing = [f"missing: {seen['missing']} at {seen['short']} clients"] if seen["missing"] else []
    others = [
        f"{fault.replace('_', ' ')}: {seen[fault]}"
        for fault in ("doubled_or_reordered", "cut")
        if seen[fault]
    ]
    return ", ".join(missing + others)


class Load:
    """The load generator's process."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            ["taskset", "-c", LOAD_CPU, sys.executable, str(HERE / "reader.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def order(self, what: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the load generator has ended; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, what: dict[str, Any]) -> dict[str, Any]:
        self.order(what)
        return self.answer()


class Usage:
    """What a server and its children have taken so far."""

    def __init__(self, cpu: float, memory: int, threads: int) -> None:
        self.cpu = cpu
        """Seconds."""
        self.memory = memory
        """Bytes."""
        self.threads = threads

    @classmethod
    def of(cls, server: psutil.Process) -> Usage:
        processes = [server, *server.children(recursive=True)]
        times = [process.cpu_times() for process in processes]
        return cls(
            sum(time.user + time.system for time in times),
            sum(process.memory_info().rss for process in processes),
            sum(process.num_threads() for process in processes),
        )


@contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[psutil.Process]:
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield process
        except BaseException:
            log.seek(0)
            print(log.read().decode(errors="replace")[-4000:], file=sys.stderr)
            raise
        finally:
            for each in [*process.children(recursive=True), process]:
                each.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def row(subject: Subject, rounds: list[dict[str, Any]], rate: int) -> dict[str, Any]:
    def median(key: str) -> float:
        return statistics.median(taken[key] for taken in rounds)

    failed = "; ".join(taken["failed"] for taken in rounds if taken["failed"])
    return {
        "subject": subject.name,
        "events/s": subject.rate(rate),
        "µs": round(median("us"), 1),
        "worst µs": round(max(taken["us"] for taken in rounds), 1),
        "burst µs": round(median("burst_us"), 1),
        "p50 ms": round(median("p50_ms"), 1),
        "p99 ms": round(median("p99_ms"), 1),
        "max ms": round(max(taken["max_ms"] for taken in rounds), 1),
        "kB": round(median("memory_kb"), 1),
        "threads": max(taken["threads"] for taken in rounds),
        "connects/s": round(median("connects_per_second")),
        "load's µs": round(
            statistics.median(taken["spent"] / max(1, taken["deliveries"]) for taken in rounds)
            * 1e6,
            1,
        ),
        "load": round(median("machines_load"), 1),
        "result": f"FAILED ({failed})" if failed else "every event once, in order",
    }


if __name__ == "__main__":
    main()
