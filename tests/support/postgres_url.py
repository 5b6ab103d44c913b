"""Where the tests' PostgreSQL server is, read from one URL in the environment."""

import os
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote, urlsplit

VARIABLE = "LIVE_TEST_POSTGRES"
USUAL_SERVER = "postgresql://postgres@127.0.0.1:5432/postgres"


@dataclass(frozen=True)
class PostgresServer:
    """The parts of `postgresql://user:password@host:port/database`."""

    user: str
    password: str
    host: str
    port: str
    database: str

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Raises ValueError when it is no PostgreSQL URL."""
        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "postgres"}:
            raise ValueError(f"{VARIABLE} should begin with postgresql://")
        return cls(
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            host=unquote(parts.hostname or ""),
            port=str(parts.port or ""),
            database=parts.path.lstrip("/") or "postgres",
        )

    @classmethod
    def from_environment(cls) -> Self:
        """The server that LIVE_TEST_POSTGRES names, or the usual one of this machine."""
        return cls.from_url(os.environ.get(VARIABLE) or USUAL_SERVER)

    @property
    def url(self) -> str:
        """The same as one string, as psycopg takes it."""
        password = f":{quote(self.password, safe='')}" if self.password else ""
        who = f"{quote(self.user, safe='')}{password}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"postgresql://{who}{self.host}{port}/{self.database}"
