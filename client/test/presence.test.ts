import assert from "node:assert/strict";
import { test } from "node:test";
import { Roster } from "../src/features/presence/roster.js";

const seat = (name: string, ...c: string[]) => ({ c, i: { name } });
const names = (roster: Roster) => roster.members.map(({ info }) => (info as { name: string }).name);

function begun(): Roster {
  const roster = new Roster();
  roster.begin({ version: 10, entries: { "m p1 7": [seat("Ann", "a"), 8], "m p1 9": [seat("Bob", "b"), 10] } });
  return roster;
}

test("a snapshot is followed by what is told after it, in any overlap", () => {
  const roster = begun();
  roster.change({ version: 9, set: { "m p1 3": seat("Cid", "c") }, gone: ["m p1 9"] });
  assert.deepEqual(names(roster), ["Ann", "Bob"], "the snapshot knew better");
  roster.change({ version: 11, set: { "m p1 3": seat("Cid", "c") }, gone: ["m p1 9"] });
  assert.deepEqual(names(roster), ["Ann", "Cid"]);
  roster.change({ version: 10, set: { "m p1 9": seat("Bob", "b") }, gone: [] });
  assert.deepEqual(names(roster), ["Ann", "Cid"], "an older word does not bring anybody back");
});

test("a member is gone with the last seat, and is one as long as there are several", () => {
  const roster = begun();
  roster.change({ version: 12, set: { "m p2 7": seat("Ann", "t") }, gone: [] });
  assert.equal(roster.count, 2);
  roster.change({ version: 13, set: {}, gone: ["m p1 7"] });
  assert.equal(roster.count, 2);
  roster.change({ version: 14, set: {}, gone: ["m p2 7"] });
  assert.deepEqual(names(roster), ["Bob"]);
});

test("a member is as active as the best connection", () => {
  const roster = begun();
  const state = () => roster.members.find(({ id }) => id === "7")!.state;
  roster.change({ version: 12, set: { "m p2 7": seat("Ann", "t"), "s a 7": "away" }, gone: [] });
  assert.equal(state(), "active");
  roster.change({ version: 13, set: { "s t 7": "idle" }, gone: [] });
  assert.equal(state(), "idle");
  roster.change({ version: 14, set: {}, gone: ["s a 7"] });
  assert.equal(state(), "active");
});

test("of a large topic only the number is known, until the members are named again", () => {
  const roster = begun();
  roster.begin({ version: 20, count: 5000 });
  assert.deepEqual([roster.isLarge, roster.count, names(roster)], [true, 5000, []]);
  roster.change({ version: 21, set: { "m p1 3": seat("Cid", "c") }, gone: [] });
  assert.deepEqual([roster.count, names(roster)], [5000, []]);
  roster.begin({ version: 19, count: 7 });
  assert.equal(roster.count, 5000, "an older number");
  roster.begin({ version: 22, entries: { "m p1 3": [seat("Cid", "c"), 21] } });
  assert.deepEqual([roster.isLarge, roster.count, names(roster)], [false, 1, ["Cid"]]);
});
