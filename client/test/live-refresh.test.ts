import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE } from "./support/client.js";
import { openPage, type Page } from "./support/page.js";
import { event, type Exchange, streamError } from "./support/server.js";

const HTML = { "Content-Type": "text/html; charset=utf-8" };

/** Longer than debounce and jitter together. */
const DUE = 350;

const part = (id: string, content: string, attributes = 'topics="a"'): string =>
  `<live-refresh id="${id}" ${attributes}>${content}</live-refresh>`;

/** A page whose stream is open, and may be silent for long. */
async function livePage(html: string): Promise<Page & { stream: Exchange }> {
  const page = await openPage(html);
  await page.clock.tick(CHANGE);
  const stream = page.server.last;
  await stream.open("c1", { heartbeat: 3600 });
  return { ...page, stream };
}

const fetches = (page: Page): Exchange[] =>
  page.server.requests.filter((request) => request.headers.has("X-Live-Refresh"));

const element = (page: Page, id: string): HTMLElement => page.document.getElementById(id)!;

const speak = (stream: Exchange, topic = "a"): Promise<void> => stream.send(event(topic, "x", 1, "c2"));

test("when a topic speaks, the page is fetched and the part's content replaced", async () => {
  const page = await livePage(part("r", "<b>old</b>", 'topics="orders%2F1 b" data-cursor="page"'));
  assert.deepEqual([page.stream.topics, page.stream.cursor], [["orders/1", "b"], "page"]);
  const refreshed: unknown[] = [];
  page.document.body.addEventListener("live:refreshed", ({ target }) => refreshed.push((target as Element).id));
  await speak(page.stream, "orders/1");
  await page.clock.tick(DUE);
  const [request] = fetches(page);
  assert.equal(request!.url.href, "https://site.test/shop/orders/?page=2");
  assert.equal(request!.headers.get("X-Live-Refresh"), "r");
  assert.equal(request!.init.credentials, "same-origin");
  assert.equal(request!.init.cache, "no-store");
  assert.equal(element(page, "r").getAttribute("aria-busy"), "true");
  await request!.answer(200, `<!doctype html><p>other</p>${part("r", "<b>new</b>")}`, HTML);
  assert.equal(element(page, "r").innerHTML, "<b>new</b>");
  assert.equal(element(page, "r").hasAttribute("aria-busy"), false);
  assert.deepEqual(refreshed, ["r"]);
});

test("a reset, a snapshot and a refusal are reasons to fetch, any other error is told to the page", async () => {
  for (const frame of [
    'event: stream-reset\ndata: {"topic":"a","reason":"epoch","snapshot":false}\nid: c2\n\n',
    event("a", "stream-snapshot", {}, "c2"),
    streamError({ topic: "a", code: "forbidden" }),
  ]) {
    const page = await livePage(part("r", "old"));
    await page.stream.send(frame);
    await page.clock.tick(DUE);
    assert.equal(fetches(page).length, 1);
  }
  const page = await livePage(part("r", "old"));
  const codes: string[] = [];
  page.document.body.addEventListener("live:error", ({ detail }) => codes.push(detail.data.code));
  await page.stream.send(streamError({ topic: "a", code: "too-many-topics" }));
  await page.clock.tick(DUE);
  assert.deepEqual([codes, fetches(page).length], [["too-many-topics"], 0]);
});

test("other topics' events, and the opening of the stream, are no reason", async () => {
  const page = await livePage(part("r", "old") + '<live-topic topic="b"></live-topic>');
  await speak(page.stream, "b");
  await page.clock.tick(5000);
  assert.equal(fetches(page).length, 0);
});

