import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGE, recorder, setUp } from "./support/client.js";
import { event, opening, streamError } from "./support/server.js";

test("a reconnect sends the last cursor", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("a", {});
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await server.last.send(event("a", "x", 1, "c2"), "event: keep-alive\ndata:\nid: c3\n\n");
  await server.last.end();
  await clock.tick(2000);
  assert.equal(server.last.cursor, "c3");
});

test("a frame with nothing but an id moves the cursor and is not heard", async () => {
  const { clock, server, live } = setUp();
  const { heard, handlers } = recorder();
  live.subscribe("a", handlers);
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await server.last.send("id: c2\n\n");
  await server.last.end();
  await clock.tick(2000);
  assert.equal(server.last.cursor, "c2");
  assert.deepEqual(heard, []);
});

test("a frame that was cut is neither heard nor counted, wherever the cut is", async () => {
  const frame = event("a", "x", 2, "c3");
  for (let cut = 0; cut < frame.length; cut += 1) {
    const { clock, server, live } = setUp();
    const { heard, handlers } = recorder();
    live.subscribe("a", handlers);
    await clock.tick(CHANGE);
    await server.last.open("c1");
    await server.last.send(event("a", "x", 1, "c2") + frame.slice(0, cut));
    await server.last.cut();
    await clock.tick(2000);
    assert.equal(server.last.cursor, "c2");
    await server.last.open("c2");
    await server.last.send(frame);
    assert.deepEqual(heard, ["x 1", "x 2"], `cut at ${cut}`);
  }
});

test("an error has no id, and does not lose the cursor", async () => {
  const { clock, server, live } = setUp();
  live.subscribe(["a", "b"], {});
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await server.last.send(streamError({ topic: "b", code: "revoked" }));
  await server.last.end();
  await clock.tick(2000);
  assert.equal(server.last.cursor, "c1");
});

test("a topic that is added joins by a reconnect with the cursor; the old stream is not heard any more", async () => {
  const { clock, server, live } = setUp();
  const { heard, handlers } = recorder();
  live.subscribe("a", handlers);
  await clock.tick(CHANGE);
  const [old] = server.requests;
  await old!.open("c1");
  await old!.send(event("a", "x", 1, "c2"));
  live.subscribe("b", handlers);
  await clock.tick(CHANGE);
  assert.equal(old!.aborted, true);
  assert.equal(server.requests.length, 2);
  assert.deepEqual(server.last.topics, ["a", "b"]);
  assert.equal(server.last.cursor, "c2");
  assert.deepEqual(heard, ["x 1"]);
});

test("what arrived behind the frame that changed the stream is left to the next stream", async () => {
  const { clock, server, live } = setUp();
  const { heard, handlers } = recorder();
  live.subscribe("a", handlers);
  live.subscribe("a", {
    x: (data) => {
      if (data !== 1) return;
      live.close();
      live.connect();
    },
  });
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await server.last.send(event("a", "x", 1, "c2") + event("a", "x", 2, "c3"));
  await clock.tick(CHANGE);
  assert.deepEqual(heard, ["x 1"]);
  assert.equal(server.last.cursor, "c2");
  await server.last.open("c2");
  await server.last.send(event("a", "x", 2, "c3"));
  assert.deepEqual(heard, ["x 1", "x 2"]);
});

test("changes of topics are gathered; what is taken and given back is no change", async () => {
  const { clock, server, live } = setUp();
  const first = live.subscribe("a", {});
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await clock.tick(CHANGE);
  first.unsubscribe();
  live.subscribe("a", {});
  await clock.tick(CHANGE);
  assert.equal(server.requests.length, 1);
  for (const topic of ["b", "c", "d"]) live.subscribe(topic, {});
  await clock.tick(CHANGE);
  assert.equal(server.requests.length, 2);
});

test("topics that come and go all the time cost four requests a second at most", async () => {
  const { clock, server, live } = setUp();
  let answered = 0;
  for (let i = 0; i < 200; i += 1) {
    live.subscribe(`t${i}`, {});
    await clock.tick(10);
    for (const request of server.requests.slice(answered)) await request.open("c1");
    answered = server.requests.length;
  }
  assert.ok(server.requests.length <= 9, `${server.requests.length} requests in 2 s`);
});

test("a page's cursor is joined behind the stream's own, once, and only for topics new to the stream", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("a", {}, { cursor: "page1" });
  live.subscribe("b", {}, { cursor: "page1" });
  await clock.tick(CHANGE);
  assert.equal(server.last.cursor, "page1");
  await server.last.open("c1");
  live.subscribe("a", {}, { cursor: "page2" });
  live.subscribe("d", {}, { cursor: "page3" });
  await clock.tick(CHANGE);
  assert.equal(server.last.cursor, "c1,page3");
  await server.last.open("c2");
  await server.last.end();
  await clock.tick(2000);
  assert.equal(server.last.cursor, "c2");
});

test("a page's cursor is sent until a stream has carried its topic", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("a", {}, { cursor: "page" });
  await clock.tick(CHANGE);
  await server.last.answer(503, "");
  await clock.tick(2000);
  await server.last.stream();
  const frame = opening(["a"], "c1");
  await server.last.send(frame.slice(0, -1));
  await server.last.cut();
  await clock.tick(4000);
  assert.deepEqual(
    server.requests.map((request) => request.cursor),
    ["page", "page", "page"],
  );
});

