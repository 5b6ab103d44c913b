"""Beside station 7: asking every process, and collecting what they tell within a bounded time.

Each event loop enrols in a map of the shared state and renews that every few seconds; so one that died
is missed for a while, and then forgotten. A question is a command as any other (``control``): it goes
over the bus, and a process that the bus does not reach finds it in the log within a second. Answers are
left in the shared state, where whoever asks collects them: a command or a WSGI process has no loop that
could listen.

Must keep true: asking takes no longer than was allowed, and says who did not answer; a question changes
nothing, and an answer that nobody collects is gone by itself.
"""

from __future__ import annotations

import base64
import heapq
import json
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..conf import live_settings
from ..exceptions import InvalidTopic, StoreError, UnknownTopic
from .allowance import Allowance
from .control import QUESTION, ControlTopic
from .facts import Facts, Row
from .hooks import hook_threads, in_thread
from .hub import Hub
from .log import get_log
from .publishing import publish
from .records import record
from .state import SharedState, get_state
from .topics import as_topic

PROCESSES = "django_live/processes"
ANSWERS = "django_live/answers/"
ENROL_EVERY = 5.0
ENROLLED_FOR = 15.0
"""Seconds after which a process that renews no more is not waited for."""
PATIENCE = 0.75
"""Seconds that an answer may take. Processes that no layer reaches look for questions every
``COMMANDS_CHECK`` seconds (``runtime``)."""
SEND_PATIENCE = 0.1
"""Seconds that who asks waits for a layer that takes nothing: the question is in the log."""
KEPT = 15.0
"""Seconds for which an answer waits to be collected."""
CHUNK = 200_000
"""Characters of an answer in one entry of the map. A longer one is packed: ten thousand rows are 3 MB, and
took PostgreSQL half a second to write."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.1


class Process(NamedTuple):
    """An event loop that has enrolled."""

    id: str
    host: str = ""
    pid: int = 0
    started: float = 0.0
    version: str = ""
    """Of django_live."""
    release: str = ""
    """``DJANGO_LIVE["RELEASE"]``: what the project says that it runs."""


@dataclass
class Survey:
    """What came back: an answer by process, and who is missing."""

    processes: dict[str, Process] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[Process] = field(default_factory=list)
    took: float = 0.0

    def total(self, name: str) -> int:
        """The sum of a number that every process tells."""
        return sum(int(answer.get(name, 0)) for answer in self.answers.values())


# -- in each process -------------------------------------------------------------------------------


class Witness:
    """Enrols an event loop, and answers for it."""

    def __init__(self, process: str, hub: Hub, is_leaving: Callable[[], bool]) -> None:
        self.facts = Facts(process, hub)
        self._process = process
        self._is_leaving = is_leaving
        self._enrolled = False

    async def enrol(self) -> None:
        """Say that this process is there, again and again."""
        self.facts.look()
        state = _state()
        if state is None:
            return
        if self._enrolled:
            gone = await state.arenew({PROCESSES: [self._process]}, ENROLLED_FOR)
            self._enrolled = self._process not in gone.get(PROCESSES, ())
        if not self._enrolled:
            host, pid, _ = self._process.rsplit(" ", 2)
            told = {
                "host": host,
                "pid": int(pid),
                "started": self.facts.started,
                "version": import_string("django_live.__version__"),
                "release": live_settings().RELEASE,
            }
            await state.aset(PROCESSES, {self._process: json.dumps(told)}, ttl=ENROLLED_FOR)
            self._enrolled = True

    async def leave(self) -> None:
        """Nobody need wait for this process any more."""
        state = _state()
        if self._enrolled and state is not None:
            with suppress(Exception):  # it expires
                await state.adelete(PROCESSES, [self._process])

    async def answer(self, question: Mapping[str, Any]) -> None:
        """Leave an answer for whoever asked."""
        state = _state()
        if state is None or time.time() > float(question.get("until", 0)) + KEPT:
            return
        wanted = question.get("processes")
        if wanted is not None and self._process not in wanted:
            return
        told = await self.facts.answer(str(question["kind"]), question.get("options", {}))
        text = _packed(json.dumps({**told, "draining": self._is_leaving()}))
        parts = [text[place : place + CHUNK] for place in range(0, len(text), CHUNK)]
        entries = {f"{n}/{len(parts)} {self._process}": part for n, part in enumerate(parts)}
        await state.aset(f"{ANSWERS}{question['id']}", entries, ttl=KEPT)


def _state() -> SharedState | None:
    try:
        return get_state()
    except ImproperlyConfigured:  # a store of the project's own, without a state
        return None


# -- who asks --------------------------------------------------------------------------------------


def processes() -> dict[str, Process]:
    """Who has enrolled, by id, the oldest first. From a plain thread."""
    found = [
        Process(id=id, **json.loads(entry.value))
        for id, entry in get_state().items(PROCESSES).entries.items()
    ]
    return {process.id: process for process in sorted(found, key=lambda p: (p.started, p.id))}


def ask(
    kind: str,
    options: Mapping[str, Any] | None = None,
    *,
    of: Sequence[str] | None = None,
    within: float | None = None,
) -> Survey:
    """Ask every process, or those ``of`` these ids, and wait at most ``within`` seconds.

    ``kind`` is one of those in ``Facts.answer``. From a plain thread, outside of a transaction: what is
    asked inside of one would be heard after its commit. Raises ``StoreError`` there, and when the store
    cannot be asked; ``ImproperlyConfigured`` for a store without a shared state.
    """
    began = time.monotonic()
    known = processes()
    if of is not None:
        known = {id: process for id, process in known.items() if id in of}
    survey = Survey(known)
    if not known:
        return survey
    seconds = PATIENCE if within is None else within
    id = secrets.token_hex(8)
    question = {
        "id": id,
        "kind": kind,
        "options": dict(options or {}),
        "until": time.time() + seconds,
    }
    if of is not None:
        question["processes"] = list(known)
    with Allowance(for_layer=SEND_PATIENCE).in_force():
        publish(ControlTopic(), QUESTION, question, on_commit=False)
    survey.answers = _collected(id, known.keys(), began + seconds)
    survey.missing = [process for one, process in known.items() if one not in survey.answers]
    survey.took = time.monotonic() - began
    for process in survey.missing:
        record("process.missing", process=process.id)
    return survey


async def aask(kind: str, options: Mapping[str, Any] | None = None, **how: Any) -> Survey:
    """``ask()`` for async callers; the same arguments and errors."""
    return await in_thread(hook_threads(), lambda: ask(kind, options, **how))


def _collected(id: str, wanted: Iterable[str], until: float) -> dict[str, dict[str, Any]]:
    state, name = get_state(), f"{ANSWERS}{id}"
    pause = FIRST_PAUSE
    while True:
        entries = state.items(name).entries
        answers = _answers({key: entry.value for key, entry in entries.items()})
        left = until - time.monotonic()
        if left <= 0 or all(process in answers for process in wanted):
            break
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)
    if entries:
        with suppress(StoreError):
            state.delete(name, list(entries))
    return answers


def _answers(entries: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By process its answer, put together of its parts: all of them are set at once."""
    parts: dict[str, dict[int, str]] = {}
    for key, text in entries.items():
        place, _, process = key.partition(" ")
        parts.setdefault(process, {})[int(place.partition("/")[0])] = text
    return {
        process: json.loads(_unpacked("".join(own[n] for n in sorted(own))))
        for process, own in parts.items()
    }


