"""What a real browser can be made to do by somebody hostile: by a page of another origin that the victim
visits, and by text that the victim is shown."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Page

from tests.browser.attack_pages import ELEMENTS
from tests.support.browsers import NewContext
from tests.support.databases import server_database
from tests.support.http import Visitor
from tests.support.network import Mode, Network
from tests.support.other_process import OtherProcess
from tests.support.requirements import requires
from tests.support.servers import PROJECT_ROOT, Server

pytestmark = requires("chromium")

SETTINGS = "tests.browser.attack_settings"
MAKE = """
from django.contrib.auth.models import User
from tests.testapp.models import Order
answer = Order.objects.create(customer=User.objects.create_user("anna")).pk
"""
SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get())
answer = client.session.session_key
"""


class Attacked:
    """The site, somebody who is signed in, and a process in which others save."""

    def __init__(self, server: Server, elsewhere: OtherProcess) -> None:
        self.server = server
        self.elsewhere = elsewhere
        self.order: int = elsewhere.run(MAKE)
        self.session: str = elsewhere.run(SIGN_IN)

    def visit(self, new_context: NewContext, url: str) -> Page:
        """The victim's browser at this address."""
        context = new_context()
        context.add_cookies(
            [
                {
                    "name": "sessionid",
                    "value": self.session,
                    "domain": "127.0.0.1",
                    "path": "/",
                    "httpOnly": True,
                    "sameSite": "Lax",
                }
            ]
        )
        page = context.new_page()
        page.goto(url)
        return page

    def save(self, status: str) -> None:
        source = f"Order.objects.get(pk={self.order})\norder.status = {status!r}\norder.save()"
        self.elsewhere.run(f"from tests.testapp.models import Order\norder = {source}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    with server_database("sqlite", folder, SETTINGS) as database, ExitStack() as stack:
        env = {**database.env, "DJANGO_SETTINGS_MODULE": SETTINGS}
        elsewhere = stack.enter_context(OtherProcess(env))
        server = Server(
            "uvicorn", env=env, options=["--access-log"], log_path=folder / "server.log"
        )
        yield Attacked(stack.enter_context(server), elsewhere)


# -- pages of other origins ------------------------------------------------------------------------


class Empty(BaseHTTPRequestHandler):
    """An empty page, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><iframe name=hidden></iframe>")

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def hostile_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


# Each resolves to what the page has got. `T` is the site that is attacked.
FORGED = """'{"topic": "rooms/forged", "type": "say", "data": "forged"}'"""
ATTACKS = {
    "a stream is opened": """new Promise((done) => {
        const stream = new EventSource(T + "/live/events/?topic=orders/1", { withCredentials: true });
        stream.addEventListener("stream-open", () => (stream.close(), done("all of it")));
        stream.onerror = () => (stream.close(), done("nothing"));
    })""",
    "a socket is hijacked": """new Promise((done) => {
        const socket = new WebSocket(T.replace("http", "ws") + "/live/ws/", ["live.1"]);
        const subscribe = { action: "subscribe", ref: 1, topics: ["orders/1"] };
        socket.onopen = () => socket.send(JSON.stringify(subscribe));
        socket.onmessage = ({ data }) => data.includes("stream-reply") && done("all of it");
        socket.onclose = ({ code }) => done(code === 4202 ? "nothing" : String(code));
    })""",
    "a topic is polled": """fetch(T + "/live/poll/?topic=orders/1", { credentials: "include" })
        .then((answer) => (answer.ok ? "all of it" : "nothing"), () => "nothing")""",
    "a stream is opened blindly": """fetch(T + "/live/events/?topic=orders/1",
        { credentials: "include", mode: "no-cors" }).then(
          (answer) => (answer.body?.cancel(), answer.ok ? "all of it" : "nothing"), () => "nothing")""",
    "the CSRF token is stolen": """fetch(T + "/live/send/", { credentials: "include" })
        .then((answer) => answer.json()).then((it) => (it.csrfToken ? "all of it" : "nothing"), () => "nothing")""",
}
# The same without a control of its own: nothing of what is sent may arrive.
BLIND = {
    "a message is posted": f"""fetch(T + "/live/send/", {{ method: "POST", mode: "no-cors",
        credentials: "include", headers: {{ "Content-Type": "text/plain" }}, body: {FORGED} }})
        .then(() => 0, () => 0)""",
    "a form is posted": """new Promise((done) => {
        const form = document.createElement("form");
        const field = document.createElement("input");
        Object.assign(form, { method: "POST", enctype: "text/plain", target: "hidden" });
        form.action = T + "/live/send/";
        field.name = '{"topic": "rooms/forged", "type": "say", "x": "';
        field.value = '", "data": "forged"}';
        form.append(field);
        document.body.append(form);
        document.querySelector("iframe").onload = () => done(0);
        form.submit();
    })""",
    "a ticket is asked for": """fetch(T + "/live/tickets/", { method: "POST", mode: "no-cors",
        credentials: "include" }).then(() => 0, () => 0)""",
}


def attack(page: Page, site: Attacked, source: str) -> object:
    return page.evaluate(f"async () => {{ const T = {site.server.url!r}; return {source}; }}")


def answers(site: Attacked, since: int) -> list[tuple[str, str]]:
    """The address and the status of each HTTP request to a live address since then."""
    log = site.server.log()[since:]
    return re.findall(r'"(?:GET|POST) (/live/\w+/)\S* HTTP/1.1" (\d+)', log)


def test_the_sites_own_page_gets_it_all(site: Attacked, new_context: NewContext) -> None:
    """The control: the attacks work, where they are none."""
    page = site.visit(new_context, site.server.url)
    for name, source in ATTACKS.items():
        assert attack(page, site, source.replace("orders/1", f"orders/{site.order}")) == (
            "all of it"
        ), name


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_gets_nothing(
    host: str, site: Attacked, hostile_port: int, new_context: NewContext
) -> None:
    """`127.0.0.1` with another port is the same *site*, so the browser sends the cookies along, as it does
    for a sister host; `localhost` is another one."""
    page = site.visit(new_context, f"http://{host}:{hostile_port}/")
    room = "/live/poll/?topic=rooms/forged"
    cursor = Visitor(site.server.url).get(room).json()["cursor"]
    began = len(site.server.log())
    for name, source in ATTACKS.items():
        got = attack(page, site, source.replace("orders/1", f"orders/{site.order}"))
        assert got == "nothing", name
    for source in BLIND.values():
        attack(page, site, source)
    told = answers(site, began)
    assert len(told) == len(ATTACKS) - 1 + len(BLIND), told  # the socket is no such request
    assert {status for _, status in told} == {"403"}, told
    assert Visitor(site.server.url).get(f"{room}&cursor={cursor}").json()["frames"] == []


# -- text that somebody else wrote -----------------------------------------------------------------

HOSTILE = (
    "<img src=x onerror=\"pwned='img'\">"
    '"><svg onload="pwned=\'svg\'">'
    "'><script>pwned='script'</script>"
    "</script></template></textarea></title><script>pwned='closed'</script>"
    "<iframe srcdoc=\"<script>parent.pwned='frame'</script>\"></iframe>"
    "<a href=\"javascript:pwned='link'\" autofocus onfocus=\"pwned='focus'\">link</a>"
    "<live-topic topic=\"open/a\"></live-topic>{{ 7|add:7 }}${pwned='template'}"
)
LOOK = """() => ({
    pwned: window.pwned ?? null,
    made: document.querySelectorAll("main :is(img, svg, script, iframe, a, [onload], [onfocus])").length,
    text: document.querySelector("main").textContent,
    titles: [...document.querySelectorAll("main [title]")].map((element) => element.title),
})"""


@pytest.mark.parametrize("name", ELEMENTS)
def test_text_of_an_event_stays_text(name: str, site: Attacked, new_context: NewContext) -> None:
    site.save("harmless")
    page = site.visit(new_context, f"{site.server.url}/attacked/{name}/")
    page.wait_for_function("document.documentElement.dataset.liveStatus === 'live'")
    page.evaluate("window.sameDocument = true")
    before = page.evaluate(LOOK)
    site.save(HOSTILE)
    if ELEMENTS[name].shows:
        page.wait_for_function(
            "(text) => document.querySelector('main').textContent.includes(text)", arg=HOSTILE
        )
    else:
        page.wait_for_function("(text) => window.heard?.data.status === text", arg=HOSTILE)
    assert page.evaluate("window.sameDocument") is True, "the page was loaded anew"
    # Whatever was made of it has had its turn when two frames have been drawn.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    after = page.evaluate(LOOK)
    assert after["pwned"] is None
    assert after["made"] == before["made"]
    if ELEMENTS[name].shows:
        assert set(after["titles"]) == {HOSTILE}
    else:
        assert after["text"] == before["text"]


def test_where_text_is_taken_for_html_it_would_be_seen(
    site: Attacked, new_context: NewContext
) -> None:
    """The control: what a page of its own must not do."""
    page = site.visit(new_context, f"{site.server.url}/attacked/live-topic/")
    page.evaluate("(text) => (document.querySelector('main').innerHTML = text)", HOSTILE)
    page.wait_for_function("window.pwned")
    assert page.evaluate(LOOK)["made"] > 0


def test_every_element_of_the_client_is_attacked() -> None:
    """A new one has to be added to ELEMENTS; a feature adds its own."""
    source = (PROJECT_ROOT / "client/src/elements/define.ts").read_text()
    defined = set(re.findall(r'customElements\.define\(\s*"(live-[a-z-]+)"', source))
    assert defined
    assert defined <= ELEMENTS.keys()


# -- a session that ends while its page is away ----------------------------------------------------

END = """
from django.contrib.sessions.models import Session
Session.objects.all().delete()
"""
SAY = "from django_live import publish\npublish('open/a', 'said', {{'n': {n}}})"
NUMBERS = itertools.count(1)
"""A page hears what was said shortly before it was asked for: so each of these pages has a number of its own."""
RENEW = """live.configure({ onRenew: async () => {
    const answer = await fetch("/sign-in/", { method: "POST" });
    return answer.ok && (window.renewed = true);
} })"""
HEARD = """(n) => {
    const said = window.all.filter(({ data }) => data.n === n);
    return said.length ? said.map(({ renewed }) => renewed) : null;
}"""


@dataclass
class Returning:
    """A page that comes back when its session has ended and something was said."""

    page: Page
    network: Network
    site: Attacked
    said: int = field(default_factory=lambda: next(NUMBERS))

    def come_back(self, how: str, network: Mode = "open") -> None:
        self.site.elsewhere.run(END)
        self.site.elsewhere.run(SAY.format(n=self.said))
        self.network.mode = network
        self.page.evaluate(how)

    def is_told_to_stop(self) -> None:
        self.page.wait_for_function("live.status === 'stopped'")
        assert self.heard() is None

    def heard(self) -> list[object] | None:
        """For each time that it heard what was said: whether it had renewed who it is by then."""
        found: list[object] | None = self.page.evaluate(HEARD, self.said)
        return found

    def hears(self) -> list[object] | None:
        self.page.wait_for_function(HEARD, arg=self.said)
        return self.heard()


Visit = Callable[..., Returning]


@pytest.fixture
def visited(site: Attacked, new_context: NewContext) -> Iterator[Visit]:
    """Opens the page of somebody who is signed in, or of a visitor, over a network that can be cut."""
    with Network(site.server.host, site.server.port) as network:

        def visit(path: str = "/listening/", *, signed_in: bool = True) -> Returning:
            url = f"{network.url}{path}"
            if signed_in:
                site.session = site.elsewhere.run(SIGN_IN)
                page = site.visit(new_context, url)
            else:
                page = new_context().new_page()
                page.goto(url)
            return Returning(page, network, site)

        yield visit


ONLINE = "dispatchEvent(new Event('online')), undefined"


@pytest.mark.parametrize("who", ["signed in", "renews", "visitor"])
def test_a_page_whose_session_ended_while_it_was_away_is_no_visitors(
    who: str, visited: Visit
) -> None:
    """Its topic is one that visitors may hear, so nothing else would tell."""
    here = visited(signed_in=who != "visitor")
    here.page.wait_for_function("live.status === 'live'")
    if who == "renews":
        here.page.evaluate(RENEW)
    here.network.mode = "down"
    here.network.cut()
    here.page.wait_for_function("live.status === 'stale'")
    here.come_back(ONLINE)
    if who == "signed in":
        here.is_told_to_stop()
    else:
        assert here.hears() == [who == "renews"]


ASKS = {"sse": "/live/events/", "ws": "ws /live/ws/", "poll": "/live/poll/"}
NEVER_LIVE = [
    *itertools.product(ASKS, ["signed in", "visitor"]),
    ("sse", "renews"),
    ("sse", "control"),
]


@pytest.mark.parametrize(("transport", "who"), NEVER_LIVE)
def test_a_page_that_has_never_been_live_is_no_visitors(
    transport: str, who: str, visited: Visit
) -> None:
    """It was given no cursor that would tell whose it is: its first stream was lost. The control does not
    say that it is somebody's."""
    here = visited("/listening-later/", signed_in=who != "visitor")
    if transport == "poll":  # as a network that lets nothing else through would have it
        here.page.evaluate("localStorage.setItem('live:transport', `2 ${Date.now() + 60_000}`)")
        here.page.reload()
    if who == "renews":
        here.page.evaluate(RENEW)
    elif who == "control":
        here.page.evaluate("live.configure({ known: '' })")
    here.network.mode = "down"
    here.page.evaluate("(transport) => listen(transport)", "ws" if transport == "ws" else "sse")
    here.page.wait_for_function("live.status === 'connecting'")
    # A socket that does not open makes the client try the others in turn: which one would be next when
    # the network is back is a matter of the moment.
    here.come_back("live.connect()", "sockets-only" if transport == "ws" else "open")
    if who == "signed in":
        here.is_told_to_stop()
    else:
        here.page.wait_for_function("live.status === 'live'")
        here.site.elsewhere.run(SAY.format(n=here.said))
        assert here.hears() == [who == "renews"]
    assert any(path.startswith(ASKS[transport]) for path in here.network.seen)


@pytest.mark.parametrize("who", ["signed in", "visitor"])
def test_a_message_of_a_page_whose_session_ended_is_no_visitors(who: str, visited: Visit) -> None:
    """The page listens to nothing, so nobody has told it."""
    here = visited("/listening-later/", signed_in=who != "visitor")
    say = "live.call('rooms/open', 'describe', 1).then(() => 'taken', ({ code }) => code)"
    assert here.page.evaluate(say) == "taken"
    here.site.elsewhere.run(END)
    assert here.page.evaluate(say) == ("signed-out" if who == "signed in" else "taken")


def test_a_second_tab_is_no_visitors(visited: Visit) -> None:
    """The first one leads, and has a connection that is still open; the second asks for itself."""
    here = visited()
    here.page.wait_for_function("live.status === 'live'")
    second = here.page.context.new_page()
    second.goto(f"{here.network.url}/listening-later/")
    here.site.elsewhere.run(
        "from django.contrib.sessions.models import Session\n"
        "Session.objects.all()._raw_delete('default')"  # nobody is told of it
    )
    second.evaluate("listen()")
    second.wait_for_function("live.status === 'stopped'")
    here.site.elsewhere.run(SAY.format(n=here.said))
    assert here.hears() == [False], "the first one's stream is looked at again later"
    assert second.evaluate(HEARD, here.said) is None
