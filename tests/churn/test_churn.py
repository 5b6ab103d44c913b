"""A bounded part of what `make soak` does with a hundred thousand connections."""

from __future__ import annotations

from collections.abc import Callable

from tests.churn.run import churn
from tests.support.databases import ServerDatabase
from tests.support.servers import Server

NewDatabase = Callable[..., ServerDatabase]
StartServer = Callable[..., Server]

COUNT = 1_500
APPLICATION = "tests.churn.census:application"


def test_nothing_is_left_of_connections_that_have_gone(
    new_server_database: NewDatabase, start_server: StartServer
) -> None:
    server = start_server("uvicorn", APPLICATION, env=new_server_database("sqlite").env)
    report = churn(server, COUNT)
    print(report)  # noqa: T201 -- with `-s`
    assert not report.faults, report
    assert "Traceback" not in server.log(), server.log_tail()


def test_what_is_kept_of_each_is_found(
    new_server_database: NewDatabase, start_server: StartServer
) -> None:
    """The negative control: with so many that what they keep is twice what may be there late."""
    env = {**new_server_database("sqlite").env, "LIVE_TEST_LEAKS": "1"}
    report = churn(start_server("uvicorn", APPLICATION, env=env), 600)
    print(report)  # noqa: T201 -- with `-s`
    assert "objects" in report.faults
