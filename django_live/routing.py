"""For projects with a WebSocket stack of their own::

    application = get_live_application(
        ProtocolTypeRouter(
            {
                "http": get_asgi_application(),
                "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
            }
        )
    )

``get_live_application()`` serves the WebSocket of ``django_live.urls`` by itself, through Django's
middleware; these addresses are for those whose users are known to their Channels middleware only.
"""

from __future__ import annotations

from django.urls import path

from .transports.websocket import LiveConsumer

websocket_urlpatterns = [
    path("live/ws/", LiveConsumer.as_asgi(), name="live-websocket"),  # type: ignore[arg-type]
]
