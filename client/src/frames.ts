/** From bytes to frames: the parsing rules of Server-Sent Events, with the field `topic` added. */

import { report } from "./report.js";

export interface RawFrame {
  /** The cursor after this frame; undefined if the frame does not move it. */
  id: string | undefined;
  event: string;
  topic: string;
  data: string;
  /** Milliseconds. */
  retry: number | undefined;
}

/**
 * Fed with chunks that may end anywhere, inside a character too. A frame comes out only once its empty line was
 * seen, so a connection cut in the middle of one leaves nothing behind.
 *
 * Rules: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class FrameParser {
  private readonly decoder = new TextDecoder();
  private unfinishedLine = "";
  private endedWithCr = false;
  private lines: string[] = [];

  *push(chunk: Uint8Array): Generator<RawFrame> {
    let text = this.decoder.decode(chunk, { stream: true });
    if (!text) return;
    // The line already ended with the CR of the last chunk; its LF is not an empty line.
    const splitCrLf = this.endedWithCr && text.startsWith("\n");
    this.endedWithCr = text.endsWith("\r");
    if (splitCrLf) text = text.slice(1);

    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.unfinishedLine + lines[0]!;
    this.unfinishedLine = lines.pop()!;
    for (const line of lines) {
      if (line) {
        this.lines.push(line);
      } else if (this.lines.length) {
        const finished = this.lines;
        this.lines = [];
        yield parseFrame(finished);
      }
    }
  }
}

function parseFrame(lines: string[]): RawFrame {
  const frame: RawFrame = { id: undefined, event: "", topic: "", data: "", retry: undefined };
  const data: string[] = [];
  for (const line of lines) {
    const [, field, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line)!;
    if (field === "data") data.push(value);
    else if (field === "event" || field === "topic") frame[field] = value;
    else if (field === "id" && !value.includes("\0")) frame.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) frame.retry = Number(value);
  }
  frame.data = data.join("\n");
  return frame;
}

/** Bytes, where JSON stands for them; anything else stays what it is. */
export function unwrapped(data: unknown): unknown {
  const base64 = (data as { $bytes?: unknown } | null | undefined)?.$bytes;
  if (typeof base64 !== "string" || Object.keys(data as object).length > 1) return data;
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** What the server meant; undefined if there is nothing, or nothing that can be read. */
export function parsed(json: string): unknown {
  if (!json) return undefined;
  try {
    return JSON.parse(json);
  } catch (error) {
    report(error);
    return undefined;
  }
}
