"""The tests' site with tokens of Django REST framework beside its sessions."""

from tests.settings import *  # noqa: F403
from tests.settings import DJANGO_LIVE as OF_TESTS
from tests.settings import INSTALLED_APPS as TESTS_APPS

INSTALLED_APPS = [*TESTS_APPS, "rest_framework.authtoken", "guardian"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
ANONYMOUS_USER_NAME = None
DJANGO_LIVE = {
    **OF_TESTS,
    "AUTHENTICATORS": ["rest_framework.authentication.TokenAuthentication", "session"],
}
