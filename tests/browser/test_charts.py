"""Charts in a real browser: drawn by ourselves, by uPlot and by Chart.js as npm has them; and what says that it is
old."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.browsers import Expect
from tests.support.requirements import requires
from tests.support.servers import PROJECT_ROOT

pytestmark = [requires("chromium"), requires("npm"), pytest.mark.usefixtures("libraries")]

CLIENT = PROJECT_ROOT / "client"
STATIC = PROJECT_ROOT / "django_live" / "static" / "django_live"
UPLOT = ["node_modules/uplot/dist/uPlot.iife.min.js", "node_modules/uplot/dist/uPlot.min.css"]
CHARTJS = ["node_modules/chart.js/dist/chart.umd.min.js"]

PAGE = """<!doctype html><html lang="en"><body style="width: 640px"></body><script>
let handlers;
window.live = { status: "live", onStatus: () => () => {},
  subscribe: (_, given) => { handlers = given; return { unsubscribe() {} }; } };
let n = 0;
window.begin = (items) => handlers.snapshot({ run: "a", n, age: 0, items });
window.add = (...items) => handlers["*"]({ run: "a", n: ++n, age: 0, items }, { type: "update" });
window.point = (at, values) => [at, 1.7e9 + at, values];
window.show = (library, kind) => { document.body.innerHTML = `<live-chart data-topic="t" data-kind="${kind}"
  data-with="${library}"><details><table><tbody></tbody></table></details></live-chart>`; };
window.ink = (canvas = document.querySelector("live-chart canvas")) => {
  if (!canvas?.width) return 0;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue] = [data[at], data[at + 1], data[at + 2]];
    // The lines have colours; axes and text are grey.
    if (data[at + 3] > 99 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) sum += at + 1;
  }
  return sum;
};
</script></html>"""


@pytest.fixture(scope="module")
def libraries() -> None:
    """As `npm ci` has them; `make test` has done that already."""
    if not all((CLIENT / file).exists() for file in [*UPLOT, *CHARTJS]):
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=CLIENT, check=True)


def board(page: Page, files: list[str], library: str, kind: str) -> list[str]:
    """A page with a chart; the faults that happen in it."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_content(PAGE)
    page.add_style_tag(path=str(STATIC / "live-dashboards.css"))
    add(page, files)
    page.add_script_tag(path=str(STATIC / "live-dashboards.js"))
    page.evaluate("([library, kind]) => show(library, kind)", [library, kind])
    return faults


def add(page: Page, files: list[str]) -> None:
    for file in files:
        make = page.add_style_tag if file.endswith(".css") else page.add_script_tag
        make(path=str(CLIENT / file))


def drawn(page: Page, other_than: float = 0) -> Any:
    """Stands for what is drawn, once it is another picture than that."""
    return page.wait_for_function(
        "before => { const now = ink(); return now !== before && now > 0 && now; }", arg=other_than
    ).json_value()


@pytest.mark.parametrize("kind", ["line", "bars", "sparkline"])
@pytest.mark.parametrize(
    ("library", "files"),
    [("", []), ("uplot", UPLOT), ("chartjs", CHARTJS)],
    ids=lambda it: it or "-",
)
def test_a_chart_is_drawn_and_goes_on(
    page: Page, library: str, files: list[str], kind: str
) -> None:
    faults = board(page, files, library, kind)
    page.evaluate("begin(Array.from({ length: 50 }, (_, at) => point(at, { a: at % 7, b: 3 })))")
    first = drawn(page)
    page.evaluate("add(point(50, { a: 20, b: null }), point(51, { a: 20, c: -5 }))")
    second = drawn(page, first)
    assert page.locator("live-chart canvas").count() == 1
    assert page.locator("live-chart tbody tr").count() >= 2, "the same in words"

    before = page.evaluate("document.querySelector('live-chart canvas').width")
    if kind != "sparkline":
        page.evaluate("document.body.style.width = '400px'")
        page.wait_for_function(
            "before => document.querySelector('live-chart canvas').width < before - 99", arg=before
        )
    page.evaluate("begin([])")
    page.evaluate("begin([point(0, { a: 1 }), point(1, { a: 2 }), point(2, { a: 1 })])")
    drawn(page, second)
    page.evaluate("window.chart = document.querySelector('live-chart'); chart.remove()")
    assert page.evaluate("chart.querySelectorAll('canvas').length") == 0
    assert faults == []


@pytest.mark.parametrize(("library", "files"), [("uplot", UPLOT), ("chartjs", CHARTJS)])
def test_a_library_that_comes_late_takes_over(page: Page, library: str, files: list[str]) -> None:
    faults = board(page, [], library, "line")
    page.evaluate("begin(Array.from({ length: 9 }, (_, at) => point(at, { a: at })))")
    drawn(page)
    assert page.locator("live-chart > canvas").count() == 1, "ours, meanwhile"
    add(page, files)
    page.evaluate("add(point(9, { a: 0 }))")
    page.wait_for_selector("live-chart [data-part=plot] canvas")
    drawn(page)
    assert page.locator("live-chart canvas").count() == 1
    assert faults == []


def test_what_has_not_been_written_for_too_long_says_so_whatever_the_clock_is_set_to(
    page: Page, expect: Expect
) -> None:
    """As when the process that writes was killed, until another has taken over."""
    faults = board(page, [], "", "line")
    page.evaluate(
        """() => { document.body.innerHTML = '<live-value data-topic="t" data-stale="0.6"><b data-part="value"></b>'
        + '</live-value>'; handlers.snapshot({ run: "a", n, age: 0, value: 1 }); }"""
    )
    value = page.locator("live-value")
    expect(value).to_have_text("1")
    expect(value).not_to_have_attribute("data-old", "")
    page.evaluate("Date.now = () => performance.timeOrigin + 3.6e6")
    expect(value).to_have_attribute("data-old", "")
    assert page.evaluate("document.querySelector('live-value').title") == "This may be out of date."
    page.evaluate("Date.now = () => performance.timeOrigin - 3.6e6")
    page.evaluate("""handlers["*"]({ run: "b", n: 1, age: 0, value: 2 }, { type: "update" })""")
    expect(value).to_have_text("2")
    expect(value).not_to_have_attribute("data-old", "")
    page.evaluate("""handlers["*"]({ run: "b", n: 2, age: 9, value: 2 }, { type: "update" })""")
    expect(value).to_have_attribute("data-old", "")
    assert faults == []