test("two hundred parts and a burst of five hundred events make one fetch", async () => {
  const ids = Array.from({ length: 200 }, (_, i) => `live-part-${i}`);
  const page = await livePage(ids.map((id) => part(id, "old")).join(""));
  await page.stream.send(Array.from({ length: 500 }, (_, i) => event("a", "x", i, `c${i + 2}`)).join(""));
  await page.clock.tick(DUE);
  assert.equal(fetches(page).length, 1);
  assert.equal(fetches(page)[0]!.headers.get("X-Live-Refresh"), ids.join(","));
  await fetches(page)[0]!.answer(200, ids.map((id) => part(id, "new")).join(""), HTML);
  assert.ok(ids.every((id) => element(page, id).innerHTML === "new"));
  await page.clock.tick(60_000);
  assert.equal(fetches(page).length, 1);
});

test("the fetch waits for 100 ms of quiet, and under steady events for a second", async () => {
  const page = await livePage(part("r", "old", 'topics="a" jitter="0"'));
  await speak(page.stream);
  await page.clock.tick(99);
  await speak(page.stream);
  await page.clock.tick(99);
  assert.equal(fetches(page).length, 0);
  await page.clock.tick(1);
  assert.equal(fetches(page).length, 1);
  await fetches(page)[0]!.answer(200, part("r", "new"), HTML);

  const start = page.clock.now;
  while (fetches(page).length < 2) {
    await speak(page.stream);
    await page.clock.tick(50);
  }
  assert.equal(page.clock.now - start, 1000);
});

test("a thousand browsers spread over 200 ms, however many parts are on the page", async () => {
  for (const [chance, wait] of [
    [0, 100],
    [0.5, 200],
    [0.999, 299.8],
  ] as const) {
    const page = await openPage(Array.from({ length: 50 }, (_, i) => part(`r${i}`, "")).join(""));
    page.clock.chance = chance;
    const { createRefresher } = await import("../src/refresher.js");
    const refresher = createRefresher();
    page.clock.chance = 0; // Later draws must not count.
    for (const each of page.document.querySelectorAll("live-refresh")) refresher.mark(each as HTMLElement);
    await page.clock.tick(Math.floor(wait) - 1);
    assert.equal(fetches(page).length, 0);
    await page.clock.tick(2);
    assert.equal(fetches(page).length, 1);
  }
});

test("debounce and jitter can be set in milliseconds", async () => {
  const page = await livePage(part("r", "old", 'topics="a" debounce="3000" jitter="1000"'));
  await speak(page.stream);
  await page.clock.tick(2999);
  assert.equal(fetches(page).length, 0);
  await page.clock.tick(1001);
  assert.equal(fetches(page).length, 1);
});

test("a fetch takes along every part that is behind", async () => {
  const page = await livePage(part("slow", "old", 'topics="a" debounce="5000"') + part("fast", "old"));
  await speak(page.stream);
  await page.clock.tick(DUE);
  assert.equal(fetches(page)[0]!.headers.get("X-Live-Refresh"), "slow,fast");
  await fetches(page)[0]!.answer(200, part("slow", "new") + part("fast", "new"), HTML);
  await page.clock.tick(10_000);
  assert.equal(fetches(page).length, 1);
});

test("events during a fetch make one more after it, and never two at a time", async () => {
  const page = await livePage(part("r", "old"));
  await speak(page.stream);
  await page.clock.tick(DUE);
  for (let i = 0; i < 10; i += 1) {
    await speak(page.stream);
    await page.clock.tick(200);
  }
  assert.equal(fetches(page).length, 1);
  await fetches(page)[0]!.answer(200, part("r", "newer"), HTML);
  await page.clock.tick(DUE);
  assert.equal(fetches(page).length, 2);
  await fetches(page)[1]!.answer(200, part("r", "newest"), HTML);
  await page.clock.tick(60_000);
  assert.equal(fetches(page).length, 2);
  assert.equal(element(page, "r").innerHTML, "newest");
});

test("ids too long for one header are fetched one batch after the other", async () => {
  const ids = Array.from({ length: 60 }, (_, i) => `${i}-${"é".repeat(20)}`);
  const html = ids.map((id) => part(id, "new")).join("");
  const page = await livePage(ids.map((id) => part(id, "old")).join(""));
  await speak(page.stream);
  for (let round = 0; round < 3; round += 1) {
    await page.clock.tick(DUE);
    assert.ok(page.server.last.headers.get("X-Live-Refresh")!.length <= 4096);
    await page.server.last.answer(200, html, HTML);
  }
  assert.equal(fetches(page).length, 2);
  assert.ok(ids.every((id) => element(page, id).innerHTML === "new"));
});

