import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE, recorder, setUp } from "./support/client.js";
import { event, streamError } from "./support/server.js";

test("all topics of a page share one stream", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("orders/1", {});
  live.subscribe(["orders/2", "räume/a b&c"], {});
  live.subscribe("orders/1", {});
  await clock.tick(CHANGE);
  assert.equal(server.requests.length, 1);
  assert.deepEqual(server.last.topics, ["orders/1", "orders/2", "räume/a b&c"]);
  assert.equal(server.last.headers.get("Accept"), "text/event-stream");
  assert.equal(server.last.cursor, null);
  assert.equal(server.last.init.credentials, "same-origin");
});

test("an event reaches the handler of its type, then of any type, on its topic only", async () => {
  const { clock, server, live } = setUp();
  const calls: unknown[] = [];
  live.subscribe("a", {
    "*": (data, { type }) => calls.push(["any", type, data]),
    updated: (data, received) => calls.push([data, received]),
  });
  live.subscribe("b", { "*": () => calls.push("b") });
  await clock.tick(CHANGE);
  await server.last.open("1");
  await server.last.send(event("a", "updated", { pk: 1 }, "2"), event("a", "closed", null, "3"));
  assert.deepEqual(calls, [
    [{ pk: 1 }, { topic: "a", type: "updated", data: { pk: 1 } }],
    ["any", "updated", { pk: 1 }],
    ["any", "closed", null],
  ]);
});

test("one subscription may listen to several topics", async () => {
  const { clock, server, live } = setUp();
  const topics: string[] = [];
  const subscription = live.subscribe(["a", "b"], { "*": (_, { topic }) => topics.push(topic) });
  await clock.tick(CHANGE);
  await server.last.open("1");
  await server.last.send(event("b", "x", 1, "2"), event("a", "x", 1, "3"));
  assert.deepEqual(topics, ["b", "a"]);
  assert.deepEqual(subscription.topic, ["a", "b"]);
});

test("snapshots and resets have handlers of their own", async () => {
  const { clock, server, live } = setUp();
  const { heard, handlers } = recorder();
  live.subscribe("a", handlers);
  await clock.tick(CHANGE);
  await server.last.open("1");
  const reset = { topic: "a", reason: "trimmed", snapshot: true };
  await server.last.send(
    `event: stream-reset\ndata: ${JSON.stringify(reset)}\n\n`,
    event("a", "stream-snapshot", { n: 5 }, "2"),
  );
  assert.deepEqual(heard, [`stream-reset ${JSON.stringify(reset)}`, 'stream-snapshot {"n":5}']);
});

test("an event that is named like a special handler reaches only the one for any event", async () => {
  const { clock, server, live, reported } = setUp();
  const calls: string[] = [];
  live.subscribe("a", {
    "*": (_, { type }) => calls.push(`any ${type}`),
    snapshot: () => calls.push("snapshot"),
    reset: () => calls.push("reset"),
  });
  await clock.tick(CHANGE);
  await server.last.open("1");
  await server.last.send(
    event("a", "snapshot", 1, "2"),
    event("a", "reset", 1, "3"),
    event("a", "__defineGetter__", 1, "4"),
  );
  assert.deepEqual(calls, ["any snapshot", "any reset", "any __defineGetter__"]);
  assert.deepEqual(reported, []);
});

test("a handler that throws is reported, and stops neither others nor the stream", async () => {
  const { clock, server, live, reported } = setUp();
  const { heard, handlers } = recorder();
  const failure = new Error("in a handler");
  live.subscribe("a", {
    "*": () => {
      throw failure;
    },
  });
  live.subscribe("a", handlers);
  await clock.tick(CHANGE);
  await server.last.open("1");
  await server.last.send(event("a", "x", 1, "2"), event("a", "x", 2, "3"));
  assert.deepEqual(heard, ["x 1", "x 2"]);
  assert.deepEqual(reported, [failure, failure]);
  assert.equal(server.last.aborted, false);
});

