"""What the detail page draws: the steps of an order, those behind it and those ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from example_project.orders.models import Order

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class TimelineStep:
    status: Order.Status
    state: Literal["done", "current", "ahead"]
    reached_at: datetime | None

    @property
    def label(self) -> str:
        return str(self.status.label)


def timeline_of(order: Order) -> list[TimelineStep]:
    """The usual path with the time each step was reached; a cancelled order's ends where it was cancelled."""
    # An order that was set back and forth reached a status more than once: the latest time counts.
    reached = {change.status: change.changed_at for change in order.status_changes.all()}
    present = order.status_choice
    if present is Order.Status.CANCELLED:
        path = [*(status for status in Order.PATH if status in reached), present]
    else:
        path = list(Order.PATH)
    here = path.index(present)
    return [
        TimelineStep(
            status=status,
            state="done" if place < here else "current" if place == here else "ahead",
            reached_at=reached.get(status) if place <= here else None,
        )
        for place, status in enumerate(path)
    ]
