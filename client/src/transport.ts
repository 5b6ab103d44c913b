/** The seam between the connection's life and the way its bytes travel. */

import type { LiveError } from "./api.js";
import type { Connection } from "./connection.js";

/** What a stream says, whichever way it came. */
export interface Frame {
  /** The cursor after this frame; undefined if the frame does not move it. */
  readonly id?: string | undefined;
  readonly event?: string | undefined;
  readonly topic?: string | undefined;
  /** Already parsed; undefined where there is none. */
  readonly data?: unknown;
  /** Milliseconds. */
  readonly retry?: number | undefined;
}

export interface StreamRequest {
  readonly topics: readonly string[];
  /** Where to go on from; empty for a first visit. */
  readonly cursor: string;
  readonly signal: AbortSignal;
}

export interface StreamListener {
  /** A sign of life, whether or not it completes a frame. */
  onBytes(): void;
  onFrame(frame: Frame): void;
}

/** How a stream ended, when it was not cut. */
export interface Ending {
  /** Coming back would not help. */
  readonly stop: boolean;
  /** The least time to wait before coming back, in milliseconds. */
  readonly retryAfter: number;
  readonly errors: readonly LiveError[];
  /** Perhaps this way does not get through: another one shall tell. */
  readonly blocked?: boolean;
}

/** What a server did with a message: its reply, or why there is none. */
export interface Reply {
  readonly id?: string | undefined;
  readonly data?: unknown;
  readonly error?: LiveError | undefined;
}

/** A message to a topic. */
export interface Message {
  readonly topic: string;
  readonly type: string;
  /** JSON, or bytes. */
  readonly data: unknown;
  /** Whether somebody waits for the reply. */
  readonly asks: boolean;
}

export interface Transport {
  /** Milliseconds after which a stream that has not opened is given up as blocked. */
  readonly limit?: number | undefined;
  /** Its frames come several at a time, and only the last of them moves the cursor. */
  readonly batches?: boolean | undefined;
  /**
   * Opens a stream and passes on what it brings until it ends.
   * Once the signal is aborted the listener hears nothing more, not even frames that have already arrived.
   * Rejects when the connection fails or is cut.
   */
  run(request: StreamRequest, listener: StreamListener): Promise<Ending>;
  /** Changes the topics of the connection's open stream, where that needs no other one. */
  change?(connection: Connection, added: readonly string[], left: readonly string[]): void;
  /** Sends over the open stream, where it goes both ways. */
  send?(message: Message): Promise<Reply>;
}

export const CUT: Ending = { stop: false, retryAfter: 0, errors: [] };

export function stopped(code: string, message = ""): Ending {
  return { stop: true, retryAfter: 0, errors: [{ code, message }] };
}
