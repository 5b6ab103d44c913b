"""What a test needs from the machine: `@requires("chromium")`, or `require("chromium")` in a fixture.

Where it is missing, the test is left out; LIVE_REQUIRE says what may not be: names separated by
commas, or `all`. `left_out` is the pytest plugin that sees to both.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import pytest

from tests.support import chromium, mariadb_url, postgres_cluster, postgres_url, pushpin

REQUIRE = "LIVE_REQUIRE"
EVERYTHING = "all"


@dataclass(frozen=True)
class Requirement:
    """`is_there` looks for it; `remedy` tells a newcomer how to get it."""

    title: str
    remedy: str
    is_there: Callable[[], bool]

    @property
    def missing(self) -> str:
        """The reason of a test that is left out."""
        return f"{self.title} is missing ({self.remedy})"


def _has_postgresql() -> bool:
    if importlib.util.find_spec("psycopg") is None:
        return False
    import psycopg

    server = postgres_url.PostgresServer.from_environment()
    try:
        psycopg.connect(server.url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _has_mariadb() -> bool:
    if not mariadb_url.has_driver():
        return False
    mariadb_url.install_driver()
    import MySQLdb

    try:
        with mariadb_url.MariadbServer.from_environment().cursor() as cursor:
            cursor.execute("SELECT 1")
    except MySQLdb.OperationalError:
        return False
    return True


def redis_url() -> str:
    """The Redis server that LIVE_TEST_REDIS names, or the usual one of this machine."""
    return os.environ.get("LIVE_TEST_REDIS") or "redis://127.0.0.1:6379/0"


def _has_redis() -> bool:
    parts = urlsplit(redis_url())
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 6379), 2) as connection:
            connection.settimeout(2)
            connection.sendall(b"PING\r\n")
            # A server that wants a password answers -NOAUTH: it is there.
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def nginx_program() -> str | None:
    """nginx, also where only root has its folder on the path."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _has_packages() -> bool:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
    command += ["--ignore-installed", "--disable-pip-version-check", "--retries=0", "--timeout=5"]
    return subprocess.run([*command, "sqlparse"], check=False, capture_output=True).returncode == 0


REQUIREMENTS = {
    "chromium": Requirement(
        "Chromium",
        "install the package `chromium`, or name a browser in LIVE_CHROMIUM",
        lambda: chromium.find_chromium() is not None,
    ),
    "postgresql": Requirement(
        "PostgreSQL",
        "start a server, and name it in LIVE_TEST_POSTGRES=postgresql://user:password@host:port/",
        _has_postgresql,
    ),
    "mariadb": Requirement(
        "MariaDB",
        "start a server, and name it in LIVE_TEST_MARIADB=mysql://user:password@host:port/",
        _has_mariadb,
    ),
    "redis": Requirement(
        "Redis",
        "start a server, and name it in LIVE_TEST_REDIS=redis://host:port/0",
        _has_redis,
    ),
    "redis-server": Requirement(
        "the program redis-server",
        "install the package `redis-server`; it need not run",
        lambda: shutil.which("redis-server") is not None,
    ),
    "postgresql-programs": Requirement(
        "PostgreSQL's own programs (initdb, pg_ctl)",
        "install the package `postgresql`; it need not run",
        lambda: postgres_cluster.programs() is not None,
    ),
    "packages": Requirement(
        "a place to install packages from",
        "pip reaches no package index: go online, or tell pip where to look (PIP_FIND_LINKS)",
        _has_packages,
    ),
    "nginx": Requirement(
        "the program nginx",
        "install the package `nginx`; it need not run",
        lambda: nginx_program() is not None,
    ),
    "pushpin": Requirement(
        "the programs pushpin and zurl",
        "install the package `pushpin`; it need not run",
        pushpin.is_there,
    ),
    "npm": Requirement(
        "npm",
        "install Node.js 20 or later",
        lambda: shutil.which("npm") is not None,
    ),
}


@cache
def is_available(name: str) -> bool:
    """Whether the machine has it; looked up once per process."""
    return REQUIREMENTS[name].is_there()


def requires(*names: str) -> pytest.MarkDecorator:
    """Mark a test, a class, or (as `pytestmark`) a module. Raises KeyError for an unknown name."""
    for name in names:
        REQUIREMENTS[name]
    return pytest.mark.requires(*names)


def require(name: str) -> None:
    """The same from inside a fixture or a test: leaves the test out, or fails it."""
    requirement = REQUIREMENTS[name]
    if is_available(name):
        return
    if may_be_left_out(name):
        pytest.skip(requirement.missing)
    pytest.fail(refusal(requirement.missing), pytrace=False)


def demanded() -> frozenset[str]:
    """The names in LIVE_REQUIRE."""
    return frozenset(filter(None, (name.strip() for name in setting().split(","))))


def may_be_left_out(name: str) -> bool:
    """Whether LIVE_REQUIRE lets a test go that needs this."""
    return not demanded() & {name, EVERYTHING}


def setting() -> str:
    """LIVE_REQUIRE as it stands."""
    return os.environ.get(REQUIRE, "")


def refusal(reason: str) -> str:
    """Why a test that could not run is a failure."""
    return f"left out, and {REQUIRE}={setting()} forbids that: {reason}"
