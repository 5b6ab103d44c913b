"""Django's seat of the package."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class DjangoLiveConfig(AppConfig):
    name = "django_live"
    verbose_name = _("Live")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, revocation  # noqa: F401  checks registers its own
        from .features import doctor, messages, operations

        revocation.listen()
        if apps.is_installed("rest_framework.authtoken"):
            from .integrations import drf

            drf.listen()
        from .integrations import grip

        grip.install()
        autodiscover_modules("live")
        messages.declare()  # behind the project's own topics
        doctor.declare()
        operations.declare()
