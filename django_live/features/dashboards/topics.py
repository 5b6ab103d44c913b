"""The four kinds of boards, as topics.

Each declared class gets two companions: ``@<n>/<pattern>``, the same board for viewers who want ``n``
updates a second, with the permissions of the board; and ``@news/<pattern>``, by which the processes
tell each other, and which no viewer may read.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Self, cast

from ...core.topics import History, Topic
from ...exceptions import InvalidTopic
from . import reading
from .holdings import Holding, LogHolding, MapHolding

RATE = "per_second"
NEWS = "news"


class Board(Topic):
    """Not declared itself: declare one of the four kinds. ``can_subscribe`` is what it is on any
    topic."""

    rate: ClassVar[int] = 5
    """Updates a second for viewers who ask for no other rate."""
    most_rate: ClassVar[int] = 20
    """Updates a second that nobody gets more of, and that a process writes at most."""
    kind: ClassVar[str]

    news_class: ClassVar[type[Topic]]
    _paced_class: ClassVar[type[Topic]]
    _board_class: ClassVar[type[Board]]
    """The declared class, of itself and its companion."""
    _is_companion: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if not 1 <= cls.rate <= cls.most_rate <= 100:
            raise InvalidTopic(f"{cls.__qualname__}: 1 ≤ rate ≤ most_rate ≤ 100 updates a second.")
        super().__init_subclass__(**kwargs)
        if "pattern" in cls.__dict__ and not cls._is_companion:
            if cls.history is not None or cls.overflow:
                raise InvalidTopic(
                    f"{cls.__qualname__} is a board: it needs no history or overflow."
                )
            cls._board_class = cls
            cls._paced_class = _companion(cls, f"@<int:{RATE}>/", cls, {"_is_companion": True})
            cls.news_class = _companion(
                cls, f"@{NEWS}/", Topic, {"history": cls._history_of_news()}
            )

    @classmethod
    def _history_of_news(cls) -> History | None:
        return None

    # -- the board, and its companions -------------------------------------------------------------

    @property
    def board(self) -> Board:
        """The board itself, at its own rate."""
        if not self._is_companion:
            return self
        parts = {name: value for name, value in self.kwargs.items() if name != RATE}
        return self._board_class(namespace=self.namespace, **parts)

    def at(self, rate: int) -> Board:
        """The board for viewers who want ``rate`` updates a second; ``most_rate`` is what they get at
        most."""
        board = self.board
        rate = max(1, min(rate, self.most_rate))
        if rate == self.rate:
            return board
        parts = {**board.kwargs, RATE: rate}
        return cast(Board, self._paced_class(namespace=self.namespace, **parts))

    @property
    def updates_per_second(self) -> int:
        """What the viewers of this topic get at most."""
        wanted: int = self.kwargs.get(RATE, self.rate)
        return max(1, min(wanted, self.most_rate))

    @property
    def news(self) -> Topic:
        """What the processes tell each other."""
        board = self.board
        return self.news_class(namespace=self.namespace, **board.kwargs)

    def within(self, namespace: str) -> Self:
        if namespace == self.namespace:
            return self
        return type(self)(namespace=namespace, **self.kwargs)

    async def snapshot(self) -> Any:
        return await reading.asnapshot(self)

    def holding(self) -> Holding:
        """Nothing yet; what one process is to know of the board."""
        raise NotImplementedError


class Latest(Board):
    """One value: anything that JSON can say."""

    kind = "latest"

    def holding(self) -> Holding:
        return MapHolding(self, single=True)


class Keyed(Board):
    """Rows by key. A row is a dict with the same names in each; one that a row lacks is shown empty."""

    kind = "keyed"
    most: ClassVar[int] = 10_000
    """Rows that it may have. More are refused with ``MapFull``."""

    def holding(self) -> Holding:
        return MapHolding(self)


class Window(Board):
    """The last points of some series. A point has a time and a number, or None, for each series."""

    kind = "window"
    points: ClassVar[int] = 600
    """How many it shows."""

    @classmethod
    def _history_of_news(cls) -> History | None:
        return History(events=cls.points, age=timedelta(days=7))

    def holding(self) -> Holding:
        return LogHolding(self, self.points)


class Lines(Board):
    """The last lines of a log, each with its time and level."""

    kind = "lines"
    lines: ClassVar[int] = 1_000
    """How many it shows."""

    @classmethod
    def _history_of_news(cls) -> History | None:
        return History(events=cls.lines, age=timedelta(days=7))

    def holding(self) -> Holding:
        return LogHolding(self, self.lines)


def _companion(
    board_class: type[Board], prefix: str, base: type[Topic], members: dict[str, Any]
) -> type[Topic]:
    members = {
        "pattern": prefix + board_class.pattern,
        "__module__": board_class.__module__,
        "__qualname__": f"{board_class.__qualname__} {prefix}",
        "__doc__": None,
        **members,
    }
    # A companion of a board has its permissions, and every method that they may call.
    return type(f"{board_class.__name__}Companion", (base,), members)
