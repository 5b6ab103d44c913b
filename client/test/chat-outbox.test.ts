import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import type { Live, Status } from "../src/api.js";
import { type Draft, newClientId, Outbox, type Sent } from "../src/features/chat/outbox.js";

type Call = { readonly data: { client_id: string; text: string }; answer(sent: Sent): void; fail(code: string): void };

let calls: Call[] = [];
let told: string[] = [];
let goLive: (status: Status) => void = () => {};

function draft(text: string): Draft {
  return { client_id: newClientId(), text, reply_to: null, files: [], at: "" };
}

function outbox(): Outbox {
  const live = {
    onStatus: (listener: (status: Status) => void) => {
      goLive = listener;
      return () => {};
    },
    call: (_topic: string, _type: string, data: Call["data"]) =>
      new Promise((resolve, reject) => {
        const fail = (code: string): void => reject(Object.assign(new Error(code), { code }));
        calls.push({ data, answer: resolve, fail });
      }),
  };
  return new Outbox(live as unknown as Live, "live/chat/1", "key", {
    acknowledged: ({ text }) => told.push(`${text} acknowledged`),
    changed: ({ text }, state) => told.push(`${text} ${state}`),
  });
}

const sent = { id: 1, number: 1, client_id: "", at: "" };
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  calls = [];
  told = [];
  mock.timers.reset();
});

test("one after the other, in order", async () => {
  const box = outbox();
  box.add(draft("a"));
  box.add(draft("b"));
  assert.deepEqual(calls.map(({ data }) => data.text), ["a"]);
  calls[0]!.answer(sent);
  await settled();
  assert.deepEqual(calls.map(({ data }) => data.text), ["a", "b"]);
  calls[1]!.answer(sent);
  await settled();
  assert.deepEqual(told, ["a sending", "b sending", "a acknowledged", "b acknowledged"]);
});

test("what may have arrived is sent again by the same id, when the connection is back or after a while", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const box = outbox();
  box.add(draft("a"));
  for (const code of ["connection-lost", "timeout", "offline", "too-fast", "http-503"]) {
    const before = calls.length;
    calls.at(-1)!.fail(code);
    await settled();
    assert.equal(calls.length, before, "not at once");
    if (code === "offline") goLive("live");
    else mock.timers.tick(60_000);
    await settled();
    assert.equal(calls.length, before + 1, code);
  }
  assert.equal(new Set(calls.map(({ data }) => data.client_id)).size, 1);
  calls.at(-1)!.answer(sent);
  await settled();
  assert.equal(told.at(-1), "a acknowledged");
});

test("what is refused fails, holds up nobody, and is sent again when asked", async () => {
  const box = outbox();
  const refused = draft("a");
  box.add(refused);
  box.add(draft("b"));
  calls[0]!.fail("too-long");
  await settled();
  assert.deepEqual(told, ["a sending", "b sending", "a failed"]);
  assert.equal(calls[1]!.data.text, "b");
  calls[1]!.answer(sent);
  await settled();
  box.again(refused.client_id);
  assert.equal(calls[2]!.data.client_id, refused.client_id);
});

test("what the room tells of is not sent again", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const box = outbox();
  const one = draft("a");
  box.add(one);
  box.forget(one.client_id); // Its event was faster than the answer, which is lost.
  calls[0]!.fail("connection-lost");
  await settled();
  mock.timers.tick(60_000);
  goLive("live");
  await settled();
  assert.equal(calls.length, 1);
});
