/** The binary frame: a header that describes itself, then topic, type, payload and, from the server, the cursor. */

import type { Frame } from "./transport.js";

const VERSION = 1;
/** Flags. */
const MORE = 1;
const CONTINUES = 2;
const ASKS = 4;
/** Bytes before the topic: version, flags, two lengths, sequence, time, length of the payload. */
const HEADER = 25;
/** Bytes of payload in one frame; more goes in parts. */
const LARGEST = 65_536;

/** The frames of a message. */
export function encoded(
  topic: string,
  type: string,
  payload: Uint8Array,
  sequence: number,
  asks: boolean,
  largest = LARGEST,
): Uint8Array[] {
  const names = new TextEncoder().encode(topic + type);
  const frames: Uint8Array[] = [];
  for (let from = 0; !from || from < payload.length; from += largest) {
    const part = payload.subarray(from, from + largest);
    const frame = new Uint8Array(HEADER + names.length + part.length);
    const view = new DataView(frame.buffer);
    const more = from + largest < payload.length;
    view.setUint8(0, VERSION);
    view.setUint8(1, (more ? MORE : 0) | (from ? CONTINUES : 0) | (asks ? ASKS : 0));
    view.setUint16(2, names.length - type.length); // A type is ASCII.
    view.setUint8(4, type.length);
    setUint64(view, 5, sequence);
    setUint64(view, 13, Date.now());
    view.setUint32(21, part.length);
    frame.set(names, HEADER);
    frame.set(part, HEADER + names.length);
    frames.push(frame);
  }
  return frames;
}

/** Puts parts together again. */
export class BinaryReader {
  private readonly parts = new Map<string, Uint8Array>();

  /** The frame that is whole with these bytes; undefined while parts are missing, and for what is no such frame. */
  read(buffer: ArrayBuffer): Frame | undefined {
    const view = new DataView(buffer);
    if (buffer.byteLength < HEADER || view.getUint8(0) !== VERSION) return undefined;
    const flags = view.getUint8(1);
    const typeAt = HEADER + view.getUint16(2);
    const dataAt = typeAt + view.getUint8(4);
    const idAt = dataAt + view.getUint32(21);
    if (idAt > buffer.byteLength) return undefined;
    const text = (from: number, to?: number): string => new TextDecoder().decode(buffer.slice(from, to));

    const topic = text(HEADER, typeAt);
    const part = new Uint8Array(buffer.slice(dataAt, idAt));
    const before = flags & CONTINUES ? this.parts.get(topic) : undefined;
    this.parts.delete(topic);
    if (flags & CONTINUES && !before) return undefined; // Its beginning was never seen.
    const data = before ? joined(before, part) : part;
    if (flags & MORE) {
      this.parts.set(topic, data);
      return undefined;
    }
    return { event: text(typeAt, dataAt), topic, data, id: text(idAt) || undefined };
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const whole = new Uint8Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}

function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}

export function bytesOf(data: unknown): Uint8Array | undefined {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : undefined;
}
