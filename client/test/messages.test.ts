/** What the page sends. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { CallError, LiveError } from "../src/api.js";
import { CHANGE, type Setup, setUp } from "./support/client.js";
import { settle } from "./support/clock.js";
import { FakeSocket } from "./support/socket.js";

/** What became of a promise so far. */
function fate(promise: Promise<unknown>): { value?: unknown; error?: CallError } {
  const fate: { value?: unknown; error?: CallError } = {};
  promise.then(
    (value) => (fate.value = value),
    (error: CallError) => (fate.error = error),
  );
  return fate;
}

async function connected(transport: "ws" | "sse"): Promise<Setup & { errors: LiveError[] }> {
  FakeSocket.install();
  const setup = setUp();
  const errors: LiveError[] = [];
  setup.live.subscribe("room/5", { error: (error: LiveError) => errors.push(error) }, { transport });
  await setup.clock.tick(CHANGE);
  if (transport === "ws") await FakeSocket.last.open("c1");
  else await setup.server.last.open("c1");
  return { ...setup, errors };
}

const json = { "Content-Type": "application/json" };

test("a call over the socket resolves with the reply of its own number", async () => {
  const { live } = await connected("ws");
  const first = fate(live.call("room/5", "say", { text: "one" }));
  const second = fate(live.call("room/5", "say", { text: "two" }));
  await settle();
  const [a, b] = FakeSocket.last.said.slice(-2) as unknown as { ref: number; data: unknown }[];
  assert.deepEqual(a, { action: "send", topic: "room/5", type: "say", data: { text: "one" }, ref: a!.ref });
  await FakeSocket.last.frames(
    { event: "stream-reply", ref: b!.ref, data: { n: 2 } },
    { event: "stream-reply", ref: a!.ref, data: { $bytes: "AQ==" } },
  );
  assert.deepEqual([first.value, second.value], [Uint8Array.of(1), { n: 2 }]);
});

test("a call that the server refuses rejects with its code", async () => {
  const { live } = await connected("ws");
  const call = fate(live.call("room/5", "say"));
  await settle();
  const { ref } = FakeSocket.last.lastSaid;
  const error = { code: "too-loud", message: "Not so loud", topic: "room/5" };
  await FakeSocket.last.frames({ event: "stream-reply", ref, error });
  assert.ok(call.error instanceof Error);
  const { name, code, message, topic } = call.error;
  assert.deepEqual([name, code, message, topic], ["CallError", "too-loud", "Not so loud", "room/5"]);
});

test("a call nobody answers times out; a late reply is for nobody", async () => {
  const { live, clock, reported } = await connected("ws");
  const call = fate(live.call("room/5", "say", 1, { timeout: 3000 }));
  await settle();
  const { ref } = FakeSocket.last.lastSaid;
  await clock.tick(3000);
  assert.equal(call.error?.code, "timeout");
  await FakeSocket.last.frames({ event: "stream-reply", ref, data: 1 });
  assert.deepEqual(reported, []);
});

test("a call that was sent when the connection broke is not sent again", async () => {
  const { live, clock } = await connected("ws");
  const call = fate(live.call("room/5", "say", 1));
  await settle();
  await FakeSocket.last.end(1006);
  assert.equal(call.error?.code, "connection-lost");
  await clock.tick(2000);
  await FakeSocket.last.open("c2");
  assert.equal(FakeSocket.last.said.length, 1);
});

test("what is sent without a connection waits for one, in order, and is refused when its time is over", async () => {
  const { live, clock } = await connected("ws");
  await FakeSocket.last.end(1006);
  const hasty = fate(live.call("room/5", "say", 0, { timeout: 100 }));
  live.send("room/5", "say", 1);
  const call = fate(live.call("room/5", "say", 2));
  await clock.tick(1500);
  assert.equal(hasty.error?.code, "offline");
  await FakeSocket.last.open("c2");
  const said = FakeSocket.last.said.slice(1) as unknown as { data: unknown; ref?: number }[];
  assert.deepEqual(
    said.map(({ data }) => data),
    [1, 2],
  );
  assert.equal(said[0]!.ref, undefined);
  await FakeSocket.last.frames({ event: "stream-reply", ref: said[1]!.ref, data: "done" });
  assert.equal(call.value, "done");
});

test("no more than a hundred messages wait", async () => {
  const { live } = await connected("ws");
  await FakeSocket.last.end(1006);
  const calls = Array.from({ length: 101 }, (_, i) => fate(live.call("room/5", "say", i)));
  await settle();
  assert.equal(calls[99]?.error, undefined);
  assert.equal(calls[100]?.error?.code, "busy");
});

