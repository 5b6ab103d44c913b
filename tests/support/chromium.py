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


def _playwrights_folders() -> list[Path]:
    if named := os.environ.get("PLAYWRIGHT_BROWSERS_PATH"):
        return [Path(named)]
    home = Path.home()
    return [home / ".cache/ms-playwright", home / "Library/Caches/ms-playwright"]
