"""How the stores talk to Redis, with a plain thread's client or an event loop's.

What is said is a plan: a generator that yields commands, gets their replies, and returns its result.
Plans do no input or output, so each is written once and run by ``run`` or ``arun``.

Must keep true: a caller of ``publish()`` waits no longer than it is allowed; a command whose reply was lost is sent
again only where a second time does nothing that the first one did; connections belong to one process
and to one event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from redis import BlockingConnectionPool
from redis.asyncio import BlockingConnectionPool as AsyncBlockingConnectionPool
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from ..conf import SETTING, live_settings
from ..core.allowance import allowance
from ..core.interruptions import raise_interruption
from ..exceptions import StoreError

TIMEOUT = 0.9
"""Seconds for connecting, and for each reply. ``?socket_timeout=3`` in the URL changes it."""
SHORTEST = 0.05
"""Seconds for an answer of a connection whose making took all that was allowed."""
POOL_SIZE = 50
POOL_WAIT = 0.5
"""Seconds that one waits for a connection when all are in use. redis-py's usual pool would raise."""

T = TypeVar("T")
Words = tuple[Any, ...]
"""A command as it goes over the wire: texts, bytes and numbers."""


class Command(NamedTuple):
    """One command of a plan."""

    words: Words
    again: Words | None = None
    """What to send when the connection broke before the reply came; None: nothing, for it may have
    been done."""
    source: str = ""
    """The script, for a Redis that does not have it yet."""

    def with_source(self) -> Words:
        """The same call of a script, which Redis keeps from then on."""
        return ("EVAL", self.source, *self.words[2:])


Plan = Generator[Sequence[Command], list[Any], T]


def repeatable(*words: Any) -> Command:
    """A command that may be sent again."""
    return Command(words, again=words)


class Script:
    """A Lua script, made of files in ``lua/``. Redis runs it as a whole or not at all."""

    def __init__(self, *files: str) -> None:
        folder = Path(__file__).parent / "lua"
        self.source = "\n".join((folder / f"{file}.lua").read_text("utf-8") for file in files)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def words(self, keys: Sequence[str], *arguments: Any) -> Words:
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def once(self, keys: Sequence[str], *arguments: Any) -> Command:
        """A call that is never sent twice."""
        return Command(self.words(keys, *arguments), source=self.source)

    def repeatable(self, keys: Sequence[str], *arguments: Any) -> Command:
        """A call that may be sent again."""
        words = self.words(keys, *arguments)
        return Command(words, again=words, source=self.source)


_PoolsByLoop = dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[Any, None]]]


class _Pools:
    """The connections of one process."""

    def __init__(self, process: int, for_threads: Any) -> None:
        self.process = process
        self.for_threads = for_threads
        self.by_loop: _PoolsByLoop = {}


class RedisClient:
    """Runs plans against ``DJANGO_LIVE["REDIS_URL"]``. One per store and process."""

    def __init__(self) -> None:
        url = live_settings().REDIS_URL
        if not url:
            raise ImproperlyConfigured(
                f'{SETTING}["STORE"] is "redis", so {SETTING}["REDIS_URL"] has to name the server: '
                '"redis://localhost:6379/0".'
            )
        self.url = url
        self.prefix = live_settings().REDIS_PREFIX
        self._pools: _Pools | None = None

    def run(self, plan: Plan[T]) -> T:
        """From a plain thread."""
        talk = _talk(plan, self.url)
        try:
            batch = next(talk)
            while True:
                try:
                    replies = self._exchange(batch)
                except (RedisError, OSError) as error:
                    raise_interruption(error)
                    batch = talk.throw(error)
                else:
                    batch = talk.send(replies)
        except StopIteration as end:
            result: T = end.value
            return result

    async def arun(self, plan: Plan[T]) -> T:
        """From an event loop."""
        talk = _talk(plan, self.url)
        try:
            batch = next(talk)
            while True:
                try:
                    with _no_cancel_lost():
                        replies = await self._aexchange(batch)
                except (RedisError, OSError) as error:
                    batch = talk.throw(error)
                else:
                    batch = talk.send(replies)
        except StopIteration as end:
            result: T = end.value
            return result

    def is_of_cluster(self) -> bool:
        """Whether the server belongs to a cluster; False also where it does not answer. From a plain
        thread; ends the connections of this client."""

        def ask() -> Plan[bytes]:
            (reply,) = yield [repeatable("INFO", "cluster")]
            return bytes(reply)

        try:
            return b"cluster_enabled:1" in self.run(ask())
        except StoreError:
            return False
        finally:
            self._pools_of_process().for_threads.disconnect()

    # -- one round trip ----------------------------------------------------------------------------

    def _exchange(self, batch: Sequence[Words]) -> list[Any]:
        """Takes no longer than its caller may wait, more or less; and longer, where the URL gives more
        to an answer than is usual."""
        allowed = allowance()
        pool = self._pools_of_process().for_threads
        seconds = allowed.of_log + max(pool.connection_kwargs["socket_timeout"] - TIMEOUT, 0.0)
        if not seconds:
            raise RedisTimeoutError("it is not asked again: a moment ago it did not answer")
        with allowed.asking_log():
            return _exchange_over(pool, batch, seconds)

    async def _aexchange(self, batch: Sequence[Words]) -> list[Any]:
        pool = await self._pool_of_loop()
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(_packed(batch), check_health=False)
            replies: list[Any] = []
            for _ in batch:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        else:
            return replies
        finally:
            await pool.release(connection)

    # -- connections -------------------------------------------------------------------------------

    def _pools_of_process(self) -> _Pools:
        pools = self._pools
        if pools is None or pools.process != os.getpid():
            # A forked child shares no connection with its parent: each would read the other's replies.
            # No lock, which the fork may have copied locked: of two threads that come first one
            # throws its pool away.
            pools = self._pools = _Pools(
                os.getpid(),
                BlockingConnectionPool.from_url(self.url, retry=Retry(NoBackoff(), 0), **_OPTIONS),
            )
        return pools

    async def _pool_of_loop(self) -> Any:
        by_loop = self._pools_of_process().by_loop
        loop = asyncio.get_running_loop()
        if loop not in by_loop:
            for other in [other for other in by_loop if other.is_closed()]:
                by_loop.pop(other, None)
            keeper = self._keep_pool(loop, by_loop)
            by_loop[loop] = (await anext(keeper), keeper)
        return by_loop[loop][0]

    async def _keep_pool(
        self, loop: asyncio.AbstractEventLoop, by_loop: _PoolsByLoop
    ) -> AsyncGenerator[Any, None]:
        """A pool that is closed with its loop: a loop that ends closes the generators that were
        begun in it, and after that no connection could be closed any more."""
        pool = AsyncBlockingConnectionPool.from_url(
            self.url, retry=AsyncRetry(NoBackoff(), 0), **_OPTIONS
        )
        try:
            yield pool
        finally:
            by_loop.pop(loop, None)
            await pool.disconnect()


