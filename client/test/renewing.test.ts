/** What a client does whose session or token is no longer good, and one that a full server sends away. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Configuration, LiveError } from "../src/api.js";
import { CHANGE, type Setup, setUp } from "./support/client.js";
import { settle } from "./support/clock.js";
import { FakeSocket } from "./support/socket.js";
import { streamError } from "./support/server.js";

interface Listening extends Setup {
  errors: LiveError[];
}

async function listening(configuration: Configuration, transport?: "ws"): Promise<Listening> {
  const setup = setUp();
  const errors: LiveError[] = [];
  setup.live.configure(configuration);
  setup.live.subscribe("a", { error: (error) => errors.push(error) }, { transport });
  await setup.clock.tick(CHANGE);
  return { ...setup, errors };
}

function refused(code: string): string {
  return JSON.stringify({ errors: [{ code, message: code }] });
}

/** A token that is another one each time. */
function tokens(): { given: string[]; token: () => string } {
  const given: string[] = [];
  return { given, token: () => given[given.push(`t${given.length + 1}`) - 1]! };
}

const codesOf = ({ errors }: Listening): string[] => errors.map(({ code }) => code);

for (const code of ["signed-out", "expired"]) {
  test(`${code}: a page that gives tokens comes back with another one, and its reader is told nothing`, async () => {
    const { given, token } = tokens();
    const setup = await listening({ token });
    await setup.server.last.open("c1");
    await setup.server.last.send(streamError({ code }));
    await setup.clock.tick(2000);
    assert.deepEqual(given, ["t1", "t2"]);
    assert.equal(setup.server.last.headers.get("Authorization"), "Bearer t2");
    await setup.server.last.open("c2");
    assert.equal(setup.live.status, "live");
    assert.deepEqual(codesOf(setup), []);
  });

  test(`${code}: a page without tokens stops, and is told`, async () => {
    const setup = await listening({});
    await setup.server.last.open("c1");
    await setup.server.last.send(streamError({ code }));
    assert.equal(setup.live.status, "stopped");
    assert.deepEqual(codesOf(setup), [code]);
    await setup.clock.tick(600_000);
    assert.equal(setup.server.requests.length, 1);
  });
}

for (const [body, code] of [
  [refused("not-authenticated"), "not-authenticated"],
  ["<h1>no</h1>", "http-401"],
] as const) {
  test(`${code}: one more token is tried, not a third`, async () => {
    const { given, token } = tokens();
    const setup = await listening({ token });
    await setup.server.last.answer(401, body);
    await setup.clock.tick(2000);
    assert.equal(given.length, 2);
    await setup.server.last.answer(401, body);
    await setup.clock.tick(600_000);
    assert.equal(given.length, 2);
    assert.equal(setup.live.status, "stopped");
    assert.deepEqual(codesOf(setup), [code]);
  });
}

test("a token that has worked may be renewed again", async () => {
  const { given, token } = tokens();
  const setup = await listening({ token });
  setup.clock.chance = 0;
  for (let round = 1; round <= 3; round += 1) {
    await setup.server.last.open(`c${round}`);
    await setup.server.last.send(streamError({ code: "expired" }));
    await setup.clock.tick(100);
    assert.equal(given.length, round + 1);
  }
});

for (const [answer, comesBack] of [
  [true, true],
  [false, false],
  [new Error("no"), false],
] as const) {
  test(`onRenew that answers ${answer}: ${comesBack ? "it comes back" : "it stops"}`, async () => {
    let asked = 0;
    const onRenew = (): boolean => {
      asked += 1;
      if (typeof answer !== "boolean") throw answer;
      return answer;
    };
    const setup = await listening({ onRenew });
    await setup.server.last.open("c1");
    await setup.server.last.send(streamError({ code: "signed-out" }));
    await setup.clock.tick(2000);
    assert.equal(asked, 1);
    assert.equal(setup.server.requests.length, comesBack ? 2 : 1);
    assert.deepEqual(codesOf(setup), comesBack ? [] : ["signed-out"]);
  });
}

