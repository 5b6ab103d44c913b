"""What every transport promises, whatever the server: ``test_uvicorn.py`` and its neighbours run it.

The numbers in the events' data are what is judged. Large events fill a socket soon: a reader with a
small buffer has taken about 3 MB, most of it in the kernel, when the server's ``send`` has to wait.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.support.servers import Server
from tests.transport_contract.clients import (
    CLIENTS,
    SMALL_BUFFER,
    Client,
    LongPollClient,
    Site,
    SSEClient,
    WebSocketClient,
)

EVENT = 64_000
MANY = 100
"""Events of ``EVENT`` characters: 6.4 MB, more than every buffer on the way."""
STREAMING = (SSEClient, WebSocketClient)


def is_streaming(kind: type[Client]) -> bool:
    return issubclass(kind, STREAMING)


class TransportContract:
    patience = float("inf")
    """Seconds that the server waits for a client's answer to its close, before it cuts the client off:
    one that reads slowly is cut, and learns no code."""

    cuts_off = True
    """Whether the server has a way to cut off a client that takes nothing."""

    def closed_with(self, kind: type[Client], code: int) -> set[int | None]:
        if kind is not WebSocketClient:
            return {None}
        return {code} if self.patience == float("inf") else {code, 1006}

    # -- receive -----------------------------------------------------------------------------------

    def test_events_come_once_and_in_order(self, site: Site, kind: type[Client], slug: str) -> None:
        one, two = f"kept/{slug}-1", f"kept/{slug}-2"
        with kind(site.server, one, two) as client:
            client.begin_to_wait()
            site.say(one, 0, 3)
            site.say(two, 0, 3)
            site.say(one, 3, size=200_000)
            site.say(two, 3)
            client.numbers(8)
        heard = [heard for heard in client.heard if heard.event == "counted"]
        for topic in (one, two):
            assert [h.data["n"] for h in heard if h.topic == topic] == [0, 1, 2, 3]
        assert sum(len(h.data["filling"]) for h in heard) == 200_000

    def test_a_newcomer_is_told_where_it_stands_before_anything_comes(
        self, site: Site, kind: type[Client], slug: str
    ) -> None:
        """Else one that is cut early would come back as a newcomer, and never know what it missed."""
        topic = f"kept/{slug}"
        with kind(site.server, topic) as client:
            assert client.cursor
            if kind is WebSocketClient:
                events = [heard.event for heard in client.heard]
                assert events[events.index("stream-reply") + 1] == "stream-cursor"
            client.cut()
        site.say(topic, 0)
        with kind(site.server, topic, cursor=client.cursor) as client:
            assert client.numbers(1) == [0]

    def test_a_newcomer_begins_with_the_snapshot(
        self, site: Site, kind: type[Client], slug: str
    ) -> None:
        topic = f"pictured/{slug}"
        site.say(topic, 0)
        with kind(site.server, topic) as client:
            assert client.next("stream-snapshot").data == {"picture": slug}
            client.begin_to_wait()
            site.say(topic, 1)
            assert client.numbers(1) == [1]
        assert client.all_numbers() == [1]

    # -- resume ------------------------------------------------------------------------------------

    def test_who_comes_back_misses_nothing_over_whatever_transport(
        self, site: Site, kind: type[Client], slug: str
    ) -> None:
        topic = f"kept/{slug}"
        with kind(site.server, topic) as client:
            client.begin_to_wait()
            site.say(topic, 0, 3)
            assert client.numbers(3) == [0, 1, 2]
            client.cut()
        site.say(topic, 3, 3)
        with kind(site.server, topic, cursor=client.cursor) as client:
            assert client.numbers(3) == [3, 4, 5]
            client.begin_to_wait()
            site.say(topic, 6)
            assert client.numbers(1) == [6]
        site.say(topic, 7, 2)
        other = CLIENTS[(CLIENTS.index(kind) + 1) % len(CLIENTS)]
        with other(site.server, topic, cursor=client.cursor) as client:
            assert client.numbers(2) == [7, 8]

    # -- reset -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kept", ["short", "pictured"])
    def test_who_was_away_too_long_is_reset(
        self, site: Site, kind: type[Client], slug: str, kept: str
    ) -> None:
        topic = f"{kept}/{slug}"
        with kind(site.server, topic) as client:
            client.begin_to_wait()
            site.say(topic, 0)
            assert client.numbers(1) == [0]
        site.say(topic, 1, 40)
        site.trim()
        with kind(site.server, topic, cursor=client.cursor) as client:
            reset = client.next("stream-reset", "counted")
            has_snapshot = kept == "pictured"
            assert reset.data == {"topic": topic, "reason": "trimmed", "snapshot": has_snapshot}
            if has_snapshot:
                assert client.next("stream-snapshot", "counted").data == {"picture": slug}
            client.begin_to_wait()
            site.say(topic, 41)
            assert client.numbers(1) == [41]
        assert client.all_numbers() == [41]

    def test_a_cursor_that_nobody_gave_out_is_reset(
        self, site: Site, kind: type[Client], slug: str
    ) -> None:
        topic = f"kept/{slug}"
        with kind(site.server, topic) as client:
            pass
        forged = client.cursor[:-1] + ("A" if client.cursor[-1] != "A" else "B")
        with kind(site.server, topic, cursor=forged) as client:
            assert client.next("stream-reset").data["reason"] == "unknown-cursor"

    def test_a_topic_without_history_cannot_be_resumed(
        self, site: Site, kind: type[Client], slug: str
    ) -> None:
        topic = f"dropping/{slug}"
        with kind(site.server, topic) as client:
            pass
        site.say(topic, 0)
        with kind(site.server, topic, cursor=client.cursor) as client:
            assert client.next("stream-reset").data["reason"] == "not-resumable"
        assert client.all_numbers() == []

    # -- readers that leave ------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["leave", "cut", "cut while the server waits for it"])
    def test_the_server_sees_that_a_client_left(
        self, site: Site, kind: type[Client], slug: str, how: str
    ) -> None:
        topic = f"kept/{slug}"
        client = kind(site.server, topic, buffer=SMALL_BUFFER)
        client.begin_to_wait()
        if not kind.keeps_open:
            client.cut()
            assert site.hooks(topic) == {"subscribed": 0, "unsubscribed": 0}
            return
        deadline = time.monotonic() + 20
        while site.hooks(topic)["subscribed"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if "while" in how:
            site.say(topic, 0, MANY, size=EVENT)
        (client.leave if how == "leave" else client.cut)()
        site.wait_until_unsubscribed(topic, 1)

    # -- slow readers, and each rule of overflow ---------------------------------------------------

    def test_replay_slow_readers_cost_a_constant_and_miss_nothing(
        self, site: Site, slug: str
    ) -> None:
        topic, batch, total = f"kept/{slug}", 20, 420
        with contextlib.ExitStack() as stack:
            quick = stack.enter_context(SSEClient(site.server, topic))
            slow = [
                stack.enter_context(kind(site.server, topic, buffer=SMALL_BUFFER))
                for kind in CLIENTS
            ]
            for client in slow:
                client.begin_to_wait()
            site.say(topic, 0, batch, size=EVENT)
            assert quick.numbers(batch) == list(range(batch))
            before = site.server.rss_kb()
            for first in range(batch, total, batch):
                for client in slow:
                    client.show_life()
                site.say(topic, first, batch, size=EVENT)
                assert quick.numbers(batch) == list(range(first, first + batch))
            # What publishing itself takes varies by 10 MB.
            grown = site.server.rss_kb() - before
            assert grown < 15_000, f"{grown} kB; 26 MB were published meanwhile"
            for client in slow:
                client.hurry()
                for other in slow:
                    other.show_life()
                assert client.numbers(total) == list(range(total))

    @pytest.mark.parametrize("rule", ["strict", "hurried"])
    def test_disconnect_a_slow_reader_has_to_come_back(
        self, site: Site, kind: type[Client], slug: str, rule: str
    ) -> None:
        topic = f"{rule}/{slug}"
        with kind(site.server, topic, buffer=SMALL_BUFFER) as slow:
            slow.begin_to_wait()
            for first in range(0, MANY, 10):
                site.say(topic, first, 10, size=EVENT)
            slow.hurry()
            if is_streaming(kind):
                assert slow.read_to_the_end().code in self.closed_with(kind, 4002)
                assert len(slow.all_numbers()) < MANY, "it was not slow: this run proves nothing"
            elif rule == "strict":
                slow.numbers(MANY)
            else:
                slow.next("stream-reset")
        numbers = slow.all_numbers()
        assert numbers == list(range(len(numbers)))
        with kind(site.server, topic, cursor=slow.cursor) as back:
            if rule == "strict":
                rest = MANY - len(numbers)
                assert back.numbers(rest) == list(range(len(numbers), MANY))
            else:
                assert back.next("stream-reset", "counted").data["reason"] == "not-resumable"

    def test_drop_a_slow_reader_is_told_of_the_loss_and_gets_the_newest(
        self, site: Site, kind: type[Client], slug: str
    ) -> None:
        topic = f"dropping/{slug}"
        with kind(site.server, topic, buffer=SMALL_BUFFER) as slow:
            slow.begin_to_wait()
            for first in range(0, MANY, 10):
                site.say(topic, first, 10, size=EVENT)
            slow.hurry()
            reset = slow.next("stream-reset")
            assert reset.data["reason"] == ("overflow" if is_streaming(kind) else "not-resumable")
            if is_streaming(kind):
                slow.wait_for(lambda h: h.event == "counted" and h.data["n"] == MANY - 1)
        numbers = slow.all_numbers()
        assert numbers == sorted(set(numbers))
        assert len(numbers) < MANY, "it was not slow: this run proves nothing"

    def test_conflate_a_slow_reader_gets_the_newest_of_each_thing(
        self, site: Site, kind: type[Client], slug: str
    ) -> None:
        topic, things = f"conflating/{slug}", 3
        with kind(site.server, topic, buffer=SMALL_BUFFER) as slow:
            slow.begin_to_wait()
            for first in range(0, MANY, 10):
                site.say(topic, first, 10, size=EVENT, keys=things)
            slow.hurry()
            if is_streaming(kind):
                slow.wait_for(lambda h: h.event == "counted" and h.data["n"] == MANY - 1)
                assert slow.all_numbers()[-things:] == list(range(MANY - things, MANY))
                assert not [h for h in slow.heard if h.event == "stream-reset"]
            else:
                assert slow.next("stream-reset").data["reason"] == "not-resumable"
        numbers = slow.all_numbers()
        assert numbers == sorted(set(numbers))
        assert len(numbers) < MANY, "it was not slow: this run proves nothing"

    # -- several who want to write -----------------------------------------------------------------

    def test_keep_alives_events_and_the_end_while_a_send_waits(self, site: Site, slug: str) -> None:
        """Each frame is whole and in its place (the clients refuse anything else), and the end is the
        end; who comes back gets the rest."""
        topic, watched, total = f"kept/{slug}", f"kept/{slug}-quiet", MANY + 50
        with contextlib.ExitStack() as stack:
            clock = stack.enter_context(SSEClient(site.server, watched))
            slow = [
                stack.enter_context(kind(site.server, topic, watched, buffer=SMALL_BUFFER))
                for kind in CLIENTS
            ]
            for client in slow:
                client.begin_to_wait()
            site.say(topic, 0, MANY, size=EVENT)
            for _ in range(2):  # the server's own beat: it wanted to write to the slow ones as well
                for client in slow:
                    client.show_life()
                clock.next("keep-alive")
            talking = threading.Thread(target=site.say, args=(topic, MANY, 50))
            talking.start()
            site.end(topic)
            talking.join()
            with ThreadPoolExecutor() as pool:
                list(pool.map(partial(self._read_to_the_end, total=total), slow))
        for client in slow:
            numbers = client.all_numbers()
            assert numbers == list(range(len(numbers)))
            with type(client)(site.server, topic, cursor=client.cursor) as back:
                rest = total - len(numbers)
                assert back.numbers(rest) == list(range(len(numbers), total))

    def _read_to_the_end(self, client: Client, total: int) -> None:
        client.hurry()
        if not is_streaming(type(client)):
            client.numbers(total)
            return
        ended = client.read_to_the_end()
        assert ended.code in self.closed_with(type(client), 4200)
        assert ended.is_clean or type(client) is WebSocketClient

    def test_an_end_comes_while_a_poll_is_held(self, site: Site, slug: str) -> None:
        topic = f"kept/{slug}"
        with LongPollClient(site.server, topic) as client:
            client.begin_to_wait()
            deadline = time.monotonic() + 20
            while site.hooks(topic)["subscribed"] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            both = [
                threading.Thread(target=site.say, args=(topic, 0, 5)),
                threading.Thread(target=site.end, args=(topic,)),
            ]
            for thread in both:
                thread.start()
            client.receive(time.monotonic() + 20)
            for thread in both:
                thread.join()
            cursor, heard = client.cursor, client.all_numbers()
        with LongPollClient(site.server, topic, cursor=cursor) as client:
            assert heard + client.numbers(5 - len(heard)) == [0, 1, 2, 3, 4]

    def test_an_end_does_not_wait_for_ever_for_a_client_that_reads_nothing(
        self, site: Site, slug: str
    ) -> None:
        topic = f"kept/{slug}"
        before = _settled_files(site.server)
        clients = [kind(site.server, topic, buffer=SMALL_BUFFER) for kind in STREAMING]
        site.say(topic, 0, MANY, size=EVENT)
        # Ended once a write waits: what the kernel has taken whole needs no cutting off.
        if self.cuts_off:
            with SSEClient(site.server, f"{topic}-quiet") as clock:
                for _ in range(2):
                    clock.next("keep-alive")
        site.end(topic)
        if not self.cuts_off:  # it keeps the socket as long as the client does, and no longer
            for client in clients:
                client.cut()
        deadline = time.monotonic() + 45
        while site.server.open_files() > before:
            assert time.monotonic() < deadline, "the connections are still open"
            time.sleep(0.05)
        if self.cuts_off:
            for client in clients:
                client.cut()


def _settled_files(server: Server) -> int:
    """Open files, once what other tests left behind is closed."""
    lowest, until = server.open_files(), time.monotonic() + 1
    while time.monotonic() < until:
        time.sleep(0.05)
        if server.open_files() < lowest:
            lowest, until = server.open_files(), time.monotonic() + 1
    return lowest
