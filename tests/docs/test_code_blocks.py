"""Every Python block and template of the documentation runs, in the project that the README makes.

A page's blocks run one after the other and see each other's names, as a reader does. An invisible
comment above a block says what is different about it:

``<!-- test: settings -->``   it is added to the settings, and ``check`` is content
``<!-- test: file -->``       it is written to the file that it names, and that file is imported
``<!-- test: skip … -->``     it is only compiled; the reason is given

A file ``tests.py`` is run by Django's test runner.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.docs.follower import PASSWORD, USER, edited, file_of, printed_path, write
from tests.docs.markdown import ROOT, Block, blocks, pages
from tests.docs.watcher import threads_of_open_pages, watch_a_save
from tests.support import prepared
from tests.support.requirements import requires
from tests.support.servers import Server, free_port

pytestmark = pytest.mark.timeout(120)

# The README and the tutorial are followed as a whole: test_five_minutes.py, test_tutorial.py.
PAGES = [p for p in pages() if p.name != "README.md" and p.parent.name != "tutorial"]
BLOCKS = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"python", "html+django", "sh", "text", "nginx", "js", "css", "{toctree}", "diff"}
LANGUAGES |= {"ini", "yaml", "json"}  # see test_deploy_guide.py
LANGUAGES |= {"{eval-rst}", "{include}"}  # of the API and the README, see test_pages.py
START = """
import django
django.setup()
from django.contrib.auth.models import User
from orders.models import Order
Order.objects.create(pk=42, customer=User.objects.create_user("anna", pk=7))
"""


@pytest.fixture(scope="module")
def readme_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that whoever follows the README has, migrated, with this checkout's package."""
    folder = tmp_path_factory.mktemp("docs")
    manage(folder, "-m", "django", "startproject", "mysite")
    project = folder / "mysite"
    manage(project, "manage.py", "startapp", "orders")
    for block in printed_path():
        if block.language != "sh":
            write(project, block)
    manage(project, "manage.py", "makemigrations", "orders")
    manage(project, "manage.py", "migrate", "--verbosity=0")
    return project