test("bytes go as a binary frame, large ones in parts, and come back whole", async () => {
  const { live } = await connected("ws");
  const heard: unknown[] = [];
  live.subscribe("room/5", { blob: (data) => heard.push(data) });
  const bytes = Uint8Array.from({ length: 150_000 }, (_, i) => i % 251);
  const call = fate(live.sendBinary("room/5", "blob", bytes));
  await settle();
  const parts = FakeSocket.last.said.filter((said) => said instanceof Uint8Array);
  assert.deepEqual(
    parts.map((part) => [part[0], part[1], part.length - 25 - 10]),
    [
      [1, 1 | 4, 65_536],
      [1, 1 | 2 | 4, 65_536],
      [1, 2 | 4, 18_928],
    ],
  );
  const view = new DataView(parts[0]!.buffer);
  assert.deepEqual([view.getUint16(2), view.getUint8(4), view.getUint32(21)], [6, 4, 65_536]);
  const sequence = Number(view.getBigUint64(5));
  await FakeSocket.last.frames({ event: "stream-reply", ref: sequence, data: "got it" });
  assert.equal(call.value, "got it");
  // The same, as a server sends it: the cursor at the end of the last part.
  for (const [i, part] of parts.entries()) {
    const cursor = new TextEncoder().encode(i === 2 ? "c9" : "");
    const message = new Uint8Array(part.length + cursor.length);
    message.set(part);
    message.set(cursor, part.length);
    await FakeSocket.last.frames(message.buffer);
  }
  assert.deepEqual(heard, [bytes]);
});

test("half a message, or a part whose beginning is missing, is left out", async () => {
  const { live } = await connected("ws");
  const heard: unknown[] = [];
  live.subscribe("room/5", { blob: (data) => heard.push(data) });
  fate(live.sendBinary("room/5", "blob", new Uint8Array(70_000)));
  await settle();
  const [first, last] = FakeSocket.last.said.filter((said) => said instanceof Uint8Array);
  await FakeSocket.last.frames(last!.buffer as ArrayBuffer, first!.buffer.slice(0, 40) as ArrayBuffer);
  assert.deepEqual(heard, []);
});

test("beside a stream a message is a POST, with a CSRF token that is fetched once", async () => {
  const { live, server } = await connected("sse");
  const first = fate(live.call("room/5", "say", { text: "one" }));
  await settle();
  assert.deepEqual([server.last.url.pathname, server.last.init.method], ["/live/send/", undefined]);
  await server.last.answer(200, '{"csrfToken": "t1"}', json);
  assert.equal(server.last.headers.get("X-CSRFToken"), "t1");
  assert.deepEqual(JSON.parse(server.last.init.body as string), {
    topic: "room/5",
    type: "say",
    data: { text: "one" },
    connection: "c-c1",
  });
  await server.last.answer(200, '{"data": {"n": 1}}', json);
  assert.deepEqual(first.value, { n: 1 });
  fate(live.call("room/5", "say"));
  await settle();
  assert.equal(server.last.init.method, "POST");
});

test("after csrf-failed the token is renewed once", async () => {
  const { live, server } = await connected("sse");
  const call = fate(live.call("room/5", "say"));
  const failed = JSON.stringify({ errors: [{ code: "csrf-failed", message: "no" }] });
  for (const token of ["t1", "t2"]) {
    await settle();
    await server.last.answer(200, JSON.stringify({ csrfToken: token }), json);
    assert.equal(server.last.headers.get("X-CSRFToken"), token);
    await server.last.answer(403, failed, json);
  }
  assert.equal(call.error?.code, "csrf-failed");
});

test("POSTs to one topic go one after the other, those to another do not wait", async () => {
  const { live, server } = await connected("sse");
  fate(live.call("room/5", "say", 1));
  await settle();
  await server.last.answer(200, '{"csrfToken": "t1"}', json);
  const posts = (): unknown[] =>
    server.requests.filter(({ init }) => init.method).map(({ init }) => JSON.parse(init.body as string).data as unknown);
  fate(live.call("room/5", "say", 2));
  fate(live.call("room/6", "say", 3));
  await settle();
  assert.deepEqual(posts(), [1, 3]);
  await server.requests.find(({ init }) => init.method)!.answer(500, "", {});
  await settle();
  assert.deepEqual(posts(), [1, 3, 2], "a message that failed holds nobody up");
});

test("what a refused POST says is told to the topic, which stays", async () => {
  const { live, server, errors } = await connected("sse");
  live.send("room/5", "say", 1);
  await settle();
  await server.last.answer(200, '{"csrfToken": "t1"}', json);
  await server.last.answer(403, JSON.stringify({ errors: [{ code: "forbidden", message: "no", topic: "room/5" }] }), json);
  assert.deepEqual(errors, [{ code: "forbidden", message: "no", topic: "room/5", action: "send" }]);
  assert.equal(live.status, "live");
});

test("a page that subscribes to nothing can send; the network's failure is its code", async () => {
  const { live, server } = setUp();
  const call = fate(live.sendBinary("room/5", "blob", Uint8Array.of(1, 2).buffer));
  await settle();
  await server.last.answer(200, '{"csrfToken": "t1"}', json);
  assert.equal(server.last.headers.get("Content-Type"), "application/octet-stream");
  assert.equal((server.last.init.body as Uint8Array).length, 25 + 10 + 2);
  await server.last.cut();
  assert.equal(call.error?.code, "offline");
});

test("another origin gets a token in place of cookies", async () => {
  const setup = setUp();
  setup.live.connect({ base: "https://api.test/live", credentials: async () => "secret" });
  setup.live.subscribe("a", {});
  await setup.clock.tick(CHANGE);
  const { last } = setup.server;
  assert.equal(last.url.href, "https://api.test/live/events/?topic=a");
  assert.equal(last.headers.get("Authorization"), "Bearer secret");
  assert.equal(last.init.credentials, "same-origin");
  setup.live.connect({ credentials: true });
  await last.cut();
  await setup.clock.tick(2000);
  assert.equal(setup.server.last.init.credentials, "include");
});
