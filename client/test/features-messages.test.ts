import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { liveMessages } from "../src/features/messages/live-messages.js";
import { CHANGE } from "./support/client.js";
import { openPage, type Page } from "./support/page.js";
import { event } from "./support/server.js";

async function openMessages(seconds = 8): Promise<Page> {
  const page = await openPage(
    `<live-messages topics="everyone user/5" data-cursor="page" data-seconds="${seconds}" data-text-close="Zu"></live-messages>`,
  );
  customElements.define("live-messages", liveMessages(page.live));
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  return page;
}

const toasts = (page: Page): Element[] => [...page.document.querySelectorAll(".live-message")];
const say = (page: Page, data: unknown): Promise<void> =>
  page.server.last.send(event("everyone", "message", data, `c${Math.random()}`));

test("it subscribes from the page's cursor and shows text as text, politely or not", async () => {
  const page = await openMessages();
  assert.deepEqual([page.server.last.topics, page.server.last.cursor], [["everyone", "user/5"], "page"]);
  await say(page, { text: "<b>Down</b> at noon", level: "warning" });
  await say(page, { text: "Hello", level: "unheard-of" });
  const [warning, hello] = ["assertive", "polite"].map(
    (politeness) => page.document.querySelector(`[aria-live=${politeness}] .live-message`)!,
  );
  assert.equal(warning!.firstElementChild!.textContent, "<b>Down</b> at noon");
  assert.equal(warning!.querySelector("b"), null);
  assert.equal((hello as HTMLElement).dataset["level"], "info");
  assert.equal(hello!.querySelector("button")!.getAttribute("aria-label"), "Zu");
  hello!.querySelector("button")!.click();
  assert.equal(toasts(page).length, 1);
});

test("it leads nowhere but to this site, and what is no message is left alone", async () => {
  const page = await openMessages();
  for (const url of ["javascript:alert(1)", "//evil.test", "/\\evil.test", "https://evil.test"]) {
    await say(page, { text: "Look", url });
  }
  assert.equal(page.document.querySelector("live-messages a"), null);
  await say(page, { text: "Look", url: "/orders/42/" });
  assert.equal(page.document.querySelector("live-messages a")!.getAttribute("href"), "/orders/42/");
  const before = toasts(page).length;
  for (const data of [null, 5, "text", { text: 5 }]) await say(page, data);
  assert.equal(toasts(page).length, before);
});

test("many at once do not cover the page", async () => {
  const page = await openMessages();
  for (let n = 0; n < 8; n++) await say(page, { text: `message ${n}` });
  assert.equal(toasts(page).length, 5);
  assert.match(toasts(page).at(-1)!.textContent!, /message 7/);
});

test("one leaves after a while, but not while it is read, and a warning stays", async () => {
  const page = await openMessages(2);
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    await say(page, { text: "Read me" });
    await say(page, { text: "Careful", level: "warning" });
    const [toast] = toasts(page).filter((one) => one.textContent!.includes("Read"));
    toast!.dispatchEvent(new page.window.Event("pointerenter"));
    mock.timers.tick(60_000);
    assert.equal(toasts(page).length, 2);
    toast!.dispatchEvent(new page.window.Event("pointerleave"));
    mock.timers.tick(1_999);
    assert.equal(toasts(page).length, 2);
    mock.timers.tick(1);
    assert.deepEqual(
      toasts(page).map((one) => (one as HTMLElement).dataset["level"]),
      ["warning"],
    );
  } finally {
    mock.timers.reset();
  }
});

test("taken out of the page it listens no more", async () => {
  const page = await openMessages();
  page.document.querySelector("live-messages")!.remove();
  await page.clock.tick(CHANGE);
  assert.equal(page.live.status, "idle");
});