test("while it renews nothing is opened, whatever happens to the page", async () => {
  let renewed = (_isNew: boolean): void => {};
  const setup = await listening({ onRenew: () => new Promise((done) => (renewed = done)) });
  await setup.server.last.answer(401, refused("signed-out"));
  setup.live.subscribe("b", {});
  setup.live.connect();
  await setup.clock.tick(60_000);
  assert.equal(setup.server.requests.length, 1);
  renewed(true);
  await setup.clock.tick(2000);
  assert.equal(setup.server.requests.length, 2);
  assert.deepEqual(setup.server.last.topics, ["a", "b"]);
  await setup.server.last.open("c1");
  assert.equal(setup.live.status, "live");
  assert.deepEqual(codesOf(setup), []);
});

test("waits that grew while the network was away begin anew once the server has answered", async () => {
  const setup = await listening({ onRenew: () => true });
  setup.clock.chance = 0.999999;
  for (let failure = 0; failure < 6; failure += 1) {
    await setup.server.last.cut();
    await setup.clock.tick(60_000);
  }
  const { length } = setup.server.requests;
  await setup.server.last.answer(401, refused("signed-out"));
  await setup.clock.tick(2000);
  assert.equal(setup.server.requests.length, length + 1);
});

test("a server that lets in and sends away is not asked more and more often", async () => {
  const setup = await listening({ onRenew: () => true });
  setup.clock.chance = 0.999999;
  const start = setup.clock.now;
  for (let round = 1; round <= 6; round += 1) {
    await setup.server.last.open(`c${round}`);
    await setup.server.last.send(streamError({ code: "signed-out" }));
    while (setup.server.requests.length === round) await setup.clock.tick(100);
  }
  assert.ok(setup.clock.now - start > 100_000, `${setup.clock.now - start} ms`);
});

test("what was closed while it renewed stays closed", async () => {
  let renewed = (_isNew: boolean): void => {};
  const setup = await listening({ onRenew: () => new Promise((done) => (renewed = done)) });
  await setup.server.last.open("c1");
  await setup.server.last.send(streamError({ code: "signed-out" }));
  setup.live.close();
  renewed(true);
  await setup.clock.tick(600_000);
  assert.equal(setup.server.requests.length, 1);
});

test("disconnected by an operator: no token helps", async () => {
  const { given, token } = tokens();
  const setup = await listening({ token });
  await setup.server.last.open("c1");
  await setup.server.last.send(streamError({ code: "disconnected" }));
  await setup.clock.tick(600_000);
  assert.equal(given.length, 1);
  assert.equal(setup.live.status, "stopped");
});

for (const code of [4100, 4101, 4102]) {
  test(`a socket closed with ${code}: a new ticket`, async () => {
    const sockets = FakeSocket.install();
    const { given, token } = tokens();
    const setup = await listening({ ticket: token }, "ws");
    await sockets.last.open("c1");
    await sockets.last.end(code);
    await setup.clock.tick(2000);
    assert.deepEqual(given, ["t1", "t2"]);
    assert.equal(sockets.last.url.searchParams.get("ticket"), "t2");
  });
}

// -- never as a mere visitor ------------------------------------------------------------------------

const knownTo = (url: URL): string | null => url.searchParams.get("known");

test("a page that is somebody's says so from the first request on, and in every message", async () => {
  const setup = await listening({ known: "mark" });
  assert.equal(knownTo(setup.server.last.url), "mark");
  await setup.server.last.open("c1");
  setup.live.send("a", "say", 1);
  await settle();
  await setup.server.last.answer(200, JSON.stringify({ csrfToken: "t" }));
  assert.equal(setup.server.last.init.method, "POST");
  assert.equal(knownTo(setup.server.last.url), "c1");
});

