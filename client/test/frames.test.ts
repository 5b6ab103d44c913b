import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameParser, type RawFrame as Frame } from "../src/frames.js";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function parse(...chunks: Uint8Array[]): Frame[] {
  const parser = new FrameParser();
  return chunks.flatMap((chunk) => [...parser.push(chunk)]);
}

const frame = (fields: Partial<Frame>): Frame => ({
  id: undefined,
  event: "",
  topic: "",
  data: "",
  retry: undefined,
  ...fields,
});

test("a frame has an id, an event, a topic, data and a retry", () => {
  const text = "retry: 1500\nevent: updated\ntopic: orders/42\ndata: {}\nid: c1\n\n";
  assert.deepEqual(parse(bytesOf(text)), [
    frame({ retry: 1500, event: "updated", topic: "orders/42", data: "{}", id: "c1" }),
  ]);
});

test("lines may end with LF, CR or CRLF", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const text = ["event: a", "data: 1", "", "event: b", "data: 2", "", ""].join(end);
    assert.deepEqual(parse(bytesOf(text)), [frame({ event: "a", data: "1" }), frame({ event: "b", data: "2" })]);
  }
});

test("a CR ends the line at once, without waiting for an LF", () => {
  assert.equal(parse(bytesOf("data: 1\r\r")).length, 1);
});

test("several data lines are one text", () => {
  assert.equal(parse(bytesOf("data: a\ndata:\ndata: b\n\n"))[0]?.data, "a\n\nb");
});

test("one space after the colon is not part of the value", () => {
  assert.equal(parse(bytesOf("data:  a:b \n\n"))[0]?.data, " a:b ");
  assert.equal(parse(bytesOf("data:a\n\n"))[0]?.data, "a");
  assert.equal(parse(bytesOf("id\n\n"))[0]?.id, "");
});

test("comments and unknown fields say nothing", () => {
  assert.deepEqual(parse(bytesOf(": hello\ncolour: red\ndata: 1\n:\n\n")), [frame({ data: "1" })]);
});

test("a byte order mark at the beginning is skipped", () => {
  const marked = new Uint8Array([0xef, 0xbb, 0xbf, ...bytesOf("data: 1\n\n")]);
  assert.equal(parse(marked)[0]?.data, "1");
  assert.equal(parse(...[...marked].map((byte) => Uint8Array.of(byte)))[0]?.data, "1");
});

test("an id with a NULL in it is ignored", () => {
  assert.equal(parse(bytesOf("id: a\0b\ndata: 1\n\n"))[0]?.id, undefined);
});

test("a retry that is no number is ignored", () => {
  assert.equal(parse(bytesOf("retry: soon\n\n"))[0]?.retry, undefined);
  assert.equal(parse(bytesOf("retry: -1\n\n"))[0]?.retry, undefined);
});

test("a frame without its empty line does not come out", () => {
  assert.deepEqual(parse(bytesOf("data: 1\nid: c1\n")), []);
});

test("a frame may have an id only", () => {
  assert.deepEqual(parse(bytesOf("id: c1\n\n")), [frame({ id: "c1" })]);
});

test("however the bytes are split, the frames are the same", () => {
  const text =
    '\ufeff: hi\r\n\r\nretry: 10\r\nevent: stream-open\r\ndata: {"a":"é€😀"}\rid: 1\r\r' +
    "event: x\ntopic: räume/1\ndata: 1\n:\ndata: 😀\r\nid: 2\n\n\n\nid: 3\r\n\r\n\r\ndata\r\rdata: unfinished";
  const bytes = bytesOf(text);
  const whole = parse(bytes);
  assert.equal(whole.length, 5);

  for (let cut = 0; cut <= bytes.length; cut += 1) {
    assert.deepEqual(parse(bytes.slice(0, cut), bytes.slice(cut)), whole, `cut at ${cut}`);
  }
  assert.deepEqual(parse(...[...bytes].map((byte) => Uint8Array.of(byte))), whole, "byte by byte");

  let seed = 7;
  const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  for (let round = 0; round < 2000; round += 1) {
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = random(12);
      chunks.push(bytes.slice(at, at + length));
      at += length;
    }
    assert.deepEqual(parse(...chunks), whole, `round ${round}`);
  }
});