@pytest.fixture
def project(readme_project: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    shutil.copytree(readme_project, tmp_path / "mysite")
    return tmp_path / "mysite"


def manage(folder: Path, *arguments: str) -> str:
    """Run this Python there, with warnings as errors. Fails with the output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    env |= {"DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": f"{folder}:{ROOT}"}
    if "startproject" in arguments:
        del env["DJANGO_SETTINGS_MODULE"]
    command = [sys.executable, "-W", "error", *arguments]
    done = prepared.run(command, cwd=folder, env=env, timeout=90)
    if done.returncode:
        pytest.fail(f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout + done.stderr


def is_plain(block: Block) -> bool:
    return block.language == "python" and not block.note and not is_tests(block)


def is_tests(block: Block) -> bool:
    return block.text.startswith("# orders/tests.py\n")


def test_every_block_says_what_it_is() -> None:
    unknown = [
        f"{block}: {block.language!r}" for block in BLOCKS if block.language not in LANGUAGES
    ]
    assert not unknown
    kinds = {block.note.split(" ")[1] for block in BLOCKS if block.note.startswith("test: ")}
    assert kinds <= {"settings", "file", "skip"}


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(is_plain(block) for block in blocks(page))],
    ids=page_name,
)
def test_the_python_of_a_page_runs(page: Path, project: Path) -> None:
    script = project / "page.py"
    lines = [START]
    for block in filter(is_plain, blocks(page)):
        # In the module that it names, so that relative imports work and errors name the page.
        module = block.text.split("\n")[0].removeprefix("# ").removesuffix(".py").replace("/", ".")
        scope = f"namespace | {{'__name__': {module!r}, '__package__': {module.split('.')[0]!r}}}"
        if not block.text.startswith("# "):
            scope = "namespace"
        source = "\n" * (block.line - 1) + block.text
        lines.append(f"scope = {scope}")
        lines.append(f"exec(compile({source!r}, {str(block)!r}, 'exec'), scope)")
        lines.append("namespace.update(scope)")
    script.write_text("namespace = {'__name__': 'page'}\n" + "\n".join(lines))
    manage(project, "page.py")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.note.startswith("test: skip")], ids=str)
def test_a_block_that_cannot_run_is_python_and_says_why_not(block: Block) -> None:
    assert block.note.removeprefix("test: skip").strip(), "give the reason"
    ast.parse(block.text)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.note == "test: settings"], ids=str)
def test_settings_are_in_order(block: Block, project: Path) -> None:
    settings = project / "mysite/settings.py"
    settings.write_text(settings.read_text() + "\n" + block.text)
    manage(project, "manage.py", "check", "--fail-level=WARNING")


def test_check_would_notice_wrong_settings(project: Path) -> None:
    settings = project / "mysite/settings.py"
    settings.write_text(settings.read_text() + '\nDJANGO_LIVE = {"HEARTBEET": 15}\n')
    with pytest.raises(pytest.fail.Exception, match=r"django_live\.E001"):
        manage(project, "manage.py", "check", "--fail-level=WARNING")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.note == "test: file"], ids=str)
def test_files_can_be_imported(block: Block, project: Path) -> None:
    write(project, block)
    name, _ = file_of(block)
    manage(project, "-c", f"import {name.removesuffix('.py').replace('/', '.')}")


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if "mysite.asgi:application" in b.text and b.language == "sh"],
    ids=str,
)
def test_servers_serve_a_project_with_an_application_of_its_own(
    block: Block, project: Path, tmp_path: Path
) -> None:
    """The printed command, on a free port, with the printed asgi.py."""
    (asgi,) = (
        b for b in BLOCKS if b.note == "test: file" and b.text.startswith("# mysite/asgi.py")
    )
    write(project, asgi)
    (project / "page.py").write_text(
        START + f"User.objects.create_superuser({USER!r}, '', {PASSWORD!r}, pk=1)\n"
        "Order.objects.create(pk=1, customer_id=1)\n"
    )
    manage(project, "page.py")
    port = free_port()
    program, *arguments = block.text.replace("8000", str(port)).split()
    server = Server("uvicorn", port=port, cwd=project, log_path=tmp_path / "server.log")
    server.env |= {"PYTHONPATH": f"{project}:{ROOT}", "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    server.command = [sys.executable, "-m", program, *arguments]
    with server:
        watch_a_save(server, serves_static_files=False)
        assert threads_of_open_pages(server, 10) < 5


@pytest.mark.parametrize("page", sorted({b.page for b in BLOCKS if is_tests(b)}), ids=page_name)
def test_tests_pass(page: Path, project: Path) -> None:
    """All of a page in one run of Django's test runner: each block is a module of its own."""
    own = blocks(page)
    settings = project / "mysite/settings.py"
    own_file = next(block.text for block in own if block.note == "test: settings")
    settings.write_text(settings.read_text() + "\n" + own_file)
    (project / "orders/tests.py").unlink(missing_ok=True)
    tests = [block for block in own if is_tests(block)]
    for block in tests:
        (project / f"orders/test_line_{block.line}.py").write_text(block.text)
    output = manage(project, "manage.py", "test", "--verbosity=2", "orders")
    assert output.count("... ok") == sum(block.text.count("def test_") for block in tests)


def test_templates_render(project: Path) -> None:
    """Each in a process of its own would start Django each time."""
    templates = [block for block in BLOCKS if block.language == "html+django"]
    assert len(templates) > 5
    for number, block in enumerate(templates):
        (project / f"orders/templates/block{number}.html").write_text(block.text)
    script = f"""
        {textwrap.indent(START.strip(), " " * 8).strip()}
        from django.template.loader import render_to_string
        from django.test import RequestFactory
        from orders.live import OrderTopic
        from django.core.paginator import Paginator
        from django_live.features.feeds import Feed
        feed = type("Orders", (Feed,), {{
            "pattern": "feeds/orders", "model": Order, "items": lambda self, viewer: Order.objects.all()
        }})()
        page = Paginator(Order.objects.order_by("pk"), 20).get_page(1)
        context = {{"topic": OrderTopic(pk=42), "order": Order.objects.get(pk=42)}}
        context |= {{"feed": feed}}
        context |= {{"page_obj": page, "paginator": page.paginator}}
        for number, name in enumerate({[str(block) for block in templates]!r}):
            print(name)  # with a failure, the last one is the culprit
            request = RequestFactory().get("/orders/42/")
            request.user = User.objects.get(pk=7)
            html = render_to_string(f"block{{number}}.html", context, request)
            assert 'data-cursor="' in html and "django_live/live.js" in html, html
    """
    (project / "page.py").write_text(textwrap.dedent(script))
    manage(project, "page.py")


@requires("npm")
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "js"], ids=str)
def test_javascript_can_be_parsed(block: Block, tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node
    (tmp_path / "page.mjs").write_text(block.text)
    done = subprocess.run(
        [node, "--check", tmp_path / "page.mjs"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


class TestTheToolsThemselves:
    def test_an_edit_has_to_fit_once(self) -> None:
        assert edited("a\nb\nc\n", " a\n-b\n+B\n") == "a\nB\nc\n"
        assert edited("x = 'a'\n", '-x = "a"\n+x = "b"\n') == 'x = "b"\n'
        for text in ("a\n", "a\nb\na\nb\n"):
            with pytest.raises(AssertionError, match="times in"):
                edited(text, " a\n-b\n+B\n")

    def test_a_change_can_be_left_out(self) -> None:
        diff = "+one\n a\n-b\n+two\n"
        assert edited("a\nb\n", diff, without="one") == "a\ntwo\n"
        assert edited("a\nb\n", diff, without="b") == "one\na\nb\n"

    def test_blocks_know_their_place(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("## Head\n\n**2.** Do\n\n<!-- test: file -->\n```python\nx = 1\n```\n")
        (block,) = blocks(page)
        assert (block.line, block.text, block.note) == (7, "x = 1\n", "test: file")
        assert (block.section, block.step) == ("Head", 2)
