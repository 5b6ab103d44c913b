import assert from "node:assert/strict";
import { test } from "node:test";
import type { LiveEvent } from "../src/api.js";
import { CHANGE } from "./support/client.js";
import { openPage, type Page } from "./support/page.js";
import { event, streamError } from "./support/server.js";

const TYPES = ["live:event", "live:snapshot", "live:reset", "live:error"] as const;

/** Writes down every event that bubbles up to the body. */
function overhear({ document }: Page): string[] {
  const heard: string[] = [];
  for (const type of TYPES) {
    document.body.addEventListener(type, (received) => {
      const { topic, data } = (received as CustomEvent<LiveEvent>).detail;
      heard.push(`${type} ${topic} ${JSON.stringify(data)}`);
    });
  }
  return heard;
}

test("the element subscribes from its cursor, and tells of all it hears through bubbling events", async () => {
  const page = await openPage('<p><live-topic topic="orders/42" data-cursor="page" hidden></live-topic></p>');
  const heard = overhear(page);
  await page.clock.tick(CHANGE);
  assert.deepEqual([page.server.last.topics, page.server.last.cursor], [["orders/42"], "page"]);
  await page.server.last.open("c1");
  await page.server.last.send(
    event("orders/42", "updated", 1, "c2"),
    event("orders/42", "stream-snapshot", 2, "c3"),
    'event: stream-reset\ndata: {"topic":"orders/42","reason":"epoch","snapshot":false}\nid: c4\n\n',
    streamError({ topic: "orders/42", code: "revoked" }),
  );
  assert.deepEqual(heard, [
    "live:event orders/42 1",
    "live:snapshot orders/42 2",
    'live:reset orders/42 {"topic":"orders/42","reason":"epoch","snapshot":false}',
    'live:error orders/42 {"code":"revoked","message":"","topic":"orders/42"}',
  ]);
});

test("an element that arrives later subscribes; one that is removed unsubscribes", async () => {
  const page = await openPage();
  page.document.body.innerHTML = '<live-topic topic="a"></live-topic><live-topic topic="b"></live-topic>';
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  assert.deepEqual(page.server.last.topics, ["a", "b"]);
  page.document.querySelector("live-topic")!.remove();
  await page.clock.tick(CHANGE);
  assert.deepEqual(page.server.last.topics, ["b"]);
  page.document.body.innerHTML = "";
  await page.clock.tick(CHANGE);
  assert.equal(page.live.status, "idle");
  assert.equal(page.clock.pending, 0);
});

test("an element that is moved keeps its stream, and hears everything once", async () => {
  const page = await openPage('<live-topic topic="a" data-cursor="page"></live-topic><p></p>');
  const heard = overhear(page);
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  page.document.querySelector("p")!.append(page.document.querySelector("live-topic")!);
  await page.clock.tick(CHANGE);
  await page.server.last.send(event("a", "x", 1, "c2"));
  assert.equal(page.server.requests.length, 1);
  assert.deepEqual(heard, ["live:event a 1"]);
});

test("an element that was away for a while goes on from where it left, not from when the page was made", async () => {
  const page = await openPage(
    '<live-topic topic="a" data-cursor="page"></live-topic><live-topic topic="b"></live-topic>',
  );
  const element = page.document.querySelector("live-topic")!;
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  element.remove();
  await page.clock.tick(CHANGE);
  await page.server.last.open("c2");
  page.document.body.append(element);
  await page.clock.tick(CHANGE);
  assert.equal(page.server.last.cursor, "c2,c1");
});

test("an element that left before it was subscribed still has the cursor of the page", async () => {
  const page = await openPage('<live-topic topic="a" data-cursor="page"></live-topic>');
  const element = page.document.querySelector("live-topic")!;
  element.remove();
  await page.clock.tick(CHANGE);
  page.document.body.append(element);
  await page.clock.tick(CHANGE);
  assert.equal(page.server.last.cursor, "page");
});

test("another topic in the attribute is another subscription", async () => {
  const page = await openPage('<live-topic topic="a"></live-topic>');
  const heard = overhear(page);
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  const element = page.document.querySelector("live-topic")!;
  element.setAttribute("data-cursor", "page-b");
  element.setAttribute("topic", "b");
  await page.clock.tick(CHANGE);
  assert.deepEqual([page.server.last.topics, page.server.last.cursor], [["b"], "c1,page-b"]);
  await page.server.last.open("c2");
  await page.server.last.send(event("b", "x", 1, "c3"));
  assert.deepEqual(heard, ["live:event b 1"], "heard once");
  element.removeAttribute("topic");
  await page.clock.tick(CHANGE);
  assert.equal(page.live.status, "idle");
});

test("an element without a topic does nothing until it has one", async () => {
  const page = await openPage("<live-topic></live-topic>");
  await page.clock.tick(CHANGE);
  assert.equal(page.server.requests.length, 0);
  page.document.querySelector("live-topic")!.setAttribute("topic", "a");
  await page.clock.tick(CHANGE);
  assert.deepEqual(page.server.last.topics, ["a"]);
});

test("subscribe() finds the cursor of the topic on the page, whichever element has it", async () => {
  const page = await openPage();
  page.live.subscribe("orders/42", {});
  page.live.subscribe("räume/a b", {});
  page.document.body.innerHTML =
    '<live-topic topic="orders/42" data-cursor="of-topic"></live-topic>' +
    '<live-refresh id="r" topics="x r%C3%A4ume%2Fa%20b 100%" data-cursor="of-refresh"></live-refresh>';
  await page.clock.tick(CHANGE);
  assert.equal(page.server.last.cursor, "of-topic,of-refresh");
  assert.deepEqual(page.server.last.topics, ["orders/42", "räume/a b", "x", "100%"]);
});
