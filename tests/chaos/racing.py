"""Two processes whose steps are decided: each order of events happens every time."""

from __future__ import annotations

import os
import select
import traceback
from collections.abc import Callable

from django.db import connection


class Racer:
    """A forked process that does its work, and stops where it is told to."""

    def __init__(self, work: Callable[[Racer], None], stops_at: str = "") -> None:
        self.stops_at = stops_at
        connection.close()
        arrived, self._arrives = os.pipe()
        self._waits, go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work(self)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(self._arrives)
        os.close(self._waits)
        self._arrived, self._go = arrived, go

    def stop_at(self, point: str) -> None:
        """In the process: wait here, if this is where it stops."""
        if point == self.stops_at:
            self.pause()

    def pause(self) -> None:
        """In the process: wait here."""
        os.write(self._arrives, b".")
        os.read(self._waits, 1)

    def arrive(self) -> None:
        """Wait until it is where it stops."""
        if not select.select([self._arrived], [], [], 30)[0] or os.read(self._arrived, 1) != b".":
            raise SystemExit(f"nobody arrived at {self.stops_at!r}")

    def go_on(self) -> None:
        """Let it go on."""
        os.write(self._go, b".")

    def finish(self) -> None:
        """Let it go on, and wait for its end."""
        if self.stops_at:
            self.go_on()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._arrived)
        os.close(self._go)
        if code:
            raise SystemExit(f"a writer ended with {code}")


def run_race(work: Callable[[Racer], None], stops_at: str) -> None:
    """Two processes do the same. The first stops at a point; the second overtakes it.

    Where the first had committed, the second goes past its own numbering; where it had only begun,
    past its commit, and numbers when the first is over.
    """
    first = Racer(work, stops_at)
    first.arrive()
    second = Racer(work, "committed" if stops_at == "begun" else "")
    if second.stops_at:
        second.arrive()
        first.finish()
        second.finish()
    else:
        second.finish()
        first.finish()
