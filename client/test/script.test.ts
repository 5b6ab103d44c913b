/** The file that Django serves, as a browser runs it. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import type { Live } from "../src/api.js";
import { settle } from "./support/clock.js";

const script = readFileSync(new URL("../../django_live/static/django_live/live.js", import.meta.url), "utf8");

const more = readFileSync(new URL("../../django_live/static/django_live/live-more.js", import.meta.url), "utf8");

interface Loaded {
  window: JSDOM["window"] & { live: Live };
  requested: string[];
  runAgain(): void;
}

function load(html: string, events = "/live/events/"): Loaded {
  const requested: string[] = [];
  const { window } = new JSDOM(`<!doctype html><body>${html}`, {
    url: "https://site.test/shop/",
    runScripts: "dangerously",
    beforeParse(view) {
      const fetch = (address: URL): Promise<Response> => {
        requested.push(String(address));
        return new Promise(() => {});
      };
      // Runs what is coalesced at once.
      const setTimeout = (action: () => void, delay: number): number =>
        delay < 1000 ? (queueMicrotask(action), 0) : 0;
      Object.assign(view, { fetch, setTimeout, TextDecoder });
    },
  });
  const runAgain = (): void => {
    const element = window.document.createElement("script");
    element.dataset["events"] = events;
    element.textContent = script;
    window.document.body.append(element);
  };
  runAgain();
  return { window: window as Loaded["window"], requested, runAgain };
}

test("the script finds the stream's address on its own element, and serves the elements of the page", async () => {
  const { window, requested } = load('<live-topic topic="orders/42"></live-topic>');
  assert.equal(typeof window.live.subscribe, "function");
  await settle();
  assert.deepEqual(requested, ["https://site.test/live/events/?topic=orders%2F42"]);
  assert.equal(window.live.status, "connecting");
});

test("an address with a query of its own keeps it", async () => {
  const { requested } = load('<live-topic topic="a"></live-topic>', "/live/events/?tenant=x");
  await settle();
  assert.deepEqual(requested, ["https://site.test/live/events/?tenant=x&topic=a"]);
});

test("a page that runs the script again keeps its client", async () => {
  const { window, requested, runAgain } = load('<live-topic topic="a"></live-topic>');
  const { live } = window;
  runAgain();
  await settle();
  assert.equal(window.live, live);
  assert.equal(requested.length, 1);
});

test("the scripts say what they are, and need nothing that a strict Content-Security-Policy forbids", () => {
  for (const text of [script, more]) {
    assert.match(text, /^\/\*! django-live-features [\d.]+, BSD-3-Clause \*\/\n/);
    assert.doesNotMatch(
      text,
      /\beval\b|\bFunction\(|innerHTML|createContextualFragment|document\.write|\.style\b|\.on[a-z]+=|\bblob:/,
    );
  }
});

test("both files are of one build, and a file of another is refused", async () => {
  const build = /build:"([0-9a-f]{8})"/.exec(script)?.[1] ?? /"([0-9a-f]{8})"/.exec(script)?.[1];
  assert.ok(build && more.includes(`"${build}"`));
  const { extend } = await import("../src/more.js");
  assert.throws(() => extend({ build: "another" } as Parameters<typeof extend>[0]), /reload the page/);
});

test("the module can be imported where there is no browser", async () => {
  const { live } = await import("../src/live.js");
  assert.equal(live.status, "idle");
});
