/** What the user may be told about the connection. */

import type { Configuration, Status } from "./api.js";
import { guarded } from "./report.js";
import { Timer } from "./timer.js";

/** A little more than the usual `retry`: a stream that the server rotates shall not make the page flicker. */
const STALE_AFTER = 2500;

export class StatusBoard {
  value: Status = "idle";
  private readonly listeners = new Set<(status: Status) => void>();
  private readonly grace = new Timer(() => this.set("stale"));

  constructor(private readonly configuration: Configuration) {}

  listen(listener: (status: Status) => void): () => void {
    const entry = (status: Status): void => listener(status); // The same function may listen twice.
    this.listeners.add(entry);
    return () => void this.listeners.delete(entry);
  }

  set(status: Status): void {
    this.grace.clear();
    if (status === this.value) return;
    this.value = status;
    for (const listener of [...this.listeners]) guarded(() => listener(status));
  }

  /** An attempt has begun. */
  connecting(): void {
    if (this.value === "idle" || this.value === "stopped") this.set("connecting");
  }

  /** There is no connection just now; unless that changes soon, the page is stale. */
  lost(): void {
    if (this.value !== "stale" && !this.grace.pending) this.grace.set(this.configuration.staleAfter ?? STALE_AFTER);
  }
}