_OPTIONS: dict[str, Any] = {
    "max_connections": POOL_SIZE,
    "timeout": POOL_WAIT,
    "socket_timeout": TIMEOUT,
    "socket_connect_timeout": TIMEOUT,
    "health_check_interval": 0,
    # Retries of redis-py's own would append an event twice.
    "retry_on_timeout": False,
    "protocol": 2,
}


@contextmanager
def _no_cancel_lost() -> Iterator[None]:
    """redis-py sends with ``asyncio.wait_for()``, which before Python 3.12 loses a cancel that comes when
    all is sent: a task that was cancelled would go on for ever."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def _exchange_over(pool: Any, batch: Sequence[Words], seconds: float) -> list[Any]:
    began = time.monotonic()
    connection = pool.get_connection()
    try:
        _wait_at_most(connection, seconds - (time.monotonic() - began))
        connection.send_packed_command(_packed(batch), check_health=False)
        replies: list[Any] = []
        for _ in batch:
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
        _wait_at_most(connection, inf)
    except BaseException:
        # Replies that nobody read would be taken for those of the next command.
        connection.disconnect()
        raise
    else:
        return replies
    finally:
        pool.release(connection)


def _wait_at_most(connection: Any, seconds: float) -> None:
    """For each answer; less than its pool says, or as long as that."""
    usual = connection.socket_timeout
    # Not by an argument of read_response(): redis-py 5 has none.
    seconds = usual if seconds >= usual else max(seconds, SHORTEST)
    connection._sock.settimeout(seconds)  # noqa: SLF001


def _packed(batch: Sequence[Words]) -> list[bytes]:
    """As it goes over the wire. redis-py's own takes twice as long, and heads are many commands."""
    parts: list[bytes] = []
    for words in batch:
        parts.append(b"*%d\r\n" % len(words))
        for word in words:
            raw = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return [b"".join(parts)]


def _talk(plan: Plan[T], url: str) -> Generator[list[Words], list[Any], T]:
    """A plan with what goes wrong on the way: yields what to send, is sent or thrown what came."""
    try:
        commands = next(plan)
        while True:
            try:
                replies = yield from _answers(commands)
            except (RedisError, OSError) as error:
                raise store_error(error, url) from error
            commands = plan.send(replies)
    except StopIteration as end:
        result: T = end.value
        return result


def _answers(commands: Sequence[Command]) -> Generator[list[Words], list[Any], list[Any]]:
    try:
        replies = yield [command.words for command in commands]
    except RedisConnectionError as error:
        again = [command.again for command in commands if command.again is not None]
        if isinstance(error, AuthenticationError) or len(again) < len(commands):
            raise
        replies = yield again
    unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        found = yield [commands[place].with_source() for place in unknown]
        for place, reply in zip(unknown, found, strict=True):
            replies[place] = reply
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return replies


def store_error(error: Exception, url: str) -> StoreError:
    """What went wrong, and what to do about it. Without the URL's password."""
    parts = urlsplit(url)
    where = f"Redis at {parts.hostname or parts.path}:{parts.port or 6379}"
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return StoreError(f"{where} {sentence} ({error})")
    return StoreError(f"{where} refused: {error}")


_SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, 'does not let us in: check user and password in "REDIS_URL".'),
    (BusyLoadingError, "is still loading its data: try again when it has."),
    (OutOfMemoryError, "has no memory left: give it more, or let topics keep less history."),
    (
        MovedError,
        (
            "is one server of a cluster, and a cluster cannot be the store: let "
            '"REDIS_URL" name a server of its own.'
        ),
    ),
    (ReadOnlyError, 'is a replica: let "REDIS_URL" name the primary.'),
    (
        RedisTimeoutError,
        (
            "did not answer in time; what was asked may have been done. See whether it is "
            'overloaded, or allow it more with "?socket_timeout=3" in "REDIS_URL".'
        ),
    ),
    (RedisConnectionError, 'cannot be reached: see whether it runs and "REDIS_URL" is right.'),
    (OSError, 'cannot be reached: see whether it runs and "REDIS_URL" is right.'),
)
