"""A site as `startproject` makes it, for the subjects that are Django: its default middleware and apps.

BENCH_DATABASE   the SQLite file
BENCH_LAYER      a channel layer's dotted path; unset: none is configured
BENCH_REDIS      the Redis of that layer
BENCH_STORE      django_live's store; unset: the database
BENCH_LIMIT      connections of a process; unset: the default
BENCH_APP        the package under test: django_live, django_eventstream, channels
"""

import os

SECRET_KEY = "of the benchmark"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "benchmarks.fanout.apps.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    os.environ.get("BENCH_APP", "django_live"),
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
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BENCH_DATABASE", ":memory:"),
        # As docs/howto/install.md advises.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
DJANGO_LIVE = {}
if store := os.environ.get("BENCH_STORE"):
    DJANGO_LIVE = {"STORE": store, "REDIS_URL": os.environ.get("BENCH_REDIS")}
if "BENCH_LIMIT" in os.environ:
    DJANGO_LIVE["MAX_CONNECTIONS"] = int(os.environ["BENCH_LIMIT"])
if layer := os.environ.get("BENCH_LAYER"):
    CHANNEL_LAYERS = {"default": {"BACKEND": layer}}
    if redis := os.environ.get("BENCH_REDIS"):
        # Longer than the layer's own blocking reads of 5 seconds, as django_live.W008 advises: with redis-py 8's
        # default a consumer of RedisChannelLayer ends whenever 5 seconds bring no event.
        host = {"address": redis, "socket_timeout": 15}
        CHANNEL_LAYERS["default"]["CONFIG"] = {"hosts": [host]}
