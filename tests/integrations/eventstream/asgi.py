"""Both sites' application: wrapped where django_live is installed."""

from django.apps import apps
from django.core.asgi import get_asgi_application

application = get_asgi_application()
if apps.is_installed("django_live"):
    from django_live.asgi import get_live_application

    application = get_live_application()  # type: ignore[assignment]
