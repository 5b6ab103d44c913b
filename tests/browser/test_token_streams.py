"""An answer in a real browser: written, reloaded in the middle, rendered, stopped, and without JavaScript."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.sync_api import Page

from example_project.assistant import markov, model
from tests.browser.sites import PATIENCE, Site, serving
from tests.support.browsers import Expect, NewContext
from tests.support.requirements import requires

WRITE = """
import threading
from django.contrib.auth.models import User
from django_live.features.token_streams import TokenStream
stream = TokenStream("A question", owner=User.objects.get(username="anna"))
go_on = threading.Event()
def work():
    with stream:
        stream.text("The **first** half ")
        go_on.wait(30)
        stream.text("and the <b>second</b>.")
threading.Thread(target=work).start()
import builtins
builtins.go_on = go_on
answer = stream.id
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site"), "example_project") as site:
        yield site


@requires("chromium")
def test_an_answer_survives_a_reload_and_is_rendered_at_its_end(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    answer = site.run(WRITE)
    page = site.visit(new_context, "anna", "/orders/")
    text = shown(page, answer, expect)
    page.reload()
    page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
    assert page.locator(f"#answer-{answer} [data-part=text]").text_content() == text
    page.evaluate("window.sameDocument = true")
    site.run("import builtins; builtins.go_on.set()")
    element = page.locator(f"#answer-{answer}")
    expect(element).to_have_attribute("data-state", "done", timeout=PATIENCE)
    expect(element.locator("[data-part=text] strong")).to_have_text("first", timeout=PATIENCE)
    assert element.locator("[data-part=text]").text_content() == (
        "The first half and the <b>second</b>.\n"
    )
    assert page.evaluate("window.sameDocument")


def shown(page: Page, answer: str, expect: Expect) -> str:
    """The first half, which a page shows that was loaded before it was written, or after."""
    page.goto(page.url.replace("/orders/", "/assistant/"))
    part = page.locator(f"#answer-{answer} [data-part=text]")
    expect(part).to_have_text("The **first** half ", timeout=PATIENCE)
    return "The **first** half "


@requires("chromium")
def test_the_assistant_says_what_it_is_answers_and_can_be_stopped(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    page = site.visit(new_context, "bert", "/orders/")
    page.goto(page.url.replace("/orders/", "/assistant/"))
    expect(page.locator(".assistant__label")).to_contain_text("Markov chain")
    page.fill("#question", "What does a light roast taste of?")
    page.click("text=Ask >> nth=-1")
    answer = page.locator("live-answer").first
    expect(answer.locator("[data-part=text]")).to_contain_text("A toy wrote this", timeout=PATIENCE)
    answer.locator("button").click()
    expect(answer).to_have_attribute("data-state", "stopped", timeout=PATIENCE)
    expect(answer.locator("blockquote")).to_contain_text("A toy wrote this", timeout=PATIENCE)


@requires("chromium")
def test_without_javascript_an_answer_can_be_asked_for_read_and_stopped(
    site: Site, new_context: NewContext, expect: Expect
) -> None:
    answer = site.run(WRITE)
    page = site.visit(new_context, "anna", "/assistant/", java_script_enabled=False)
    element = page.locator(f"#answer-{answer}")
    element.locator("button").click()
    page.wait_for_url("**/assistant/")
    for _ in range(50):
        if page.locator(f"#answer-{answer}").get_attribute("data-state") == "stopped":
            break
        page.reload()
    expect(page.locator(f"#answer-{answer} strong")).to_have_text("first")


class TestWhatWrites:
    def test_the_toy_says_only_what_stands_in_its_text(self) -> None:
        import random

        text = set(markov.TEXT.read_text().split())
        said = list(markov.words("How about water?", random.Random(1)))
        assert said[0] == "Water"
        assert 80 < len(said) < 2 * markov.MOST_WORDS
        assert set(said) <= text

    def test_an_endpoint_that_speaks_as_openais_does(self, settings: object) -> None:
        asked = []

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()
                for delta in ({"reasoning_content": "Hm."}, {"content": "Yes"}, {"content": "!"}):
                    line = json.dumps({"choices": [{"delta": delta}]})
                    self.wfile.write(f"data: {line}\n\n".encode())
                self.wfile.write(b": comment\n\ndata: [DONE]\n\n")

            def log_message(self, *args: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
            threading.Thread(target=server.handle_request, daemon=True).start()
            settings.EXAMPLE_AI_URL = f"http://127.0.0.1:{server.server_port}/v1"  # type: ignore[attr-defined]
            settings.EXAMPLE_AI_MODEL, settings.EXAMPLE_AI_KEY = "tiny", "key"  # type: ignore[attr-defined]
            said = list(model.deltas("Why?"))
        assert said == [("reasoning", "Hm."), ("text", "Yes"), ("text", "!")]
        assert (asked[0]["model"], asked[0]["messages"][0]["content"]) == ("tiny", "Why?")