test("one id that is too long makes no storm", async () => {
  const page = await livePage(part("x".repeat(5000), "old"));
  await speak(page.stream);
  await page.clock.tick(DUE);
  await fetches(page)[0]!.answer(200, part("x".repeat(5000), "new"), HTML);
  await page.clock.tick(60_000);
  assert.equal(fetches(page).length, 1);
});

const unusable: [string, number, Record<string, string>, string | undefined][] = [
  ["a refusal", 403, HTML, undefined],
  ["a redirect to another page", 200, HTML, "https://site.test/login/?next=/shop/orders/"],
  ["a redirect to another site", 200, HTML, "https://other.test/shop/orders/"],
  ["an answer that is no HTML", 200, { "Content-Type": "application/json" }, undefined],
];
for (const [what, status, headers, url] of unusable) {
  test(`${what} keeps the content, marks it stale, and waits for the next event`, async () => {
    const page = await livePage(part("r", "old"));
    await speak(page.stream);
    await page.clock.tick(DUE);
    await fetches(page)[0]!.answer(status, part("r", "wrong"), headers, url);
    assert.equal(element(page, "r").innerHTML, "old");
    assert.equal(element(page, "r").hasAttribute("data-live-stale"), true);
    assert.equal(element(page, "r").hasAttribute("aria-busy"), false);
    await page.clock.tick(600_000);
    assert.equal(fetches(page).length, 1);
    await speak(page.stream);
    await page.clock.tick(DUE);
    await fetches(page)[1]!.answer(200, part("r", "new"), HTML, "https://site.test/shop/orders/?page=1");
    assert.equal(element(page, "r").outerHTML, part("r", "new"));
  });
}

test("a server error or a lost network marks the content stale and is tried again, ever more slowly", async () => {
  const page = await livePage(part("r", "old"));
  page.clock.chance = 0.999999;
  await speak(page.stream);
  await page.clock.tick(DUE);
  for (const [attempt, bound] of [2000, 4000, 8000].entries()) {
    const request = fetches(page).at(-1)!;
    if (attempt % 2) await request.cut();
    else await request.answer(503, "", HTML);
    assert.equal(element(page, "r").hasAttribute("data-live-stale"), true);
    await speak(page.stream); // Events do not make it come sooner.
    await page.clock.tick(bound - 10);
    assert.equal(fetches(page).length, attempt + 1);
    await page.clock.tick(10);
    assert.equal(fetches(page).length, attempt + 2);
  }
  await page.server.last.answer(200, part("r", "new"), HTML);
  assert.equal(element(page, "r").outerHTML, part("r", "new"));

  await speak(page.stream);
  await page.clock.tick(DUE);
  await page.server.last.answer(503, "", HTML);
  await page.clock.tick(2000);
  assert.equal(fetches(page).length, 6, "the waits begin anew");
});

test("Retry-After is the least wait", async () => {
  const page = await livePage(part("r", "old"));
  await speak(page.stream);
  await page.clock.tick(DUE);
  await fetches(page)[0]!.answer(429, "", { "Retry-After": "20" });
  await page.clock.tick(20_000);
  assert.equal(fetches(page).length, 1);
  await page.clock.tick(2000);
  assert.equal(fetches(page).length, 2);
});

test("a page that does not answer is given up after half a minute", async () => {
  const page = await livePage(part("r", "old"));
  await speak(page.stream);
  await page.clock.tick(DUE + 30_000);
  assert.equal(fetches(page)[0]!.aborted, true);
  assert.equal(element(page, "r").hasAttribute("data-live-stale"), true);
});

