"""Where the tests' MariaDB server is, read from one URL in the environment; and how to reach it.

The driver is mysqlclient where it is installed, which most projects use, and PyMySQL otherwise: that
one is plain Python, so that a fresh clone needs neither a compiler nor MariaDB's header files.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote, urlsplit

VARIABLE = "LIVE_TEST_MARIADB"
USUAL_SERVER = "mysql://root@127.0.0.1:3306/"


@dataclass(frozen=True)
class MariadbServer:
    """The parts of `mysql://user:password@host:port/`."""

    user: str
    password: str
    host: str
    port: str

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Raises ValueError when it is no such URL."""
        parts = urlsplit(url)
        if parts.scheme not in {"mysql", "mariadb"}:
            raise ValueError(f"{VARIABLE} should begin with mysql://")
        return cls(
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            host=unquote(parts.hostname or ""),
            port=str(parts.port or 3306),
        )

    @classmethod
    def from_environment(cls) -> Self:
        """The server that LIVE_TEST_MARIADB names, or the usual one of this machine."""
        return cls.from_url(os.environ.get(VARIABLE) or USUAL_SERVER)

    def django_settings(self, name: str, **options: Any) -> dict[str, Any]:
        """An entry of DATABASES."""
        install_driver()
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": name,
            "USER": self.user,
            "PASSWORD": self.password,
            "HOST": self.host,
            "PORT": self.port,
            "OPTIONS": {"charset": "utf8mb4", **options},
        }

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """For statements that no Django connection can make. Raises the driver's OperationalError."""
        install_driver()
        import MySQLdb

        connection = MySQLdb.connect(
            host=self.host,
            port=int(self.port),
            user=self.user,
            password=self.password,
            connect_timeout=2,
            autocommit=True,
        )
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


def has_driver() -> bool:
    """Whether one of the two is installed."""
    return any(importlib.util.find_spec(name) for name in ("MySQLdb", "pymysql"))


def install_driver() -> None:
    """Let PyMySQL stand for mysqlclient where that is missing."""
    try:
        import MySQLdb  # noqa: F401
    except ImportError:
        import pymysql

        pymysql.install_as_MySQLdb()
