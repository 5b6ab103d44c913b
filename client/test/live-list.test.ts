import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE } from "./support/client.js";
import { settle } from "./support/clock.js";
import { openPage, type Page, setVisibility } from "./support/page.js";
import { event, type Exchange, streamError } from "./support/server.js";

const HTML = { "Content-Type": "text/html; charset=utf-8" };

/** Longer than debounce and jitter together. */
const DUE = 350;

const table = (rows: string, attributes = 'topics="a" data-cursor="page"'): string =>
  `<table><tbody>${rows}<template id="list" ${attributes}></template></tbody></table>`;

const row = (key: number | string, text: number | string = key): string =>
  `<tr data-live-key="${key}"><td>${text}</td></tr>`;

interface ListPage extends Page {
  stream: Exchange;
  body: HTMLElement;
  /** Lets the topic speak, and the page be fetched with this answer. */
  become: (html: string) => Promise<void>;
  texts: () => string[];
}

async function listPage(html: string): Promise<ListPage> {
  const page = await openPage(html);
  await page.clock.tick(CHANGE);
  const stream = page.server.last;
  await stream.open("c1", { heartbeat: 3600 });
  return {
    ...page,
    stream,
    body: page.document.querySelector("tbody, ul")!,
    async become(answer) {
      await stream.send(event("a", "x", 1, "c2"));
      await page.clock.tick(DUE);
      await page.server.last.answer(200, answer, HTML);
    },
    texts: () => [...page.document.querySelectorAll("tr")].map((each) => each.textContent!),
  };
}

const fetches = (page: Page): Exchange[] =>
  page.server.requests.filter((request) => request.headers.has("X-Live-Refresh"));

test("a list in a table subscribes from its cursor, and its rows come, go and change places", async () => {
  const page = await listPage(table(row(1) + row(2) + row(3)));
  assert.deepEqual([page.stream.topics, page.stream.cursor], [["a"], "page"]);
  const [one, two, three] = page.document.querySelectorAll("tr");
  const refreshed: unknown[] = [];
  page.document.addEventListener("live:refreshed", ({ target }) => refreshed.push(target));
  await page.become(table(row(3) + row(4) + row(1, "one")));
  assert.equal(fetches(page)[0]!.headers.get("X-Live-Refresh"), "list");
  assert.deepEqual(page.texts(), ["3", "4", "one"]);
  assert.deepEqual([page.body.children[0], page.body.children[2]], [three, one]);
  assert.equal(two!.isConnected, false);
  assert.deepEqual(refreshed, [page.body]);
  await page.become(table("<tr><td>none</td></tr>"));
  assert.deepEqual(page.texts(), ["none"]);
  await page.become(table(row(1)));
  assert.deepEqual(page.texts(), ["1"]);
});

test("a list and parts of the page are brought up to date with one fetch", async () => {
  const html = (n: number): string =>
    `<live-refresh id="count" topics="a">${n}</live-refresh>${table(row(n))}<live-refresh id="pager" topics="a">${n}</live-refresh>`;
  const page = await listPage(html(1));
  await page.become(html(2));
  assert.equal(fetches(page).length, 1);
  assert.equal(page.document.body.textContent, "222");
});

test("what a fetch is about, and whether it succeeded, can be seen at the element around the rows", async () => {
  const page = await listPage(table(row(1)));
  page.clock.chance = 0.999999;
  await page.stream.send(event("a", "x", 1, "c2"));
  await page.clock.tick(DUE);
  assert.equal(page.body.getAttribute("aria-busy"), "true");
  await page.server.last.answer(503, "", HTML);
  assert.equal(page.body.hasAttribute("aria-busy"), false);
  assert.equal(page.body.hasAttribute("data-live-stale"), true);
  assert.deepEqual(page.texts(), ["1"]);
  await page.clock.tick(2000);
  await page.server.last.answer(200, table(row(2)), HTML);
  assert.equal(page.body.hasAttribute("data-live-stale"), false);
  assert.deepEqual(page.texts(), ["2"]);
  await page.become("<p>no list any more");
  assert.equal(page.body.hasAttribute("data-live-gone"), true);
  assert.deepEqual(page.texts(), ["2"]);
});

test("a list that comes later subscribes; one that is gone lets go of everything", async () => {
  const page = await openPage("<main></main>");
  const main = page.document.querySelector("main")!;
  main.innerHTML = table(row(1));
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1", { heartbeat: 3600 });
  assert.deepEqual(page.server.last.topics, ["a"]);
  await page.server.last.send(event("a", "x", 1, "c2"));
  main.innerHTML = "";
  await page.clock.tick(DUE + CHANGE);
  assert.equal(fetches(page).length, 0);
  assert.equal(page.live.status, "idle");
  assert.equal(page.clock.pending, 0);
});

test("a fresh list that names other topics subscribes to them, from its fresh cursor", async () => {
  const page = await listPage(table(row(1)));
  await page.become(table(row(1), 'topics="a b" data-cursor="page2"'));
  await page.clock.tick(CHANGE);
  assert.deepEqual([page.server.last.topics, page.server.last.cursor], [["a", "b"], "c2,page2"]);
});