test("without a mark the last cursor says it, also when all topics are gone and others come", async () => {
  const setup = await listening({});
  assert.equal(knownTo(setup.server.last.url), null);
  await setup.server.last.open("first,second");
  setup.live.subscribe("a", {}).unsubscribe();
  const other = setup.live.subscribe("b", {});
  await setup.clock.tick(CHANGE);
  assert.equal(knownTo(setup.server.last.url), "first");
  await setup.server.last.open("third");
  other.unsubscribe();
  await setup.clock.tick(CHANGE);
  setup.live.subscribe("c", {});
  await setup.clock.tick(CHANGE);
  assert.equal(knownTo(setup.server.last.url), "third");
});

test("a socket and polls say it, too", async () => {
  const sockets = FakeSocket.install();
  const setup = await listening({ known: "mark" }, "ws");
  assert.equal(knownTo(sockets.last.url), "mark");
  await sockets.last.end(4005);
  await setup.clock.tick(100);
  await setup.server.last.answer(503, refused("at-capacity"));
  await setup.clock.tick(100);
  assert.equal(setup.server.last.url.pathname, "/live/poll/");
  assert.equal(knownTo(setup.server.last.url), "mark");
});

test("a message that is refused because its session has ended ends the stream, and renews", async () => {
  let asked = 0;
  const setup = await listening({ onRenew: () => (asked += 1) > 0 });
  await setup.server.last.open("c1");
  const stream = setup.server.last;
  const told = assert.rejects(setup.live.call("a", "say", 1), { code: "signed-out" });
  await settle();
  await setup.server.last.answer(200, JSON.stringify({ csrfToken: "t" }));
  await setup.server.last.answer(401, refused("signed-out"));
  await told;
  assert.ok(stream.aborted);
  assert.equal(asked, 1);
  await setup.clock.tick(2000);
  assert.equal(setup.server.last.url.pathname, "/live/events/");
});

// -- too many ---------------------------------------------------------------------------------------

test("too many connections: it waits for as long as the server says", async () => {
  const setup = await listening({});
  await setup.server.last.answer(429, refused("too-many-connections"), { "Retry-After": "10" });
  await setup.clock.tick(9900);
  assert.equal(setup.server.requests.length, 1);
  await setup.clock.tick(2200);
  assert.equal(setup.server.requests.length, 2);
  assert.equal(setup.server.last.url.pathname, "/live/events/");
});

test("a socket too many waits as well", async () => {
  const sockets = FakeSocket.install();
  const setup = await listening({}, "ws");
  const data = { topic: "", code: "too-many-connections", message: "no" };
  await sockets.last.frames([
    { event: "stream-error", data },
    { event: "stream-end", data: { retry: 10_000 } },
  ]);
  await sockets.last.end(4004);
  await setup.clock.tick(9900);
  assert.equal(sockets.opened.length, 1);
  await setup.clock.tick(2200);
  assert.equal(sockets.opened.length, 2);
  assert.deepEqual(codesOf(setup), []);
});

test("a process that is full: it polls at once", async () => {
  const setup = await listening({});
  await setup.server.last.answer(503, refused("at-capacity"), { "Retry-After": "10" });
  await setup.clock.tick(100);
  assert.equal(setup.server.last.url.pathname, "/live/poll/");
});

test("a process that is merely down: it does not poll", async () => {
  const setup = await listening({});
  await setup.server.last.answer(503, refused("unavailable"), { "Retry-After": "2" });
  await setup.clock.tick(5000);
  assert.equal(setup.server.last.url.pathname, "/live/events/");
});

test("a full process sends a socket to the stream, and that to polls", async () => {
  const sockets = FakeSocket.install();
  const setup = await listening({}, "ws");
  await sockets.last.end(4005);
  await setup.clock.tick(100);
  assert.equal(setup.server.last.url.pathname, "/live/events/");
  await setup.server.last.answer(503, refused("at-capacity"));
  await setup.clock.tick(100);
  assert.equal(setup.server.last.url.pathname, "/live/poll/");
});
