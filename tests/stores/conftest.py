"""What the tests of the stores share with the contracts."""

from __future__ import annotations

from tests.contracts.conftest import room, room_class, signal, time

__all__ = ["room", "room_class", "signal", "time"]
