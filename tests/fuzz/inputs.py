"""Inputs: what a client could send, and what becomes of it under a few changes. Half of them are near
enough to the right form to come through the first checks."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from urllib.parse import quote_from_bytes, quote_plus

from tests.support.socket_client import binary

TOPICS = [
    "open/a",
    "small/a",
    "snapshot/a",
    "rooms/a",
    "orders/1",
    "nothing/x",
    "",
    "\0",
    "open/ä",
    "/",
]
JUNK = [
    b"\0",
    b"\r\n",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"%00",
    b"%",
    b"../",
    b"'\"<>",
    b"9" * 30,
    b"1e999",
]
JUNK += [
    b"-1",
    b"NaN",
    b"null",
    b"{",
    b"[" * 50,
    b'"\\ud800"',
    b",",
    b".",
    b"=",
    b";",
    b"\xc3",
    b" ",
]
ODD = ["", "\0", "\ud800", "ü" * 300, -1, 1e308, 10**30, True, None, [], {}, [[]], {"a": []}, "NaN"]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The same with up to four changes; one in four is left as it is."""
    for _ in range(rng.randrange(5) if rng.random() < 0.75 else 0):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data = data[:place] + rng.choice(JUNK) + data[place:]
            case 1:
                data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
            case 2:
                data = data[:place] + data[place + rng.randrange(1, 9) :]
            case 3:
                data = data[:place]
            case 4:
                data = data[:place] + data[place : place + 20] * rng.randrange(2, 20) + data[place:]
    return data


def cursor(places: Sequence[str], rng: random.Random) -> bytes:
    """Places that were given out, some of them changed."""
    chosen = rng.choices(places, k=rng.randrange(4))
    return mutated(",".join(chosen).encode(), rng)


def query(names: Sequence[str], places: Sequence[str], rng: random.Random) -> bytes:
    """A query string: parameters of ours, often twice, in any order."""
    values: dict[str, Callable[[], bytes]] = {
        "topic": lambda: rng.choice(TOPICS).encode(),
        "cursor": lambda: cursor(places, rng),
        "lastEventId": lambda: cursor(places, rng),
        "known": lambda: cursor(places, rng),
        "wait": lambda: rng.choice([b"0", b"0.01", b"-1", b"nan", b"inf", b"1e400", b"x"]),
        "ticket": lambda: mutated(b"aBcDeFgHiJkLmNoPqRsTuv:1tE5xq:cUrVyQ0aVbH8", rng),
    }
    pairs = [("topic", b"open/a")] if rng.random() < 0.7 else []
    pairs += [(name, values[name]()) for name in rng.choices(names, k=rng.randrange(5))]
    rng.shuffle(pairs)
    text = "&".join(f"{quote_plus(n)}={quote_from_bytes(mutated(v, rng))}" for n, v in pairs)
    return mutated(text.encode(), rng) if rng.random() < 0.3 else text.encode()


def headers(places: Sequence[str], rng: random.Random) -> list[tuple[bytes, bytes]]:
    """Those that we read."""
    samples: dict[bytes, bytes] = {
        b"last-event-id": cursor(places, rng),
        b"if-none-match": b'W/"0123456789abcdef0123456789abcdef", "x"',
        b"x-live-refresh": b"count,order-1,%C3%A4",
        b"origin": b"https://testserver",
        b"sec-fetch-site": b"same-origin",
        b"authorization": b"Bearer aBc.dEf.gHi",
        b"cookie": b"sessionid=0123456789abcdef0123456789abcdef; csrftoken=abc",
        b"x-csrftoken": b"0123456789abcdef0123456789abcdef",
        b"x-forwarded-for": b"10.0.0.1, ::1",
        b"accept": b"text/event-stream",
        b"content-length": b"12",
    }
    chosen = rng.sample(sorted(samples), k=rng.randrange(4))
    # A server refuses line ends in a header by itself, and NUL.
    return [(n, mutated(samples[n], rng).translate(None, b"\0\r\n")) for n in chosen]


def message(places: Sequence[str], rng: random.Random) -> bytes:
    """JSON of a client, on a WebSocket or by POST."""
    body: dict[str, object] = {
        "action": rng.choice(["send", "subscribe", "unsubscribe", "ping", "pong", "other"]),
        "topic": rng.choice(TOPICS),
        "topics": rng.choices(TOPICS, k=rng.randrange(4)),
        "type": rng.choice(["describe", "reject", "hello", "open", "ü", "stream-open"]),
        "data": rng.choice(ODD),
        "cursor": cursor(places, rng).decode("latin-1"),
        "ref": rng.choice(ODD),
    }
    for name in rng.sample(sorted(body), k=rng.randrange(4)):
        body[name] = rng.choice(ODD)
    return mutated(json.dumps(body).encode(), rng)


def frame(rng: random.Random) -> bytes:
    """A binary frame."""
    topic = rng.choice(["rooms/a", "async-rooms/open", "open/a", "nothing", "\0", "ü"])
    whole = binary(
        topic,
        rng.choice(["describe", "hello", "x" * 64]),
        rng.randbytes(rng.randrange(40)),
        flags=rng.randrange(8),
        sequence=rng.randrange(3),
    )
    return mutated(whole, rng)
