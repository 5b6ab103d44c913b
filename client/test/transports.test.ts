/** WebSocket, streams and polls: which is taken, and that none of them loses or doubles what another has told. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { LiveError } from "../src/api.js";
import { settle } from "./support/clock.js";
import { CHANGE, recorder, type Setup, setUp } from "./support/client.js";
import { FakeSocket } from "./support/socket.js";
import { event, streamError } from "./support/server.js";

interface Interactive extends Setup {
  sockets: typeof FakeSocket;
  heard: string[];
  errors: LiveError[];
}

/** A client with the topic `a`, which wants a WebSocket. */
async function interactive(): Promise<Interactive> {
  const sockets = FakeSocket.install();
  const setup = setUp();
  const { heard, handlers } = recorder();
  const errors: LiveError[] = [];
  const error = (error: LiveError): void => void errors.push(error);
  setup.live.subscribe("a", { ...handlers, error }, { transport: "ws", cursor: "page" });
  await setup.clock.tick(CHANGE);
  return { ...setup, sockets, heard, errors };
}

const paths = ({ server }: Setup): string[] => server.requests.map(({ url }) => url.pathname);

test("one topic that wants a WebSocket takes all topics of the page with it", async () => {
  const setup = await interactive();
  setup.live.subscribe("b", {});
  await setup.clock.tick(CHANGE);
  const { last } = setup.sockets;
  assert.equal(last.url.href, "wss://site.test/live/ws/");
  assert.equal(last.protocol, "live.1");
  await last.open("c1");
  assert.deepEqual(last.said, [{ action: "subscribe", topics: ["a", "b"], cursor: "page", ref: last.lastSaid.ref }]);
  assert.equal(setup.live.status, "live");
  assert.equal(setup.live.connection, "w1");
  assert.deepEqual(paths(setup), []);
});

test("frames that come together are heard in order, and move the cursor", async () => {
  const { clock, sockets, heard, live } = await interactive();
  await sockets.last.open("c1");
  await sockets.last.frames([
    { event: "x", topic: "a", data: 1, id: "c2" },
    { event: "stream-cursor", id: "c3" },
    { event: "stream-snapshot", topic: "a", data: null, id: "c4" },
  ]);
  assert.deepEqual(heard, ["x 1", "stream-snapshot null"]);
  await sockets.last.end(1006);
  await clock.tick(2000);
  await sockets.last.open();
  assert.equal(sockets.last.lastSaid.cursor, "c4");
  assert.equal(live.status, "live");
});

test("a socket that is cut before its first cursor asks again with the one it began with", async () => {
  const { clock, sockets } = await interactive();
  await sockets.last.open();
  await sockets.last.end(1006);
  await clock.tick(2000);
  await sockets.last.open();
  assert.equal(sockets.last.lastSaid.cursor, "page");
});

test("topics come and go over the open socket", async () => {
  const { clock, sockets, live } = await interactive();
  await sockets.last.open("c1");
  await clock.tick(CHANGE);
  const { heard, handlers } = recorder();
  const b = live.subscribe("b", handlers, { cursor: "page-b" });
  await clock.tick(CHANGE);
  assert.deepEqual(sockets.last.lastSaid, {
    action: "subscribe",
    topics: ["b"],
    cursor: "page-b",
    ref: sockets.last.lastSaid.ref,
  });
  assert.equal(b.state, "pending");
  await sockets.last.accept(undefined, { event: "x", topic: "b", data: 1, id: "c2" });
  assert.equal(b.state, "live");
  assert.deepEqual(heard, ["x 1"]);
  b.unsubscribe();
  await clock.tick(CHANGE);
  assert.deepEqual([sockets.last.lastSaid.action, sockets.last.lastSaid.topics], ["unsubscribe", ["b"]]);
  assert.equal(sockets.opened.length, 1);
});

test("a topic that joined an open socket keeps its own place until the socket's cursor speaks of it", async () => {
  const { clock, sockets, live } = await interactive();
  await sockets.last.open("c1");
  await clock.tick(CHANGE);
  live.subscribe("b", {}, { cursor: "page-b" });
  await clock.tick(CHANGE);
  await sockets.last.accept();
  await sockets.last.end(1006);
  await clock.tick(2000);
  await sockets.last.open();
  assert.equal(sockets.last.lastSaid.cursor, "c1,page-b");
});

