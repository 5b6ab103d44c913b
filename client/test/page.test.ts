import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE } from "./support/client.js";
import { openPage, type Page, setVisibility, transition } from "./support/page.js";
import { event } from "./support/server.js";

async function livePage(): Promise<Page> {
  const page = await openPage();
  page.live.subscribe("a", {});
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  return page;
}

test("the status stands on the root element, and is told to the document", async () => {
  const page = await openPage();
  const told: string[] = [];
  page.document.addEventListener("live:status", ({ detail }) => told.push(detail.status));
  const root = page.document.documentElement;
  assert.equal(root.dataset["liveStatus"], "idle");
  page.live.subscribe("a", {});
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  assert.equal(root.dataset["liveStatus"], "live");
  page.live.close();
  assert.equal(root.dataset["liveStatus"], "stopped");
  assert.deepEqual(told, ["connecting", "live", "stopped"]);
});

test("without a network the page is stale at once; with one it reconnects at once", async () => {
  const page = await livePage();
  page.window.dispatchEvent(new page.window.Event("offline"));
  assert.equal(page.live.status, "stale");
  page.window.dispatchEvent(new page.window.Event("online"));
  await page.clock.tick(0);
  assert.deepEqual(
    page.server.requests.map((request) => request.aborted),
    [true, false],
  );
  assert.equal(page.server.last.cursor, "c1");
});

test("the network that comes back ends a wait", async () => {
  const page = await livePage();
  page.clock.chance = 0.999999;
  await page.server.last.cut();
  page.window.dispatchEvent(new page.window.Event("online"));
  await page.clock.tick(0);
  assert.equal(page.server.requests.length, 2);
});

test("the network that comes back does not overrule Retry-After, but an old Retry-After is over", async () => {
  const page = await openPage();
  page.live.subscribe("a", {});
  await page.clock.tick(CHANGE);
  await page.server.last.answer(503, "", { "Retry-After": "30" });
  page.window.dispatchEvent(new page.window.Event("online"));
  await page.clock.tick(29_990);
  assert.equal(page.server.requests.length, 1);
  await page.clock.tick(10);
  assert.equal(page.server.requests.length, 2);

  await page.server.last.answer(503, "", { "Retry-After": "3600" });
  page.live.connect();
  await page.clock.tick(0);
  await page.server.last.open("c1");
  page.window.dispatchEvent(new page.window.Event("online"));
  await page.clock.tick(0);
  assert.equal(page.server.requests.length, 4);
});

test("a false alarm of being offline is over with the next frame", async () => {
  const page = await livePage();
  page.window.dispatchEvent(new page.window.Event("offline"));
  await page.server.last.send(event("a", "x", 1, "c2"));
  assert.equal(page.live.status, "live");
});

test("a page that is hidden closes its stream, and goes on from its cursor when it is shown again", async () => {
  const page = await livePage();
  transition(page, "pagehide", true);
  assert.equal(page.server.last.aborted, true);
  await page.clock.tick(600_000);
  assert.equal(page.server.requests.length, 1);
  transition(page, "pageshow", true);
  await page.clock.tick(0);
  assert.equal(page.server.requests.length, 2);
  assert.equal(page.server.last.cursor, "c1");
});

test("a page that waits when it is hidden does not reconnect in the cache", async () => {
  const page = await livePage();
  await page.server.last.cut();
  transition(page, "pagehide", true);
  await page.clock.tick(600_000);
  assert.equal(page.server.requests.length, 1);
});

test("a page that was closed by the site stays closed through the cache", async () => {
  const page = await livePage();
  page.live.close();
  transition(page, "pagehide", true);
  transition(page, "pageshow", true);
  await page.clock.tick(600_000);
  assert.equal(page.server.requests.length, 1);
});

test("the first pageshow of a page opens nothing twice", async () => {
  const page = await livePage();
  transition(page, "pageshow", false);
  await page.clock.tick(1000);
  assert.equal(page.server.requests.length, 1);
});

test("after sleep, a page that becomes visible reconnects at once if its stream is silent for too long", async () => {
  const page = await livePage();
  page.clock.sleep(49_000);
  setVisibility(page, "visible");
  await page.clock.tick(0);
  assert.equal(page.server.requests.length, 1);
  page.clock.sleep(2000);
  setVisibility(page, "hidden");
  assert.equal(page.server.open.length, 1);
  setVisibility(page, "visible");
  await page.clock.tick(0);
  assert.deepEqual(
    page.server.requests.map((request) => request.aborted),
    [true, false],
  );
});

test("a page that becomes visible does not wait for its turn", async () => {
  const page = await livePage();
  await page.server.last.cut();
  setVisibility(page, "visible");
  await page.clock.tick(0);
  assert.equal(page.server.requests.length, 2);
});

test("an idle page stays idle, whatever happens to the network", async () => {
  const page = await openPage();
  for (const type of ["offline", "online"]) page.window.dispatchEvent(new page.window.Event(type));
  setVisibility(page, "visible");
  await page.clock.tick(60_000);
  assert.equal(page.live.status, "idle");
  assert.equal(page.server.requests.length, 0);
});
