"""Settings of the tests' own small site. The environment chooses what a run stands on.

========================  ========================================================================
LIVE_TEST_DATABASE        `sqlite` (the default: a file, so that threads and processes see it),
                          `sqlite-journal` (the same as Django makes it: a rollback journal instead
                          of WAL), `postgresql` or `mariadb`
LIVE_TEST_DATABASE_NAME   the database's name, or the SQLite file's path: for server processes that
                          share a database (`support/databases.py` sets it)
LIVE_TEST_POSTGRES        the PostgreSQL server, postgresql://user:password@host:port/database
LIVE_TEST_MARIADB         the MariaDB server, mysql://user:password@host:port/
LIVE_TEST_LAYER           a Redis URL: processes hear each other through it; without it there is no
                          channel layer
LIVE_TEST_DJANGO_LIVE     JSON: the dict DJANGO_LIVE, for server processes
LIVE_TEST_RUNSERVER       `1` installs daphne, whose runserver speaks ASGI (`support/servers.py`)
========================  ========================================================================
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tests.support.mariadb_url import MariadbServer
from tests.support.postgres_url import PostgresServer

TESTS_DIR = Path(__file__).resolve().parent

SECRET_KEY = "not a secret: these settings serve nobody but the tests"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_live",
    "django_live.notifications",
    "django_live.chat",
    "tests.testapp",
]
if os.environ.get("LIVE_TEST_RUNSERVER") == "1":
    INSTALLED_APPS.insert(0, "daphne")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def sqlite_database() -> dict[str, Any]:
    """A file, with the settings that the deployment guide tells SQLite users to set."""
    own_file = Path(tempfile.gettempdir()) / f"test_django_live_{os.getpid()}.sqlite3"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        # Without a name: for commands that want no database, as makemigrations.
        "NAME": os.environ.get("LIVE_TEST_DATABASE_NAME", ":memory:"),
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
        # An in-memory database would be another one in each thread.
        "TEST": {"NAME": str(own_file)},
    }


def sqlite_database_with_a_journal() -> dict[str, Any]:
    """A file as Django makes it when nothing is set: a rollback journal, deferred transactions. Only
    the time that writers wait is longer, so that a test fails for one reason only."""
    return {**sqlite_database(), "OPTIONS": {"timeout": 20}}


def postgresql_database() -> dict[str, Any]:
    """On the server that LIVE_TEST_POSTGRES names, or the usual one of this machine."""
    server = PostgresServer.from_environment()
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("LIVE_TEST_DATABASE_NAME", server.database),
        "USER": server.user,
        "PASSWORD": server.password,
        "HOST": server.host,
        "PORT": server.port,
        "TEST": {"NAME": f"test_django_live_{os.getpid()}"},
    }


def mariadb_database() -> dict[str, Any]:
    """On the server that LIVE_TEST_MARIADB names, or the usual one of this machine."""
    server = MariadbServer.from_environment()
    name = os.environ.get("LIVE_TEST_DATABASE_NAME", "")
    return {
        **server.django_settings(name),
        "TEST": {"NAME": f"test_django_live_{os.getpid()}", "CHARSET": "utf8mb4"},
    }


def chosen_database() -> dict[str, Any]:
    """What LIVE_TEST_DATABASE asks for."""
    choices = {
        "sqlite": sqlite_database,
        "sqlite-journal": sqlite_database_with_a_journal,
        "postgresql": postgresql_database,
        "mariadb": mariadb_database,
    }
    return choices[os.environ.get("LIVE_TEST_DATABASE", "sqlite")]()


DATABASES = {"default": chosen_database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if layer_url := os.environ.get("LIVE_TEST_LAYER"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": os.environ.get(
                "LIVE_TEST_LAYER_BACKEND", "channels_redis.pubsub.RedisPubSubChannelLayer"
            ),
            "CONFIG": {"hosts": [layer_url]},
        },
    }

DJANGO_LIVE: dict[str, Any] = {
    # Tests open hundreds of streams for one user at once.
    "MAX_CONNECTIONS_PER_USER": 10_000,
    "OPENING_RATE": 10_000,
    "OPENING_BURST": 10_000,
    **json.loads(os.environ.get("LIVE_TEST_DJANGO_LIVE", "{}")),
}

# Real hashers are slow on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
STATIC_URL = "static/"
MEDIA_ROOT = Path(tempfile.gettempdir()) / "test_django_live_media"
USE_TZ = True