test("a socket that is cut before it replied to a subscription says nothing of the topic", async () => {
  const { clock, sockets, live, errors } = await interactive();
  await sockets.last.open("c1");
  await clock.tick(CHANGE);
  live.subscribe("b", { error: (error: LiveError) => errors.push(error) }, { cursor: "page-b" });
  await clock.tick(CHANGE);
  await sockets.last.end(1006);
  await clock.tick(2000);
  await sockets.last.open();
  assert.deepEqual(errors, []);
  assert.deepEqual([sockets.last.lastSaid.topics, sockets.last.lastSaid.cursor], [["a", "b"], "c1,page-b"]);
});

test("a subscription that the server cannot take just now is begun anew after a wait", async () => {
  const { clock, sockets } = await interactive();
  await sockets.last.frames({ event: "stream-open", data: { connection: "w1", heartbeat: 20, topics: [] } });
  const error = { code: "busy", message: "" };
  await sockets.last.frames({ event: "stream-reply", ref: sockets.last.lastSaid.ref, error });
  assert.equal(sockets.last.closed, true);
  await sockets.last.end(1005);
  await clock.tick(2000);
  assert.equal(sockets.opened.length, 2);
});

test("a topic that is refused over the open socket tells its subscribers and harms no other", async () => {
  const { clock, sockets, live, heard } = await interactive();
  await sockets.last.open("c1");
  await clock.tick(CHANGE);
  const errors: LiveError[] = [];
  const b = live.subscribe("b", { error: (error: LiveError) => errors.push(error) });
  await clock.tick(CHANGE);
  const { ref } = sockets.last.lastSaid;
  const refusal = { code: "forbidden", message: "no", topic: "b" };
  await sockets.last.frames({ event: "stream-reply", ref, data: { topics: [], errors: [refusal] } });
  assert.deepEqual(errors, [refusal]);
  assert.equal(b.state, "refused");
  await sockets.last.frames({ event: "x", topic: "a", data: 1, id: "c2" });
  assert.deepEqual(heard, ["x 1"]);
  await clock.tick(10_000);
  assert.equal(sockets.last.said.filter((said) => !(said instanceof Uint8Array) && said.action === "subscribe").length, 2);
});

test("a heartbeat is answered at once", async () => {
  const { sockets } = await interactive();
  await sockets.last.open("c1");
  await sockets.last.frames({ event: "keep-alive", id: "c1" });
  assert.deepEqual(sockets.last.lastSaid, { action: "pong" });
});

test("a good-bye says when to come back", async () => {
  const { clock, sockets } = await interactive();
  clock.chance = 0.999999;
  await sockets.last.open("c1");
  await sockets.last.frames({ event: "stream-end", data: { retry: 700 } });
  await sockets.last.end(4000);
  await clock.tick(690);
  assert.equal(sockets.opened.length, 1);
  await clock.tick(20);
  assert.equal(sockets.opened.length, 2);
});

for (const [code, expected] of [
  [4200, "disconnected"],
  [4201, "protocol-broken"],
  [4202, "cross-site"],
  [4203, "unknown-version"],
  [4204, "refused"],
  [4299, "closed-4299"],
  [4100, "signed-out"],
] as const) {
  test(`a socket closed with ${code} stops: ${expected}`, async () => {
    const { clock, sockets, live, errors } = await interactive();
    await sockets.last.open("c1");
    await sockets.last.end(code);
    assert.equal(live.status, "stopped");
    assert.deepEqual(
      errors.map((error) => error.code),
      [expected],
    );
    await clock.tick(600_000);
    assert.equal(sockets.opened.length, 1);
  });
}

test("a refused opening is told once, in the server's words", async () => {
  const { sockets, errors, live } = await interactive();
  const data = { topic: "", code: "cross-site", message: "Not for you." };
  await sockets.last.frames({ event: "stream-error", data });
  await sockets.last.end(4202);
  assert.deepEqual(errors, [{ code: "cross-site", message: "Not for you.", topic: undefined }]);
  assert.equal(live.status, "stopped");
});

for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003]) {
  test(`a socket closed with ${code} comes back as a socket`, async () => {
    const setup = await interactive();
    await setup.sockets.last.open("c1");
    await setup.sockets.last.end(code);
    await setup.clock.tick(2000);
    assert.equal(setup.sockets.opened.length, 2);
    assert.deepEqual(paths(setup), []);
  });
}

