"""A site below /site/, with a strict policy, hashed static files, allauth, guardian and DRF."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DJANGO_LIVE as TESTS_LIVE
from tests.settings import INSTALLED_APPS as TESTS_APPS
from tests.settings import MIDDLEWARE as TESTS_MIDDLEWARE

INSTALLED_APPS = [
    "allauth",
    "allauth.account",
    "rest_framework",
    "guardian",
    *(app for app in TESTS_APPS if app not in ("tests.testapp", "django.contrib.admin")),
    "tests.compatibility.members",
]
MIDDLEWARE = [
    TESTS_MIDDLEWARE[0],
    "whitenoise.middleware.WhiteNoiseMiddleware",
    *TESTS_MIDDLEWARE[1:],
    "allauth.account.middleware.AccountMiddleware",
    "tests.compatibility.site.strict_policy",
]
AUTH_USER_MODEL = "members.Member"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_RATE_LIMITS: dict[str, str] = {}
LOGIN_REDIRECT_URL = "/site/"
GUARDIAN_RAISE_403 = False
ANONYMOUS_USER_NAME = None
ROOT_URLCONF = "tests.compatibility.site"
# How a site is told of its prefix: here, or by the server.
FORCE_SCRIPT_NAME = os.environ.get("TEST_SCRIPT_NAME")
STATIC_ROOT = os.environ.get("TEST_STATIC_ROOT", "/nowhere")
# Django makes this of a relative one before it knows of a prefix.
STATIC_URL = "/site/static/"
WHITENOISE_STATIC_PREFIX = "/static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
DJANGO_LIVE = {**TESTS_LIVE}
SILENCED_SYSTEM_CHECKS = ["guardian.W001"]
