"""Real input for boards: log records, files that grow, the machine's own load, other programs' metrics.

``psutil`` and ``prometheus_client`` are imported only by the function that needs one.
"""

from __future__ import annotations

import logging
import os
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ...exceptions import LiveError
from .changes import lines_change
from .topics import Lines
from .writing import writer

BYTES_AT_ONCE = 256 * 1024
LINE_BYTES = 64 * 1024
"""Where a longer line of a file is cut."""
MEASURED = 0.1
"""Seconds over which the use of processors is measured."""
LARGEST_ANSWER = 8 * 1024 * 1024


class LiveHandler(logging.Handler):
    """Shows log records in a ``Lines`` board. Logging waits for nothing: a thread writes.

    Records of django_live itself are left out: writing would make more of them.
    """

    def __init__(self, board: Lines, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self.board = board

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == "django_live":
            return
        if threading.current_thread().name == "django_live-boards":
            return  # the store's own drivers log, too
        try:
            lines = [(record.levelname, self.format(record))]
            writer.write(self.board, lines_change(self.board, lines), later=True)
        except Exception:
            self.handleError(record)


class FileTail:
    """The lines that a file has gained since the last ``read()``, also when it was rotated or cut short
    meanwhile. The first ``read()`` gives the last of those that are there: of 256 KiB.

    A line of more than 64 KiB is cut, and goes on as another one.
    """

    def __init__(self, path: str | os.PathLike[str], *, encoding: str = "utf-8") -> None:
        self.path = Path(path)
        self.encoding = encoding
        self._file: BinaryIO | None = None
        self._rest = b""
        self._has_begun = False
        """Whether a file was read: of the one that comes in its place all is new."""

    def read(self) -> list[str]:
        """Whole lines only, of 256 KiB of a file at most. Nothing while there is no file."""
        lines: list[str] = []
        if self._file is not None:
            # Asked before it is read: what was written until it was renamed is not left behind.
            was_rotated = self._is_another_file()
            found, is_at_end = self._lines()
            lines += found
            if was_rotated and is_at_end:
                lines += self._decoded([self._rest] if self._rest else [])
                self._close()
        if self._file is None and self._open():
            lines += self._lines()[0]
        return lines

    def close(self) -> None:
        self._close()
        self._has_begun = False

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> bool:
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError:
            return False
        size = os.fstat(self._file.fileno()).st_size
        if size > BYTES_AT_ONCE and not self._has_begun:
            self._file.seek(size - BYTES_AT_ONCE)
            self._file.readline(BYTES_AT_ONCE)
        self._has_begun = True
        return True

    def _lines(self) -> tuple[list[str], bool]:
        """The next ones, and whether they are all there are."""
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # it was cut short
            self._rest = b""
        read = self._file.read(BYTES_AT_ONCE)
        *lines, self._rest = (self._rest + read).split(b"\n")
        if len(self._rest) > LINE_BYTES + 1:  # the last byte may be half of a line break
            *pieces, self._rest = _pieces(self._rest)
            lines += pieces
        return self._decoded(lines), len(read) < BYTES_AT_ONCE

    def _decoded(self, lines: Iterable[bytes]) -> list[str]:
        return [
            piece.decode(self.encoding, "replace")
            for line in lines
            for piece in _pieces(line.rstrip(b"\r"))
        ]

    def _is_another_file(self) -> bool:
        assert self._file is not None
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False  # between the two steps of a rotation


def _pieces(line: bytes) -> list[bytes]:
    """The line, cut where it is too long. Never nothing: an empty line is one."""
    return [line[at : at + LINE_BYTES] for at in range(0, len(line) or 1, LINE_BYTES)]


def system_metrics() -> dict[str, float]:
    """Percent of processors, memory and disk in use, and bytes that went over the network since the
    machine began. Takes a tenth of a second. Needs ``psutil``."""
    import psutil

    network = psutil.net_io_counters()
    return {
        "cpu": psutil.cpu_percent(MEASURED),  # else it counts from the thread's last call
        "memory": psutil.virtual_memory().percent,
        "disk": psutil.disk_usage("/").percent,
        "sent": network.bytes_sent if network else 0,
        "received": network.bytes_recv if network else 0,
    }


def prometheus_metrics(url: str, *, timeout: float = 5.0) -> dict[str, dict[str, Any]]:
    """Rows for a ``Keyed``: the samples at an address that answers in Prometheus' text format, by name
    and labels, each with ``name``, ``labels`` and ``value``. Needs ``prometheus_client``.

    Raises ``OSError``, ``ValueError`` for what cannot be read, and ``LiveError`` for an answer over
    8 MiB or an address that is not HTTP.
    """
    if not url.startswith(("http://", "https://")):
        raise LiveError(f"{url!r} is no address of metrics.")
    with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - checked above
        text = answer.read(LARGEST_ANSWER + 1)
    if len(text) > LARGEST_ANSWER:
        raise LiveError(f"{url} answers with more than {LARGEST_ANSWER} bytes.")
    return dict(_rows(text.decode("utf-8", "replace")))


def _rows(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ", ".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}"[:200]
            yield key, {"name": sample.name, "labels": labels, "value": sample.value}
