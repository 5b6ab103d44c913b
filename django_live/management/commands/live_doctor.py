"""``manage.py live_doctor``: what is wrong, and what to change."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError

from ..console import WRONG, Console, add_format
from ..examination import Finding, examine

SIGNS = {"ok": "ok", "warning": "!", "error": "✗", "skipped": "–"}


class Command(BaseCommand):
    help = (
        "Looks at settings, store, clocks, channel layer and processes, and with --url at what stands "
        "before the site: opens a real stream and a WebSocket there, and sends events through. Says "
        "what each hop takes, and what to change. The exit code is 0 when nothing is wrong (warnings "
        "may be there), 1 when something is, 2 for wrong arguments."
    )
    requires_system_checks = []  # they are part of what it tells

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--url",
            metavar="ADDRESS",
            help="where browsers find django_live.urls: https://your.site/live/",
        )
        parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
        add_format(parser)

    def handle(
        self,
        *,
        url: str | None,
        timeout: float,
        format: str,  # noqa: A002
        **options: Any,
    ) -> None:
        if url is not None:
            if not _is_address(url):
                raise CommandError(
                    f"{url!r} is no address: https://your.site/live/", returncode=WRONG
                )
            url = url if url.endswith("/") else f"{url}/"
        if timeout <= 0:
            raise CommandError("--timeout takes seconds above 0.", returncode=WRONG)
        console = Console(self, format)
        findings: list[Finding] = []
        with console.progress("Examining") as tell:
            for finding in examine(url, timeout):
                findings.append(finding)
                tell(len(findings))
        if format == "json":
            console.json({"findings": [finding._asdict() for finding in findings]})
        else:
            self._write(console, findings)
        wrong = sum(finding.state == "error" for finding in findings)
        if wrong:
            raise CommandError(f"{wrong} of {len(findings)} findings are errors.")

    def _write(self, console: Console, findings: list[Finding]) -> None:
        for state, name, found, advice, seconds in (
            (SIGNS[f.state], f.name, f.found, f.advice, f.seconds) for f in findings
        ):
            took = "" if seconds is None else f" ({seconds * 1000:.1f} ms)"
            console.say(f"{state:>2}  {name}: {found}{took}")
            if advice:
                console.say(f"      → {advice}")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        return False
