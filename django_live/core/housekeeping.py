"""Now and then: what nobody needs any more is removed from the log and from the shared state.

Must keep true: of many processes one does it, and when that one is gone another; a store of somebody's
own that has no shared state is trimmed all the same.
"""

from __future__ import annotations

import logging

from django.core.exceptions import ImproperlyConfigured

from .log import get_log
from .state import SharedState, get_state

logger = logging.getLogger("django_live.housekeeping")

LEASE = "django_live.housekeeping"
SHARE = 0.8
"""Of the interval. Less than all of it, so that the turn after it finds the lease free; and nobody gives
it back, for then each process would find it free one after the other."""


async def tidy(process: str, interval: float) -> bool:
    """Trim and purge, unless another process has done so within about ``interval`` seconds. Whether it
    was this one's turn."""
    state = _state()
    if state is not None and await state.aacquire(LEASE, process, interval * SHARE) is None:
        return False
    await get_log().atrim()
    if state is not None:
        await state.apurge()
    return True


def _state() -> SharedState | None:
    try:
        return get_state()
    except ImproperlyConfigured:
        return None