test("who can renew credentials comes back after 4100, with a new ticket", async () => {
  const { clock, sockets, live } = await interactive();
  let tickets = 0;
  live.configure({ ticket: () => Promise.resolve(`t${(tickets += 1)}`) });
  await sockets.last.open("c1");
  await sockets.last.end(4100);
  await clock.tick(2000);
  assert.equal(sockets.last.url.searchParams.get("ticket"), "t1");
});

test("an error of a message that was sent is told, and ends no subscription", async () => {
  const { clock, sockets, heard, errors } = await interactive();
  await sockets.last.open("c1");
  const data = { topic: "a", code: "forbidden", message: "no", action: "send" };
  await sockets.last.frames({ event: "stream-error", data }, { event: "x", topic: "a", data: 1, id: "c2" });
  assert.deepEqual(errors, [data]);
  assert.deepEqual(heard, ["x 1"]);
  await clock.tick(CHANGE);
  assert.equal(sockets.last.closed, false);
});

test("nonsense on the socket is reported, and stops nothing", async () => {
  const { sockets, heard, reported } = await interactive();
  await sockets.last.open("c1");
  sockets.last.dispatchEvent(Object.assign(new Event("message"), { data: "{nonsense\n" }));
  await sockets.last.frames(new ArrayBuffer(3), { event: "x", topic: "a", data: 1, id: "c2" });
  assert.deepEqual(heard, ["x 1"]);
  assert.equal(reported.length, 1);
});

// -- the ladder ---------------------------------------------------------------------------------

test("an upgrade that is refused leads to a stream at once, and is remembered", async () => {
  const setup = await interactive();
  await setup.sockets.last.end(1006);
  await setup.clock.tick(0);
  assert.deepEqual(paths(setup), ["/live/events/"]);
  assert.equal(setup.server.last.cursor, "page");
  await setup.server.last.open("c1");
  assert.equal(setup.live.status, "live");
  await setup.server.last.end();
  await setup.clock.tick(2000);
  assert.deepEqual(paths(setup), ["/live/events/", "/live/events/"]);
  assert.equal(setup.sockets.opened.length, 1);
});

test("a socket that never opens is given up after two seconds", async () => {
  const setup = await interactive();
  await setup.clock.tick(2000);
  assert.equal(setup.sockets.last.closed, true);
  assert.deepEqual(paths(setup), ["/live/events/"]);
});

test("a server that is down takes no transport away", async () => {
  const setup = await interactive();
  await setup.sockets.last.end(1006);
  await setup.clock.tick(0);
  await setup.server.last.cut();
  await setup.clock.tick(2000);
  assert.equal(setup.sockets.opened.length, 2);
  await setup.sockets.last.open("c1");
  assert.equal(setup.live.status, "live");
});

test("a proxy that collects the stream leads to polls", async () => {
  const setup = setUp();
  const { heard, handlers } = recorder();
  setup.live.subscribe("a", handlers, { cursor: "page" });
  await setup.clock.tick(CHANGE);
  await setup.server.last.stream(); // Headers, and nothing else.
  await setup.clock.tick(4000);
  assert.deepEqual(paths(setup), ["/live/events/", "/live/poll/"]);
  assert.equal(setup.server.last.cursor, "page");
  await answer(setup, [{ event: "x", topic: "a", data: 1 }], "c2");
  assert.equal(setup.live.status, "live");
  await setup.clock.tick(0);
  assert.equal(setup.server.last.url.searchParams.get("wait"), "25");
  assert.equal(setup.server.last.cursor, "c2");
  await answer(setup, [{ event: "x", topic: "a", data: 2 }], "c3");
  assert.deepEqual(heard, ["x 1", "x 2"]);
});

async function answer({ server }: Setup, frames: object[], cursor: string, wait = 0): Promise<void> {
  const body = JSON.stringify({ frames, cursor, retry_after: wait, more: false });
  await server.last.answer(200, body, { "Content-Type": "application/json", ETag: `"${cursor}"` });
}

async function polling(): Promise<Setup & { heard: string[] }> {
  const setup = setUp();
  const { heard, handlers } = recorder();
  setup.live.subscribe(["a", "b"], handlers);
  await setup.clock.tick(CHANGE);
  await setup.server.last.answer(501, JSON.stringify({ errors: [{ code: "no-streaming", message: "" }], poll: "/live/poll/" }));
  await setup.clock.tick(0);
  await answer(setup, [], "c1", 2);
  return { ...setup, heard };
}

