import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE } from "./support/client.js";
import { openPage, type Page } from "./support/page.js";
import { event } from "./support/server.js";

const TOPIC = "live/inbox/7";

let page: Page | undefined;

interface Bell {
  readonly badge: () => string;
  readonly toasts: () => number[];
  readonly say: (type: string, data: object) => Promise<void>;
}

/** A page on which these are unread. */
async function openBell(unread: readonly number[]): Promise<Bell> {
  page ??= await openPage(); // the element's class belongs to one window
  const { document, clock, server } = page;
  Object.assign(page.window, { live: page.live });
  Object.assign(globalThis, { HTMLAnchorElement: (page.window as unknown as typeof globalThis).HTMLAnchorElement });
  Object.defineProperty(document, "visibilityState", { value: "visible", configurable: true });
  await import("../src/features/notifications.js");
  document.body.innerHTML = "";
  await clock.tick(CHANGE);
  document.body.innerHTML = `<live-notifications topic="${TOPIC}" data-cursor="page" data-unread="${unread.join()}" data-most="100"
    data-latest="https://site.test/n/latest/" data-toasts data-text-label="Notes, %s unread"><a data-live-bell href="/n/"><i data-live-badge>${unread.length}</i></a>
    <div data-live-panel hidden></div><div data-live-toasts></div></live-notifications>`;
  await clock.tick(CHANGE);
  await server.last.open("c1");
  assert.deepEqual([server.last.topics, server.last.cursor], [[TOPIC], "page"]);
  const badge = document.querySelector<HTMLElement>("[data-live-badge]")!;
  return {
    badge: () => (badge.hidden ? "" : badge.textContent!),
    toasts: () => [...document.querySelectorAll<HTMLElement>("[data-live-toasts] > [data-id]")].map((one) => Number(one.dataset["id"])),
    say: (type, data) => server.last.send(event(TOPIC, type, data, `c${Math.random()}`)),
  };
}

const told = (id: number, more: object = {}): object => ({ id, kind: "note", title: `note ${id}`, body: "", url: "", is_new: true, is_quiet: false, ...more });
const read = (ids: number[], unread: number): object => ({ ids, newest: 0, unread });
const allRead = (newest: number): object => ({ ids: null, newest, unread: 0 });

test("what is told again although the page was made with it changes nothing", async () => {
  const { badge, say } = await openBell([7, 9]);
  await say("notified", told(5));
  await say("notified", told(7));
  await say("read", allRead(6));
  await say("notified", told(9));
  assert.equal(badge(), "2");
});

test("what is told again of what was read before the page was made ends as the page has it", async () => {
  const { badge, say } = await openBell([]);
  await say("notified", told(3));
  await say("notified", told(4));
  await say("read", read([3], 1));
  await say("read", read([4], 0));
  assert.equal(badge(), "");
});

test("new ones are counted, read ones are not, once each", async () => {
  const { badge, say } = await openBell([7]);
  await say("notified", told(12));
  await say("notified", told(12));
  await say("notified", told(10)); // its transaction took longer
  assert.equal(badge(), "3");
  await say("notified", told(10, { is_new: false, title: "2 notes" }));
  await say("read", read([7], 2));
  await say("read", read([7], 2));
  assert.equal(badge(), "2");
});

test("one that comes while all are being read stays", async () => {
  const { badge, toasts, say } = await openBell([7]);
  await say("notified", told(12));
  await say("notified", told(13));
  await say("read", allRead(12));
  assert.deepEqual([badge(), toasts()], ["1", [13]]);
});

test("more than are counted are 99+ until the server says how many are left", async () => {
  const many = Array.from({ length: 100 }, (_, n) => n + 1);
  const { badge, say } = await openBell(many);
  await say("notified", told(200));
  await say("read", read([1, 2], 100));
  assert.equal(badge(), "99+");
  await say("read", read([3, 4, 5], 97));
  assert.equal(badge(), "97");
  await say("read", read([150], 96)); // one that the page never heard of
  assert.equal(badge(), "96");
  await say("read", allRead(300));
  assert.equal(badge(), "");
});

test("a snapshot begins anew", async () => {
  const { badge, say } = await openBell([1, 2, 3]);
  await say("stream-snapshot", { unread_ids: [8, 9] });
  await say("notified", told(9));
  assert.equal(badge(), "2");
});

test("the list that is opened takes the focus, and not from who is in it already", async () => {
  await openBell([7]);
  const { document, server } = page!;
  const bell = document.querySelector<HTMLElement>("[data-live-bell]")!;
  const list = '<h2 id="live-bell-panel-title" tabindex="-1">Notes</h2><li data-id="7"><a href="/n/7/">note 7</a></li>';
  bell.click();
  await server.last.answer(200, list);
  assert.equal(document.activeElement!.id, "live-bell-panel-title");
  bell.click();
  bell.click();
  document.querySelector<HTMLElement>('[data-id="7"] a')!.focus();
  await server.last.answer(200, list);
  assert.equal(document.activeElement!.getAttribute("href"), "/n/7/");
});
