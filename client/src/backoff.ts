/** How long to wait before the next attempt. */

const LONGEST_WAIT = 60_000;
/** A server that asks for no wait at all would be hit without pause. */
const SHORTEST_RETRY = 500;
/** Beyond this a Retry-After is more likely a mistake, and setTimeout overflows at 24 days. */
const LONGEST_RETRY_AFTER = 3_600_000;

/**
 * Full jitter: a random wait between 0 and a bound that doubles with each attempt that fails, to a minute at most,
 * so that a thousand clients that lost the same server do not come back as one.
 */
export class Backoff {
  private failures = 0;
  private notBefore = 0;

  constructor(private retry = 2000) {}

  /** Takes the server's `retry:`, in milliseconds, for the first bound. */
  use(retry: number): void {
    this.retry = Math.max(SHORTEST_RETRY, retry);
  }

  /** Counts a failure; returns milliseconds to wait, never less than `retryAfter`. */
  next(retryAfter = 0): number {
    const held = Math.min(retryAfter, LONGEST_RETRY_AFTER);
    const bound = Math.min(LONGEST_WAIT, this.retry * 2 ** this.failures);
    this.failures += 1;
    this.notBefore = Date.now() + held;
    return held + Math.random() * bound;
  }

  /** Milliseconds for which the server asked not to be called, whatever happens. */
  get held(): number {
    return Math.max(0, this.notBefore - Date.now());
  }

  /** The server answers again. */
  release(): void {
    this.notBefore = 0;
  }

  /** The connection has proven itself. */
  reset(): void {
    this.failures = 0;
  }
}

/** Milliseconds of a Retry-After header, which holds seconds or a date. */
export function retryAfter(headers: Headers): number {
  const value = headers.get("Retry-After") ?? "";
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Math.max(0, wait) || 0;
}

/** Whether a status is of the kind that another attempt may get over. */
export function isPassing(status: number): boolean {
  return [408, 425, 429].includes(status) || (status >= 500 && status !== 501);
}
