import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE } from "./support/client.js";
import { openPage, type Page } from "./support/page.js";
import { event, type Exchange } from "./support/server.js";

const HTML = { "Content-Type": "text/html; charset=utf-8" };
const DUE = 350;

const feed = (first: string, rows: string, link = ""): string =>
  `<live-feed><span data-part="top"></span><live-refresh id="f" topics="a" data-cursor="page"><p>${link}</p>` +
  `<ol data-part="items" data-first="${first}" tabindex="-1">${rows}</ol></live-refresh></live-feed>`;
const row = (key: number): string => `<li data-live-key="${key}">${key}</li>`;
const LINK = '<a href="/shop/" data-part="show">2 new</a>';

type Sight = (entries: { isIntersecting: boolean; boundingClientRect: { top: number }; rootBounds: { bottom: number } }[]) => void;

interface FeedPage extends Page {
  stream: Exchange;
  /** The top of the feed is in sight, above it or below it. */
  look: (at: "top" | "below" | "above") => void;
  say: () => Promise<void>;
  wishes: () => string[];
}

async function feedPage(html: string): Promise<FeedPage> {
  let sight: Sight = () => {};
  Object.assign(globalThis, {
    IntersectionObserver: class {
      constructor(call: Sight) {
        sight = call;
      }
      observe(): void {}
      disconnect(): void {}
    },
  });
  const page = await openPage(html);
  Object.assign(page.window.Element.prototype, { scrollIntoView() {} });
  const { liveFeed } = await import("../src/features/feeds/feed.js");
  page.window.customElements.define("live-feed", liveFeed(page.live));
  await page.clock.tick(CHANGE);
  const stream = page.server.last;
  await stream.open("c1", { heartbeat: 3600 });
  let offset = 0;
  return {
    ...page,
    stream,
    look: (at) =>
      sight([{ isIntersecting: at === "top", boundingClientRect: { top: at === "below" ? 900 : -50 }, rootBounds: { bottom: 700 } }]),
    async say() {
      offset += 1;
      await stream.send(event("a", "created", offset, `c${offset + 1}`));
      await page.clock.tick(DUE);
    },
    wishes: () => page.server.requests.map(({ headers }) => headers.get("X-Live-Refresh")!).filter(Boolean),
  };
}

test("at the top the newest items are asked for; further down those from the first one that is shown", async () => {
  const page = await feedPage(feed("p=1", row(1)));
  page.look("top");
  await page.say();
  await page.server.last.answer(200, feed("p2", row(2) + row(1)), HTML);
  page.look("below");
  await page.say();
  await page.server.last.answer(200, feed("p=2", row(2) + row(1)), HTML);
  page.look("above");
  await page.say();
  assert.deepEqual(page.wishes(), ["f", "f", "f=p%3D2"]);
  await page.server.last.answer(200, feed("p1", row(1), LINK), HTML);
  await page.say();
  assert.equal(page.wishes().at(-1), "f=p1", "the first one that is left");
});

test("what arrives when the reader has just gone down is kept with the rest", async () => {
  const page = await feedPage(feed("p1", row(1)));
  await page.say();
  page.look("above");
  await page.server.last.answer(200, feed("p2", row(2) + row(1)), HTML);
  await page.say();
  assert.deepEqual(page.wishes(), ["f", "f=p2"]);
});

test("the link, or the way back to the top, brings what waits; without any nothing is fetched", async () => {
  const page = await feedPage(feed("p1", row(1)));
  page.look("above");
  page.look("top");
  await page.clock.tick(DUE);
  assert.deepEqual(page.wishes(), []);
  for (const back of ["link", "way"]) {
    page.look("above");
    await page.say();
    await page.server.last.answer(200, feed("p1", row(1), LINK), HTML);
    if (back === "way") page.look("top");
    else assert.equal(click(page), false, "the link is not followed");
    await page.clock.tick(DUE);
    assert.equal(page.wishes().at(-1), "f");
    await page.server.last.answer(200, feed("p1", row(3) + row(2) + row(1)), HTML);
    assert.equal(page.document.querySelectorAll("li").length, 3);
  }
});

test("without a connection the link is a link", async () => {
  const page = await feedPage(feed("p1", row(1), LINK));
  page.live.close();
  assert.equal(click(page), true);
});

/** Whether the browser would follow the link. */
function click(page: Page): boolean {
  return page.document
    .querySelector("[data-part=show]")!
    .dispatchEvent(new page.window.MouseEvent("click", { bubbles: true, cancelable: true }));
}

test("a time is said as people say it; what is not yet, by this clock, is now", async () => {
  const { ago } = await import("../src/features/feeds/ago.js");
  const said = [-3600, 0, 59, 60, 3599, 86_400 * 2, 86_400 * 40].map((seconds) => ago(seconds, "en"));
  assert.deepEqual(said, ["now", "now", "59 seconds ago", "1 minute ago", "59 minutes ago", "2 days ago", "last month"]);
  assert.equal(ago(120, "de"), "vor 2 Minuten");
});

test("a clock that is set, forwards or back, is right with the next tick, and the page's text is untouched", async () => {
  const page = await openPage('<live-ago><time datetime="2026-01-01T00:00:00Z">New Year</time></live-ago>');
  let tick = (): void => {};
  const { setInterval, clearInterval } = globalThis;
  Object.assign(globalThis, { setInterval: (action: () => void) => ((tick = action), 1), clearInterval() {} });
  page.clock.now = Date.parse("2026-01-01T00:00:05Z");
  const { liveAgo } = await import("../src/features/feeds/ago.js");
  page.window.customElements.define("live-ago", liveAgo());
  const element = page.document.querySelector("live-ago")!;
  const said = ["2026-01-01T00:00:05Z", "2026-01-01T00:00:06Z", "2026-01-01T02:00:00Z", "2025-12-31T20:00:00Z"].map((now) => {
    page.clock.now = Date.parse(now);
    tick();
    return element.shadowRoot!.textContent;
  });
  assert.deepEqual(said, ["5 seconds ago", "6 seconds ago", "2 hours ago", "now"]);
  assert.deepEqual([element.textContent, element.shadowRoot!.querySelector("span")!.title], ["New Year", "New Year"]);
  element.remove();
  Object.assign(globalThis, { setInterval, clearInterval });
});