test("a part that the page no longer has keeps its content and is marked", async () => {
  const page = await livePage(part("r", "old"));
  await speak(page.stream);
  await page.clock.tick(DUE);
  await fetches(page)[0]!.answer(200, "<p>nothing here", HTML);
  assert.equal(element(page, "r").innerHTML, "old");
  assert.equal(element(page, "r").hasAttribute("data-live-gone"), true);
  await page.clock.tick(600_000);
  assert.equal(fetches(page).length, 1);
  await speak(page.stream);
  await page.clock.tick(DUE);
  await fetches(page)[1]!.answer(200, part("r", "back"), HTML);
  assert.equal(element(page, "r").outerHTML, part("r", "back"));
});

test("a part that is removed lets go of everything, even in the middle of a fetch", async () => {
  const page = await livePage(part("r", "old") + part("s", "old"));
  const removed = element(page, "r");
  await speak(page.stream);
  await page.clock.tick(DUE);
  removed.remove();
  await fetches(page)[0]!.answer(200, part("r", "new") + part("s", "new"), HTML);
  assert.equal(removed.innerHTML, "old");
  assert.equal(element(page, "s").innerHTML, "new");
  element(page, "s").remove();
  await page.clock.tick(CHANGE);
  assert.equal(page.live.status, "idle");
  assert.equal(page.clock.pending, 0);
});

test("a part that was behind when it was moved or taken away is fetched when it is back", async () => {
  const page = await livePage(part("r", "old") + "<div></div>");
  const moved = element(page, "r");
  await speak(page.stream);
  page.document.querySelector("div")!.append(moved);
  await page.clock.tick(DUE);
  assert.equal(fetches(page).length, 1);
  moved.remove();
  await fetches(page)[0]!.answer(200, part("r", "new"), HTML);
  page.document.body.append(moved);
  await page.clock.tick(DUE);
  assert.equal(fetches(page).length, 2);
});

test("a fresh part that names other topics subscribes to them, from its fresh cursor", async () => {
  const page = await livePage(part("r", "old", 'topics="a" data-cursor="page1"'));
  await speak(page.stream);
  await page.clock.tick(DUE);
  await fetches(page)[0]!.answer(200, part("r", "new", 'topics="a b" data-cursor="page2"'), HTML);
  await page.clock.tick(CHANGE);
  assert.deepEqual([page.server.last.topics, page.server.last.cursor], [["a", "b"], "c2,page2"]);
});

test("parts inside of parts are brought up to date with them", async () => {
  const page = await livePage(part("outer", part("inner", "old", 'topics="b"')));
  const inner = element(page, "inner");
  await page.stream.send(event("a", "x", 1, "c2"), event("b", "x", 1, "c3"));
  await page.clock.tick(DUE);
  const html = part("outer", `<p>more</p>${part("inner", "<i>new</i>", 'topics="b"')}`);
  await fetches(page)[0]!.answer(200, html, HTML);
  assert.equal(element(page, "outer").outerHTML, html);
  assert.equal(element(page, "inner"), inner);
});

test("code in a fetched part neither runs nor arrives; data does", async () => {
  const page = await livePage(part("r", "<script>1</script>"));
  await speak(page.stream);
  await page.clock.tick(DUE);
  const data = '<script type="application/json" id="d">{"n":2}</script>';
  const html = `<script>2</script><script type="module">3</script><noscript><img src="x"></noscript>${data}<b>new</b>`;
  await fetches(page)[0]!.answer(200, part("r", html), HTML);
  assert.equal(element(page, "r").innerHTML, `<script>1</script>${data}<b>new</b>`);
});

test("a part without an id says that it needs one", async () => {
  const page = await openPage('<live-refresh topics="a"></live-refresh>');
  assert.match(String(page.reported[0]), /needs an id/);
  await page.clock.tick(CHANGE);
  assert.equal(page.server.requests.length, 0);
});

test("the element says nothing about how it is read aloud", async () => {
  const page = await livePage(part("r", "old") + part("s", "old", 'topics="a" aria-live="polite"'));
  assert.equal(element(page, "r").hasAttribute("aria-live"), false);
  assert.equal(element(page, "s").getAttribute("aria-live"), "polite");
});
