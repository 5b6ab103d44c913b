"""The project's ASGI application, in two lines::

from django_live.asgi import get_live_application

application = get_live_application()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.apps import apps
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from .transports.application import LiveApplication
    from .transports.sockets import Application

__all__ = ["get_live_application"]


def get_live_application(
    application: Application | None = None, *, only_live: bool = False
) -> LiveApplication:
    """Django's ASGI application with what live streams need around it, ``lifespan`` included.

    ``application`` is what to wrap instead: a ``ProtocolTypeRouter`` or any other ASGI application
    that leads to Django's. With ``only_live`` the process serves the addresses of
    ``django_live.urls`` and nothing else: every page is a 404, and every other WebSocket is closed.
    """
    django_application = cast("Application", get_asgi_application())
    if not apps.is_installed("django_live"):
        raise ImproperlyConfigured('Add "django_live" to INSTALLED_APPS.')
    # Only now: get_asgi_application() has set Django up, and the transports import models.
    from .transports.application import LiveApplication

    return LiveApplication(
        application or django_application,
        answers_websockets=application is not None,
        only_live=only_live,
    )
