"""Settings of the example project.

As ``startproject`` makes them, with three additions for live features: ``daphne`` (so that ``runserver``
speaks ASGI), ``ASGI_APPLICATION``, and ``django_live``. Environment variables, all optional:

======================  =================================================================
EXAMPLE_DEBUG           ``0`` turns debugging off
EXAMPLE_SECRET_KEY      replaces the demo key
EXAMPLE_ALLOWED_HOSTS   more host names, separated by commas
EXAMPLE_SQLITE          path of the SQLite file
EXAMPLE_DATABASE_NAME   name of a PostgreSQL database to use instead of SQLite, with
                        EXAMPLE_DATABASE_USER, _PASSWORD, _HOST and _PORT
EXAMPLE_REDIS_URL       a Redis that holds the events and tells the processes of one another
EXAMPLE_AI_URL          an OpenAI-compatible endpoint for the assistant, with EXAMPLE_AI_MODEL
                        and EXAMPLE_AI_KEY; without one a toy answers
EXAMPLE_PROCESS         a name for this process, which its pages show
======================  =================================================================
"""

import os
from pathlib import Path
from typing import Any

PROJECT_DIR = Path(__file__).resolve().parent

# For demonstration only: a site that other people reach needs a key of its own.
SECRET_KEY = os.environ.get(
    "EXAMPLE_SECRET_KEY", "demo-only-insecure-key-of-the-django-live-example-project"
)

DEBUG = os.environ.get("EXAMPLE_DEBUG", "1") != "0"

ALLOWED_HOSTS = [
    "localhost",
    "127.0.0.1",
    *filter(None, os.environ.get("EXAMPLE_ALLOWED_HOSTS", "").split(",")),
]

INSTALLED_APPS = [
    "daphne",  # first, so that its runserver replaces Django's
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "example_project.people",  # before django_live, whose templates it replaces
    "example_project.talk",  # likewise
    "django_live",
    "django_live.notifications",
    "django_live.chat",
    "example_project.orders",
    "example_project.transports",
    "example_project.imports",
    "example_project.assistant",
    "example_project.boards",
    "example_project.news",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "example_project.orders.serving.served_by",
            ],
        },
    },
]

ASGI_APPLICATION = "example_project.asgi.application"
WSGI_APPLICATION = "example_project.wsgi.application"


def database_from_environment() -> dict[str, Any]:
    """PostgreSQL when a database is named in the environment, otherwise a SQLite file."""
    if name := os.environ.get("EXAMPLE_DATABASE_NAME"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": os.environ.get("EXAMPLE_DATABASE_USER", ""),
            "PASSWORD": os.environ.get("EXAMPLE_DATABASE_PASSWORD", ""),
            "HOST": os.environ.get("EXAMPLE_DATABASE_HOST", ""),
            "PORT": os.environ.get("EXAMPLE_DATABASE_PORT", ""),
        }
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_SQLITE", PROJECT_DIR / "db.sqlite3"),
        "OPTIONS": {
            # Readers do not wait for a writer, and writers queue instead of failing with "database is locked".
            "init_command": "PRAGMA journal_mode=WAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    }


DATABASES = {"default": database_from_environment()}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# One process needs neither. `make demo-cluster` has three.
if redis_url := os.environ.get("EXAMPLE_REDIS_URL"):
    DJANGO_LIVE = {"STORE": "redis", "REDIS_URL": redis_url}
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_url]},
        },
    }

EXAMPLE_AI_URL = os.environ.get("EXAMPLE_AI_URL", "")
EXAMPLE_AI_MODEL = os.environ.get("EXAMPLE_AI_MODEL", "default")
EXAMPLE_AI_KEY = os.environ.get("EXAMPLE_AI_KEY", "")

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "orders:board"
LOGOUT_REDIRECT_URL = "login"

# The templates are ready for German. LocaleMiddleware joins MIDDLEWARE together with a German catalogue:
# before that, a German visitor would get Django's own strings in German among ours in English.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [PROJECT_DIR / "locale"]
USE_I18N = True

TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = PROJECT_DIR.parent / "staticfiles"
# Files of the chat. A view hands them out, so no address leads here.
MEDIA_ROOT = PROJECT_DIR.parent / "media"