def _packed(text: str) -> str:
    """The same, shorter where it is long: the values of a map are text."""
    if len(text) <= CHUNK:
        return text
    return base64.b64encode(zlib.compress(text.encode(), level=1)).decode("ascii")


def _unpacked(text: str) -> str:
    return text if text.startswith("{") else zlib.decompress(base64.b64decode(text)).decode()


# -- connections of all processes ------------------------------------------------------------------


@dataclass
class Page:
    """Some connections of all processes, in one order."""

    survey: Survey
    rows: list[Row]
    next: tuple[float, str] | None
    """Hand it over as ``after`` for those that follow; None: these were the last."""

    @property
    def total(self) -> int:
        return self.survey.total("total")

    @property
    def matching(self) -> int:
        return self.survey.total("matching")


def connections(
    *,
    limit: int = 100,
    after: tuple[float, str] | None = None,
    order: str = "since",
    descending: bool = True,
    within: float | None = None,
    **filters: Any,
) -> Page:
    """A page of the open connections of all processes; errors as ``ask()``.

    ``order``: "since", "active", "unsent" or "lag". Filters: ``user`` (primary key), ``transport``,
    ``topic`` (name), ``address``, ``id``; ``text`` is looked for in all of these, and ``users`` are keys
    whose connections match it, too. Each process sorts and filters its own, and sends a page at most.
    """
    options = {"limit": limit, "after": after, "order": order, "descending": descending, **filters}
    survey = ask("connections", options, within=within)
    lists: list[list[Row]] = []
    bounds: list[tuple[float, str]] = []
    for process, answer in survey.answers.items():
        rows = [{**row, "process": process} for row in answer.get("rows", ())]
        lists.append(rows)
        if answer.get("cut") and rows:
            bounds.append(_key(rows[-1]))
    merged: Iterator[Row] = heapq.merge(*lists, key=_key, reverse=descending)
    # Beyond where one process had to stop, others' rows would leave a hole.
    bound = (max(bounds) if descending else min(bounds)) if bounds else None
    page: list[Row] = []
    for row in merged:
        beyond = bound is not None and (_key(row) < bound if descending else _key(row) > bound)
        if len(page) >= limit or beyond:
            return Page(survey, page, _key(page[-1]) if page else None)
        page.append(row)
    more = any(len(rows) >= limit for rows in lists) or bool(bounds)
    return Page(survey, page, _key(page[-1]) if more and page else None)