test("who may not hear of a list any more is shown what they may see", async () => {
  for (const code of ["forbidden", "revoked"]) {
    const page = await listPage(table(row(1)) + '<live-topic topic="b"></live-topic>');
    const codes: string[] = [];
    page.document.addEventListener("live:error", ({ detail }) => codes.push(detail.data.code));
    await page.stream.send(streamError({ topic: "a", code }));
    await page.clock.tick(DUE);
    assert.deepEqual([codes, fetches(page).length], [[code], 1]);
    await fetches(page)[0]!.answer(200, table(""), HTML);
    assert.deepEqual(page.texts(), []);
    await page.clock.tick(60_000);
    assert.equal(fetches(page).length, 1);
  }
});

test("a page that nobody looks at waits with its fetch until it is shown", async () => {
  const page = await listPage(table(row(1)) + '<live-refresh id="r" topics="a">1</live-refresh>');
  setVisibility(page, "hidden");
  for (let i = 0; i < 3; i += 1) {
    await page.stream.send(event("a", "x", i, `c${i + 2}`));
    await page.clock.tick(60_000);
  }
  assert.equal(fetches(page).length, 0);
  setVisibility(page, "visible");
  await page.clock.tick(0);
  assert.equal(fetches(page).length, 1);
  setVisibility(page, "hidden");
  setVisibility(page, "visible");
  await page.clock.tick(DUE);
  assert.equal(fetches(page).length, 1, "while a fetch is under way there is no other");
  await fetches(page)[0]!.answer(200, table(row(2)), HTML);
  assert.deepEqual(page.texts(), ["2"]);
});

test("a page that is shown again before anything was due, or in a wait, asks for nothing", async () => {
  const page = await listPage(table(row(1)));
  page.clock.chance = 0.999999;
  const show = async (): Promise<void> => {
    setVisibility(page, "hidden");
    setVisibility(page, "visible");
    await page.clock.tick(0);
  };
  await show();
  await page.stream.send(event("a", "x", 1, "c2"));
  await show();
  assert.equal(fetches(page).length, 0);
  await page.clock.tick(DUE);
  await fetches(page)[0]!.answer(503, "", { "Retry-After": "20" });
  await show();
  await page.clock.tick(19_000);
  assert.equal(fetches(page).length, 1);
  await page.clock.tick(3000);
  assert.equal(fetches(page).length, 2);
});

