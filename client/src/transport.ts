/** The seam between the connection's life and the way its bytes travel. */

import type { LiveError } from "./api.js";
import type { Frame } from "./frames.js";

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
}

export interface Transport {
  /**
   * Opens a stream and passes on what it brings until it ends.
   * Once the signal is aborted the listener hears nothing more, not even frames that have already arrived.
   * Rejects when the connection fails or is cut.
   */
  run(request: StreamRequest, listener: StreamListener): Promise<Ending>;
}
