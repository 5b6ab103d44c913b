"""For the tests of projects that use django_live: what was published, who may listen, clients of every
transport, and faults.

Works with Django's test runner and with pytest, without Redis and without a server.
"""

from __future__ import annotations

from .events import PublishedEvent, assert_published, capture_events
from .faults import Faults, faulty_layer, faulty_store
from .permissions import PermissionMatrix, assert_permissions, permission_matrix
from .polling import Poller
from .streams import SSEFrame, SSEStream, open_sse
from .websocket import CallRefused, LiveWebSocket, WebSocketFrame, open_websocket

__all__ = [
    "CallRefused",
    "Faults",
    "LiveWebSocket",
    "PermissionMatrix",
    "Poller",
    "PublishedEvent",
    "SSEFrame",
    "SSEStream",
    "WebSocketFrame",
    "assert_permissions",
    "assert_published",
    "capture_events",
    "faulty_layer",
    "faulty_store",
    "open_sse",
    "open_websocket",
    "permission_matrix",
]