test("hostile keys and ids stay what they are", async () => {
  const key = "x\"]'><b>&amp; ü~%20,";
  const quoted = key.replace(/&/g, "&amp;").replace(/"/g, "&quot;").replace(/</g, "&lt;");
  const list = (text: string, first = ""): string =>
    `<ul>${first}<li data-live-key="${quoted}">${text}</li><template id="${quoted}" topics="a"></template></ul>`;
  const page = await listPage(list("old"));
  const item = page.document.querySelector("li")!;
  assert.equal(item.dataset["liveKey"], key);
  await page.become(list("new", '<li data-live-key="other"></li>'));
  assert.equal(decodeURIComponent(fetches(page)[0]!.headers.get("X-Live-Refresh")!), key);
  assert.equal(page.document.querySelectorAll("li")[1], item);
  assert.equal(item.textContent, "new");
});

// -- what became of a row --------------------------------------------------------------------------

/** Lets every element animate what is said of it, until the test ends that. */
function animated(page: Page): { end: () => Promise<void>; said: () => string[] } {
  const running = new Map<Element, { change: string; animation: { finished: Promise<void> }; end: () => void }>();
  const current = (element: Element): { finished: Promise<void> }[] => {
    const change = element.getAttribute("data-live-change");
    if (change && running.get(element)?.change !== change) {
      let end = (): void => {};
      const animation = { finished: new Promise<void>((done) => (end = done)) };
      running.set(element, { change, animation, end });
    }
    return change ? [running.get(element)!.animation] : [];
  };
  Object.assign(page.window.Element.prototype, {
    getAnimations(this: Element) {
      return current(this);
    },
  });
  const rows = (): Element[] => [...page.document.querySelectorAll("[data-live-key]")];
  Object.assign(page.document, { getAnimations: () => rows().flatMap(current) });
  return {
    async end() {
      for (const { end } of running.values()) end();
      await settle();
    },
    said: () =>
      rows().map((each) => `${each.getAttribute("data-live-key")} ${each.getAttribute("data-live-change") ?? "-"}`),
  };
}

test("what became of a row is said for as long as something animates it", async () => {
  const page = await listPage(table(row(1) + row(2) + row(3) + row(4) + row(5)));
  const animations = animated(page);
  await page.become(table(row(5) + row(6) + row(1) + row(2, "two") + row(4)));
  assert.deepEqual(animations.said(), ["5 moved", "6 entered", "1 -", "2 changed", "3 left", "4 -"]);
  assert.equal(page.document.querySelector('[data-live-key="3"]')!.hasAttribute("inert"), true);
  // Another fetch does not cut it short.
  await page.become(table(row(5) + row(6) + row(1) + row(2, "two") + row(4)));
  assert.deepEqual(animations.said(), ["5 moved", "6 entered", "1 -", "2 changed", "3 left", "4 -"]);
  await animations.end();
  assert.equal(page.document.querySelector("table")!.outerHTML, table(row(5) + row(6) + row(1) + row(2, "two") + row(4)));
});

test("without animations nothing is said and a row goes at once", async () => {
  const page = await listPage(table(row(1) + row(2)));
  await page.become(table(row(3) + row(2, "two")));
  assert.deepEqual(page.texts(), ["3", "two"]);
  assert.equal(page.document.querySelector("[data-live-change]"), null);
});

test("an animation that goes on anyway keeps nothing", async () => {
  const page = await listPage(table(row(1) + row(2)));
  const spinner = { finished: new Promise(() => {}) };
  Object.assign(page.window.Element.prototype, { getAnimations: () => [spinner] });
  Object.assign(page.document, { getAnimations: () => [spinner] });
  await page.become(table(row(2)));
  assert.deepEqual(page.texts(), ["2"]);
});

test("a row that comes back while it goes is the row it was", async () => {
  const page = await listPage(table(row(1) + row(2)));
  const animations = animated(page);
  const second = page.document.querySelector('[data-live-key="2"]')!;
  await page.become(table(row(1)));
  assert.equal(second.getAttribute("data-live-change"), "left");
  await page.become(table(row(1) + row(2)));
  await animations.end();
  assert.equal(second.isConnected, true);
  assert.equal(second.outerHTML, row(2));
});

test("markup that differs each time, as a form's token does, is no change of the row", async () => {
  const form = (token: string): string => `<td><form><input type="hidden" name="t" value="${token}"></form></td>`;
  const page = await listPage(table(row(1, form("x"))));
  const animations = animated(page);
  await page.become(table(row(1, form("y"))));
  assert.deepEqual(animations.said(), ["1 -"]);
  assert.equal(page.document.querySelector("input")!.value, "y");
});

test("a row that someone writes in stays until they have left it", async () => {
  const form = '<input><button type="button">ok</button>';
  const page = await listPage(table(row(1, form) + row(2)));
  const [first] = page.document.querySelectorAll("tr");
  const [field, button] = [first!.querySelector("input")!, first!.querySelector("button")!];
  field.focus();
  field.value = "half";
  await page.become(table(row(2)));
  await page.clock.tick(60_000);
  assert.deepEqual([first!.isConnected, first!.getAttribute("data-live-change")], [true, "left"]);
  assert.equal(first!.hasAttribute("inert"), false);
  assert.equal(field.value, "half");
  await page.become(table(row(1, form) + row(2)));
  assert.equal(page.document.querySelector("tr"), first);
  assert.deepEqual([field.value, first!.hasAttribute("data-live-change")], ["half", false]);
  await page.become(table(row(2)));
  button.focus();
  await page.clock.tick(499);
  assert.equal(first!.isConnected, true);
  await page.clock.tick(1);
  assert.equal(first!.isConnected, false);
});

test("of many rows only those that changed places are moved", async () => {
  const numbers = Array.from({ length: 200 }, (_, i) => i);
  for (const order of [
    [...numbers.slice(1), 0],
    [199, ...numbers.slice(0, 199)],
    [...numbers.slice(0, 50), 150, ...numbers.slice(50, 150), ...numbers.slice(151)],
  ]) {
    const page = await listPage(table(numbers.map((n) => `${row(n)}\n`).join("")));
    const animations = animated(page);
    await page.become(table(order.map((n) => `${row(n)}\n`).join("")));
    assert.deepEqual(page.texts(), order.map(String));
    assert.equal(animations.said().filter((each) => each.endsWith("moved")).length, 1);
  }
});

test("rows that make way for one that is in use did not move", async () => {
  const page = await listPage(table(row(1) + row(2) + row(3, '<input value="x">')));
  const animations = animated(page);
  const input = page.document.querySelector("input")!;
  input.focus();
  input.addEventListener("blur", () => assert.fail("the focus was lost"));
  await page.become(table(row(3, '<input value="x">') + row(1) + row(2)));
  assert.deepEqual(animations.said(), ["3 moved", "1 -", "2 -"]);
});

test("a row in which text is selected is not taken out of the page", async () => {
  const page = await listPage(table(row(1) + row(2) + row(3)));
  const third = page.document.querySelectorAll("tr")[2]!;
  page.window.getSelection()!.selectAllChildren(third.firstChild!);
  const removed: Node[] = [];
  const observer = new page.window.MutationObserver(() => {});
  observer.observe(page.body, { childList: true });
  await page.stream.send(event("a", "x", 1, "c2"));
  await page.clock.tick(DUE);
  observer.takeRecords();
  const answer = page.server.last.answer(200, table(row(3) + row(1) + row(2)), HTML);
  await answer;
  removed.push(...observer.takeRecords().flatMap((record) => [...record.removedNodes]));
  assert.ok(!removed.includes(third));
  assert.equal(page.window.getSelection()!.toString(), "3");
});
