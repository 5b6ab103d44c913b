"""Topics to deliver on. Nothing declares them to the site: the tests make them themselves."""

from __future__ import annotations

from typing import Any

from django_live.core.topics import History, Topic, registry

with registry.isolated():

    class Kept(Topic):
        pattern = "kept/<int:pk>"
        history = History()

    class Impatient(Topic):
        """Does not wait for slow readers."""

        pattern = "impatient"
        history = History()
        overflow = "disconnect"

    class Dropping(Topic):
        pattern = "dropping"

    class Conflated(Topic):
        pattern = "conflated"
        overflow = "conflate"

    class Strict(Topic):
        pattern = "strict"
        overflow = "disconnect"

    class WithState(Topic):
        """``shows`` is what its snapshot answers."""

        pattern = "state"
        history = History()
        shows: Any = None

        async def snapshot(self) -> Any:
            return await type(self).shows()

    class EphemeralState(Topic):
        pattern = "ephemeral-state"
        shows: Any = None

        async def snapshot(self) -> Any:
            return await type(self).shows()
