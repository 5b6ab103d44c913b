"""Follows the README's five minutes as printed: runs its commands, writes its files, makes its edits."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import django

from tests.docs.markdown import ROOT, Block, blocks
from tests.support.servers import Server

README = ROOT / "README.md"
USER, PASSWORD = "olga", "five-minutes-only"
ANSWERS = {
    r"Username.*: $": USER,
    r"Email address: $": "olga@example.com",
    r"Password: $": PASSWORD,
    r"Password \(again\): $": PASSWORD,
}
"""What a person types at the prompts of ``createsuperuser``."""

_NAME = re.compile(r"(?:#|\{#) (\S+\.\w+)(?: #\})?\n")
_NOT_THEIRS = re.compile(r"DJANGO_|LIVE_|PYTHON|PYTEST|VIRTUAL_ENV|EXAMPLE_")


class CommandFailedError(Exception):
    """A printed command did not end well; the message has its output."""


def printed_path() -> list[Block]:
    """The blocks of the README's path, in order."""
    path = blocks(README)
    begin = next(i for i, block in enumerate(path) if "startproject" in block.text)
    end = next(i for i, block in enumerate(path) if "runserver" in block.text)
    return path[begin : end + 1]


def file_of(block: Block) -> tuple[str, str]:
    """The file that a block is about, and what is to be written there: its first line has the name."""
    if block.language == "diff":
        name, _, rest = block.text.partition("\n")
        return name.removeprefix("+++ "), rest
    match = _NAME.match(block.text)
    assert match, f"{block} does not say which file it is"
    return match[1], block.text


def edited(text: str, diff: str, without: str = "") -> str:
    """The text after a printed edit. ``without`` names the first line of a change to leave out.

    Each hunk has to fit exactly once. Quotes may differ: startproject writes single ones.
    """
    lines = text.split("\n")
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = _with_hunk(lines, _left_out(hunk.rstrip("\n").split("\n"), without))
    return "\n".join(lines)


def write(project: Path, block: Block, *, without: str = "") -> None:
    """Write the file that a block prints, or make the edit that it shows."""
    name, content = file_of(block)
    file = project / name
    if block.language == "diff":
        file.write_text(edited(file.read_text(), content, without))
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def _with_hunk(lines: list[str], hunk: Sequence[str]) -> list[str]:
    old = [line[1:] for line in hunk if not line.startswith("+")]
    new = [line[1:] for line in hunk if not line.startswith("-")]
    if not old:
        return lines
    fits = [
        start
        for start in range(len(lines) - len(old) + 1)
        if [_plain(line) for line in lines[start : start + len(old)]] == [_plain(o) for o in old]
    ]
    assert len(fits) == 1, f"{old} is {len(fits)} times in\n" + "\n".join(lines)
    return [*lines[: fits[0]], *new, *lines[fits[0] + len(old) :]]


def _plain(line: str) -> str:
    return line.replace("'", '"').rstrip()


def _left_out(hunk: Iterable[str], without: str) -> list[str]:
    """The hunk without the change that begins with this line."""
    kept: list[str] = []
    leaving = False
    for line in hunk:
        changes = line.startswith(("+", "-"))
        leaving = changes and (leaving or (bool(without) and line[1:].strip() == without))
        if not leaving:
            kept.append(line)
        elif line.startswith("-"):
            kept.append(f" {line[1:]}")
    return kept


class Follower:
    """One who follows the path, in a folder of their own."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._state = folder / ".shell"
        if env is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._state.write_text("")
        self.env = env
        self.project = folder

    @property
    def wheel(self) -> Path:
        """This checkout, as their pip finds it."""
        return next(Path(self.env["PIP_FIND_LINKS"].split()[0]).glob("*.whl"))

    @classmethod
    def newcomer(cls, folder: Path) -> Self:
        """One whose machine has this Python and, where pip looks, this checkout as a wheel."""
        folder.mkdir()
        return cls(folder / "home", _environment(folder))

    def copy(self, folder: Path) -> Self:
        """Another one who came as far, with a project and a database of their own."""
        other = type(self)(folder, self.env)
        shutil.copytree(self.project, folder / "project")
        (folder / ".shell").write_text(
            (self._state).read_text() + f"cd '{folder}/project'\n",
        )
        other.project = folder / "project"
        return other

    def follow(self, path: Iterable[Block], *, without: str = "") -> None:
        """Do what the blocks say. ``without``: a change to leave out, by its first line."""
        for block in path:
            if block.language == "sh":
                self.run(block.text)
                continue
            write(self.project, block, without=without)

    def run(self, commands: str, timeout: float = 120) -> str:
        """Run printed commands unchanged, as if typed into one shell; its output."""
        state = self._state
        script = (
            f"cd '{self.folder}'; . '{state}'; set -e\n{commands}\n"
            f"{{ export -p; echo \"cd '$PWD'\"; }} > '{state}'\n"
        )
        output, code = _in_terminal(["bash", "-c", script], self.env, timeout)
        if code != 0:
            raise CommandFailedError(f"{commands}ended with {code}:\n{output}")
        cd = re.findall(r"^cd '(.*)'$", state.read_text(), re.MULTILINE)
        self.project = Path(cd[-1])
        return output

    def server(self, command: str, port: int, log_path: Path) -> Server:
        """A server process that this command starts, not started yet."""
        server = Server("runserver", port=port, cwd=self.project, log_path=log_path)
        server.env = {**self.env, "PYTHONUNBUFFERED": "1"}
        server.command = ["bash", "-c", f". '{self._state}'; exec {command}"]
        return server


def _environment(folder: Path) -> dict[str, str]:
    """The environment of a machine that can install this checkout with the printed command.

    ``python3`` is the Python of this run, and pip is told, through its own configuration, where the
    wheel is and which Django is tested.
    """
    programs = folder / "bin"
    programs.mkdir()
    python = getattr(sys, "_base_executable", sys.executable)
    (programs / "python3").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    (programs / "python3").chmod(0o755)
    wheel = _wheel(folder)
    constraints = folder / "constraints.txt"
    constraints.write_text(f"django=={django.__version__}\n")
    kept = {name: value for name, value in os.environ.items() if not _NOT_THEIRS.match(name)}
    return {
        **kept,
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "PIP_CONSTRAINT": str(constraints),
        "PIP_FIND_LINKS": f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}".strip(),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "1",
        "PIP_QUIET": "1",
    }


def _wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=120)
    return next(folder.glob("django_live_features-*.whl"))


def _in_terminal(command: list[str], env: dict[str, str], timeout: float) -> tuple[str, int]:
    """Run a command in a terminal, where somebody types the ANSWERS; its output and exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    output, answered = "", 0
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # Linux says so when the last program has closed its end
                break
            if not chunk:
                break
            output += chunk.decode(errors="replace").replace("\r\n", "\n")
            for prompt, answer in ANSWERS.items():
                if re.search(prompt, output[answered:]):
                    answered = len(output)
                    os.write(ours, f"{answer}\n".encode())
        return output, process.wait(max(0.1, deadline - time.monotonic()))
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()
