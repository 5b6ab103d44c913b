import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE } from "./support/client.js";
import { openPage, type Page } from "./support/page.js";
import { event } from "./support/server.js";

const TOPIC = "live/answers/a1";
const URL_OF_ANSWER = "https://site.test/live/answers/a1/";
/** As the server renders it, for what is tested here. */
const ANSWER = `<live-answer topic="${TOPIC}" data-cursor="page" data-url="${URL_OF_ANSWER}" data-state="running" data-t="7"
  data-n="2" data-text-running="Schreibt" data-text-done="" data-text-failed="Fehler" data-text-stopped="Beendet">
  <div data-part="thinking" hidden><div data-part="reasoning"></div></div><div data-part="text" aria-busy="true">So </div>
  <i data-part="state">Schreibt</i><i data-part="error"></i><form data-part="stop"><button>x</button></form></live-answer>`;

let page: Page | undefined;

async function openAnswer(): Promise<{
  page: Page;
  part: (name: string) => HTMLElement;
  say: (type: string, word: object) => Promise<void>;
}> {
  page ??= await openPage(); // the element's class belongs to one window
  Object.assign(page.window, { live: page.live });
  Object.assign(globalThis, { Text: page.window.Text });
  await import("../src/features/answer.js");
  page.document.body.innerHTML = "";
  await page.clock.tick(CHANGE);
  page.document.body.innerHTML = ANSWER;
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  const stream = page.server.last;
  assert.deepEqual([stream.topics, stream.cursor], [[TOPIC], "page"]);
  const { document } = page;
  return {
    page,
    part: (name) => document.querySelector<HTMLElement>(`[data-part="${name}"]`)!,
    say: (type, word) => stream.send(event(TOPIC, type, { t: 7, ...word }, `c${Math.random()}`)),
  };
}

test("words are added as text to what the server has rendered, into the same text node", async () => {
  const { part, say } = await openAnswer();
  const node = part("text").firstChild;
  await say("text", { n: 3, text: "<b>far</b>" });
  await say("text", { n: 4, text: ", so good." });
  assert.equal(part("text").textContent, "So <b>far</b>, so good.");
  assert.deepEqual([part("text").childNodes.length, part("text").firstChild === node], [1, true]);
  assert.equal(part("thinking").hidden, true);
  await say("reasoning", { n: 5, text: "Let me see." });
  assert.deepEqual([part("thinking").hidden, part("reasoning").textContent], [false, "Let me see."]);
});

test("a word comes once, and a superseded writer's not at all", async () => {
  const { part, say } = await openAnswer();
  await say("text", { n: 2, text: "again " });
  await say("text", { n: 3, text: "far" });
  await say("text", { n: 3, text: "far" });
  await say("text", { t: 6, n: 9, text: "of the dead" });
  assert.equal(part("text").textContent, "So far");
  await say("begin", { t: 8, n: 0 });
  await say("text", { t: 8, n: 1, text: "Anew" });
  await say("text", { t: 7, n: 5, text: "late" });
  assert.equal(part("text").textContent, "Anew");
});

test("a snapshot takes the place of what is shown", async () => {
  const { part, say } = await openAnswer();
  await say("stream-snapshot", { t: 7, n: 12, state: "running", text: "All of it", reasoning: "why", error: "" });
  assert.deepEqual([part("text").textContent, part("reasoning").textContent, part("thinking").hidden], ["All of it", "why", false]);
  await say("text", { n: 11, text: "old" });
  await say("text", { n: 13, text: " and more" });
  assert.equal(part("text").textContent, "All of it and more");
});

test("tools and data are events of the page", async () => {
  const { page, say } = await openAnswer();
  const heard: unknown[] = [];
  page.document.body.addEventListener("live:tool", (received) => heard.push((received as CustomEvent).detail.name));
  await say("tool", { n: 3, id: "x", name: "search", input: {} });
  assert.deepEqual(heard, ["search"]);
});

test("at the end the server's own rendering is fetched, and what comes later is passed over", async () => {
  const { page, part, say } = await openAnswer();
  const answered: string[] = [];
  page.document.body.addEventListener("live:answered", ({ type }) => answered.push(type));
  await say("end", { n: 3, state: "done", error: "" });
  assert.deepEqual([part("stop").hidden, part("text").getAttribute("aria-busy")], [true, "false"]);
  assert.equal(page.server.last.url.href, URL_OF_ANSWER);
  await page.server.last.answer(200, JSON.stringify({ html: "<p>So <em>far</em></p>" }));
  assert.equal(part("text").innerHTML, "<p>So <em>far</em></p>");
  assert.deepEqual(answered, ["live:answered"]);
  await say("text", { n: 4, text: "late" });
  assert.equal(part("text").textContent, "So far");
});

test("what a failed answer had said stays, also where the server does not answer", async () => {
  const { page, part, say } = await openAnswer();
  await say("end", { n: 3, state: "failed", error: "The worker is gone." });
  await page.server.last.answer(503, "");
  assert.deepEqual(
    [part("text").textContent, part("state").textContent, part("error").textContent],
    ["So ", "Fehler", "The worker is gone."],
  );
});