def _key(row: Row) -> tuple[float, str]:
    value, id = row["key"]
    return float(value), str(id)


# -- topics of all processes -----------------------------------------------------------------------


def topics(
    *, text: str = "", names: Sequence[str] | None = None, limit: int = 1000
) -> tuple[Survey, list[Row]]:
    """The topics that somebody listens to, the most subscribers first; errors as ``ask()``.

    A row has ``name``, ``namespace``, ``subscribers``, ``lagging``, ``rate`` and ``byte_rate`` (a second,
    of the last look), ``bytes`` since the first of them came; and ``last`` and ``kept`` of the log, None
    without history.
    """
    survey = ask("topics", {"text": text, "names": names, "limit": limit})
    merged: dict[tuple[str, str], Row] = {}
    for answer in survey.answers.values():
        for row in answer.get("rows", ()):
            known = merged.setdefault((row["namespace"], row["name"]), {**row, "subscribers": 0})
            if known["subscribers"]:
                known["lagging"] += row["lagging"]
            known["subscribers"] += row["subscribers"]
            # Every process hears every event of a topic: those are no others.
            for name in ("rate", "byte_rate", "bytes"):
                known[name] = max(known[name], row[name])
    rows = heapq.nlargest(limit, merged.values(), key=lambda row: row["subscribers"])
    with_heads(rows)
    return survey, rows


def with_heads(rows: Sequence[Row]) -> None:
    """Add to rows with ``name`` and ``namespace`` what the log says: ``last`` and ``kept``."""
    logged = {}
    for row in rows:
        row["last"] = row["kept"] = None
        with suppress(UnknownTopic, InvalidTopic):  # declared no longer
            topic = as_topic(row["name"], row["namespace"])
            if topic.history is not None:
                logged[topic.key] = (topic, row)
    heads = get_log().heads([topic for topic, _ in logged.values()]) if logged else {}
    for key, (_, row) in logged.items():
        row["last"], row["kept"] = heads[key].last, heads[key].last - heads[key].floor
