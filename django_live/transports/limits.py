"""How much one user, one address and one process may hold open, and how fast it may be opened.

Counted in each process, when a connection is opened: a delivery costs nothing more.

Must keep true: a place is given back when its connection ends, whatever way it ends, also when it never
began; those who have one keep it.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict

from django.http import HttpRequest

from ..conf import live_settings
from ..core.topics import Viewer

REMEMBERED = 10_000
"""Users and addresses whose rate is known; the rate of those that are forgotten begins anew."""
COME_BACK = 10.0
"""Seconds after which somebody who has too many connections may ask again."""


class TooMany(Exception):
    """There is no place for another connection."""

    def __init__(self, code: str, retry_after: float) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after = retry_after


class Bucket:
    """``burst`` tokens, of which ``rate`` come back each second."""

    __slots__ = ("_left", "_seen")

    def __init__(self, burst: float) -> None:
        self._left = float(burst)
        self._seen = time.monotonic()

    def take(self, rate: float, burst: float) -> bool:
        """Whether there is a token for one more."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._seen) * rate, burst)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Buckets:
    """Those of many, by who they are. Of this process; asked from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, who: str, rate: float, burst: float) -> bool:
        with self._lock:
            bucket = self._buckets.pop(who, None) or Bucket(burst)
            self._buckets[who] = bucket
            while len(self._buckets) > REMEMBERED:
                self._buckets.popitem(last=False)
            return bucket.take(rate, burst)


class Place:
    """Of one connection. Gone with ``release()``, or when nobody has it any more: a decision that never
    became a connection is simply dropped."""

    __slots__ = ("__weakref__", "_places", "_who")

    def __init__(self, places: Places, who: str) -> None:
        self._places: Places | None = places
        self._who = who

    def release(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.give_back(self._who)

    def __del__(self) -> None:
        self.release()


class Places:
    """The connections of this process, of all its event loops. Asked from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a place may be collected while another is being taken
        self._of: dict[str, int] = {}
        self._openings = Buckets()
        self.taken = 0

    def take(self, viewer: Viewer, address: str) -> Place:
        """A place for one more connection. Raises ``TooMany``."""
        settings = live_settings()
        if viewer.user_id is not None:
            who, most = f"user {viewer.user_id}", settings.MAX_CONNECTIONS_PER_USER
        elif settings.MAX_CONNECTIONS_PER_ADDRESS is not None and address:
            who, most = f"address {address}", settings.MAX_CONNECTIONS_PER_ADDRESS
        else:
            who, most = "", settings.MAX_CONNECTIONS
        if who and not self._openings.take(who, settings.OPENING_RATE, settings.OPENING_BURST):
            raise TooMany("too-many-connections", max(1.0, 1 / settings.OPENING_RATE))
        with self._lock:
            if self.taken >= settings.MAX_CONNECTIONS:
                raise TooMany("at-capacity", COME_BACK)
            if who and self._of.get(who, 0) >= most:
                raise TooMany("too-many-connections", COME_BACK)
            self.taken += 1
            if who:
                self._of[who] = self._of.get(who, 0) + 1
        return Place(self, who)

    def give_back(self, who: str) -> None:
        with self._lock:
            self.taken -= 1
            if who:
                left = self._of[who] - 1
                if left:
                    self._of[who] = left
                else:
                    del self._of[who]


places = Places()


def address_of(request: HttpRequest) -> str:
    """The visitor's address: of IPv6 the network of 64 bits that one customer has. Empty where it is
    not known, as behind a Unix socket."""
    settings = live_settings()
    text = str(request.META.get("REMOTE_ADDR") or "")
    if settings.PROXIES:
        told = [part.strip() for part in request.headers.get(settings.PROXY_HEADER, "").split(",")]
        # Each proxy writes down whom it answers, behind what came: only the last ones are ours.
        if len(told) >= settings.PROXIES and told[-settings.PROXIES]:
            text = told[-settings.PROXIES]
    return _network_of(text)


def _network_of(text: str) -> str:
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:  # with a port
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
