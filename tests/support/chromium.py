"""Where a Chromium is on this machine. The standard library only: a look-up must cost nothing."""

import os
import shutil
from functools import cache
from pathlib import Path

PROGRAMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
HEADLESS_SHELL = "chromium-headless-shell"
"""The same engine without the windows, profiles and services of a desktop's browser: Debian's package."""
# Where `playwright install chromium` puts its own, below PLAYWRIGHT_BROWSERS_PATH or the user's cache.
PLAYWRIGHTS_OWN = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium",
    "chromium_headless_shell-*/*/headless_shell",
)


@cache
def find_chromium() -> str | None:
    """The path of an executable. LIVE_CHROMIUM wins; where it names nothing, there is none."""
    if named := os.environ.get("LIVE_CHROMIUM"):
        return shutil.which(named)
    for program in PROGRAMS:
        if path := shutil.which(program):
            return path
    for folder in _playwrights_folders():
        for pattern in PLAYWRIGHTS_OWN:
            for found in sorted(folder.glob(pattern), reverse=True):
                if os.access(found, os.X_OK):
                    return str(found)
    return None


@cache
def find_headless_shell() -> str | None:
    """The path of the headless shell, with which a test costs less than half of the processor time. None
    where there is none, and where LIVE_CHROMIUM names a browser. It is an addition, and no Chromium by
    itself: it has no back-forward cache."""
    if os.environ.get("LIVE_CHROMIUM"):
        return None
    return shutil.which(HEADLESS_SHELL)


def _playwrights_folders() -> list[Path]:
    if named := os.environ.get("PLAYWRIGHT_BROWSERS_PATH"):
        return [Path(named)]
    home = Path.home()
    return [home / ".cache/ms-playwright", home / "Library/Caches/ms-playwright"]