test("newcomers that wait for their snapshots have no place yet, and ask for the snapshots again after a cut", async () => {
  const { clock, server, live } = setUp();
  const { heard, handlers } = recorder();
  const a = live.subscribe("a", handlers);
  live.subscribe("b", handlers);
  await clock.tick(CHANGE);
  await server.last.stream();
  await server.last.send(opening(["a", "b"], ""));
  assert.equal(a.state, "live");
  await server.last.cut();
  await clock.tick(2000);
  assert.equal(server.last.cursor, null);
  await server.last.stream();
  await server.last.send(opening(["a", "b"], ""), event("a", "stream-snapshot", 1, "a1"));
  await server.last.cut();
  await clock.tick(4000);
  assert.equal(server.last.cursor, "a1");
  assert.deepEqual(heard, ["stream-snapshot 1"]);
});

test("a stream that has no place yet has forgotten the topics of the one before", async () => {
  const { clock, server, live } = setUp();
  const a = live.subscribe("a", {});
  await clock.tick(CHANGE);
  await server.last.open("c1");
  a.unsubscribe();
  live.subscribe("b", {});
  await clock.tick(CHANGE);
  await server.last.stream();
  await server.last.send(opening(["b"], ""));
  live.subscribe("a", {});
  await clock.tick(CHANGE);
  assert.equal(server.last.cursor, null);
});

test("a topic that was left is begun anew when it comes back", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("a", {});
  const b = live.subscribe("b", {}, { cursor: "page" });
  await clock.tick(CHANGE);
  await server.last.open("c1");
  b.unsubscribe();
  await clock.tick(CHANGE);
  await server.last.open("c2");
  live.subscribe("b", {});
  await clock.tick(CHANGE);
  assert.deepEqual(server.last.topics, ["a", "b"]);
  assert.equal(server.last.cursor, "c2");
});

test("a start that has served is not used again, even after the topic was refused", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("a", {}, { cursor: "page" });
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await clock.tick(CHANGE);
  await server.last.send(streamError({ topic: "a", code: "revoked" }));
  await clock.tick(CHANGE);
  live.connect();
  await clock.tick(CHANGE);
  assert.deepEqual([server.requests.length, server.last.cursor], [2, null]);
});

test("a start goes with the subscription that brought it", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("a", {}, { cursor: "page" }).unsubscribe();
  live.subscribe("a", {});
  await clock.tick(CHANGE);
  assert.equal(server.last.cursor, null);
});

test("when the last topic has gone the cursor is forgotten", async () => {
  const { clock, server, live } = setUp();
  const a = live.subscribe("a", {});
  await clock.tick(CHANGE);
  await server.last.open("c1");
  a.unsubscribe();
  await clock.tick(CHANGE);
  live.subscribe("a", {});
  await clock.tick(CHANGE);
  assert.equal(server.last.cursor, null);
});

test("a subscription's cursor is where a later one goes on", async () => {
  const { clock, server, live } = setUp();
  live.subscribe("a", {});
  const b = live.subscribe("b", {}, { cursor: "page" });
  assert.equal(b.cursor, "page");
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await server.last.send(event("b", "x", 1, "c2"));
  assert.equal(b.cursor, "c2");
  b.unsubscribe();
  await clock.tick(CHANGE);
  await server.last.open("c3");
  live.subscribe("b", {}, { cursor: b.cursor });
  await clock.tick(CHANGE);
  assert.equal(server.last.cursor, "c3,c2");
});

test("a topic that the server could not open keeps the place it had", async () => {
  const { clock, server, live } = setUp();
  live.subscribe(["a", "b"], {});
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await server.last.end();
  await clock.tick(2000);
  await server.last.open("only-a", { topics: ["a"] });
  await server.last.send(streamError({ topic: "b", code: "unavailable" }));
  await clock.tick(4000);
  assert.deepEqual(server.last.topics, ["a", "b"]);
  assert.equal(server.last.cursor, "only-a,c1");
});

test("a topic that fails later keeps the place it had then", async () => {
  const { clock, server, live } = setUp();
  live.subscribe(["a", "b"], {});
  await clock.tick(CHANGE);
  await server.last.open("c1");
  await server.last.send(streamError({ topic: "b", code: "unavailable" }), event("a", "x", 1, "c2"));
  await clock.tick(2000);
  assert.equal(server.last.cursor, "c2,c1");
});

test("cursors that would make the header too long are sent one after the other, and none is lost", async () => {
  const { clock, server, live } = setUp();
  const cursors = Array.from({ length: 20 }, (_, i) => `page${i}-${"x".repeat(900)}`);
  cursors.forEach((cursor, i) => live.subscribe(`t${i}`, {}, { cursor }));
  const sent = new Set<string>();
  for (let round = 0; round < 10; round += 1) {
    await clock.tick(CHANGE);
    if (server.last.aborted || server.requests.length <= round) break;
    assert.ok(server.last.cursor!.length <= 4096 + 10, `${server.last.cursor!.length} bytes`);
    for (const cursor of server.last.cursor!.split(",")) sent.add(cursor);
    await server.last.open(`c${round}`);
  }
  assert.ok(cursors.every((cursor) => sent.has(cursor)));
  assert.equal(server.last.topics.length, 20);
});

test("a cursor that is too long by itself is sent all the same, and long ones do not keep topics out", async () => {
  const { clock, server, live } = setUp();
  const long = "x".repeat(5000);
  live.subscribe("a", {}, { cursor: long });
  await clock.tick(CHANGE);
  assert.equal(server.last.cursor, long);
  for (const topic of ["b", "c", "d"]) live.subscribe(topic, {}, { cursor: long });
  await clock.tick(CHANGE);
  assert.deepEqual([server.last.topics, server.last.cursor], [["a", "b", "c", "d"], long]);
  await server.last.open("y".repeat(1500));
  await server.last.end();
  await clock.tick(2000);
  assert.deepEqual(server.last.topics, ["a", "b", "c", "d"]);
});
