/** Which transport: the best that the network is known to let through, and the next one where it does not. */

/** WebSocket, Server-Sent Events, polling. */
export const SOCKET = 0;
export const STREAM = 1;
export const POLLS = 2;

/** Milliseconds that a worse transport is kept before a better one is tried again. */
export const CLIMB_AFTER = 300_000;

const KEY = "live:transport";

/**
 * A transport that did not open is not yet proof against the network: the server may be down. So the next one is
 * *tried*, and only if that one opens is it remembered, for this browser and a while. Browsers do not name the
 * network they are in; when it may have changed, what was remembered is forgotten.
 */
export class Ladder {
  private tried: number | undefined;
  private known = 0;
  private until = 0;

  constructor() {
    try {
      [this.known = 0, this.until = 0] = (localStorage.getItem(KEY) ?? "").split(" ").map(Number);
    } catch {
      // There is no storage here.
    }
  }

  /** The step to take, no better than `best`. */
  step(best: number): number {
    return Math.max(best, this.tried ?? (this.until > Date.now() ? this.known : 0)) || 0;
  }

  /** `step` did not open. Returns whether there is another one to try. */
  blocked(step: number): boolean {
    this.tried = step < POLLS ? step + 1 : undefined;
    return step < POLLS;
  }

  /** This was not the network's choice of transport. */
  failed(): void {
    this.tried = undefined;
  }

  /** `step` is open. */
  opened(step: number): void {
    if (this.tried === step) this.remember(step);
    this.tried = undefined;
  }

  remember(step: number): void {
    this.known = step;
    this.until = Date.now() + CLIMB_AFTER;
    try {
      localStorage.setItem(KEY, `${step} ${this.until}`);
    } catch {
      // For this page only, then.
    }
  }
}
