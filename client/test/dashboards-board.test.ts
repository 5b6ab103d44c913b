import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { Handlers, Live } from "../src/api.js";
import { Board } from "../src/features/dashboards/board.js";

const page = { hidden: false, addEventListener() {} };
Object.assign(globalThis, { document: page });
let subscribed: Handlers[] = [];
let left = 0;
const live = {
  subscribe(_topic: string, handlers: Handlers) {
    subscribed.push(handlers);
    return { unsubscribe: () => (left += 1) };
  },
} as unknown as Live;

function say(type: "snapshot" | "*", data: object): void {
  subscribed.at(-1)![type]!({ age: 0, run: "a", ...data }, { topic: "t", type: "update", data });
}

beforeEach(() => {
  subscribed = [];
  left = 0;
  page.hidden = false;
});

test("all elements share one subscription; who comes later is shown what is known", () => {
  const board = new Board(live, "t");
  const shown: unknown[] = [];
  board.add({ update: () => {} });
  say("snapshot", { n: 3, value: 7 });
  board.add({ update: ({ value }) => shown.push(value) });
  say("*", { n: 4, value: 8 });
  assert.deepEqual([subscribed.length, shown], [1, [7, 8]]);
});

test("what was said before the snapshot was taken does not undo it; another process's word counts", () => {
  const board = new Board(live, "t");
  board.add({ update: () => {} });
  say("snapshot", { n: 3, rows: { a: { x: 1 }, b: {} } });
  say("*", { n: 3, set: { a: { x: 0 } }, gone: ["b"] });
  assert.deepEqual([...board.rows], [["a", { x: 1 }], ["b", {}]]);
  say("*", { run: "b", n: 1, set: { c: {} }, gone: ["b", "never there"] });
  assert.deepEqual([...board.rows.keys()], ["a", "c"]);
});

test("items that the snapshot has are not added twice", () => {
  const board = new Board(live, "t");
  board.add({ update: () => {} });
  say("snapshot", { n: 1, items: [[1, 10, "one"], [2, 11, "two"]] });
  say("*", { n: 2, items: [[2, 11, "two"], [3, 12, "three"], [3, 12, "four"]] });
  assert.deepEqual(board.items.map((item) => item[2]), ["one", "two", "three", "four"]);
});

test("a page that nobody sees takes no updates, and begins anew when it is looked at", () => {
  const board = new Board(live, "t");
  board.add({ update: () => {} });
  page.hidden = true;
  board.follow();
  assert.deepEqual([subscribed.length, left], [1, 1]);
  page.hidden = false;
  board.follow();
  assert.equal(subscribed.length, 2);
});
