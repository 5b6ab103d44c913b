import assert from "node:assert/strict";
import { test } from "node:test";
import type { LiveError } from "../src/api.js";
import { CHANGE, recorder, type Setup, setUp } from "./support/client.js";
import { event, streamError } from "./support/server.js";

async function subscribed(...topics: string[]): Promise<Setup & { errors: LiveError[] }> {
  const setup = setUp();
  const errors: LiveError[] = [];
  live(setup, topics, errors);
  await setup.clock.tick(CHANGE);
  return { ...setup, errors };
}

function live(setup: Setup, topics: string[], errors: LiveError[]): void {
  for (const topic of topics) setup.live.subscribe(topic, { error: (error: LiveError) => errors.push(error) });
}

/** Milliseconds until the next request. */
async function waitOf({ clock, server }: Setup): Promise<number> {
  const [start, count] = [clock.now, server.requests.length];
  while (server.requests.length === count) assert.ok(await clock.step(), "no request came");
  return Math.round(clock.now - start);
}

test("the wait is random between 0 and a bound that doubles with each failure, to a minute", async () => {
  const setup = await subscribed("a");
  setup.clock.chance = 0.999999;
  const waits: number[] = [];
  for (let failure = 0; failure < 8; failure += 1) {
    await setup.server.last.cut();
    waits.push(await waitOf(setup));
  }
  assert.deepEqual(waits, [2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
  setup.clock.chance = 0.25;
  await setup.server.last.cut();
  assert.equal(await waitOf(setup), 15000);
});

test("the server's retry is the first bound, but never so short that it makes a storm", async () => {
  const setup = await subscribed("a");
  setup.clock.chance = 0.999999;
  await setup.server.last.open("c1", { retry: 800 });
  await setup.server.last.end();
  assert.equal(await waitOf(setup), 800);
  await setup.server.last.stream();
  await setup.server.last.send("retry: 0\n\n");
  await setup.server.last.end();
  assert.equal(await waitOf(setup), 1000);
});

test("a stream that opens and ends at once backs off all the same", async () => {
  const setup = await subscribed("a");
  const start = setup.clock.now;
  for (let i = 0; i < 10; i += 1) {
    await setup.server.last.open("c1");
    await setup.server.last.end();
    await waitOf(setup);
  }
  assert.ok(setup.clock.now - start > 100_000, `10 reconnects in ${setup.clock.now - start} ms`);
});

test("a stream that lived for five seconds, or brought an event, was no failure", async () => {
  const setup = await subscribed("a");
  setup.clock.chance = 0.999999;
  for (let i = 0; i < 5; i += 1) {
    await setup.server.last.cut();
    await waitOf(setup);
  }
  await setup.server.last.open("c1");
  await setup.clock.tick(5000);
  await setup.server.last.end();
  assert.equal(await waitOf(setup), 2000);
  await setup.server.last.cut();
  assert.equal(await waitOf(setup), 4000);
  await setup.server.last.open("c1");
  await setup.server.last.send(event("a", "x", 1, "c2"));
  await setup.server.last.end();
  assert.equal(await waitOf(setup), 2000);
});

for (const status of [408, 425, 429, 500, 502, 503]) {
  test(`${status} is waited for`, async () => {
    const setup = await subscribed("a");
    await setup.server.last.answer(status, "");
    assert.equal(setup.live.status, "connecting");
    await waitOf(setup);
    assert.deepEqual(setup.errors, []);
  });
}

test("Retry-After, in seconds or as a date, is the least wait, even when the network comes back or topics change", async () => {
  const setup = await subscribed("a");
  await setup.server.last.answer(503, "", { "Retry-After": "30" });
  assert.equal(await waitOf(setup), 31_000);
  await setup.server.last.answer(429, "", { "Retry-After": new Date(setup.clock.now + 60_000).toUTCString() });
  setup.live.subscribe("b", {});
  const wait = await waitOf(setup);
  assert.ok(wait >= 59_000 && wait < 64_000, `${wait}`);
  await setup.server.last.answer(503, "", { "Retry-After": "nonsense" });
  assert.ok((await waitOf(setup)) <= 8000);
});

test("a Retry-After of years is taken for an hour", async () => {
  const setup = await subscribed("a");
  await setup.server.last.answer(503, "", { "Retry-After": "99999999999" });
  assert.equal(await waitOf(setup), 3_601_000);
});

test("topics that change during the wait do not shorten it", async () => {
  const setup = await subscribed("a");
  setup.clock.chance = 0.999999;
  for (let i = 0; i < 4; i += 1) {
    await setup.server.last.cut();
    if (i < 3) await waitOf(setup);
  }
  setup.live.subscribe("b", {});
  assert.equal(await waitOf(setup), 16_000);
  assert.deepEqual(setup.server.last.topics, ["a", "b"]);
});

for (const status of [400, 401, 403, 404, 405]) {
  test(`${status} stops, and says why`, async () => {
    const setup = await subscribed("a", "b");
    const errors = [{ code: "cross-site", message: "no" }];
    await setup.server.last.answer(status, JSON.stringify({ errors }), { "Content-Type": "application/json" });
    assert.equal(setup.live.status, "stopped");
    assert.deepEqual(setup.errors, [
      { code: "cross-site", message: "no", topic: undefined },
      { code: "cross-site", message: "no", topic: undefined },
    ]);
    await setup.clock.tick(600_000);
    assert.equal(setup.server.requests.length, 1);
  });
}

test("a refusal in another part's words is told by its status", async () => {
  const setup = await subscribed("a");
  await setup.server.last.answer(403, "<h1>Forbidden</h1>", { "Content-Type": "text/html" });
  assert.equal(setup.errors[0]?.code, "http-403");
});

test("each topic hears of its own refusal", async () => {
  const setup = await subscribed("a", "b");
  const errors = [
    { code: "forbidden", message: "no", topic: "a" },
    { code: "malformed-topic", message: "what?", topic: "b" },
  ];
  await setup.server.last.answer(403, JSON.stringify({ errors }));
  assert.deepEqual(setup.errors, errors);
});

test("a stream that was stopped is opened again when topics change, without those that were refused", async () => {
  const setup = await subscribed("a");
  await setup.server.last.answer(403, JSON.stringify({ errors: [{ code: "forbidden", message: "", topic: "a" }] }));
  setup.live.subscribe("b", {});
  await setup.clock.tick(CHANGE);
  assert.deepEqual(setup.server.last.topics, ["b"]);
});

test("connect() asks again for everything", async () => {
  const setup = await subscribed("a");
  await setup.server.last.answer(403, JSON.stringify({ errors: [{ code: "forbidden", message: "", topic: "a" }] }));
  setup.live.connect();
  await setup.clock.tick(CHANGE);
  assert.equal(setup.server.requests.length, 2);
  assert.deepEqual(setup.server.last.topics, ["a"]);
  assert.equal(setup.live.status, "connecting");
});

test("204, and an answer that is no stream, stop", async () => {
  for (const [status, type, code] of [
    [204, "", "http-204"],
    [200, "text/html", "not-a-stream"],
  ] as const) {
    const setup = await subscribed("a");
    await setup.server.last.answer(status, null, { "Content-Type": type });
    assert.equal(setup.live.status, "stopped");
    assert.equal(setup.errors[0]?.code, code);
    assert.equal(setup.server.last.aborted, true);
  }
});

for (const code of ["forbidden", "revoked", "malformed-topic", "too-many-topics"]) {
  test(`${code} ends one topic: its subscribers are told, the others go on, later requests leave it out`, async () => {
    const setup = await subscribed("a", "b");
    const { heard, handlers } = recorder();
    setup.live.subscribe("a", handlers);
    await setup.server.last.open("c1");
    await setup.server.last.send(streamError({ topic: "b", code }), event("a", "x", 1, "c2"));
    assert.deepEqual(setup.errors, [{ code, message: "", topic: "b" }]);
    assert.deepEqual(heard, ["x 1"]);
    await setup.clock.tick(CHANGE);
    assert.equal(setup.server.requests.length, 1);
    await setup.server.last.end();
    await waitOf(setup);
    assert.deepEqual(setup.server.last.topics, ["a"]);
  });
}

test("who subscribes to a refused topic asks again", async () => {
  const setup = await subscribed("a", "b");
  await setup.server.last.open("c1");
  await setup.server.last.send(streamError({ topic: "b", code: "forbidden" }));
  live(setup, ["b"], setup.errors);
  await setup.clock.tick(CHANGE);
  assert.equal(setup.server.requests.length, 2);
  assert.deepEqual(setup.server.last.topics, ["a", "b"]);
});

test("a topic for which there was no room is asked for again when another leaves", async () => {
  const setup = await subscribed("b", "c");
  const a = setup.live.subscribe("a", {});
  await setup.clock.tick(CHANGE);
  await setup.server.last.open("c1");
  await setup.server.last.send(
    streamError({ topic: "b", code: "forbidden" }),
    streamError({ topic: "c", code: "too-many-topics" }),
  );
  a.unsubscribe();
  await setup.clock.tick(CHANGE);
  assert.deepEqual(setup.server.last.topics, ["c"]);
});

test("when every topic was refused the stream is closed", async () => {
  const setup = await subscribed("a");
  await setup.server.last.open("c1");
  await setup.clock.tick(CHANGE);
  await setup.server.last.send(streamError({ topic: "a", code: "revoked" }));
  await setup.clock.tick(CHANGE);
  assert.equal(setup.live.status, "stopped");
  assert.equal(setup.server.last.aborted, true);
});

test("unavailable keeps the topic and reconnects, each time later, while the others go on", async () => {
  const setup = await subscribed("a", "b");
  setup.clock.chance = 0.999999;
  const waits: number[] = [];
  for (let round = 0; round < 4; round += 1) {
    await setup.server.last.open("c1", { topics: ["a"] });
    await setup.server.last.send(streamError({ topic: "b", code: "unavailable" }), event("a", "x", 1, "c2"));
    assert.equal(setup.server.last.aborted, false);
    waits.push(await waitOf(setup));
    assert.deepEqual(setup.server.last.topics, ["a", "b"]);
  }
  assert.deepEqual(waits, [2000, 4000, 8000, 16000]);
});

for (const code of ["signed-out", "disconnected"]) {
  test(`${code} stops everything`, async () => {
    const setup = await subscribed("a", "b");
    await setup.server.last.open("c1");
    await setup.server.last.send(streamError({ code }) + event("a", "x", 1, "c2"));
    await setup.server.last.end().catch(() => {});
    assert.equal(setup.live.status, "stopped");
    assert.deepEqual(
      setup.errors.map((error) => error.code),
      [code, code],
    );
    await setup.clock.tick(600_000);
    assert.equal(setup.server.requests.length, 1);
  });
}

test("slow-reader is told to the topic, and the end of the stream is followed by a reconnect", async () => {
  const setup = await subscribed("a", "b");
  await setup.server.last.open("c1");
  await setup.server.last.send(streamError({ topic: "a", code: "slow-reader" }));
  await setup.server.last.end();
  await waitOf(setup);
  assert.deepEqual(setup.server.last.topics, ["a", "b"]);
  assert.equal(setup.errors.length, 1);
});

test("a connection that is silent for 2.5 heartbeats is dead", async () => {
  const setup = await subscribed("a");
  await setup.server.last.open("c1", { heartbeat: 10 });
  await setup.clock.tick(24_000);
  await setup.server.last.send(":\n");
  await setup.clock.tick(24_990);
  assert.equal(setup.server.requests.length, 1);
  await setup.clock.tick(1100);
  assert.deepEqual(
    setup.server.requests.map((request) => request.aborted),
    [true, false],
  );
  assert.equal(setup.server.last.cursor, "c1");
});

test("a server that never answers is given up too", async () => {
  const setup = await subscribed("a");
  const start = setup.clock.now;
  for (let i = 0; i < 6; i += 1) await waitOf(setup);
  assert.deepEqual(
    setup.server.requests.map((request) => [request.url.pathname, request.aborted]),
    [
      ["/live/events/", true],
      ["/live/poll/", true],
      ["/live/events/", true],
      ["/live/poll/", true],
      ["/live/events/", true],
      ["/live/poll/", true],
      ["/live/events/", false],
    ],
    "neither way answers, so it is not the network that forbids the better one",
  );
  assert.ok(setup.clock.now - start > 40_000);
});

test("close() ends the stream until connect(), which goes on from the cursor", async () => {
  const setup = await subscribed("a");
  await setup.server.last.open("c1");
  setup.live.close();
  assert.equal(setup.live.status, "stopped");
  assert.equal(setup.live.connection, "");
  assert.equal(setup.server.last.aborted, true);
  live(setup, ["b"], []);
  await setup.clock.tick(600_000);
  assert.equal(setup.server.requests.length, 1);
  setup.live.connect();
  await setup.clock.tick(CHANGE);
  assert.deepEqual([setup.server.last.topics, setup.server.last.cursor], [["a", "b"], "c1"]);
});

test("what was closed stays so when the last topic goes", async () => {
  const setup = setUp();
  const a = setup.live.subscribe("a", {});
  await setup.clock.tick(CHANGE);
  setup.live.close();
  a.unsubscribe();
  await setup.clock.tick(CHANGE);
  assert.equal(setup.live.status, "stopped");
  setup.live.connect();
  await setup.clock.tick(CHANGE);
  assert.equal(setup.live.status, "idle");
});

test("connect() leaves a healthy stream alone", async () => {
  const setup = await subscribed("a");
  await setup.server.last.open("c1");
  setup.live.connect();
  await setup.clock.tick(CHANGE);
  assert.equal(setup.server.requests.length, 1);
});

test("the status follows the connection", async () => {
  const setup = setUp();
  const seen: string[] = [];
  const stop = setup.live.onStatus((status) => seen.push(status));
  setup.live.onStatus(() => {
    throw new Error("a listener");
  });
  assert.equal(setup.live.status, "idle");
  const a = setup.live.subscribe("a", {});
  await setup.clock.tick(CHANGE);
  await setup.server.last.open("c1");
  assert.equal(setup.live.connection, "c-c1");
  await setup.server.last.end();
  assert.equal(setup.live.connection, "");
  await setup.clock.tick(2400);
  await setup.server.last.open("c2");
  assert.deepEqual(seen, ["connecting", "live"], "a short break is not shown");
  await setup.server.last.cut();
  await setup.clock.tick(2499);
  assert.equal(setup.live.status, "live");
  await setup.clock.tick(1);
  assert.equal(setup.live.status, "stale");
  await setup.server.last.open("c3");
  a.unsubscribe();
  await setup.clock.tick(CHANGE);
  assert.deepEqual(seen, ["connecting", "live", "stale", "live", "idle"]);
  assert.equal(setup.reported.length, seen.length);
  stop();
  setup.live.close();
  assert.equal(seen.at(-1), "idle");
});

test("how long a break may last unseen can be set", async () => {
  const setup = await subscribed("a");
  setup.live.configure({ staleAfter: 100 });
  await setup.server.last.cut();
  await setup.clock.tick(100);
  assert.equal(setup.live.status, "stale");
});

test("when nothing is subscribed to, nothing is left running", async () => {
  const setup = setUp();
  const a = setup.live.subscribe("a", {});
  await setup.clock.tick(CHANGE);
  await setup.server.last.open("c1");
  a.unsubscribe();
  await setup.clock.tick(CHANGE);
  assert.equal(setup.clock.pending, 0);
});
