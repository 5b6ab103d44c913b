"""A loop that only the test moves, a log, and processes that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from django_live.core.topics import TopicRegistry, registry
from tests.core.fakes import Process, ScriptedLog, SteppedLoop


@pytest.fixture
def stepped() -> Iterator[SteppedLoop]:
    loop = SteppedLoop()
    yield loop
    loop.end()
    assert not loop.failures


@pytest.fixture
def log() -> ScriptedLog:
    return ScriptedLog()


@pytest.fixture
def new_process(stepped: SteppedLoop, log: ScriptedLog) -> Iterator[Callable[[], Process]]:
    made: list[Process] = []

    def make() -> Process:
        made.append(Process(stepped, log))
        return made[-1]

    yield make
    for process in made:
        assert process.failures == []


@pytest.fixture
def process(new_process: Callable[[], Process]) -> Process:
    return new_process()


@pytest.fixture
def declared() -> Iterator[TopicRegistry]:
    """Topics that the test declares are forgotten after it."""
    with registry.isolated() as isolated:
        yield isolated
