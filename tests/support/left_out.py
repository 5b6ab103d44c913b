"""Nothing is left out in silence: a pytest plugin.

A test that misses what it `requires` is left out, and the run's last lines name everything that was,
plain skips included. Under LIVE_REQUIRE=all each of them is a failure; CI runs so.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest

from tests.support.requirements import (
    EVERYTHING,
    REQUIRE,
    REQUIREMENTS,
    demanded,
    refusal,
    require,
)

# Said by whoever started pytest: things outside it that were left out, one per line.
LEFT_OUT = "LIVE_LEFT_OUT"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; refuse a LIVE_REQUIRE that would demand nothing by a slip of the pen."""
    config.addinivalue_line("markers", "requires(*names): what the machine must have for this test")
    unknown = demanded() - {EVERYTHING, *REQUIREMENTS}
    if unknown:
        known = ", ".join([EVERYTHING, *REQUIREMENTS])
        raise pytest.UsageError(f"{REQUIRE} names {', '.join(sorted(unknown))}; known are: {known}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for what the test needs before any of its fixtures is made."""
    for marker in item.iter_markers("requires"):
        for name in marker.args:
            require(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under LIVE_REQUIRE=all a skipped test is a failed one."""
    report = yield
    _refuse_a_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for whole modules that skip themselves while they are imported."""
    report = yield
    _refuse_a_skip(report)
    return report


def _refuse_a_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is reported as skipped too, but it ran.
    if report.skipped and not hasattr(report, "wasxfail") and EVERYTHING in demanded():
        reason = _reason(report)
        report.outcome = "failed"
        report.longrepr = refusal(reason)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out, one line per reason."""
    reports = terminalreporter.stats.get("skipped", [])
    tests = Counter(_reason(one) for one in reports if isinstance(one, pytest.TestReport))
    modules = Counter(_reason(one) for one in reports if isinstance(one, pytest.CollectReport))
    lines = [
        *(f"Left out: {_number(count, 'test')}: {why}" for why, count in tests.most_common()),
        *(f"Left out: {_number(count, 'module')}: {why}" for why, count in modules.most_common()),
        *(f"Left out: {line}" for line in os.environ.get(LEFT_OUT, "").splitlines() if line),
    ]
    if not lines:
        return
    terminalreporter.section("left out", yellow=True)
    for line in lines:
        terminalreporter.write_line(line, yellow=True)
    terminalreporter.write_line(f"{REQUIRE}=all makes each of these a failure.")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
