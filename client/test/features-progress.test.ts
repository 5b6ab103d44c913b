import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE } from "./support/client.js";
import { openPage, type Page } from "./support/page.js";
import { event } from "./support/server.js";

const TOPIC = "live/progress/job1";
const URL_OF_JOB = "https://site.test/live/jobs/job1/";
/** As the server renders it, for what is tested here. */
const JOB = `<live-progress topic="${TOPIC}" data-cursor="page" data-url="${URL_OF_JOB}" data-state="running" data-seq="3"
  data-attempt="1" data-text-running="Läuft" data-text-done="Fertig" data-text-failed="Fehler" data-text-cancelled="Ende"
  data-text-of="%(done)s von %(total)s" data-text-left="noch %s" data-text-attempt="Versuch %s">
  <b data-part="title"></b><i data-part="attempt"></i><i data-part="state"></i><progress data-part="bar" max="100"></progress>
  <i data-part="percent"></i><i data-part="counted"></i><i data-part="left"></i><p data-part="message"></p>
  <ul data-part="steps"></ul><p data-part="error"></p><a data-part="link" hidden></a>
  <div data-part="log" hidden><ol data-part="lines"></ol></div><div data-part="traceback" hidden><pre></pre></div>
  <form data-part="cancel"><button>x</button></form></live-progress>`;
const VIEW = {
  state: "running",
  seq: 4,
  title: "Import",
  unit: "rows",
  done: 1200,
  total: 4000,
  fraction: 0.3,
  left: 90,
  message: "",
  steps: [],
  attempt: 1,
  error: "",
  link: "",
  cancellable: true,
};

let page: Page | undefined;

async function openJob(): Promise<{ page: Page; part: (name: string) => HTMLElement; say: (view: object) => Promise<void> }> {
  page ??= await openPage(); // the element's class belongs to one window
  Object.assign(page.window, { live: page.live });
  page.document.documentElement.lang = "en";
  await import("../src/features/progress.js");
  page.document.body.innerHTML = "";
  await page.clock.tick(CHANGE);
  page.document.body.innerHTML = JOB;
  await page.clock.tick(CHANGE);
  await page.server.last.open("c1");
  const stream = page.server.last;
  assert.deepEqual([stream.topics, stream.cursor], [[TOPIC], "page"]);
  const { document } = page;
  return {
    page,
    part: (name) => document.querySelector<HTMLElement>(`[data-part="${name}"]`)!,
    say: (view) => stream.send(event(TOPIC, "progressed", { ...VIEW, ...view }, `c${Math.random()}`)),
  };
}

test("it shows how far the job is, to eyes and to screen readers", async () => {
  const { part, say } = await openJob();
  await say({ message: "<b>Reading</b>", steps: [{ title: "Prices", message: "shop 7" }, { title: "Texts", message: "" }] });
  const bar = part("bar") as HTMLProgressElement;
  assert.deepEqual([bar.value, bar.getAttribute("aria-valuenow"), bar.getAttribute("aria-valuetext")], [30, "30", "1,200 von 4,000 rows"]);
  assert.deepEqual(
    ["title", "state", "percent", "counted", "left", "message"].map((name) => part(name).textContent),
    ["Import", "Läuft", "30 %", "1,200 von 4,000 rows", "noch 2 minutes", "<b>Reading</b>"],
  );
  assert.equal(part("message").querySelector("b"), null, "text is text");
  assert.deepEqual([...part("steps").children].map((step) => step.textContent), ["Prices: shop 7", "Texts"]);
});

test("an older word changes nothing", async () => {
  const { part, say } = await openJob();
  await say({ seq: 9, done: 2000, fraction: 0.5 });
  await say({ seq: 8, done: 1000, fraction: 0.25 });
  await say({ seq: 9, done: 1000, fraction: 0.25 });
  assert.equal(part("percent").textContent, "50 %");
});

test("without a total the bar says that something happens, and nothing of it stays at the end", async () => {
  const { part, say } = await openJob();
  const bar = part("bar") as HTMLProgressElement;
  await say({ total: null, fraction: null, left: null });
  assert.deepEqual([bar.hasAttribute("value"), bar.hasAttribute("aria-valuenow")], [false, false]);
  assert.deepEqual([part("percent").textContent, part("counted").textContent, part("left").textContent], ["", "1,200 rows", ""]);
  await say({ seq: 5, total: null, fraction: null, left: null, state: "cancelled" });
  assert.deepEqual([bar.value, part("cancel").hidden, part("state").textContent], [0, true, "Ende"]);
});

test("each line of the log comes once, the last hundred stay, and another attempt begins anew", async () => {
  const { part, say } = await openJob();
  const line = (n: number): object => ({ n, text: `line ${n}`, level: "info" });
  await say({ lines: [line(1), line(2)] });
  await say({ seq: 5, lines: [line(2), line(3)] });
  assert.deepEqual([...part("lines").children].map((one) => one.textContent), ["line 1", "line 2", "line 3"]);
  assert.equal(part("log").hidden, false);
  await say({ seq: 6, lines: Array.from({ length: 150 }, (_, n) => line(n + 4)) });
  assert.equal(part("lines").childElementCount, 100);
  assert.equal(part("lines").lastElementChild!.textContent, "line 153");
  await say({ seq: 7, attempt: 2, lines: [line(1)] });
  assert.deepEqual([...part("lines").children].map((one) => one.textContent), ["line 1"]);
  assert.equal(part("attempt").textContent, "Versuch 2");
});

test("a result is linked, and nothing can be cancelled any more", async () => {
  const { part, say } = await openJob();
  assert.equal(part("cancel").hidden, false);
  await say({ state: "done", fraction: 1, left: null, link: "/orders/" });
  assert.deepEqual(
    [part("link").hidden, part("link").getAttribute("href"), part("cancel").hidden, part("state").textContent],
    [false, "/orders/", true, "Fertig"],
  );
});

test("a traceback is fetched once the job has failed, and shown where there is one", async () => {
  const { page, part, say } = await openJob();
  await say({ state: "failed", error: "That was wrong." });
  assert.equal(part("error").textContent, "That was wrong.");
  assert.equal(page.server.last.url.href, URL_OF_JOB);
  await page.server.last.answer(200, JSON.stringify({ ...VIEW, traceback: "Traceback <b>" }));
  assert.deepEqual([part("traceback").hidden, part("traceback").textContent], [false, "Traceback <b>"]);
});

test("who is no staff gets none", async () => {
  const { page, part, say } = await openJob();
  await say({ state: "failed", error: "That was wrong." });
  await page.server.last.answer(200, JSON.stringify(VIEW));
  assert.equal(part("traceback").hidden, true);
});
