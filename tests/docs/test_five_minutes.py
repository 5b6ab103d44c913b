"""The README's five-minute path, followed as printed; and not followed, one step at a time."""

from __future__ import annotations

import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.docs.follower import PASSWORD, USER, CommandFailedError, Follower, printed_path
from tests.docs.watcher import ADD, ORDER, PathFailedError, threads_of_open_pages, watch_a_save
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires
from tests.support.servers import Server, ServerError, free_port

pytestmark = [requires("packages"), pytest.mark.timeout(180)]

PATH = printed_path()
INSTALL = next(block for block in PATH if "pip install" in block.text and block.step == 1)
RUN = PATH[-1]

StartServer = Callable[[Follower], Server]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Follower:
    """Somebody who has done everything up to step 1: a project, and the package."""
    someone = Follower.newcomer(tmp_path_factory.mktemp("newcomer") / "machine")
    someone.follow(block for block in PATH if block.step == 0)
    with pytest.raises(CommandFailedError, match="No module named 'django_live'"):
        someone.run("python -c 'import django_live'\n")  # or step 1 would not be needed
    someone.follow([INSTALL])
    # An index may have a release of the same version: that is not what is tested here.
    folder = someone.run("python -c 'import django_live; print(*django_live.__path__)'\n").strip()
    with zipfile.ZipFile(someone.wheel) as wheel:
        for name in wheel.namelist():
            if name.startswith("django_live/"):
                assert Path(folder).parent.joinpath(name).read_bytes() == wheel.read(name)
    return someone


CameTo = Callable[[int], Follower]


@pytest.fixture(scope="module")
def came_to(newcomer: Follower, tmp_path_factory: pytest.TempPathFactory) -> CameTo:
    """``came_to(4)``: somebody who has done everything before step 4. Copy them, and go on."""
    known = {2: newcomer}

    def find(step: int) -> Follower:
        if step not in known:
            known[step] = find(step - 1).copy(tmp_path_factory.mktemp("came") / str(step))
            known[step].follow(block for block in PATH if block.step == step - 1)
        return known[step]

    return find


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """``start(someone, command, port)``: their server, ended after the test."""
    servers: list[Server] = []

    def start_one(someone: Follower, command: str, port: int) -> Server:
        log_path = tmp_path / f"server_{len(servers)}.log"
        servers.append(someone.server(command, port, log_path))
        return servers[-1].start()

    yield start_one
    for server in servers:
        server.kill()
        print(server.log_tail())  # noqa: T201 -- pytest shows it with a failure


def printed_server(someone: Follower, start: Callable[..., Server]) -> Server:
    """What the printed command starts. Where its port is taken on this machine, on another one."""
    command, port = RUN.text.strip(), ADD.port or 80
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            port = free_port()
            command += f" {port}"
    server = start(someone, command, port)
    assert "Listen failure" not in server.log()
    return server


@requires("chromium")
def test_whoever_follows_the_readme_has_a_live_page(
    newcomer: Follower,
    tmp_path: Path,
    start: Callable[..., Server],
    new_context: NewContext,
    expect: Expect,
) -> None:
    someone = newcomer.copy(tmp_path / "whole")
    someone.follow(block for block in PATH if 2 <= block.step < RUN.step)
    server = printed_server(someone, start)

    window = new_context()
    admin: Page = window.new_page()
    admin.goto(f"{server.url}{ADD.path}")
    admin.fill("input[name=username]", USER)
    admin.fill("input[name=password]", PASSWORD)
    admin.click("input[type=submit]")
    admin.select_option("select[name=customer]", label=USER)
    admin.click("input[name=_save]")
    page: Page = window.new_page()
    page.goto(f"{server.url}{ORDER.path}")
    page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
    page.evaluate("window.sameDocument = true")

    admin.goto(f"{server.url}{ORDER.path.replace('/orders/', '/admin/orders/order/')}change/")
    admin.fill("input[name=status]", "shipped")
    admin.click("input[name=_save]")

    expect(page.locator("strong")).to_have_text("shipped", timeout=5_000)
    assert page.evaluate("window.sameDocument") is True, "the page was loaded anew"


LEFT_OUT = {
    "daphne": (2, '"daphne",', "no stream: 501"),
    "django_live": (2, '"django_live",', 'Add "django_live" to INSTALLED_APPS'),
    "ASGI_APPLICATION": (2, 'ASGI_APPLICATION = "mysite.asgi.application"', "did not start"),
    "the address": (4, None, "no page: 500"),
    "migrate": (5, None, "not added: 500"),
    "live.py": (6, None, "did not start"),
    "the view": (7, None, "no page: 500"),
    "load": (8, "{% load live %}", "no page: 500"),
    "live_client": (8, "{% live_client %}", "no client on the page"),
    "live_refresh": (8, "{% live_refresh topic %}", "no page: 500"),
    "endlive_refresh": (8, "{% endlive_refresh %}", "no page: 500"),
}
"""Step, the first line of the change that is left out (None: all of the step), what happens then."""


@pytest.mark.parametrize("name", LEFT_OUT)
def test_each_step_is_needed(
    name: str, came_to: CameTo, tmp_path: Path, start: Callable[..., Server]
) -> None:
    step, change, consequence = LEFT_OUT[name]
    someone = came_to(step).copy(tmp_path / "partly")
    with pytest.raises(PathFailedError, match=consequence):
        follow_partly(someone, step, change or "", start)


def follow_partly(someone: Follower, step: int, change: str, start: Callable[..., Server]) -> None:
    """This step and those after it, without this one, or without one change of it; and then a save."""
    try:
        for block in PATH:
            if step <= block.step < RUN.step and (block.step != step or change):
                someone.follow([block], without=change if block.step == step else "")
        port = free_port()
        server = start(someone, f"{RUN.text.strip()} --noreload {port}", port)
    except (CommandFailedError, ServerError) as error:
        raise PathFailedError(f"the server did not start: {error}") from error
    watch_a_save(server)


def test_with_all_steps_the_same_watcher_is_content(
    came_to: CameTo, tmp_path: Path, start: Callable[..., Server]
) -> None:
    """Else the test above would prove nothing. And step 3 is what spares the threads."""
    costs = {}
    for step_3 in (True, False):
        someone = came_to(3).copy(tmp_path / f"asgi_{step_3}")
        path = [b for b in PATH if 3 <= b.step < RUN.step and (step_3 or b.step != 3)]
        someone.follow(path)
        port = free_port()
        server = start(someone, f"{RUN.text.strip()} --noreload {port}", port)
        watch_a_save(server)
        costs[step_3] = threads_of_open_pages(server, 20)
    assert costs[True] < 5
    assert costs[False] >= 10