test("data that is no JSON is reported, and stops nothing", async () => {
  const { clock, server, live, reported } = setUp();
  const { heard, handlers } = recorder();
  live.subscribe("a", handlers);
  await clock.tick(CHANGE);
  await server.last.open("1");
  await server.last.send("event: x\ntopic: a\ndata: {\nid: 2\n\n", event("a", "x", 1, "3"));
  assert.deepEqual(heard, ["x 1"]);
  assert.equal(reported.length, 1);
});

test("after unsubscribing nothing is heard, not even the rest of the same event", async () => {
  const { clock, server, live } = setUp();
  const { heard, handlers } = recorder();
  live.subscribe("a", { x: () => second.unsubscribe() });
  const second = live.subscribe("a", handlers);
  await clock.tick(CHANGE);
  await server.last.open("1");
  await server.last.send(event("a", "x", 1, "2"));
  assert.deepEqual(heard, []);
  assert.equal(second.state, "closed");
});

test("who subscribes in a handler hears the next event first", async () => {
  const { clock, server, live } = setUp();
  const { heard, handlers } = recorder();
  live.subscribe("a", { x: (data) => void (data === 1 && live.subscribe("a", handlers)) });
  await clock.tick(CHANGE);
  await server.last.open("1");
  await server.last.send(event("a", "x", 1, "2"), event("a", "x", 2, "3"));
  assert.deepEqual(heard, ["x 2"]);
});

test("an abort signal unsubscribes", async () => {
  const { clock, server, live } = setUp();
  const abort = new AbortController();
  const subscription = live.subscribe("a", {}, { signal: abort.signal });
  const born = live.subscribe("b", {}, { signal: AbortSignal.abort() });
  assert.equal(born.state, "closed");
  await clock.tick(CHANGE);
  assert.deepEqual(server.last.topics, ["a"]);
  abort.abort();
  await clock.tick(CHANGE);
  assert.equal(subscription.state, "closed");
  assert.equal(server.last.aborted, true);
  assert.equal(live.status, "idle");
});

test("a subscription needs a topic", () => {
  const { live } = setUp();
  assert.throws(() => live.subscribe([], {}), TypeError);
  assert.throws(() => live.subscribe("", {}), TypeError);
});

test("a subscription knows its state", async () => {
  const { clock, server, live } = setUp();
  const a = live.subscribe("a", {});
  const both = live.subscribe(["a", "b"], {});
  assert.equal(a.state, "pending");
  await clock.tick(CHANGE);
  await server.last.open("1", { topics: ["a"] });
  assert.equal(both.state, "pending");
  await server.last.send(streamError({ topic: "b", code: "forbidden" }));
  assert.deepEqual([a.state, both.state], ["live", "live"]);
  await server.last.send(streamError({ topic: "a", code: "revoked" }));
  assert.deepEqual([a.state, both.state], ["refused", "refused"]);
  a.unsubscribe();
  assert.equal(a.state, "closed");
});

test("headers are asked for before each connection", async () => {
  const { clock, server, live } = setUp();
  let token = 0;
  live.configure({ headers: async () => ({ Authorization: `Bearer ${++token}` }), withCredentials: true });
  live.subscribe("a", {});
  await clock.tick(CHANGE);
  assert.equal(server.last.headers.get("Authorization"), "Bearer 1");
  assert.equal(server.last.init.credentials, "include");
  await server.last.cut();
  await clock.tick(2000);
  assert.equal(server.last.headers.get("Authorization"), "Bearer 2");
});

test("without an address the client says so, and goes on once it has one", async () => {
  const { clock, server, live } = setUp();
  live.configure({ eventsUrl: "https://other.test/" });
  assert.throws(() => live.configure({ eventsUrl: "http://[" }), TypeError);
  live.subscribe("a", {});
  await clock.tick(CHANGE);
  assert.equal(server.last.url.origin, "https://other.test");
  await server.last.open("1");
  live.configure({ eventsUrl: "https://third.test/" });
  await clock.tick(0);
  assert.deepEqual(
    server.requests.map((request) => request.aborted),
    [true, false],
  );
  assert.equal(server.last.url.origin, "https://third.test");
});