test("a server that cannot stream is polled, as often as it says", async () => {
  const setup = await polling();
  assert.equal(setup.live.status, "live");
  await setup.clock.tick(1990);
  assert.equal(setup.server.requests.length, 2);
  await setup.clock.tick(10);
  assert.equal(setup.server.requests.length, 3);
  assert.equal(setup.server.last.headers.get("If-None-Match"), '"c1"');
  await setup.server.last.answer(304, null, { "Retry-After": "3" });
  await setup.clock.tick(3000);
  assert.equal(setup.server.last.cursor, "c1");
});

test("a topic that a poll refuses is left out of the next", async () => {
  const setup = await polling();
  await setup.clock.tick(2000);
  await answer(setup, [{ event: "stream-error", data: { code: "revoked", message: "", topic: "b" } }], "c2");
  await setup.clock.tick(0);
  assert.deepEqual(setup.server.last.topics, ["a"]);
  assert.deepEqual(setup.heard, ['stream-error {"code":"revoked","message":"","topic":"b"}']);
});

test("a poll whose answer is lost asks again with the same cursor", async () => {
  const setup = await polling();
  await setup.clock.tick(2000);
  await setup.clock.tick(35_000);
  assert.equal(setup.server.requests[2]?.aborted, true);
  await setup.clock.tick(2000);
  assert.equal(setup.server.last.cursor, "c1");
});

test("after a while a better transport is opened beside the worse, and changed to without a loss", async () => {
  const setup = await interactive();
  await setup.sockets.last.end(1006);
  await setup.clock.tick(0);
  const stream = setup.server.last;
  await stream.open("c1");
  for (let i = 0; i < 299; i += 1) {
    await setup.clock.tick(1000);
    if (i % 20 === 0) await stream.send("event: keep-alive\ndata:\nid: c1\n\n");
  }
  assert.equal(setup.sockets.opened.length, 1);
  await setup.clock.tick(2000);
  assert.equal(setup.sockets.opened.length, 2);
  assert.equal(stream.aborted, false);
  await stream.send(event("a", "x", 1, "c2"));
  await setup.sockets.last.open("trial");
  await setup.sockets.last.frames({ event: "x", topic: "a", data: 1, id: "c2" });
  assert.equal(setup.sockets.last.closed, true);
  await setup.clock.tick(0);
  assert.equal(stream.aborted, true);
  assert.equal(setup.sockets.opened.length, 3);
  await setup.sockets.last.open();
  assert.equal(setup.sockets.last.lastSaid.cursor, "c2");
  assert.deepEqual(setup.heard, ["x 1"]);
});

test("a better transport that is still blocked takes nothing from the worse", async () => {
  const setup = await interactive();
  await setup.sockets.last.end(1006);
  await setup.clock.tick(0);
  const stream = setup.server.last;
  await stream.open("c1");
  for (let i = 0; i < 620; i += 1) {
    await setup.clock.tick(1000);
    if (i % 20 === 0) await stream.send("event: keep-alive\ndata:\nid: c1\n\n");
  }
  assert.equal(setup.sockets.opened.length, 3);
  assert.deepEqual(
    setup.sockets.opened.map(({ closed }) => closed),
    [true, true, true],
  );
  assert.equal(stream.aborted, false);
  assert.equal(setup.live.status, "live");
});

test("bytes that JSON stands for arrive as bytes; what only looks like them stays", async () => {
  const setup = setUp();
  const heard: unknown[] = [];
  setup.live.subscribe("a", { x: (data) => heard.push(data) });
  await setup.clock.tick(CHANGE);
  await setup.server.last.open("c1");
  await setup.server.last.send(
    event("a", "x", { $bytes: "AAH/" }, "c2"),
    event("a", "x", { $bytes: "AAH/", more: 1 }, "c3"),
    event("a", "x", { $bytes: 3 }, "c4"),
  );
  assert.deepEqual(heard, [Uint8Array.of(0, 1, 255), { $bytes: "AAH/", more: 1 }, { $bytes: 3 }]);
});

