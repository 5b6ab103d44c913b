/** Where each topic goes on from: what makes every event arrive once, across reconnects. */

import type { Configuration } from "./api.js";

/** Servers and proxies refuse header fields above 8 kB; this leaves room. */
const LONGEST_CURSOR = 4096;

/**
 * Keeps the stream's cursor, which speaks for the topics that the stream carries, and a start for topics that are
 * new to it. A start serves until a stream has carried the topic, and never again: its events would come twice.
 */
export class Resume {
  private last = "";
  /** The topics that `cursor` speaks for. */
  carried: ReadonlySet<string> = new Set();
  private readonly starts = new Map<string, string>();

  /** @param pageCursor finds the position at which the page's content about a topic was read */
  constructor(
    private readonly pageCursor: (topic: string) => string,
    private readonly configuration: Configuration,
  ) {}

  /** The last id seen. */
  get cursor(): string {
    return this.last;
  }

  /** Whose it is the server can tell from any cursor, also when this one has been cleared. */
  set cursor(cursor: string) {
    this.last = cursor;
    if (cursor) this.configuration.known = cursor;
  }

  /** Sets where a topic shall start if it is new to the stream. The first word on it counts. */
  startAt(topic: string, cursor: string): void {
    if (cursor && !this.starts.has(topic)) this.starts.set(topic, cursor);
  }

  /** Nobody subscribes to the topic any more: whoever does later is a newcomer. */
  forget(topic: string): void {
    this.starts.delete(topic);
  }

  carries(topic: string): boolean {
    return this.carried.has(topic);
  }

  /** Where a topic goes on from; empty for a newcomer. */
  positionOf(topic: string): string {
    if (this.carried.has(topic)) return this.cursor;
    return this.starts.get(topic) ?? this.pageCursor(topic);
  }

  /**
   * What to ask for. Cursors are joined with the stream's own first, since the first that speaks of a topic counts.
   * Topics whose start would make the header too long are left for the next request: once a stream carries the
   * first ones, its own cursor speaks for them in a few bytes.
   */
  compose(wanted: readonly string[]): { topics: string[]; cursor: string } {
    const cursors = new Set(this.cursor ? [this.cursor] : []);
    let length = this.cursor.length;
    const topics = wanted.filter((topic) => {
      const position = this.positionOf(topic);
      if (!position || cursors.has(position)) return true;
      const isFirstStart = length <= this.cursor.length;
      if (!isFirstStart && length + position.length >= LONGEST_CURSOR) return false;
      cursors.add(position);
      length += position.length + 1;
      return true;
    });
    return { topics, cursor: [...cursors].join(",") };
  }

  /** A stream has opened, and `cursor` now speaks for the topics it accepted. */
  opened(requested: ReadonlySet<string>, accepted: ReadonlySet<string>, cursor: string): void {
    for (const topic of requested) {
      if (!accepted.has(topic)) this.lost(topic);
    }
    for (const topic of accepted) this.starts.delete(topic);
    this.carried = accepted;
    this.cursor = cursor;
  }

  /** The stream no longer carries a topic that is still wanted: what its cursor said of it must not be lost. */
  lost(topic: string): void {
    if (!this.carried.has(topic)) return;
    this.starts.set(topic, this.cursor);
    this.carried = new Set([...this.carried].filter((other) => other !== topic));
  }

  /** The last topic has gone. */
  clear(): void {
    this.cursor = "";
    this.carried = new Set();
  }
}