test("too many topics on one stream are told of once", async () => {
  const setup = setUp();
  const errors: LiveError[] = [];
  setup.live.subscribe("a", {});
  setup.live.subscribe("b", { error: (error: LiveError) => errors.push(error) });
  await setup.clock.tick(CHANGE);
  await setup.server.last.open("c1");
  await setup.server.last.send(streamError({ topic: "b", code: "forbidden" }), streamError({ topic: "b", code: "forbidden" }));
  assert.equal(errors.length, 1);
});

/** Lets a page that is visible paint when the test says so. */
function paintable(): { paint: () => void } {
  const waiting: FrameRequestCallback[] = [];
  Object.assign(globalThis, {
    document: { visibilityState: "visible" },
    requestAnimationFrame: (callback: FrameRequestCallback) => waiting.push(callback),
  });
  return { paint: () => waiting.splice(0).forEach((callback) => callback(0)) };
}

for (const transport of ["sse", "ws"] as const) {
  test(`a flood over ${transport} leaves the browser time to paint, and is heard in order all the same`, async () => {
    const sockets = FakeSocket.install();
    const setup = setUp();
    const heard: number[] = [];
    const handlers = {
      x: (data: unknown) => {
        setup.clock.sleep(1); // A handler that takes a millisecond.
        heard.push(data as number);
      },
    };
    setup.live.subscribe("a", handlers, { transport });
    await setup.clock.tick(CHANGE);
    const stream = transport === "sse" ? setup.server.last : sockets.last;
    await stream.open("c1");
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    const { paint } = paintable();
    try {
      const frames = numbers.map((n) => ({ event: "x", topic: "a", data: n, id: `c${n + 2}` }));
      if (transport === "ws") void sockets.last.frames(frames);
      else void setup.server.last.send(numbers.map((n) => event("a", "x", n, `c${n + 2}`)).join(""));
      const turns: number[] = [];
      while (heard.length < numbers.length) {
        await settle();
        turns.push(heard.length - (turns.at(-1) ?? 0));
        assert.ok(turns.length < 100, "it never ends");
        paint();
        await setup.clock.tick(0);
      }
      assert.ok(turns.length > 5 && turns[0]! < 20, `in stretches of ${turns}`);
      assert.deepEqual(heard, numbers);
    } finally {
      Reflect.deleteProperty(globalThis, "document");
    }
  });
}

test("what comes in a hidden page is handled at once", async () => {
  const setup = setUp();
  const heard: unknown[] = [];
  setup.live.subscribe("a", { x: (data) => (setup.clock.sleep(1), heard.push(data)) });
  await setup.clock.tick(CHANGE);
  await setup.server.last.open("c1");
  await setup.server.last.send(...Array.from({ length: 50 }, (_, n) => event("a", "x", n, `c${n + 2}`)));
  assert.equal(heard.length, 50);
});

test("a network that lets sockets open and cuts them soon after is given a stream", async () => {
  const { clock, sockets, server } = await interactive();
  await sockets.last.open("c1");
  await sockets.last.end(1006);
  await clock.tick(2000);
  assert.equal(sockets.opened.length, 2);
  await sockets.last.open("c2");
  await sockets.last.end(1006);
  await clock.tick(10);
  assert.equal(sockets.opened.length, 2);
  assert.equal(server.last.url.pathname, "/live/events/");
});

test("a socket that was cut after it had lived is opened again, however often", async () => {
  const { clock, sockets, server } = await interactive();
  for (let turn = 1; turn < 4; turn += 1) {
    assert.equal(sockets.opened.length, turn);
    await sockets.last.open(`c${turn}`);
    await clock.tick(6000);
    await sockets.last.end(1006);
    await clock.tick(2000);
  }
  assert.equal(server.requests.length, 0);
});

test("a network that cuts sockets with their first words is given a stream at once", async () => {
  const { clock, sockets, server } = await interactive();
  await sockets.last.frames({ event: "stream-open", data: { connection: "w1", heartbeat: 20, retry: 2000, topics: [] } });
  await sockets.last.end(1006);
  await clock.tick(10);
  assert.equal(server.last.url.pathname, "/live/events/");
});

test("a network that lets a socket open and nothing after that is given a stream within 3 s", async () => {
  const { clock, sockets, server } = await interactive();
  await sockets.last.frames({ event: "stream-open", data: { connection: "w1", heartbeat: 20, retry: 2000, topics: [] } });
  await clock.tick(2100);
  assert.equal(server.last.url.pathname, "/live/events/");
});
